"""What a normal worker says to the database: claims over all its tags and scripts, and where to look.

One statement takes the best jobs in strict order and cuts them into *segments*: neighbours of one tag and
script, each with a lease of its own that belongs to the process which keeps that script warm.
"""

from __future__ import annotations

import math
import secrets
import struct
import time
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import attrs
import uuid_utils.compat as uuid_utils

from hotpath.core.positions import FIRST_ID, HIGHEST, LOWEST, MAX_KNOWN, Position, Positions
from hotpath.store.claimed import advance
from hotpath.store.queries import query

if TYPE_CHECKING:
    from hotpath import asyncpg_trio
    from hotpath.store.work import WorkerSession

MAX_JOBS = 500
"""Of one claim."""
MAX_SEGMENTS = 128
"""Of one claim."""
FEWEST = 16
"""Jobs that are looked at of each tag and priority, at least."""
PROBED = 200
"""Tags that every claim looks at; of more, those in which the last full look found jobs."""
TAGS = 2_000
"""Tags that a normal worker knows of at a time."""
PASSED_FOR = 10.0
"""Seconds after which it is looked again at what was left out, however much that is."""
BEFORE = timedelta(seconds=1)
"""How long before a look that found a priority empty jobs are still looked for in it."""
_WORDS, _LEASE = f"<{MAX_SEGMENTS}Q", (1 << 62) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@attrs.frozen
class Taker:
    """A process that takes jobs of its script."""

    script: int
    worker: int
    cost_us: float
    """Work that one of its jobs is, as far as is known."""
    room: int
    """Jobs that it takes now."""


@attrs.frozen
class Segment:
    """Neighbouring jobs of one tag and script, leased to one worker."""

    lease: int
    worker: int
    script: int
    tag: int
    base: UUID
    lo: int
    hi: int
    ids: list[UUID] | None
    attempts: list[int] | None
    skip: bytes | None
    args: bytes
    timeouts_ms: list[int | None] | None
    alone: bool
    rated: bool = False
    """Whether a rate wants to know when all its jobs have begun."""

    def __len__(self) -> int:
        return self.hi - self.lo


@attrs.frozen
class Found:
    """The answer to one claim."""

    segments: list[Segment]
    """In order."""
    cold: int | None
    """The script in front of whose job the claim stopped: no process of it takes jobs, or it is claimed
    apart.
    """
    cold_tag: int | None
    """The tag of that job."""
    apart: bool
    """Whether that script is claimed apart."""
    behind: tuple[int, datetime, UUID] | None
    """Priority, time and id of what comes behind it; what is claimed apart must come before that."""
    saw: bool
    """Nothing was claimed although due jobs were seen: others hold them just now. What lies before the
    positions is not seen (`are_due`), nor is what is left out.
    """
    more: bool
    """Whether there may be more than was looked at."""
    clock_us: int
    """The database's clock as the statement ended, microseconds since the epoch."""


