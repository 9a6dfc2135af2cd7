"""What a worker says to the database: one connection, prepared statements, no decisions.

`WorkerSession.cycle` is the hot one: it flushes what ended and claims what comes next in one round trip and
one transaction. The settings of the connection pin the generic plans; behind a transaction pooler they are
lost, and the statements stay right.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import attrs
import uuid_utils.compat as uuid_utils

from hotpath import asyncpg_trio
from hotpath.core.hand import Hand, LeaseFlush
from hotpath.core.logtext import pack
from hotpath.model import OutcomeState
from hotpath.store.claimed import advance, hand_of, join
from hotpath.store.queries import query
from hotpath.store.reach import reach

if TYPE_CHECKING:
    from hotpath.core.positions import Positions

SETTINGS = {
    "plan_cache_mode": "force_generic_plan",  # arrays of any length share one plan
    "enable_seqscan": "off",  # a plan made while a table was empty must not survive its growth
    "enable_bitmapscan": "off",
    "jit": "off",
    "default_transaction_isolation": "read committed",  # a claim sees what was claimed while it waited
    "idle_in_transaction_session_timeout": "10s",  # below the lease: a dead client must not hold a row
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING: tuple[Any, ...] = ([], [], [], [], [], [], None, [], [], [], [], 0)
_NO_MARKS: list[str | None] = []
_NO_CLAIM: tuple[Any, ...] = (0, 0, 0, [], [], [], [], [], None, 0, None, None, None)


@attrs.frozen
class Claim:
    """What to claim: up to `want` jobs of one script that wait in one tag."""

    want: int
    tag: int
    tag_name: str
    script: int
    positions: Positions
    before: tuple[int, datetime, UUID] | None = None
    """Take only what comes before this (priority, scheduled_for, id): the head of another tag."""
    limited: bool = False
    """The script is claimed apart: by a statement of its own, after the flush."""
    lease: int = attrs.field(factory=lambda: secrets.randbits(62) or 1)
    """Id that the lease will have: new for each claim, and known before it is sent, so that whoever keeps the
    list of what this worker holds cannot miss it.
    """


@attrs.frozen
class Cycle:
    """The answer to one cycle."""

    accepted: frozenset[int]
    """Leases whose outcomes were written; one that was sent and is not here has been lost."""
    hand: Hand | None
    """The new lease, or None."""
    saw: bool
    """Nothing was claimed although due jobs were seen: others hold them just now."""
    clock_us: int
    """The database's clock as the statement ended, microseconds since the epoch."""
    blocked: float | None = None
    """Seconds until it is worth asking again: due jobs are there that a limit holds back."""
    rated: bool = False
    """A rate wants to know when all jobs of the new lease have begun (`begun`)."""


