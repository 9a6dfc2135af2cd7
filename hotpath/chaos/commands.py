"""The `hotpath dedicate` commands of a run: started, followed, started again after whatever ended them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import trio

from hotpath.chaos.ledger import COMMAND, birth
from hotpath.chaos.proxy import Proxy

AGAIN = 0.2
"""Seconds until a command that ended is started again."""
GRACE = 5.0
"""What the commands get as `--grace`."""
FAREWELL = 20.0
"""Seconds that a command may take to end at the end."""

ORPHANED = 8.0
"""Seconds after which a worker has to have gone whose supervisor has."""

Identity = tuple[int, int]
"""A process for good: its id and when it was started."""


def children_of(parent: int) -> list[int]:
    """The processes whose parent this is."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(stat[1]) == parent and stat[0] != "Z":
                found.append(int(name))
    return sorted(found)


def is_worker(pid: int) -> bool:
    """Whether the process runs jobs, and does not describe a script."""
    try:
        return b"hotpath.worker.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def identify(pid: int) -> Identity | None:
    """The process for good; None when it has gone."""
    try:
        return pid, birth(pid)
    except OSError:
        return None


def is_alive(process: Identity) -> bool:
    """Whether that very process is there, and no zombie."""
    try:
        stat = Path(f"/proc/{process[0]}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return int(stat[19]) == process[1] and stat[0] != "Z"


def processes_in(workspace: Path) -> list[Identity]:
    """The processes that were started with this workspace in their environment: commands, their workers."""
    wanted = b"HOTPATH_WORKSPACE=" + os.fsencode(workspace) + b"\0"
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                environ = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if wanted in environ and (one := identify(int(name))) is not None and is_alive(one):
                found.append(one)
    return found


async def end_all(workspace: Path) -> list[Identity]:
    """Wait until every process of this workspace has ended; kill and return those that do not in ORPHANED."""
    with trio.move_on_after(ORPHANED):
        while processes_in(workspace):  # noqa: ASYNC110 - other processes' ends
            await trio.sleep(0.05)
    survivors = processes_in(workspace)
    for one in survivors:
        send(one, signal.SIGKILL)
    with trio.move_on_after(ORPHANED):
        while processes_in(workspace):  # noqa: ASYNC110
            await trio.sleep(0.02)
    return survivors


def send(process: Identity, number: signal.Signals) -> bool:
    """Signal that very process; whether it was there."""
    if not is_alive(process):
        return False
    try:
        os.kill(process[0], number)
    except ProcessLookupError:
        return False
    return True


@attrs.frozen
class Ending:
    """A command ended although nobody asked it to."""

    command: int
    at: int
    """`perf_counter_ns`."""
    code: int
    was_ready: bool
    said: str
    """Its last lines."""


@attrs.define(eq=False)
class Command:
    """One `hotpath dedicate`, again and again."""

    number: int
    script: str
    tag: str
    processes: int
    lease: float
    workspace: Path
    logs: Path
    skew_path: Path
    proxy: Proxy | None
    url: str
    free: trio.Lock = attrs.field(factory=trio.Lock)
    """Held while something is done to it."""
    skew: int = 0
    """Seconds by which its wall clock will be wrong when it is started next."""
    ready: trio.Event = attrs.field(factory=trio.Event)
    """Its first worker is ready."""
    endings: list[Ending] = attrs.field(factory=list)
    workers_seen: set[Identity] = attrs.field(factory=set)
    closing: bool = False
    _process: trio.Process | None = None
    _asked: str = ""
    """`kill` or `term`: what is being done to it, after which it is to end."""
    _tail: list[str] = attrs.field(factory=list)

    def environment(self) -> Mapping[str, str]:
        """What its processes see."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("HOTPATH_", "PG"))}
        mine.pop("DATABASE_URL", None)
        mine |= {
            "HOTPATH_DATABASE_URL": self.proxy.url if self.proxy is not None else self.url,
            "HOTPATH_WORKSPACE": str(self.workspace),
            COMMAND: str(self.number),
        }
        if self.skew:
            mine["HOTPATH_CHAOS_SKEW"] = str(self.skew)
            rest = os.environ.get("PYTHONPATH")
            mine["PYTHONPATH"] = str(self.skew_path) + (os.pathsep + rest if rest else "")
        return mine

    async def keep(self) -> None:
        """Run it until `closing`; start it again whenever it has ended."""
        try:
            while not self.closing:
                self._asked = ""
                self.ready = trio.Event()
                self._tail.clear()
                process = await trio.lowlevel.open_process(
                    self._line(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=self.environment(),
                    cwd=self.workspace,
                    start_new_session=True,  # Ctrl-C is for the program above, which ends this one in order
                )
                self._process = process
                await self._follow(process)
                code = process.returncode
                if self._asked != "kill" and (code != 0 or self._asked != "term"):
                    self._note(code or 0)
                if not self.closing:
                    await trio.sleep(AGAIN)
        finally:
            self.kill_all()

    def _line(self) -> list[str]:
        return [
            *(sys.executable, "-m", "hotpath", "dedicate", self.script, "--json"),
            *("--tag", self.tag, "--processes", str(self.processes)),
            *("--grace", f"{GRACE:g}", "--lease", f"{self.lease:g}"),
        ]

    def _note(self, code: int) -> None:
        said = " | ".join(self._tail[-3:])
        self.endings.append(Ending(self.number, time.perf_counter_ns(), code, self.ready.is_set(), said))

    async def _follow(self, process: trio.Process) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, process.stdout)
            nursery.start_soon(self._read_log, process.stderr)
            await process.wait()
            # Workers that outlive a killed supervisor hold the pipes open.
            nursery.cancel_scope.deadline = trio.current_time() + 0.3

    async def _hear(self, stream: trio.abc.ReceiveStream | None) -> None:
        assert stream is not None
        async for data in stream:
            if b'"ready"' in data:
                self.ready.set()
                self.workers()

    async def _read_log(self, stream: trio.abc.ReceiveStream | None) -> None:
        assert stream is not None
        rest = ""
        with (self.logs / f"command-{self.number}.log").open("a", encoding="utf-8") as log:
            async for data in stream:
                *lines, rest = (rest + data.decode(errors="replace")).split("\n")
                for line in lines:
                    log.write(f"{time.perf_counter_ns() / 1e9:.3f} {line}\n")
                    self._tail = [*self._tail[-9:], line]
                log.flush()

    # ------------------------------------------------------------ what is done to it

    def supervisor(self) -> Identity | None:
        """Its own process, if it lives."""
        process = self._process
        return None if process is None or process.returncode is not None else identify(process.pid)

    def workers(self) -> list[Identity]:
        """Its worker processes."""
        supervisor = self.supervisor()
        if supervisor is None:
            return []
        found = [one for pid in children_of(supervisor[0]) if is_worker(pid) and (one := identify(pid))]
        self.workers_seen.update(found)
        return found

    def expect_kill(self) -> None:
        """It is about to end, and not by its own fault."""
        self._asked = "kill"

    def terminate(self) -> None:
        """SIGTERM."""
        if (supervisor := self.supervisor()) is not None:
            self._asked = "term"
            send(supervisor, signal.SIGTERM)

    async def close(self) -> None:
        """End it in order; `keep` returns."""
        self.closing = True
        self.workers()
        if (supervisor := self.supervisor()) is not None:
            send(supervisor, signal.SIGCONT)
            self.terminate()
            with trio.move_on_after(FAREWELL):
                while is_alive(supervisor):  # noqa: ASYNC110 - another process's end
                    await trio.sleep(0.02)
        self.kill_all()

    def kill_all(self) -> None:
        """End whatever of it is left."""
        self.workers()
        self._asked = self._asked or "kill"
        supervisor = self.supervisor()
        for one in ([supervisor] if supervisor else []) + sorted(self.workers_seen):
            send(one, signal.SIGKILL)