@attrs.define(eq=False)
class Places:
    """The tags of one normal worker, and from where on jobs may wait in them."""

    names: dict[int, str] = attrs.field(factory=dict)
    """Name of each tag that is listened to, by key."""
    paused: dict[int, float] = attrs.field(factory=dict)
    """Tags that nothing is taken from, and the `time.monotonic()` until which."""
    rank: Callable[[str], int] | None = None
    """What jobs of a tag are worth, whatever their own priority; None: all the same."""
    _worth: tuple[object, dict[int, int]] | None = None
    """By key, of tags that are not worth 0; and by what it was found."""
    active: set[int] = attrs.field(factory=set)
    """Tags in which jobs were found at the last full look."""
    _past: dict[int, str] = attrs.field(factory=dict)
    """Names of tags that were listened to: what was claimed of them may still run."""
    _positions: dict[int, Positions] = attrs.field(factory=dict)
    _passed: dict[tuple[int, int], Position] = attrs.field(factory=dict)
    """By tag and priority, behind what is left out."""
    _passed_since: float = 0.0
    _looked: bool = False
    """Whether a full look was taken since the last claim: that one sees what has come back before those."""
    _left_out: frozenset[int] = frozenset()

    def know(self, names: Mapping[int, str]) -> None:
        """Listen to these tags, and to no others."""
        self._past |= self.names
        self._worth = None
        self.names = dict(names)
        self._positions = {tag: self._positions.get(tag) or Positions() for tag in names}

    def add(self, names: Mapping[int, str]) -> None:
        """Listen to these tags as well."""
        self.know({**self.names, **names})

    def name(self, tag: int) -> str:
        """Of a tag that is listened to, or was."""
        return self.names.get(tag) or self._past.get(tag, "")

    def tags(self) -> list[int]:
        """Those that jobs are taken from."""
        if not self.paused:
            return list(self.names)
        now = time.monotonic()
        self.paused = {tag: until for tag, until in self.paused.items() if until > now}
        return [tag for tag in self.names if tag not in self.paused]

    def ranks(self) -> dict[int, int]:
        """By key of a tag, what its jobs are worth, before any priority; else 0."""
        if self.rank is None:
            return {}
        if self._worth is None or self._worth[0] is not self.rank:
            found = {tag: self.rank(name) for tag, name in self.names.items()}
            self._worth = self.rank, {tag: rank for tag, rank in found.items() if rank}
        return self._worth[1]

    @property
    def are_many(self) -> bool:
        """Whether a claim does not look at all of them."""
        return len(self.names) > PROBED

    def look(self, found: Mapping[int, Sequence[int]], until: datetime) -> None:
        """A full look at `until`: these priorities of these tags hold jobs. Others that were known begin
        there: what lies before is gone, and should not be walked again and again.
        """
        self.active, self._looked = set(found), True
        for tag, positions in self._positions.items():
            known = list(positions.since)
            positions.look(found.get(tag, ()))
            for priority in known:
                if priority not in positions.since and len(positions.since) < MAX_KNOWN:
                    positions.since[priority] = (until, FIRST_ID)
        if time.monotonic() - self._passed_since > PASSED_FOR:
            self._passed.clear()

    def settle(self, until: datetime) -> None:
        """Nothing due was found: until the next full look, start at `until`."""
        for positions in self._positions.values():
            positions.settle(until)

    def parameters(self, left_out: frozenset[int]) -> tuple[list[Any], ...]:
        """Parameters 3 to 9 of the claim."""
        if left_out and left_out != self._left_out:
            self._left_out = left_out
            self._passed.clear()
        tags: list[int] = []
        priorities: list[int] = []
        since: list[datetime] = []
        ids: list[UUID] = []
        gap_tags: list[int] = []
        gap_upper: list[int] = []
        gap_lower: list[int] = []
        for tag in self.tags():
            if tag not in self.active and self.are_many:
                continue
            positions = self._positions[tag]
            known, times, jobs = positions.known()
            tags += [tag] * len(known)
            priorities += known
            since += times
            ids += jobs
            upper, lower = positions.gaps()
            gap_tags += [tag] * len(upper)
            gap_upper += upper
            gap_lower += lower
        if self._passed and left_out and not self._looked:
            for at, key in enumerate(zip(tags, priorities, strict=True)):
                if key in self._passed:
                    since[at], ids[at] = max((since[at], ids[at]), self._passed[key])
        return tags, priorities, since, ids, gap_tags, gap_upper, gap_lower

    def learn(self, rows: Sequence[Any], left_out: frozenset[int]) -> None:
        """Remember where a claim ended. What was left out lies before that: then nothing moves."""
        first = rows[0]
        self._looked = False
        for tag, priority, moment, job in zip(
            first["passed_tags"],
            first["passed_priorities"],
            first["passed_times"],
            first["passed_ids"],
            strict=True,
        ):
            self._positions[tag].know(priority)
            if not self._passed:
                self._passed_since = time.monotonic()
            self._passed[tag, priority] = max((moment, job), self._passed.get((tag, priority), (moment, job)))
        now = _EPOCH + timedelta(microseconds=first["clock"])
        for row in rows:
            if row["lease"] is None:
                continue
            positions = self._positions.get(row["tag"])
            if positions is None:
                continue
            if left_out:
                for priority in row["priorities"] or [row["priority"]]:
                    positions.know(priority)
                continue
            advance(
                positions,
                row["priority"],
                row["priorities"],
                row["until"],
                row["scheduled"],
                row["ids"],
                now,
            )