class WorkerSession:
    """One worker's connection. Not for two tasks at once."""

    def __init__(self, connection: asyncpg_trio.Connection, worker: int, *, pooled: bool = False) -> None:
        self.connection = connection
        self.worker = worker
        self.pooled = pooled
        self._cycle: asyncpg_trio.PreparedStatement | None = None
        self._claim: asyncpg_trio.PreparedStatement | None = None
        self._apart: asyncpg_trio.PreparedStatement | None = None

    async def prepare(self) -> None:
        """Prepare the hot statements, so that the first job does not wait for them."""
        self._cycle = await self.connection.prepare(query("cycle"))
        self._claim = await self.connection.prepare(query("claim"))

    async def warm_up(self, *, claims: bool) -> None:
        """Have the server plan the hot statements, by runs that do nothing: whoever follows on another worker
        does so without a gap. `claims`: the worker claims for itself.
        """
        await self.cycle([], None)
        if claims and self._claim is not None:
            await self._claim.fetchrow(self.worker, *_NO_CLAIM)

    async def cycle(
        self, flushes: Sequence[LeaseFlush], claim: Claim | None, *, clock_offset_us: int = 0
    ) -> Cycle:
        """Flush and claim. `clock_offset_us` turns the worker's `perf_counter` microseconds into the
        database's time. What is to run again is written first, by a statement of its own.

        Not to be cancelled half-way: the caller shields it, with a deadline. May be sent again after a lost
        reply, the same claim too: what the earlier one took is put back first.
        """
        flushes = [
            await self._retried(flush, clock_offset_us) if flush.retries else flush for flush in flushes
        ]
        if claim is not None and claim.limited:
            return await self._claim_apart(flushes, claim, clock_offset_us)
        statement = self._cycle if flushes or claim is None else self._claim
        if statement is None:
            await self.prepare()
            statement = self._cycle if flushes or claim is None else self._claim
            assert statement is not None
        outcomes: tuple[Any, ...] = ()
        marks: tuple[Any, ...] = ()
        if flushes or claim is None:
            outcomes = _outcomes(flushes, clock_offset_us) if flushes else _NOTHING
            marks = (_marks(outcomes[10], clock_offset_us) if outcomes[10] else _NO_MARKS,)
        asked = _NO_CLAIM if claim is None else _asked(claim)
        return _reply(await self._sent(statement, claim, *outcomes, *asked, *marks), claim)

    async def _claim_apart(self, flushes: Sequence[LeaseFlush], claim: Claim, clock_offset_us: int) -> Cycle:
        """Flush, which frees places of the limit, and then claim: two transactions."""
        accepted: frozenset[int] = frozenset()
        if flushes:
            accepted = (await self.cycle(flushes, None, clock_offset_us=clock_offset_us)).accepted
        if self._apart is None:
            self._apart = await self.connection.prepare(query("claim_limited"))
        row = await self._sent(self._apart, claim, *_asked(claim))
        return attrs.evolve(_reply(row, claim), accepted=accepted, blocked=row[16], rated=bool(row[17]))

    async def _sent(
        self, statement: asyncpg_trio.PreparedStatement, claim: Claim | None, *values: Any
    ) -> Any:
        try:
            row = await statement.fetchrow(self.worker, *values)
        except asyncpg.UniqueViolationError:
            # Our claim is there already: it was sent before, and the reply was lost.
            if claim is None or not await self._take_back(claim.lease):
                raise
            row = await statement.fetchrow(self.worker, *values)
        assert row is not None
        return row

    async def _retried(self, flush: LeaseFlush, clock_offset_us: int) -> LeaseFlush:
        """Queue the attempts that are to run again, and return the flush without them."""
        assert flush.states is not None, "a flush with retries says how each job ended"
        logs = dict(flush.logs)
        lo = flush.hand.lo
        places = [place for place, _ in flush.retries]
        await self.connection.fetchrow(
            query("end_jobs"),
            self.worker,
            [flush.hand.lease] * len(places),
            places,
            [int(OutcomeState.RETRY)] * len(places),
            [flush.started[place] + clock_offset_us for place in places],
            [flush.durations[place] for place in places],
            join([flush.payloads[place] for place in places]),
            [delay for _, delay in flush.retries],
            [logs.get(lo + place) for place in places],
            [pack(logs.get(lo + place), clock_offset_us) for place in places],
        )
        states, payloads = list(flush.states), list(flush.payloads)
        for place in places:
            states[place], payloads[place] = OutcomeState.NONE, b"null"
        queued = set(places)
        kept = [entry for entry in flush.logs if entry[0] - lo not in queued]
        return attrs.evolve(flush, states=states, payloads=payloads, logs=kept, retries=[])

    async def look(self, tag: int) -> tuple[list[int], float | None]:
        """A full look at a tag: its priorities, highest first, and seconds until the next job that is
        not yet due.
        """
        row = await self.connection.fetchrow(query("look"), tag)
        assert row is not None
        return list(row["priorities"]), row["next_in"]

    async def heads(self, tags: Sequence[int], script: int) -> list[tuple[int, int, datetime, UUID]]:
        """The first due job of each tag that has one, best first: (tag, priority, scheduled_for, id)."""
        return [tuple(row) for row in await self.connection.fetch(query("heads"), list(tags), script)]

    async def drained(self, tags: Sequence[int], script: int) -> bool:
        """Whether nothing due of the script waits on the tags and nobody holds any of it."""
        return bool(await self.connection.fetchval(query("drained"), list(tags), script))

    async def give_back(self, leases: Sequence[int]) -> int:
        """Put what these leases of this worker still hold back into the queue; return how many jobs."""
        return int(await self.connection.fetchval(query("give_back"), list(leases), self.worker, False))

    async def release(self, lease: int, places: Sequence[int]) -> int:
        """Put jobs of a lease that never began back into the queue; return how many there were. The lease
        stays for the others; it goes with its last job. `places` count from the lease's first job.
        """
        return int(await self.connection.fetchval(query("release"), lease, self.worker, list(places)))

    async def _take_back(self, lease: int) -> bool:
        row = await self.connection.fetchrow(query("give_back"), [lease], self.worker, False)
        assert row is not None, "counts come back"
        return bool(row["leases"])

    async def end_ghosts(self, milliseconds: int) -> int:
        """End earlier sessions of this worker that are still there; return how many. Not behind a pooler,
        whose sessions are everybody's.
        """
        return int(
            await self.connection.fetchval(query("end_ghosts"), session_name(self.worker), milliseconds)
        )

    async def rules(self, script: int, tags: Sequence[int]) -> tuple[bool, dict[int, float | None]]:
        """Whether the script is claimed apart; which of the tags are paused, for how many seconds more (None:
        until they are resumed).
        """
        row = await self.connection.fetchrow(query("claim_rules"), script, list(tags))
        assert row is not None, "a query without a table has one row"
        return row["apart"], dict(zip(row["paused"], row["seconds"], strict=True))

    async def begun(self, leases: Sequence[int]) -> bool:
        """Say to a rate that all jobs of these leases have begun."""
        await self.connection.fetchval(query("limit_begun"), list(leases))
        return True

    async def unlisted(self, known: Sequence[int]) -> list[int]:
        """Leases of this worker besides those it knows: the reply to their claim was lost."""
        rows = await self.connection.fetch(query("unlisted"), [self.worker], list(known), 0.0)
        return [row["id"] for row in rows]

    async def settled(self, flushes: Sequence[LeaseFlush]) -> set[int]:
        """Of flushes that were refused, the leases of those that an earlier try had written."""
        said = [flush for flush in flushes if flush.ended]
        # Who had nothing to say but that the lease may go has lost nothing with it.
        settled = {flush.hand.lease for flush in flushes if not flush.ended}
        if said:
            jobs = [flush.some_job() for flush in said]
            attempts = [
                flush.hand.attempts[list(flush.hand.ids).index(job)]
                for flush, job in zip(said, jobs, strict=True)
            ]
            leases = [flush.hand.lease for flush in said]
            rows = await self.connection.fetch(query("settled"), self.worker, leases, jobs, attempts)
            settled |= {row[0] for row in rows}
        return settled

    async def traces(self, jobs: Sequence[UUID]) -> dict[UUID, str]:
        """The traces that these jobs belong to, as `traceparent`; without those that belong to none."""
        rows = await self.connection.fetch(query("traces"), list(jobs))
        return {UUID(int=row["id"].int): row["traceparent"] for row in rows}

    async def payloads(self, jobs: Sequence[UUID]) -> dict[UUID, bytes]:
        """Args that are kept apart because of their size, as JSON."""
        return {row[0]: row[1] for row in await self.connection.fetch(query("payloads"), list(jobs))}


