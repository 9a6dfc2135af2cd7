"""The heartbeat of a worker that has no supervisor: a thread that renews its lease, hears who asks to cancel,
and says until when the lease holds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import attrs
import trio

from hotpath.core.tally import LOST
from hotpath.store.clocks import HostClock
from hotpath.store.complete import Connection
from hotpath.store.database import connect
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.store.workers import Facts, give_back_unlisted, heartbeat
from hotpath.worker.facts import Facing, Keeper
from hotpath.worker.house import House, reap_pause
from hotpath.worker.loop import Loop
from hotpath.worker.options import LEASE

log = logging.getLogger("hotpath.worker")

HEARTBEAT = 0.5
"""Seconds between two heartbeats; a cancel waits no longer than that."""
SWEEP = 5.0
"""Seconds between two looks for leases that a lost reply has left behind."""
ANSWER = 3.0
"""Seconds that the database gets to answer."""
HOUSE_WITHIN = 6.0
"""Seconds that taking back what others left may take: the lease has to be renewed as well."""


@attrs.define(eq=False)
class Pulse:
    """What the thread and the worker share."""

    dsn: str
    worker: int
    until: int
    """`time.perf_counter_ns()` until which the lease holds for sure."""
    token: trio.lowlevel.TrioToken
    facing: Facing
    keeper: Keeper
    loop: Loop | None = None
    lost: bool = False
    """Whether the database said that the lease is lost, or did not answer for as long as it lasts."""
    _clock: HostClock = attrs.field(factory=HostClock)
    _over: threading.Event = attrs.field(factory=threading.Event)
    _house: House = attrs.field(factory=House)

    def run(self) -> None:
        """The thread."""
        trio.run(self._beat)

    def follow(self, loop: Loop) -> None:
        """This is the loop of the worker."""
        self.loop = loop
        loop.in_hand.until = self.until
        if self.lost:
            loop.lose()

    def end(self) -> None:
        """Let the thread end."""
        self._over.set()

    async def _beat(self) -> None:
        while not self._over.is_set() and not self.lost:
            try:
                with trio.fail_after(ANSWER):
                    connection = await connect(self.dsn)
                try:
                    await self._beats(connection)
                finally:
                    connection.terminate()
            except ANY_TROUBLE as error:
                if time.perf_counter_ns() > self.until:
                    self._lose()
                    return
                log.warning("the heartbeat does not reach the database: %s", error)
                await trio.sleep(HEARTBEAT / 2)

    async def _beats(self, connection: Connection) -> None:
        sweep_at = 0.0
        house_at = time.monotonic() + reap_pause()
        while not self._over.is_set():
            loop = self.loop
            jobs = 0 if loop is None else loop.statistics().jobs
            facts = [] if loop is None or (fact := self._fact(loop)) is None else [fact]
            asked = time.perf_counter_ns()
            with trio.fail_after(ANSWER):
                due = self.keeper.due()
                beat = await heartbeat(connection, {self.worker: jobs}, LEASE, facts, due, self._clock)
                self.keeper.heard()
                if self.worker not in beat.renewed:
                    self._lose()
                    return
                self.until = asked + int(LEASE * 1e9)
                if loop is not None:
                    loop.in_hand.until = self.until
                    for lease, place in beat.cancels.get(self.worker, ()):
                        self._tell(partial(loop.cancel, lease, place))
                    if time.monotonic() >= sweep_at:
                        await give_back_unlisted(connection, {self.worker: loop.in_hand.book.held()})
                        sweep_at = time.monotonic() + SWEEP
            if time.monotonic() >= house_at:
                with trio.fail_after(HOUSE_WITHIN):
                    await self._house.keep(connection)
                house_at = time.monotonic() + reap_pause()
            await trio.sleep(HEARTBEAT)

    def _fact(self, loop: Loop) -> Facts | None:
        return self.facing.look(self.worker, loop.statistics(), loop.tallies(), loop.in_hand.job())

    def _lose(self) -> None:
        """The lease is gone: the worker stops, and its late outcomes will be refused."""
        log.warning("worker %d has lost its lease: what runs is interrupted", self.worker)
        self.lost = True
        self.keeper.note(LOST)
        if self.loop is not None:
            self._tell(self.loop.lose)

    def _tell(self, function: Callable[[], object]) -> None:
        with suppress(trio.RunFinishedError):
            self.token.run_sync_soon(function)


@asynccontextmanager
async def open_pulse(
    dsn: str, worker: int, began: int, facing: Facing, keeper: Keeper
) -> AsyncIterator[Pulse]:
    """Renew the lease of a worker that was registered after `began` (`time.perf_counter_ns()`), as long as
    the context lasts; say what the keeper keeps.
    """
    until = began + int(LEASE * 1e9)
    pulse = Pulse(dsn, worker, until, trio.lowlevel.current_trio_token(), facing, keeper)
    threading.Thread(target=pulse.run, name="hotpath-heartbeat", daemon=True).start()
    try:
        yield pulse
    finally:
        pulse.end()
