"""`hotpath autoscale GROUP`: as many worker commands on this machine as the group needs.

A command is a supervisor with worker processes of its own (`hotpath worker`, `hotpath dedicate`). It is a
session of its own: it hears of nothing but what this process tells it. SIGTERM is how it ends, with the grace
that it has itself; if this process dies, its heir tells them (`heir.py`).
"""

from __future__ import annotations

import logging
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

import attrs
import trio

from hotpath.core.restart import Restarts
from hotpath.core.scaling import Need, Steady, commands
from hotpath.errors import HotpathError
from hotpath.store.database import Database
from hotpath.store.scaling import Scaling, look_at, read_scaling
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.words import many
from hotpath.worker import leaving
from hotpath.worker.heir import Heir, open_heir

log = logging.getLogger("hotpath.autoscale")

LOOK_EVERY = 2.0
"""Seconds between two looks at the group."""
REMEMBER_EVERY = 15.0
"""Seconds between two looks that are remembered, to tell what arrives."""
WITHIN = 10.0
"""Seconds that a look may take."""
GRACE = 40.0
"""Seconds from SIGTERM until a command is killed: more than the grace that it has by default."""
SOUND = 5.0
"""A command that has run for so many seconds did start."""
STRANGE = 30.0
"""Seconds after which commands ought to have shown up as workers of the group."""

Tell = Callable[[str, dict[str, object]], None]


