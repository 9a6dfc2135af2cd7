"""The worker's tie to the database: one connection, made again whenever it breaks.

Database trouble is weather (I11): an outage is waited out with back-off, what was collected is kept and sent
again. Sending again is safe, because a flush counts only while its lease is there: if the lost reply was a
yes, the lease is gone and the outcomes are found where they belong.

What an error calls for is `store.trouble`'s to say: another connection, another try on the same one, a search
for the job that the data is about, or loud words and another try all the same.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

import attrs
import msgspec
import trio

from hotpath.store.trouble import DATA_ERRORS, Trouble, trouble_of
from hotpath.store.work import Claim, Cycle, WorkerSession, connect_session

if TYPE_CHECKING:
    from hotpath.core.hand import LeaseFlush
    from hotpath.worker.clock import DatabaseClock

log = logging.getLogger("hotpath.worker")

STATEMENT_DEADLINE = 8.0
"""Seconds after which a statement is given up and the connection replaced; with the two that its cancellation
may take this is below the lease (15 s). Cycles take milliseconds."""
LONGEST_DEADLINE = 64.0
"""The deadline is doubled at each try that runs into it, up to this, so that a big flush on a slow disk
ends."""
CONNECT_DEADLINE = 20.0
"""Seconds that a new connection may take, over all hosts."""
GHOSTS = 1000
"""Milliseconds that what is left of a broken session may take to end."""
BACKOFF = {Trouble.WEATHER: (0.05, 0.5), Trouble.COLLISION: (0.01, 0.5), Trouble.BUG: (0.2, 10.0)}
"""Seconds before the first and before any later try; doubled each time, and up to half of it taken off by
chance. Short, because the first job is to start within a second of the server's return."""
SAY_EVERY = 10.0
"""Seconds between two lines in the log about the same bad weather."""

P = ParamSpec("P")
T = TypeVar("T")


class Preface(Protocol):
    """A statement in front of a cycle."""

    async def __call__(self, session: WorkerSession, *, durable: bool = False) -> None:
        """Run it. It may leave it to the cycle to be durable, unless it is asked not to."""


def _as_it_is(claim: Claim) -> Claim:
    return claim


