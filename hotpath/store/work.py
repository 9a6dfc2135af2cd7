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

import attrs
import uuid_utils.compat as uuid_utils

from hotpath import asyncpg_trio
from hotpath.core.hand import Hand, LeaseFlush, SealedIds
from hotpath.store.queries import query

if TYPE_CHECKING:
    from hotpath.core.positions import Positions

SETTINGS = {
    "plan_cache_mode": "force_generic_plan",  # arrays of any length share one plan
    "enable_seqscan": "off",  # a plan made while a table was empty must not survive its growth
    "enable_bitmapscan": "off",
    "jit": "off",
    "idle_in_transaction_session_timeout": "10s",  # below the lease: a dead client must not hold a row
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING: tuple[Any, ...] = ([], [], [], [], [], [], None, [], [], [], [], 0)


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


class WorkerSession:
    """One worker's connection. Not for two tasks at once."""

    def __init__(self, connection: asyncpg_trio.Connection, worker: int) -> None:
        self.connection = connection
        self.worker = worker
        self._cycle: asyncpg_trio.PreparedStatement | None = None
        self._claim: asyncpg_trio.PreparedStatement | None = None

    async def prepare(self) -> None:
        """Prepare the hot statements, so that the first job does not wait for them."""
        self._cycle = await self.connection.prepare(query("cycle"))
        self._claim = await self.connection.prepare(query("claim"))

    async def cycle(
        self, flushes: Sequence[LeaseFlush], claim: Claim | None, *, clock_offset_us: int = 0
    ) -> Cycle:
        """Flush and claim. `clock_offset_us` turns the worker's `perf_counter` microseconds into the
        database's time.

        Not to be cancelled half-way: the caller shields it, with a deadline.
        """
        statement = self._cycle if flushes or claim is None else self._claim
        if statement is None:
            await self.prepare()
            statement = self._cycle if flushes or claim is None else self._claim
            assert statement is not None
        outcomes: tuple[Any, ...] = ()
        if flushes or claim is None:
            outcomes = _outcomes(flushes, clock_offset_us) if flushes else _NOTHING
        lease = 0
        if claim is None:
            asked: tuple[Any, ...] = (0, 0, 0, [], [], [], [], [], None, 0, None, None, None)
        else:
            known, since, since_ids = claim.positions.known()
            upper, lower = claim.positions.gaps()
            lease = secrets.randbits(62)
            before = claim.before or (None, None, None)
            asked = (
                claim.want,
                claim.tag,
                claim.script,
                known,
                since,
                since_ids,
                upper,
                lower,
                uuid_utils.uuid7(),
                lease,
                *before,
            )
        row = await statement.fetchrow(self.worker, *outcomes, *asked)
        assert row is not None
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
        ) = row[:14]
        hand = None
        if base is not None and claim is not None:
            hand = _hand(lease, base, lo, hi, ids, attempts, skip, args, claim.tag_name)
            _advance(
                claim.positions,
                priority,
                priorities,
                until,
                scheduled,
                ids,
                _EPOCH + timedelta(microseconds=clock),
            )
        return Cycle(frozenset(accepted), hand, bool(saw), clock)

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
        return int(await self.connection.fetchval(query("give_back"), list(leases), self.worker))

    async def unlisted(self, known: Sequence[int]) -> list[int]:
        """Leases of this worker besides those it knows: the reply to their claim was lost."""
        return [row[0] for row in await self.connection.fetch(query("unlisted"), self.worker, list(known))]

    async def settled(self, flushes: Sequence[LeaseFlush]) -> set[int]:
        """Of flushes that were refused, the leases of those that an earlier try had written."""
        if not flushes:
            return set()
        leases = [flush.hand.lease for flush in flushes]
        rows = await self.connection.fetch(
            query("settled"), self.worker, leases, [flush.some_job() for flush in flushes]
        )
        return {row[0] for row in rows}

    async def payloads(self, jobs: Sequence[UUID]) -> dict[UUID, bytes]:
        """Args that are kept apart because of their size, as JSON."""
        return {row[0]: row[1] for row in await self.connection.fetch(query("payloads"), list(jobs))}


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


class _Ones(Sequence[int]):
    """The attempt of each job of a batch that has run none before: 1."""

    __slots__ = ("_size",)

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> int:  # type: ignore[override]  # a slice is never asked for
        if not -self._size <= index < self._size:
            raise IndexError(index)  # iteration ends by it
        return 1


def _hand(
    lease: int,
    base: UUID,
    lo: int,
    hi: int,
    ids: list[UUID] | None,
    attempts: list[int] | None,
    skip: bytes | None,
    args: bytes,
    tag: str,
) -> Hand:
    """The lease as the runtime will see it: without the jobs that were canceled while they waited."""
    size = hi - lo
    runs: Sequence[int] = _Ones(size) if attempts is None else [attempt + 1 for attempt in attempts]
    if skip is None or not any(_canceled(skip, ordinal) for ordinal in range(lo, hi)):
        return Hand(
            lease,
            base,
            lo,
            hi,
            ids=ids if ids is not None else SealedIds(base, range(lo, hi)),
            args=args,
            attempts=runs,
            tag=tag,
        )
    places = [place for place in range(size) if not _canceled(skip, lo + place)]
    elements = split(args)
    return Hand(
        lease,
        base,
        lo,
        hi,
        ids=SealedIds(base, [lo + place for place in places]),
        args=join([elements[place] for place in places]),
        attempts=[runs[place] for place in places],
        tag=tag,
        places=places,
    )


def _canceled(skip: bytes, ordinal: int) -> bool:
    return bool(skip[ordinal >> 3] >> (ordinal & 7) & 1)


def split(document: bytes) -> list[bytes]:
    """The elements of a JSON array, as they are written."""
    import msgspec

    return [bytes(element) for element in msgspec.json.decode(document, type=list[msgspec.Raw])]


def join(elements: Sequence[bytes]) -> bytes:
    """A JSON array of these elements."""
    return b"[" + b",".join(elements) + b"]"


def _advance(
    positions: Positions,
    priority: int,
    priorities: list[int] | None,
    until: datetime | None,
    scheduled: list[datetime] | None,
    ids: list[UUID] | None,
    now: datetime,
) -> None:
    """Remember where the claim of loose jobs ended, in each priority it took from; of a batch, that its
    priority exists.
    """
    if until is None or ids is None:
        positions.know(priority)
    elif priorities is None or scheduled is None:
        positions.advance(priority, until, ids[-1], now)
    else:
        last = dict(zip(priorities, zip(scheduled, ids, strict=True), strict=True))
        for known, (time, job) in last.items():
            positions.advance(known, time, job, now)


async def connect_session(dsn: str, worker: int) -> WorkerSession:
    """A connection for one worker's cycles, with the settings that pin its plans; the caller closes it."""
    settings = {**SETTINGS, "application_name": f"hotpath worker {worker}"}
    return WorkerSession(await asyncpg_trio.connect(dsn, server_settings=settings), worker)