async def complete(
    connection: asyncpg_trio.Connection,
    worker: int,
    lease: int,
    place: int,
    result: bytes,
    *,
    started_us: int,
    duration_us: int,
    log: str | None,
    marks: str | None = None,
) -> bool:
    """End one job in success, as part of the caller's transaction on `connection`, which holds the lease's
    row until it ends. False when the lease is lost, or has an outcome of this job.

    `result` is JSON; `started_us` is in microseconds since the epoch by the database's clock.
    """
    accepted: int = await connection.fetchval(
        query("end_jobs"),
        worker,
        [lease],
        [place],
        [int(OutcomeState.SUCCESS)],
        [started_us],
        [duration_us],
        join([result]),
        [None],
        [log],
        [marks],
    )
    return accepted == 1


def _asked(claim: Claim) -> tuple[Any, ...]:
    """Parameters 14 to 26 of the cycle."""
    known, since, since_ids = claim.positions.known()
    upper, lower = claim.positions.gaps()
    return (
        *(claim.want, claim.tag, claim.script, known, since, since_ids, upper, lower),
        *(uuid_utils.uuid7(), claim.lease, *(claim.before or (None, None, None))),
    )


def _reply(row: Any, claim: Claim | None) -> Cycle:
    """What came of it; where the next claim starts is noted in its positions."""
    (
        accepted,
        base,
        lo,
        hi,
        ids,
        attempts,
        skip,
        args,
        priority,
        priorities,
        until,
        scheduled,
        saw,
        clock,
        timeouts,
        alone,
    ) = row[:16]
    hand = None
    if base is not None and claim is not None:
        hand = hand_of(
            *(claim.lease, base, lo, hi, ids, attempts, skip, args, claim.tag_name, timeouts),
            alone=bool(alone),
        )
        advance(
            claim.positions,
            priority,
            priorities,
            until,
            scheduled,
            ids,
            _EPOCH + timedelta(microseconds=clock),
        )
    return Cycle(frozenset(accepted), hand, bool(saw), clock)


