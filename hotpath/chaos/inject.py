"""Does to the commands and the database what the plan says, and writes down what became of it."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Sequence

import attrs
import trio

from hotpath.chaos.cluster import Cluster
from hotpath.chaos.commands import Command, Identity, send
from hotpath.chaos.plan import Fault
from hotpath.errors import HotpathError
from hotpath.store import chaos as store
from hotpath.store.database import Database

LOOK_EVERY = 0.01
"""Seconds between two looks at the leases of a killed worker."""
BUSY = 3.0
"""Seconds that a kill waits for its victim to hold jobs."""
HOUR = 3600
SLOW = 0.05
"""Seconds that each piece of data takes through a slowed network."""


@attrs.define
class Done:
    """What became of one fault."""

    fault: Fault
    began: int
    """`perf_counter_ns`."""
    ended: int = 0
    command: int | None = None
    """Whom it hit; None: every command."""
    killed: list[Identity] = attrs.field(factory=list)
    up: int = 0
    """When the database answered again."""
    rescue: float | None = None
    """Seconds from a kill until what the dead workers had held was taken from them; None: they held nothing,
    or another fault came between."""
    skipped: str = ""
    """Why it was not done."""


@attrs.define(eq=False)
class Injector:
    """Carries out a plan."""

    commands: Sequence[Command]
    database: Database
    cluster: Cluster | None
    tags: Sequence[int]
    lease: float
    own_sessions: bool
    """The database is the user's: only sessions of workers that are known to be this run's may be ended."""
    say: Callable[[str], None]
    done: list[Done] = attrs.field(factory=list)
    _began: float = 0.0
    _restarting: trio.Lock = attrs.field(factory=trio.Lock)
    _workers: set[int] = attrs.field(factory=set)

    async def run(self, plan: Sequence[Fault]) -> None:
        """Each fault at its time; returns when the last is over."""
        self._began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for fault in plan:
                await trio.sleep_until(self._began + fault.at)
                nursery.start_soon(self._one, fault)

    async def _one(self, fault: Fault) -> None:
        done = Done(fault, time.perf_counter_ns())
        self.done.append(done)
        try:
            await self._do(fault, done)
        except HotpathError:  # another fault's doing
            done.skipped = done.skipped or "the database did not answer"
        done.ended = time.perf_counter_ns()

    def _tell(self, done: Done) -> None:
        fault = done.fault
        victim = f" of command {done.command}" if done.command is not None else ""
        lasting = f", {fault.seconds:g} s" if fault.seconds else ""
        how = f" ({fault.how}{lasting})" if fault.how or lasting else ""
        self.say(f"{fault.at:8.1f} s  fault {fault.number}: {fault.kind}{how}{victim}")

    async def _do(self, fault: Fault, done: Done) -> None:
        match fault.kind:
            case "terminate":
                await self._terminate(fault, done)
            case "restart":
                await self._restart(fault, done)
            case "hold":
                await self._hold(fault, done)
            case _:
                await self._hit_command(fault, done)

    # ------------------------------------------------------------ the database

    async def _hold(self, fault: Fault, done: Done) -> None:
        async with self._restarting:
            pass  # it would not be there to be held
        done.began = time.perf_counter_ns()
        self._tell(done)
        async with store.held_transaction(self.database, self.tags, lock="lock" in fault.how) as found:
            if found:
                await trio.sleep(fault.seconds)
            else:
                done.skipped = "no lease was there to be locked"

    async def _terminate(self, fault: Fault, done: Done) -> None:
        async with self._restarting:
            pass
        done.began = time.perf_counter_ns()
        self._tell(done)
        names = None
        if self.own_sessions:
            names = [f"hotpath worker {worker}" for worker in sorted(self._workers)]
        share = 128 if fault.how == "all" else 64
        await store.end_sessions(self.database, names, share, fault.victim)

    async def _restart(self, fault: Fault, done: Done) -> None:
        if self.cluster is None:
            done.skipped = "the database is not this run's own"
            return
        async with self._restarting:
            done.began = time.perf_counter_ns()
            self._tell(done)
            await self.cluster.restart(fault.how, fault.seconds)
            done.up = time.perf_counter_ns()

    # ------------------------------------------------------------ one command

    async def _hit_command(self, fault: Fault, done: Done) -> None:
        command = await self._choose(fault)
        try:
            if fault.kind == "cut" and command.proxy is None:
                done.skipped = "no proxy stands before this database"
                return
            done.began = time.perf_counter_ns()
            done.command = command.number
            self._tell(done)
            match fault.kind:
                case "kill-worker":
                    victims = command.workers()
                    await self._kill(done, victims[fault.victim % len(victims) :][:1] if victims else [])
                case "kill-supervisor":
                    await self._kill_supervisor(command, done, tree=False)
                case "kill-tree":
                    await self._kill_supervisor(command, done, tree=True)
                case "pause-worker":
                    victims = command.workers()
                    await self._pause(fault, victims[fault.victim % len(victims)] if victims else None)
                case "pause-supervisor":
                    await self._pause(fault, command.supervisor())
                case "cut":
                    await self._cut(fault, command)
                case "skew":
                    command.skew = HOUR if "ahead" in fault.how else -HOUR
                    await self._term(command)
                    command.skew = 0  # the next start is by the right clock again
                case "sigterm":
                    await self._term(command)
        finally:
            command.free.release()

    async def _choose(self, fault: Fault) -> Command:
        """The victim, or the next that nothing is being done to; its lock is held then, and it is ready."""
        while True:
            for step in range(len(self.commands)):
                command = self.commands[(fault.victim + step) % len(self.commands)]
                if command.ready.is_set() and command.supervisor() is not None and not command.free.locked():
                    await command.free.acquire()
                    return command
            await trio.sleep(0.05)

    async def _kill(self, done: Done, victims: Sequence[Identity]) -> None:
        """SIGKILL, and a look at how long the dead hold their leases."""
        if not victims:
            done.skipped = "no worker was alive"
            return
        workers = await self._busy(victims)
        done.began = time.perf_counter_ns()
        done.killed = [one for one in victims if send(one, signal.SIGKILL)]
        await self._watch(done, workers)

    async def _kill_supervisor(self, command: Command, done: Done, *, tree: bool) -> None:
        supervisor, workers = command.supervisor(), command.workers()
        if supervisor is None:
            done.skipped = "it was not alive"
            return
        ids = await self._busy(workers) if tree else []
        was = command.ready
        command.expect_kill()
        done.began = time.perf_counter_ns()
        send(supervisor, signal.SIGKILL)
        if tree:
            done.killed = [one for one in workers if send(one, signal.SIGKILL)]
        await self._watch(done, ids)
        await self._until_ready(command, was)

    async def _busy(self, processes: Sequence[Identity]) -> list[int]:
        """The workers that these processes are, once they hold a lease, or after BUSY seconds: the death of
        an idle worker shows little.
        """
        workers = await self._ids(processes)
        with trio.move_on_after(BUSY):
            try:
                while workers and not await store.leases_held(self.database, workers):  # noqa: ASYNC110
                    await trio.sleep(LOOK_EVERY)
            except HotpathError:
                pass
        return workers

    async def _ids(self, processes: Sequence[Identity]) -> list[int]:
        try:
            found = await store.workers_of(
                self.database, [pid for pid, _ in processes], socket.gethostname(), self.tags
            )
        except HotpathError:
            return []
        self._workers.update(found)
        return found

    async def _watch(self, done: Done, workers: Sequence[int]) -> None:
        """Wait until these dead workers hold no lease; note how long that took."""
        if not workers:
            return
        faults = len(self.done)
        held = False
        with trio.move_on_after(3 * self.lease + 10):
            try:
                while await store.leases_held(self.database, workers):
                    held = True
                    await trio.sleep(LOOK_EVERY)
            except HotpathError:
                return
            if held and not self._disturbed(done, faults):
                done.rescue = (time.perf_counter_ns() - done.began) / 1e9

    def _disturbed(self, done: Done, faults: int) -> bool:
        """Whether a fault of the database was about meanwhile: then the time says nothing."""
        return any(
            (other.fault.kind in ("terminate", "restart") or "lock" in other.fault.how)
            and (not other.ended or other.ended > done.began)
            for other in self.done
            if other is not done
        ) or any(other.fault.kind == "restart" for other in self.done[faults:])

    async def _pause(self, fault: Fault, victim: Identity | None) -> None:
        if victim is None or not send(victim, signal.SIGSTOP):
            return
        try:
            await trio.sleep(fault.seconds)
        finally:
            send(victim, signal.SIGCONT)

    async def _cut(self, fault: Fault, command: Command) -> None:
        proxy = command.proxy
        assert proxy is not None
        if fault.how == "reset":
            await proxy.reset()
            return
        if fault.how == "delay":
            proxy.delay = SLOW
        else:
            proxy.stall()
        try:
            await trio.sleep(fault.seconds)
        finally:
            proxy.resume()

    async def _term(self, command: Command) -> None:
        was = command.ready
        command.terminate()
        await self._until_ready(command, was)

    async def _until_ready(self, command: Command, was: trio.Event) -> None:
        """Until the command that is started in its place is ready; `was` is the event of the one before."""
        with trio.move_on_after(60):
            while command.ready is was or not command.ready.is_set():  # noqa: ASYNC110 - the event itself is replaced
                await trio.sleep(0.02)
