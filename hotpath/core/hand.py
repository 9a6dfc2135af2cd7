"""The jobs in hand: leases this worker holds, what was reported of them, and what of that is still to be
flushed.

A `Hand` is one lease. The runtime appends outcomes to it from any thread (`report` is a deque's own
`append`); the worker's loop takes them out in bulk and makes one `Flush` of all that touched leases have to
say. Neither knows of a database.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import attrs

if TYPE_CHECKING:
    from hotpath.runtime.protocol import Outcome

MAX_FLUSH_BYTES = 8 << 20
"""Results and logs of one flush, together; a job with more goes alone."""


def job_id(base: UUID, ordinal: int) -> UUID:
    """Id of a job of a sealed batch: the last 16 bits are its ordinal."""
    return UUID(int=base.int | ordinal)


class SealedIds(Sequence[UUID]):
    """Ids of the jobs of a sealed batch, made when asked for: most jobs never ask."""

    __slots__ = ("_base", "_ordinals")

    def __init__(self, base: UUID, ordinals: Sequence[int]) -> None:
        self._base, self._ordinals = base, ordinals

    def __len__(self) -> int:
        return len(self._ordinals)

    def __getitem__(self, index: int) -> UUID:  # type: ignore[override]  # a slice is never asked for
        return job_id(self._base, self._ordinals[index])


class Hand:
    """One lease: jobs `lo` to `hi` of a batch, as `hotpath.runtime.Batch` shows them to a runtime.

    `places` maps the runtime's index to the place in the lease where jobs were canceled before the claim;
    None where it is the same.
    """

    __slots__ = (
        "_ended",
        "args",
        "attempts",
        "base",
        "hi",
        "ids",
        "lease",
        "left",
        "lo",
        "over",
        "places",
        "report",
        "reported",
        "stopped",
        "tag",
        "waiting_since",
    )

    def __init__(
        self,
        lease: int,
        base: UUID,
        lo: int,
        hi: int,
        *,
        ids: Sequence[UUID],
        args: bytes,
        attempts: Sequence[int],
        tag: str,
        places: list[int] | None = None,
    ) -> None:
        self.lease = lease
        self.base = base
        self.lo = lo
        self.hi = hi
        self.ids = ids
        self.args = args
        self.attempts = attempts
        self.tag = tag
        self.places = places
        self.left = len(ids)
        """Jobs whose outcome no flush has taken yet."""
        self.reported: deque[Outcome] = deque()
        self.report: Callable[[Outcome], object] = self.reported.append
        self.stopped = False
        """True once no further job of it should start."""
        self.over = False
        """True once the runtime has returned: nothing more will be reported."""
        self.waiting_since: float | None = None
        """When outcomes of it were first seen waiting for a flush, by the loop's clock."""
        self._ended = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """Places in the lease, jobs canceled before the claim included."""
        return self.hi - self.lo

    @property
    def unreported(self) -> int:
        """Jobs that have not ended."""
        return self.left - len(self.reported)

    def place(self, index: int) -> int:
        """Place in the lease of the runtime's job `index`."""
        return index if self.places is None else self.places[index]

    def take(self, limit: int = MAX_FLUSH_BYTES) -> LeaseFlush | None:
        """What was reported and not yet taken, up to `limit` bytes of results and logs; None if nothing.

        Outcomes come out once: keep the value until its flush is committed.
        """
        count = len(self.reported)
        if not count and not (self.over and not self.left):
            return None
        outcomes = [self.reported.popleft() for _ in range(count)]
        if count == self.size == self.left:
            indexes, states, started, durations, payloads, logs = zip(*outcomes, strict=True)
            if indexes != tuple(range(count)):
                outcomes.sort(key=_index)
                indexes, states, started, durations, payloads, logs = zip(*outcomes, strict=True)
            if indexes == tuple(range(count)):
                kept = _logs(logs, self.lo)
                size = sum(map(len, payloads)) + sum(len(text) for _, text in kept)
                if size <= limit or count == 1:
                    self.left = 0
                    return LeaseFlush(
                        self,
                        final=True,
                        before=0,
                        started=started,
                        durations=durations,
                        states=None if set(states) == {1} else states,
                        payloads=payloads,
                        logs=kept,
                        jobs=count,
                        failed=count - states.count(1),
                        busy_us=sum(durations),
                        size=size,
                    )
        return self._take_some(outcomes, limit)

    def _take_some(self, outcomes: list[Outcome], limit: int) -> LeaseFlush:
        """Some of the lease's jobs: what has not ended stays 0."""
        size = self.size
        started, durations, states, payloads = [0] * size, [0] * size, [0] * size, [b"null"] * size
        logs: list[tuple[int, str]] = []
        before = ended = self._ended
        total = jobs = failed = busy = 0
        for at, (index, state, start, duration, payload, log) in enumerate(outcomes):
            if not 0 <= index < len(self.ids):
                continue  # a custom runtime's mistake: there is no such job
            place = self.place(index)
            if ended >> place & 1:
                continue  # reported twice: the first outcome counts
            weight = len(payload) + len(log or "")
            if total + weight > limit and jobs:
                self.reported.extendleft(reversed(outcomes[at:]))
                break
            ended |= 1 << place
            total += weight
            started[place], durations[place], states[place], payloads[place] = start, duration, state, payload
            jobs += 1
            failed += state != 1
            busy += duration
            if log is not None:
                logs.append((self.lo + place, log))
        self.left -= jobs
        self._ended = ended
        return LeaseFlush(
            self,
            final=self.left == 0,
            before=before,
            started=started,
            durations=durations,
            states=states,
            payloads=payloads,
            logs=logs,
            jobs=jobs,
            failed=failed,
            busy_us=busy,
            size=total,
        )