def _marks(logs: Sequence[str], clock_offset_us: int) -> list[str | None]:
    """Parameter 27 of the cycle, for these logs."""
    # Nothing is known of a plain `str` beside its text.
    return [None if type(log) is str else pack(log, clock_offset_us) for log in logs]


def _outcomes(flushes: Sequence[LeaseFlush], clock_offset_us: int) -> tuple[Any, ...]:
    """Parameters 2 to 13 of the cycle."""
    if len(flushes) == 1:
        flush = flushes[0]
        logs = flush.logs
        return (
            [flush.hand.lease],
            [flush.final],
            [0],
            [flush.bits],
            flush.started,
            flush.durations,
            flush.states,
            [flush.body],
            [1] * len(logs),
            [log[0] for log in logs],
            [log[1] for log in logs],
            clock_offset_us,
        )
    started: list[int] = []
    durations: list[int] = []
    states: list[int] = []
    at: list[int] = []
    logs_of: list[tuple[int, int, str]] = []
    # Leases are locked in this order, as by whoever takes them back: two that meet wait, and do not deadlock.
    flushes = sorted(flushes, key=lambda flush: flush.hand.lease)
    for number, flush in enumerate(flushes, 1):
        at.append(len(started))
        started.extend(flush.started)
        durations.extend(flush.durations)
        states.extend([1] * len(flush.started) if flush.states is None else flush.states)
        logs_of.extend((number, ordinal, text) for ordinal, text in flush.logs)
    return (
        [flush.hand.lease for flush in flushes],
        [flush.final for flush in flushes],
        at,
        [flush.bits for flush in flushes],
        started,
        durations,
        states,
        [flush.body for flush in flushes],
        [log[0] for log in logs_of],
        [log[1] for log in logs_of],
        [log[2] for log in logs_of],
        clock_offset_us,
    )


async def connect_session(dsn: str, worker: int, *, pooled: bool = False) -> WorkerSession:
    """A connection for one worker's cycles, with the settings that pin its plans; the caller closes it.

    Behind a pooler (found out, or known: `pooled`) there are no settings, and every statement is parsed anew.
    """
    reached = await reach(dsn, name=session_name(worker), settings=SETTINGS, pooled=pooled)
    return WorkerSession(reached.connection, worker, pooled=reached.pooled)


def session_name(worker: int) -> str:
    """What the server's list of sessions shows for a worker's connection."""
    return f"hotpath worker {worker}"