@attrs.define(eq=False)
class Link:
    """Runs statements on a session that it keeps alive; one at a time."""

    dsn: str
    worker: int
    leases: Callable[[], Sequence[int]] | None
    """The leases that the worker knows it holds; None: somebody else looks for those that it does not."""
    _session: WorkerSession | None = None
    _lock: trio.Lock = attrs.field(factory=trio.Lock)
    _breaks: int = 0
    traced: bool = False
    """Whether jobs have spans: then it is asked which traces they belong to, once a claim."""
    _pooled: bool = False
    """Whether a pooler is between; found out once."""
    _sessions: int = 0

    @property
    def pooled(self) -> bool:
        """Whether a pooler is before the server, as far as is known."""
        return self._pooled

    @property
    def breaks(self) -> int:
        """How often the connection has broken."""
        return self._breaks

    async def guarded(
        self,
        statement: Callable[Concatenate[WorkerSession, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a statement that may be repeated, on whatever connection works; shielded, since none is cut off
        half-way.

        Raises what is about the values in the statement (`DATA_ERRORS`); waits out all else that a database
        can answer.
        """
        try:
            # No checkpoint on the way to the socket: the batch that was just handed over starts to run, and
            # takes the GIL, at the first one; by then the next request should be with the server.
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()
        trial: _Trial | None = None
        began = time.monotonic()
        try:
            while True:
                try:
                    session = self._session or await self._connect()
                    limit = STATEMENT_DEADLINE if trial is None else trial.deadline
                    with trio.CancelScope(shield=True), trio.fail_after(limit):
                        reply = await statement(session, *args, **kwargs)
                    if trial is not None:
                        trial.over()
                    return reply
                except Exception as error:
                    trouble = trouble_of(error)
                    if trouble is None or trouble is Trouble.DATA:
                        raise
                    trial = trial or _Trial(began)
                    self._take_note(error, trouble)
                    wait = trial.failed(error, trouble)
                await trio.sleep(wait)
        finally:
            self._lock.release()

    async def attempt(
        self,
        statement: Callable[Concatenate[WorkerSession, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """Run a statement that nobody depends on, once; None if it fails, or the connection is not there or
        not free. Shielded.
        """
        session = self._session
        if session is None or self._lock.locked():
            return None
        self._lock.acquire_nowait()
        try:
            with trio.CancelScope(shield=True), trio.fail_after(STATEMENT_DEADLINE):
                return await statement(session, *args, **kwargs)
        except Exception as error:
            trouble = trouble_of(error)
            if trouble is None:
                raise
            self._take_note(error, trouble)
            log.debug("a statement that can be done without failed: %s", _line(error))
        finally:
            self._lock.release()
        return None

    async def cycle(
        self,
        flushes: Sequence[LeaseFlush],
        claim: Claim | None,
        clock: DatabaseClock,
        number: Callable[[Claim], Claim] = _as_it_is,
        first: Preface | None = None,
    ) -> Cycle:
        """One cycle; outcomes that the database refuses for their data become failures of their jobs.

        `number` gives the claim its lease's id each time it is sent: what an earlier try claimed is another
        lease. `first` is done in front of it, each time; what it raises is raised.
        """
        try:
            cycle = await self.guarded(_timed, flushes, claim, clock, number, first)
        except DATA_ERRORS as error:
            if not flushes:
                raise
            if first is not None:
                await self.guarded(first, durable=True)
            log.warning("a flush was refused (%s): looking for the job that it is about", _line(error))
            accepted = [flush.hand.lease for flush in flushes if await self._apart(flush, clock)]
            return Cycle(frozenset(accepted), None, saw=True, clock_us=0)
        missing = [flush for flush in flushes if flush.hand.lease not in cycle.accepted]
        if missing:  # an earlier try, of this call or of one that was given up, may have written them
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
        if not flush.final or (await self.guarded(_timed, [flush.closing(before)], None, clock)).accepted:
            return True
        return bool(await self.guarded(WorkerSession.settled, [flush]))

    async def _connect(self) -> WorkerSession:
        with trio.fail_after(CONNECT_DEADLINE):
            session = await connect_session(self.dsn, self.worker, pooled=self._pooled)
        self._pooled = session.pooled
        try:
            with trio.fail_after(STATEMENT_DEADLINE):
                if self._sessions and not session.pooled and (ended := await session.end_ghosts(GHOSTS)):
                    log.warning("%d broken sessions of ours were still there: they are ended", ended)
                await session.prepare()
                lost = [] if self.leases is None else await session.unlisted(self.leases())
                if lost:
                    log.warning(
                        "%d leases of ours were unknown to us (a reply was lost): they are given back",
                        len(lost),
                    )
                    await session.give_back(lost)
        except BaseException:
            session.connection.terminate()
            raise
        self._session = session
        self._sessions += 1
        return session

    def _take_note(self, error: Exception, trouble: Trouble) -> None:
        """Drop the session, unless it is as good as before."""
        if getattr(error, "sqlstate", None) in ("26000", "42P05"):
            self._pooled = True  # a prepared statement was not where we left it
        if trouble is Trouble.COLLISION and self._session and not self._session.connection.is_closed():
            return
        self._breaks += 1
        if self._session is not None:
            self._session.connection.terminate()
            self._session = None

    async def aclose(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.connection.close()
            self._session = None


class _Trial:
    """A statement's tries: how long to wait for the next one, and what to say of it."""

    def __init__(self, began: float) -> None:
        self.deadline = STATEMENT_DEADLINE
        self._began = began
        self._said_at = -1e9
        self._waits: dict[Trouble, float] = {}

    def failed(self, error: Exception, trouble: Trouble) -> float:
        """Log what happened; return the seconds to wait before the next try."""
        first, longest = BACKOFF[trouble]
        wait = self._waits.get(trouble, first)
        self._waits[trouble] = min(wait * 2, longest)
        if isinstance(error, trio.TooSlowError):
            self.deadline = min(self.deadline * 2, LONGEST_DEADLINE)
        now = time.monotonic()
        if trouble is Trouble.BUG:
            log.error(
                "the database refuses a statement of the worker: %s (%s %s); "
                "outcomes are kept, the next try is in %.1f s",
                *(_line(error), type(error).__name__, getattr(error, "sqlstate", None) or "-", wait),
            )
        elif now - self._said_at >= SAY_EVERY:
            self._said_at = now
            log.warning("the connection to the database broke, it is tried again: %s", _line(error))
        return wait * random.uniform(0.5, 1.0)

    def over(self) -> None:
        """The statement has gone through."""
        log.warning("the database answers again, after %.2f s", time.monotonic() - self._began)


@asynccontextmanager
async def open_link(dsn: str, worker: int, leases: Callable[[], Sequence[int]] | None) -> AsyncIterator[Link]:
    """A link that is connected, however long the weather makes that take."""
    link = Link(dsn, worker, leases)
    await link.guarded(_nothing)
    try:
        yield link
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await link.aclose()


async def _nothing(_session: WorkerSession) -> None:
    """A statement that asks for nothing but a connection."""
    await trio.lowlevel.checkpoint()


async def _timed(
    session: WorkerSession,
    flushes: Sequence[LeaseFlush],
    claim: Claim | None,
    clock: DatabaseClock,
    number: Callable[[Claim], Claim] = _as_it_is,
    first: Preface | None = None,
) -> Cycle:
    if first is not None:
        await first(session)
    if claim is not None:
        claim = number(claim)
    asked_us = time.perf_counter_ns() // 1000
    cycle = await session.cycle(flushes, claim, clock_offset_us=clock.offset_us or 0)
    clock.observe(cycle.clock_us, asked_us, time.perf_counter_ns() // 1000)
    return cycle


def _line(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    return (str(error).splitlines() or [type(error).__name__])[0]