@attrs.define(eq=False)
class Claiming:
    """One claim, which may be sent again when its reply is lost: what an earlier try took goes back first."""

    places: Places
    takers: Sequence[Taker]
    left_out: frozenset[int]
    budget_us: float
    slice_us: float
    jobs: int = MAX_JOBS
    depth: int = MAX_JOBS
    """Jobs that are looked at of each tag and priority."""
    stretch: int = 1
    """How many times as much is chosen: claims before it found all that they had chosen locked."""
    known: set[int] = attrs.field(factory=set)
    """Leases that are known: those which the claim may bring are, before it is sent."""
    _sent: list[int] = attrs.field(factory=list)

    async def __call__(self, session: WorkerSession) -> Found:
        """Send it."""
        if self._sent:
            for worker in {taker.worker for taker in self.takers}:
                await session.connection.fetchrow(query("give_back"), self._sent, worker, False)
        leases = [
            lease & _LEASE | 1 for lease in struct.unpack(_WORDS, secrets.token_bytes(8 * MAX_SEGMENTS))
        ]
        self._sent += leases
        self.known.update(leases)
        ranks = self.places.ranks()
        rows = await session.connection.fetch(
            query("claim_any"),
            self.jobs,
            self.budget_us * self.stretch,
            *self.places.parameters(self.left_out),
            [taker.script for taker in self.takers],
            [taker.worker for taker in self.takers],
            [taker.cost_us for taker in self.takers],
            [taker.room * self.stretch for taker in self.takers],
            list(self.left_out),
            _bases(len(leases)),
            leases,
            self.depth,
            max(
                self.slice_us, self.budget_us * self.stretch / MAX_SEGMENTS
            ),  # or what is locked has them all
            list(ranks),
            list(ranks.values()),
        )
        self.places.learn(rows, self.left_out)
        segments = [
            _segment(row, row["lease"], row["worker"], row["script"], row["tag"])
            for row in rows
            if row["lease"] is not None
        ]
        first = rows[0]
        return Found(
            segments,
            first["cold"],
            first["cold_tag"],
            bool(first["apart"]),
            None
            if first["behind_id"] is None
            else (first["behind_priority"], first["behind_time"], first["behind_id"]),
            bool(first["saw"]),
            bool(first["cut"]) or bool(first["passed_tags"]),
            first["clock"],
        )

    def forget(self) -> None:
        """The reply is here: what it did not bring is no lease, or one of an earlier try that came through
        too late to be given back: as one that nobody knows it is taken back.
        """
        self.known.difference_update(self._sent)


@attrs.frozen
class Apart:
    """The answer to a claim of a script that is claimed apart."""

    segment: Segment | None
    blocked: float | None
    """Seconds until it is worth asking again: due jobs are there that its limit holds back."""