@attrs.define(eq=False)
class Command:
    """One place for a command: started again while it is wanted."""

    number: int
    process: trio.Process | None = None
    since: float = 0.0
    unwanted: trio.Event = attrs.field(factory=trio.Event)

    def stop(self) -> None:
        """Not wanted any more: SIGTERM now, and no next one."""
        self.unwanted.set()
        self.tell(signal.SIGTERM)

    def tell(self, number: int) -> None:
        """A signal for the process, if there is one."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)


@attrs.define(eq=False)
class Autoscaler:
    """The commands of one group on this machine."""

    database: Database
    group: str
    arguments: Sequence[str]
    """The command."""
    environment: Mapping[str, str] = attrs.field(repr=False)
    tell: Tell
    """Hears what happens: a sentence, and the same for programs."""
    grace: float = GRACE
    kept: list[Command] = attrs.field(factory=list)
    """Those that are wanted, the newest last."""
    _all: list[Command] = attrs.field(factory=list)
    """Those too that are ending."""
    _heir: Heir = attrs.field(factory=Heir)
    _steady: Steady | None = None
    _is_blind: bool = False
    _warned: bool = False
    _stops: int = 0
    _ended: trio.Event = attrs.field(factory=trio.Event)
    """No command is left, and none is to be started."""

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then until every command has ended."""
        try:
            # The warning is not the end: commands get their grace after it.
            async with open_heir(self.grace, warns=True) as self._heir, trio.open_nursery() as nursery:
                with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                    leaving.heed()
                    nursery.start_soon(self._keep, nursery)
                    async for _ in signals:
                        self._stops += 1
                        if self._stops == 1:
                            nursery.start_soon(self._end, nursery.cancel_scope)
                        else:
                            for command in self._all:
                                command.tell(signal.SIGTERM)
        finally:
            leaving.heed_no_more()

    async def _end(self, scope: trio.CancelScope) -> None:
        """Stop all, and be done when they have ended."""
        self.tell(
            f"stopping {many(len(self._all), 'command')}", {"event": "stopping", "commands": len(self._all)}
        )
        self._set(0, None)
        if self._all:
            await self._ended.wait()
        scope.cancel(reason="every command has ended")

    async def _keep(self, nursery: trio.Nursery) -> None:
        remembered_at = -REMEMBER_EVERY
        while not self._stops:
            now = trio.current_time()
            try:
                async with self.database.connection(within=WITHIN) as connection:
                    found = await read_scaling(connection, self.group)
                    if now - remembered_at >= REMEMBER_EVERY:
                        remembered_at = now
                        await look_at(connection, self.group)
            except ANY_TROUBLE as error:
                # As many as before: what cannot be seen is no reason to stop workers that have it in hand.
                if not self._is_blind:
                    log.warning("the group cannot be looked at, the number of workers stays: %s", error)
                self._is_blind = True
            else:
                self._is_blind = False
                if not self._stops:
                    self._heed(now, found, nursery)
            await trio.sleep(LOOK_EVERY)

    def _heed(self, now: float, found: Scaling, nursery: trio.Nursery) -> None:
        steady = self._steady or Steady(0)
        self._steady = steady.after(now, found.need, found.scale)
        wanted = commands(self._steady.workers, found.scale)
        if wanted != len(self.kept):
            self._say(wanted, found.need, found)
        self._set(wanted, nursery)
        running = [one for one in self.kept if one.process is not None and now - one.since > STRANGE]
        if running and not found.workers and not self._warned:
            self._warned = True
            log.warning(
                "%d commands run, and no worker of the group %r lives: does the command say --group %s?",
                len(running), self.group, self.group,
            )  # fmt: skip

    def _say(self, wanted: int, needed: Need, found: Scaling) -> None:
        assert self._steady is not None
        self.tell(
            f"commands {len(self.kept)} -> {wanted}, for {many(self._steady.workers, 'worker')}: "
            + "; ".join(found.why),
            {
                "event": "scaled", "group": self.group, "from": len(self.kept), "to": wanted,
                "workers": self._steady.workers, "wanted": needed.wanted, "why": found.why,
            },
        )  # fmt: skip

    def _set(self, wanted: int, nursery: trio.Nursery | None) -> None:
        """Start or stop commands until so many are wanted; the newest go first."""
        while len(self.kept) > wanted:
            self.kept.pop().stop()
        while nursery is not None and len(self.kept) < wanted:
            numbers = {command.number for command in self._all}
            number = next(n for n in range(len(numbers) + 1) if n not in numbers)
            command = Command(number)
            self.kept.append(command)
            self._all.append(command)
            nursery.start_soon(self._follow, command)

    async def _follow(self, command: Command) -> None:
        """One place, from process to process; each that ends unasked is followed by another, ever later."""
        restarts = Restarts()
        try:
            while not command.unwanted.is_set():
                try:
                    await self._start(command)
                except OSError as error:
                    log.warning("%s cannot be started: %s", self.arguments[0], error)
                else:
                    await self._wait(command)
                if command.unwanted.is_set():
                    return
                lived = trio.current_time() - command.since if command.process is not None else 0.0
                restarts = restarts.after(ready=lived >= SOUND, jobs=int(lived >= SOUND))
                self._tell_end(command, restarts.wait)
                with trio.move_on_after(restarts.wait):
                    await command.unwanted.wait()
        finally:
            self._all.remove(command)
            self._bequeath()
            if self._stops and not self._all:
                self._ended.set()

    async def _start(self, command: Command) -> None:
        # Not to be cancelled between the fork and the note of it.
        with trio.CancelScope(shield=True):
            command.process = None
            process = await trio.lowlevel.open_process(
                list(self.arguments),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=2,  # what this process says on its own is for programs
                start_new_session=True,
            )
        command.process, command.since = process, trio.current_time()
        self._bequeath()
        self.tell(
            f"command {command.number} started, process {process.pid}",
            {"event": "started", "command": command.number, "pid": process.pid},
        )
        if command.unwanted.is_set():
            command.tell(signal.SIGTERM)

    async def _wait(self, command: Command) -> None:
        """Until the process has ended; killed when it does not, so long after it was told to."""
        assert command.process is not None
        process = command.process
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._kill_late, command, process)
                await process.wait()
                nursery.cancel_scope.cancel(reason="it has ended")
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            self._bequeath()
        if command.unwanted.is_set():
            self.tell(
                f"command {command.number} has ended, exit code {process.returncode}",
                {"event": "ended", "command": command.number, "exit_code": process.returncode},
            )

    async def _kill_late(self, command: Command, process: trio.Process) -> None:
        await command.unwanted.wait()
        await trio.sleep(self.grace)
        log.warning("command %d did not end within %g s and is killed", command.number, self.grace)
        process.kill()

    def _tell_end(self, command: Command, wait: float) -> None:
        code = command.process.returncode if command.process is not None else None
        self.tell(
            f"command {command.number} ended by itself, exit code {code}; the next one in {wait:g} s",
            {"event": "crashed", "command": command.number, "exit_code": code, "wait_seconds": wait},
        )

    def _bequeath(self) -> None:
        self._heir.tell(
            command.process.pid
            for command in self._all
            if command.process is not None and command.process.returncode is None
        )


def check_command(arguments: Sequence[str]) -> None:
    """Raise HotpathError if there is no such program."""
    import shutil

    if shutil.which(arguments[0]) is None:
        raise HotpathError(f"there is no program {arguments[0]!r} to start: give its path after --")
