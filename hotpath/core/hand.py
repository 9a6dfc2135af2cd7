"""The jobs in hand: leases this worker holds, what was reported of them, and what of that is still to be
flushed.

A `Hand` is one lease. The runtime appends outcomes to it from any thread (`report` is a deque's own
`append`); the worker's loop takes them out in bulk and makes one `Flush` of all that touched leases have to
say. Neither knows of a database.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableSequence, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from hotpath.core.flush import LeaseFlush, totals
from hotpath.core.logtext import behind
from hotpath.core.notebook import Desk, Nowhere

if TYPE_CHECKING:
    from hotpath.core.notes import Note, OnWritten, Parking, Recalled
    from hotpath.runtime.protocol import Outcome

__all__ = ["FOREVER", "MAX_FLUSH_BYTES", "Hand", "LeaseFlush", "SealedIds", "job_id", "totals"]

MAX_FLUSH_BYTES = 8 << 20
"""Results and logs of one flush, together; a job with more goes alone."""
FOREVER = (1 << 63) - 1
"""`Hand.until` where nobody says when the lease ends."""
SUCCESS, CANCELED, RETRY = 1, 3, 4
_NOWHERE: Desk = Nowhere()


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
        "_delays",
        "_dropped",
        "_ended",
        "_stopped",
        "alone",
        "args",
        "attempts",
        "away",
        "base",
        "begun",
        "canceling",
        "clock",
        "desk",
        "gone",
        "hi",
        "ids",
        "kept",
        "late",
        "lease",
        "left",
        "lo",
        "mark",
        "number",
        "over",
        "owner",
        "parked",
        "places",
        "report",
        "reported",
        "settled",
        "spoiled",
        "tag",
        "timeouts",
        "traces",
        "until",
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
        timeouts: Sequence[float | None] | None = None,
        alone: bool = False,
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
        self.timeouts = timeouts
        """Seconds a job may take, where that is said of the job itself; None: of no job here."""
        self.alone = alone
        """Whether nothing else of this worker may run beside it: it holds a job that may kill its worker."""
        self.traces: Mapping[int, str] | None = None
        """By index, the trace that a job belongs to, as `traceparent`; None: nobody has looked."""
        self.number = 0
        """Token of its first job; job i is `number + i`. Given by the worker's lease book."""
        self.mark: MutableSequence[int] = [0, 0]
        """Where the runtime says which job it has in hand, and that job's deadline."""
        self.clock: Callable[[], int] = _standing
        """What `until` is compared with: `time.perf_counter_ns`, in a worker."""
        self.until = FOREVER
        """`time.perf_counter_ns()` from which on no further job may start; 0 once stopped."""
        self.canceling: set[int] = set()
        """Indexes of jobs that somebody asked to cancel."""
        self.begun = 0
        """How many jobs have started, if the runtime runs several at once."""
        self.left = len(ids)
        """Jobs whose outcome no flush has taken yet."""
        self.reported: deque[Outcome] = deque()
        self.report: Callable[[Outcome], object] = self.reported.append
        self.over = False
        """True once the runtime has returned: nothing more will be reported."""
        self.owner: object = None
        """The worker's loop that it belongs to, for `hotpath.completion()`."""
        self.desk = _NOWHERE
        """Where notes go; the worker's, in a worker."""
        self.parked: dict[int, tuple[Parking, str | None]] = {}
        """Jobs that are to leave without an outcome, and their logs."""
        self.spoiled: set[int] = set()
        """Jobs of which something that was noted could not be written: they end in that error."""
        self.kept: set[int] = set()
        """Jobs of which more than steps may be kept in the database, until they end."""
        self.gone = False
        """True once the lease is no more."""
        self.settled: dict[int, int] = {}
        """Jobs that ended by a completion of their own, with the position up to which their log was written
        then.
        """
        self.late: list[tuple[int, int, str]] = []
        """Index, state and further log of settled jobs whose `main` has ended since."""
        self.waiting_since: float | None = None
        """When outcomes of it were first seen waiting for a flush, by the loop's clock."""
        self.away = 0
        """Bit mask of the places that left the lease on other ways than a flush."""
        self._ended = 0
        self._delays: dict[int, float] = {}
        self._dropped: set[int] = set()
        self._stopped = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """Places in the lease, jobs canceled before the claim included."""
        return self.hi - self.lo

    @property
    def unreported(self) -> int:
        """Jobs that have not ended."""
        return max(0, self.left - len(self.reported) - len(self.parked))

    @property
    def stopped(self) -> bool:
        """True once no further job of it should start."""
        return self.clock() >= self.until

    def stop(self) -> None:
        """No further job of it may start, for good."""
        self._stopped = True
        self.until = 0

    def hold(self, until: int) -> None:
        """Jobs may start before `until` (`time.perf_counter_ns()`), unless it was stopped."""
        if not self._stopped:
            self.until = until

    def place(self, index: int) -> int:
        """Place in the lease of the runtime's job `index`."""
        return index if self.places is None else self.places[index]

    def index(self, place: int) -> int | None:
        """The runtime's index of the job at this place; None if it has none there."""
        if self.places is None:
            return place if 0 <= place < len(self.ids) else None
        return self.places.index(place) if place in self.places else None

    def pending(self) -> list[int]:
        """Indexes of the jobs that have not ended, as far as was reported."""
        ended = {outcome[0] for outcome in list(self.reported)}
        return [
            index
            for index in range(len(self.ids))
            if index not in ended and index not in self.parked and not self._ended >> self.place(index) & 1
        ]

    @property
    def tokens(self) -> range:
        """Token of each job."""
        return range(self.number, self.number + len(self.ids))

    # ------------------------------------------------------------ what is said of jobs that have not ended

    def note(self, index: int, note: Note, on_written: OnWritten = None) -> None:
        """Have this written before the job's outcome."""
        if index in self._dropped and getattr(note, "state", None) == CANCELED:
            return  # a step that was interrupted with its job runs again with it
        self.desk.add(self, index, note, on_written)

    def park(self, index: int, parking: Parking, log: str | None = None) -> None:
        """The job is to leave, behind its notes, and to be claimed again when the parking says."""
        self.parked[index] = (parking, log)
        self.desk.park(self)

    async def recall(self, indexes: Sequence[int]) -> dict[int, Recalled]:
        """What was noted of these jobs before."""
        ids = {self.ids[index]: index for index in indexes}
        known = {ids[job]: found for job, found in (await self.desk.recall(list(ids))).items()}
        self.kept.update(known)
        return known

    async def cached(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Results under these keys that are still good."""
        return await self.desk.cached(keys)

    async def admit(self, script: int, most: int) -> set[int]:
        """Indexes of its jobs that have one of `most` places."""
        there = await self.desk.admit(script, most, list(self.ids))
        return {index for index, job in enumerate(self.ids) if job in there}

    def now_us(self) -> int:
        """The database's clock, microseconds since the epoch."""
        return self.desk.now_us()

    def unpark(self) -> dict[int, tuple[Parking, str | None]]:
        """What is to be parked now: those of the parked jobs that have not ended otherwise. They count as
        parked until `release`.
        """
        return {
            index: said
            for index, said in list(self.parked.items())
            if 0 <= index < len(self.ids) and not self._ended >> self.place(index) & 1
        }

    def has_ended(self, index: int) -> bool:
        """Whether the job has left, by an outcome that was taken or otherwise."""
        return bool(self._ended >> self.place(index) & 1)

    def spoil(self, index: int, outcome: Outcome) -> None:
        """Something noted of the job cannot be written: it ends as this, whatever is or will be reported."""
        self.spoiled.add(index)
        self.parked.pop(index, None)
        if not self.has_ended(index):
            self.reported.appendleft(outcome)

    # ------------------------------------------------------------ how jobs leave it

    def retry(self, outcome: Outcome, delay: float) -> None:
        """Report an attempt that failed and is to run again `delay` seconds after it is written."""
        self._delays[outcome[0]] = max(0.0, delay)
        self.report((outcome[0], RETRY, *outcome[2:]))

    def drop(self, indexes: Iterable[int]) -> None:
        """These jobs are interrupted because the lease is lost: that they were canceled is no outcome."""
        self._dropped.update(indexes)

    def release(self, indexes: Iterable[int]) -> None:
        """Jobs that never began are back in the queue: say so once the database has confirmed it, since
        a flush that ends the lease counts on it.
        """
        for index in indexes:
            self._leave(index)

    def settle(self, index: int, position: int = 0) -> bool:
        """A job has ended by a transaction of its own, which also wrote its log up to this position; whether
        it had not ended before. What is reported of it later is no outcome any more.
        """
        if not self._leave(index):
            return False
        self.settled[index] = position
        return True

    def _leave(self, index: int) -> bool:
        self.parked.pop(index, None)
        bit = 1 << self.place(index)
        if self._ended & bit:
            return False
        self._ended |= bit
        self.away |= bit
        self.left -= 1
        return True

    def take(self, limit: int = MAX_FLUSH_BYTES) -> LeaseFlush | None:
        """What was reported and not yet taken, up to `limit` bytes of results and logs; None if nothing.

        Outcomes come out once: keep the value until its flush is committed.
        """
        count = len(self.reported)
        if not count and not (self.over and not self.left):
            return None
        outcomes = [self.reported.popleft() for _ in range(count)]
        if count == self.size == self.left and not self._dropped:
            indexes, states, started, durations, payloads, logs = zip(*outcomes, strict=True)
            if indexes != tuple(range(count)):
                outcomes.sort(key=_index)
                indexes, states, started, durations, payloads, logs = zip(*outcomes, strict=True)
            if indexes == tuple(range(count)):
                kept = _logs(logs, self.lo)
                size = sum(map(len, payloads)) + sum(len(text) for _, text in kept)
                if size <= limit or count == 1:
                    self.left = 0
                    self._ended = (1 << count) - 1
                    simple = set(states) == {SUCCESS}
                    retries = [] if simple else self._retries(states)
                    return LeaseFlush(
                        self,
                        final=True,
                        before=0,
                        started=started,
                        durations=durations,
                        states=None if simple else states,
                        payloads=payloads,
                        logs=kept,
                        jobs=count,
                        failed=count - states.count(SUCCESS) - len(retries),
                        busy_us=sum(durations),
                        size=size,
                        retries=retries,
                    )
        return self._take_some(outcomes, limit)

    def _retries(self, states: Sequence[int]) -> list[tuple[int, float]]:
        return [(place, self._delays.get(place, 0.0)) for place, state in enumerate(states) if state == RETRY]

    def _take_some(self, outcomes: list[Outcome], limit: int) -> LeaseFlush | None:
        """Some of the lease's jobs: what has not ended stays 0."""
        size = self.size
        started, durations, states, payloads = [0] * size, [0] * size, [0] * size, [b"null"] * size
        logs: list[tuple[int, str]] = []
        retries: list[tuple[int, float]] = []
        before = ended = self._ended
        total = jobs = failed = busy = 0
        for at, (index, state, start, duration, payload, log) in enumerate(outcomes):
            if not 0 <= index < len(self.ids):
                continue  # a custom runtime's mistake: there is no such job
            if state == CANCELED and index in self._dropped:
                continue  # it goes back
            place = self.place(index)
            if ended >> place & 1:
                if index in self.settled:
                    self.late.append((index, state, behind(log or "", self.settled[index])))
                continue  # reported twice: the first outcome counts
            weight = len(payload) + len(log or "")
            if total + weight > limit and jobs:
                self.reported.extendleft(reversed(outcomes[at:]))
                break
            ended |= 1 << place
            total += weight
            started[place], durations[place], states[place], payloads[place] = start, duration, state, payload
            jobs += 1
            busy += duration
            if state == RETRY:
                retries.append((place, self._delays.get(index, 0.0)))
            elif state != SUCCESS:
                failed += 1
            if log is not None:
                logs.append((self.lo + place, log))
        self.left -= jobs
        self._ended = ended
        # Settled jobs whose `main` goes on have more to log: the lease waits for them.
        final = self.left == 0 and (self.over or not self.settled)
        if not jobs and not final:
            return None
        return LeaseFlush(
            self,
            final=final,
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
            retries=retries,
        )


def _standing() -> int:
    return 0


def _index(outcome: Outcome) -> int:
    return outcome[0]


def _logs(logs: Sequence[str | None], lo: int) -> list[tuple[int, str]]:
    return [(lo + place, log) for place, log in enumerate(logs) if log is not None] if any(logs) else []