@attrs.define(eq=False)
class ClaimingApart:
    """A claim of one script in one tag under its limit; may be sent again, as `Claiming` may."""

    taker: Taker
    tag: int
    want: int
    before: tuple[int, datetime, UUID] | None
    known: set[int]
    _sent: list[int] = attrs.field(factory=list)

    async def __call__(self, session: WorkerSession) -> Apart:
        """Send it."""
        if self._sent:
            await session.connection.fetchrow(query("give_back"), self._sent, self.taker.worker, False)
        lease = secrets.randbits(62) | 1
        self._sent.append(lease)
        self.known.add(lease)
        row = await session.connection.fetchrow(
            query("claim_limited"),
            *(self.taker.worker, self.want, self.tag, self.taker.script),
            *([], [], [], [HIGHEST], [LOWEST]),
            *(_bases(1)[0], lease, *(self.before or (None, None, None))),
        )
        assert row is not None, "a function's row"
        if row["base"] is None:
            return Apart(None, row["blocked"])
        segment = _segment(row, lease, self.taker.worker, self.taker.script, self.tag)
        return Apart(attrs.evolve(segment, rated=bool(row["rated"])), row["blocked"])

    def forget(self) -> None:
        """The reply is here."""
        self.known.difference_update(self._sent)


def _segment(row: Any, lease: int, worker: int, script: int, tag: int) -> Segment:
    return Segment(
        *(lease, worker, script, tag, row["base"], row["lo"], row["hi"], row["ids"]),
        *(row["attempts"], row["skip"], row["args"], row["timeouts"]),
        alone=bool(row["alone"]),
    )


def _bases(count: int) -> list[UUID]:
    """Ids for batches that claims make: the first is new, the others differ from it in its random part."""
    first = uuid_utils.uuid7().int
    return [UUID(int=first ^ (k << 16)) for k in range(count)]


async def paused_tags(connection: asyncpg_trio.Connection) -> dict[int, float]:
    """Tags that are paused, and the `time.monotonic()` until which."""
    now = time.monotonic()
    rows = await connection.fetch(query("paused_tags"))
    return {row["tag"]: math.inf if row["seconds"] is None else now + row["seconds"] for row in rows}


async def look(session: WorkerSession, places: Places, waiting: Container[int] | None = None) -> float | None:
    """A full look at all tags, or those in which jobs are known to be `waiting`; seconds until the next job
    that is not yet due.
    """
    tags = [tag for tag in places.tags() if waiting is None or tag in waiting]
    rows = await session.connection.fetch(query("look_any"), tags)
    clock = _EPOCH + timedelta(microseconds=await session.connection.fetchval(query("clock")))
    places.look({row["tag"]: row["priorities"] for row in rows}, clock - BEFORE)
    waits = [row["next_in"] for row in rows if row["next_in"] is not None]
    return min(waits, default=None)


async def are_due(
    session: WorkerSession, places: Places, waiting: Container[int] | None, left_out: Collection[int]
) -> bool:
    """Whether jobs are due in these tags, of scripts that are not left out, also where no claim looks."""
    tags = [tag for tag in places.tags() if waiting is None or tag in waiting]
    return bool(await session.connection.fetchval(query("due_any"), tags, list(left_out), MAX_JOBS))


async def waiting_tags(session: WorkerSession) -> dict[int, str]:
    """Tags in which jobs wait, by key."""
    rows = await session.connection.fetch(query("tags_waiting"), TAGS)
    return {row["tag"]: row["name"] for row in rows if row["name"] is not None}


async def listened_tags(connection: asyncpg_trio.Connection, patterns: Sequence[str]) -> dict[int, str]:
    """Known tags that these patterns listen to, by key."""
    rows = await connection.fetch(query("tags_listened"), list(patterns), TAGS)
    return {row["id"]: row["name"] for row in rows}


async def drained(session: WorkerSession, tags: Sequence[int]) -> bool:
    """Whether nothing due waits on these tags, and nobody holds any of it."""
    return bool(await session.connection.fetchval(query("drained_any"), list(tags)))


async def give_back(session: WorkerSession, segments: Sequence[Segment]) -> None:
    """Put segments that have not begun back into the queue."""
    by_worker: dict[int, list[int]] = {}
    for segment in segments:
        by_worker.setdefault(segment.worker, []).append(segment.lease)
    for worker, leases in by_worker.items():
        await session.connection.fetchrow(query("give_back"), leases, worker, False)
