"""The worker's tie to the database: one connection, made again whenever it breaks.

Database trouble is weather (I11): an outage is waited out with back-off, what was collected is kept and sent
again. Sending again is safe, because a flush counts only while its lease is there: if the lost reply was a
yes, the lease is gone and the outcomes are found where they belong.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import attrs
import msgspec
import trio

from hotpath.store.trouble import CONNECTION_ERRORS, DATA_ERRORS
from hotpath.store.work import Claim, Cycle, WorkerSession, connect_session

if TYPE_CHECKING:
    from hotpath.core.hand import LeaseFlush
    from hotpath.worker.clock import DatabaseClock

log = logging.getLogger("hotpath.worker")

STATEMENT_DEADLINE = 60.0
"""Seconds after which a statement is given up and the connection replaced; cycles take milliseconds."""
BROKEN: tuple[type[Exception], ...] = (*CONNECTION_ERRORS, trio.TooSlowError)
FIRST_BACKOFF, LONGEST_BACKOFF = 0.05, 5.0

P = ParamSpec("P")
T = TypeVar("T")


@attrs.define(eq=False)
class Link:
    """Runs statements on a session that it keeps alive; one at a time."""

    dsn: str
    worker: int
    leases: Callable[[], Sequence[int]]
    """The leases that the worker knows it holds."""
    _session: WorkerSession | None = None
    _lock: trio.Lock = attrs.field(factory=trio.Lock)
    _breaks: int = 0

    async def guarded(
        self,
        statement: Callable[Concatenate[WorkerSession, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a statement that may be repeated, on whatever connection works; shielded, since none is
        cut off half-way.
        """
        try:
            # No checkpoint on the way to the socket: the batch that was just handed over starts to run, and
            # takes the GIL, at the first one; by then the next request should be with the server.
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            wait = FIRST_BACKOFF
            while True:
                try:
                    session = self._session or await self._connect()
                    with trio.CancelScope(shield=True), trio.fail_after(STATEMENT_DEADLINE):
                        return await statement(session, *args, **kwargs)
                except BROKEN as error:
                    self._break(error)
                await trio.sleep(wait)
                wait = min(wait * 2, LONGEST_BACKOFF)
        finally:
            self._lock.release()

    async def cycle(self, flushes: Sequence[LeaseFlush], claim: Claim | None, clock: DatabaseClock) -> Cycle:
        """One cycle; outcomes that the database refuses for their data become failures of their jobs."""
        breaks = self._breaks
        try:
            cycle = await self.guarded(_timed, flushes, claim, clock)
        except DATA_ERRORS as error:
            if not flushes:
                raise
            log.warning("a flush was refused (%s): looking for the job that it is about", _line(error))
            accepted = [flush.hand.lease for flush in flushes if await self._apart(flush, clock)]
            return Cycle(frozenset(accepted), None, saw=True, clock_us=0)
        missing = [flush for flush in flushes if flush.hand.lease not in cycle.accepted]
        if missing and self._breaks != breaks:
            settled = await self.guarded(WorkerSession.settled, missing)
            cycle = attrs.evolve(cycle, accepted=cycle.accepted | settled)
        return cycle

    async def give_back(self, leases: Sequence[int]) -> None:
        """Put what these leases hold back into the queue."""
        await self.guarded(WorkerSession.give_back, leases)

    async def _apart(self, flush: LeaseFlush, clock: DatabaseClock) -> bool:
        """Write a lease's outcomes in ever smaller parts; the one that cannot be written ends as a
        failure that says so.
        """
        before = flush.before
        parts = [range(len(flush.started))]
        while parts:
            places = parts.pop()
            part = flush.part(places, before)
            if not part.ended:
                continue
            try:
                accepted = (await self.guarded(_timed, [part], None, clock)).accepted
            except DATA_ERRORS as error:
                if len(places) > 1:
                    middle = (places.start + places.stop) // 2
                    parts += [range(middle, places.stop), range(places.start, middle)]
                    continue
                failure = {
                    "name": type(error).__name__,
                    "message": _line(error),
                    "traceback": "",
                    "kind": "bad_result",
                }
                part = flush.part(places, before, msgspec.json.encode(failure))
                accepted = (await self.guarded(_timed, [part], None, clock)).accepted
            if not accepted:
                return False
            before |= part.ended
        if flush.final:
            return bool((await self.guarded(_timed, [flush.closing(before)], None, clock)).accepted)
        return True

    async def _connect(self) -> WorkerSession:
        session = await connect_session(self.dsn, self.worker)
        try:
            await session.prepare()
            lost = await session.unlisted(self.leases())
            if lost:
                log.warning(
                    "%d leases of ours were unknown to us (a reply was lost): they are given back", len(lost)
                )
                await session.give_back(lost)
        except BaseException:
            session.connection.terminate()
            raise
        self._session = session
        return session

    def _break(self, error: BaseException) -> None:
        self._breaks += 1
        log.warning("the connection to the database broke: %s", _line(error))
        if self._session is not None:
            self._session.connection.terminate()
            self._session = None

    async def aclose(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.connection.close()
            self._session = None


@asynccontextmanager
async def open_link(dsn: str, worker: int, leases: Callable[[], Sequence[int]]) -> AsyncIterator[Link]:
    """A link that is connected; raises what the first connection raises."""
    link = Link(dsn, worker, leases)
    await link._connect()  # noqa: SLF001 - the constructor of it
    try:
        yield link
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await link.aclose()


async def _timed(
    session: WorkerSession, flushes: Sequence[LeaseFlush], claim: Claim | None, clock: DatabaseClock
) -> Cycle:
    cycle = await session.cycle(flushes, claim, clock_offset_us=clock.offset_us or 0)
    clock.observe(cycle.clock_us, time.perf_counter_ns() // 1000)
    return cycle


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
