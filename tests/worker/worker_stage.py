"""What tests of the worker stand on: scripts in a workspace, a client, real `hotpath dedicate` processes."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from thoroughness import THOROUGH
from warm import WarmProcess, open_warm

from hotpath import asyncpg_trio
from hotpath.client import Client, open_client

SCRIPTS = {
    "double": """
def main(x: int, note: str = "") -> int:
    if x % 10 == 3:
        raise ValueError(f"three: {x}")
    if x % 10 == 4:
        print("four", x)
    return 2 * x
""",
    "mark": """
import os, time

def main(x: int, file: str, seconds: float = 0.0, gate: str = "") -> int:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d\\n" % x)
    os.close(descriptor)
    if not os.path.exists(file + ".hurry"):
        time.sleep(seconds)
    while gate and not os.path.exists(gate):
        time.sleep(0.005)
    return os.getpid()
""",
    "nap": """
import pathlib, trio

async def main(x: int, seconds: float = 0.0, file: str = "", gate: str = "") -> int:
    if file:
        pathlib.Path(file).touch()
    await trio.sleep(seconds)
    while gate and not pathlib.Path(gate).exists():
        await trio.sleep(0.005)
    return x
""",
    "size": """
def main(text: str) -> int:
    return len(text)
""",
}


@attrs.define(eq=False)
class Stage:
    """A database, a workspace and a client."""

    url: str
    workspace: Path
    client: Client
    connection: asyncpg_trio.Connection
    nursery: trio.Nursery

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOTPATH_DATABASE_URL": self.url, "HOTPATH_WORKSPACE": str(self.workspace)}

    async def dedicate(
        self, name: str, *flags: str, launcher: Sequence[str] = (), cold: bool = THOROUGH
    ) -> Command:
        """Start `hotpath dedicate NAME --json`, by `launcher` if there is one; `cold`: by a Python of its
        own.
        """
        return await self.start("dedicate", name, "--json", *flags, launcher=launcher, cold=cold)

    async def normal(self, *flags: str, cold: bool = THOROUGH) -> Command:
        """Start `hotpath worker --json`."""
        return await self.start("worker", "--json", *flags, cold=cold)

    async def drain_all(self, *flags: str) -> Command:
        """Run `hotpath worker --drain --json` to its end, which has to be a good one."""
        command = await self.normal("--drain", *flags)
        assert await command.wait() == 0, command.stderr
        return command

    async def start(self, *arguments: str, launcher: Sequence[str] = (), cold: bool = THOROUGH) -> Command:
        """Start a command of Hotpath."""
        process: Any
        if cold or launcher:
            process = await trio.lowlevel.open_process(
                [*launcher, sys.executable, "-q", "-m", "hotpath", *arguments],  # `-q`: not forked
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.environment,
                cwd=self.workspace,
            )
        else:
            process = open_warm(arguments, self.environment, self.workspace)
        command = Command(process)
        self.nursery.start_soon(command.follow)
        return command

    async def drain(self, name: str, *flags: str, cold: bool = THOROUGH) -> Command:
        """Run `hotpath dedicate NAME --drain --json` to its end, which has to be a good one."""
        command = await self.dedicate(name, "--drain", *flags, cold=cold)
        assert await command.wait() == 0, command.stderr
        return command

    async def rows(self) -> list[Any]:
        """All rows of the view."""
        return await self.connection.fetch("select * from hotpath.job order by id")

    async def states(self) -> Counter[str]:
        """How many jobs are in each state; each job has to have one row."""
        rows = await self.rows()
        assert len({row["id"] for row in rows}) == len(rows), "a job has two rows"
        return Counter(row["state"] for row in rows)

    async def until(self, condition: Callable[[], Awaitable[Any]], seconds: float = 40.0) -> Any:
        """Wait until the condition gives something true; return it."""
        with trio.fail_after(seconds):
            while not (found := await condition()):  # noqa: ASYNC110 - of another process, or the database
                await trio.sleep(0.01)
        return found

    async def until_done(self, count: int, seconds: float = 40.0) -> None:
        """Wait until that many jobs have ended."""

        async def enough() -> bool:
            return await self.connection.fetchval("select count(*) >= $1::int8 from hotpath.job_done", count)

        await self.until(enough, seconds)

    async def worker_pids(self) -> list[int]:
        """Processes of the workers that have not been said to have stopped."""
        return [
            row[0]
            for row in await self.connection.fetch(
                "select pid from hotpath.worker where stopped_at is null order by id"
            )
        ]

    async def steal(self, *leases: int) -> None:
        """Give these leases, or all, to another worker, which lives: nobody takes them from it."""
        await self.connection.execute(
            "with thief as (insert into hotpath.worker (name, tags, host, pid, concurrency, lease_until)"
            " values ('thief', '{}', 'there', 1, 1, now() + interval '1 hour') returning id)"
            " update hotpath.lease set worker = (select id from thief)"
            " where id = any($1::int8[]) or $1 = '{}'",
            leases,
        )

    async def check_empty(self) -> None:
        """Nothing waits and nothing is leased."""
        for table in ("job_queue", "batch", "lease"):
            assert not await self.connection.fetchval(f"select count(*) from hotpath.{table}"), table


@attrs.define(eq=False)
class Command:
    """A running `hotpath dedicate`."""

    process: trio.Process | WarmProcess
    events: list[dict[str, Any]] = attrs.field(factory=list)
    stderr: str = ""
    _ready: trio.Event = attrs.field(factory=trio.Event)
    _silent: trio.Event = attrs.field(factory=trio.Event)
    _over: trio.Event = attrs.field(factory=trio.Event)

    async def follow(self) -> None:
        """Read what it says until it has ended; end it if the test is over."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read)
                await self.process.wait()
                # Orphans may hold the pipes open: what is said until soon behind the end is enough.
                with trio.move_on_after(0.5):
                    await self._silent.wait()
                while unread(self.process.stdout) or unread(self.process.stderr):  # noqa: ASYNC110 - a pipe
                    await trio.sleep(0.001)
                nursery.cancel_scope.cancel(reason="all that it said was read")
        finally:
            if self.process.returncode is None:
                self.process.kill()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await self.process.wait()
            self._over.set()

    async def _read(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_events)
            nursery.start_soon(self._read_errors)
        self._silent.set()

    async def _read_events(self) -> None:
        rest = b""
        async for data in self.process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.events.append(json.loads(line))
                if self.events[-1]["event"] == "ready":
                    self._ready.set()

    async def _read_errors(self) -> None:
        async for data in self.process.stderr:
            self.stderr += data.decode(errors="replace")

    async def ready(self, seconds: float = 40.0) -> None:
        """Wait until its first worker process is ready."""
        with trio.fail_after(seconds):
            await self._ready.wait()

    async def said(self, text: str, seconds: float = 40.0) -> None:
        """Wait until it has written that to stderr."""
        with trio.fail_after(seconds):
            while text not in self.stderr:  # noqa: ASYNC110 - of another process
                await trio.sleep(0.01)

    async def signal(self, number: int = signal.SIGTERM, seconds: float = 40.0) -> None:
        """Send it a signal, and wait until it has taken it: of two at once the second would be lost."""
        self.process.send_signal(number)
        with trio.fail_after(seconds):
            while not has_taken(self.process.pid, number):  # noqa: ASYNC110 - of another process
                await trio.sleep(0.01)

    async def wait(self, seconds: float = 50.0) -> int:
        """Wait until it has ended; its exit code."""
        with trio.fail_after(seconds):
            await self._over.wait()
        return self.process.returncode

    @property
    def last(self) -> dict[str, Any]:
        """Its last event."""
        return self.events[-1]


def hurry(marks: str | Path) -> None:
    """End the naps of jobs of `mark` that write to this file, and of all that are still to come: work that
    outlasts whatever a test waits for is then soon over.
    """
    Path(f"{marks}.hurry").touch()


def unread(pipe: trio.lowlevel.FdStream) -> int:
    """How many bytes are in it."""
    return int.from_bytes(fcntl.ioctl(pipe.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


def has_taken(pid: int, number: int) -> bool:
    """Whether the process sleeps with none of these signals before it, or has ended."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return True
    before = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return not before >> (number - 1) & 1 and status["State"].split()[0] in "SZ"


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@asynccontextmanager
async def open_stage(url: str, workspace: Path) -> AsyncIterator[Stage]:
    """A stage; its processes and connections end with it."""
    for name, source in SCRIPTS.items():
        (workspace / f"{name}.py").write_text(source)
    connection = await asyncpg_trio.connect(url)
    stage = None
    try:
        async with open_client(url, workspace=workspace) as client, trio.open_nursery() as nursery:
            stage = Stage(url, workspace, client, connection, nursery)
            yield stage
            nursery.cancel_scope.cancel(reason="the test is over")
    finally:
        connection.terminate()
        if stage is not None:
            stage.connection.terminate()  # a test may have made another one