def _index(outcome: Outcome) -> int:
    return outcome[0]


def _logs(logs: Sequence[str | None], lo: int) -> list[tuple[int, str]]:
    return [(lo + place, log) for place, log in enumerate(logs) if log is not None] if any(logs) else []


@attrs.frozen(eq=False)
class LeaseFlush:
    """What one flush says of one lease; `started`, `durations` and `states` have one entry for each place
    of it.
    """

    hand: Hand
    final: bool
    """All jobs of the lease have ended, so the lease goes."""
    before: int
    """Bit mask of the places that ended in earlier flushes."""
    started: Sequence[int]
    durations: Sequence[int]
    states: Sequence[int] | None
    """None: all succeeded."""
    payloads: Sequence[bytes]
    """JSON of each result or error; `null` for a place that does not end now."""
    logs: list[tuple[int, str]]
    """Ordinal in the batch, and text."""
    jobs: int
    failed: int
    busy_us: int
    size: int
    """Bytes of the payloads, and characters of the logs."""

    def some_job(self) -> UUID:
        """Id of one job that this flush ends."""
        hand = self.hand
        if self.states is None:
            return hand.ids[0]
        ended = next(place for place, state in enumerate(self.states) if state)
        return hand.ids[ended if hand.places is None else hand.places.index(ended)]

    @property
    def ended(self) -> int:
        """Bit mask of the places that end with this flush."""
        if self.states is None:
            return (1 << len(self.started)) - 1
        return sum(1 << place for place, state in enumerate(self.states) if state)

    @property
    def bits(self) -> bytes | None:
        """The lease's `done` bits after this flush; None when the lease goes."""
        return (
            None
            if self.final
            else (self.before | self.ended).to_bytes((len(self.started) + 7) // 8, "little")
        )

    @property
    def body(self) -> bytes:
        """The payloads as one JSON array."""
        return b"[" + b",".join(self.payloads) + b"]"

    def part(self, places: range, before: int, failure: bytes | None = None) -> LeaseFlush:
        """What it says of these places, and the lease goes on; with `failure`, they end in that error
        instead.

        For a flush that the database refuses because of one job's data: halves of it are tried until the job
        is found.
        """
        size = len(self.started)
        old = self.states if self.states is not None else [1] * size
        states = [old[place] if place in places else 0 for place in range(size)]
        logs = [entry for entry in self.logs if entry[0] - self.hand.lo in places]
        if failure is not None:
            states, logs = [2 if state else 0 for state in states], []
        payloads = [(failure or self.payloads[place]) if states[place] else b"null" for place in range(size)]
        return attrs.evolve(self, final=False, before=before, states=states, logs=logs, payloads=payloads)

    def closing(self, before: int) -> LeaseFlush:
        """Nothing more of any job: the lease goes."""
        size = len(self.started)
        return attrs.evolve(self, before=before, states=[0] * size, logs=[], payloads=[b"null"] * size)


def totals(flushes: Sequence[LeaseFlush]) -> tuple[int, int, int, int]:
    """Jobs, failures, microseconds in `main` and bytes of results of several flushes."""
    return (
        sum(flush.jobs for flush in flushes),
        sum(flush.failed for flush in flushes),
        sum(flush.busy_us for flush in flushes),
        sum(flush.size for flush in flushes),
    )
