"""What a runtime notes of a job before it ends, and what is known of it when it comes back: the values.

A *note* is durable before the job's outcome: a step of a flow that has ended, a mark, a job to send through
the queue. `Notes` are the columns of one statement that writes many. A job that has to wait is *parked*: it
leaves the worker without an outcome, and whoever claims it next asks for what was `Recalled`.

Nothing here knows of a database, nor of flows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from uuid import UUID

import attrs

if TYPE_CHECKING:
    from hotpath.core.hand import Hand


AGAIN = 4
"""State of a step that failed and runs again."""


class StepNote(NamedTuple):
    """One run of a step has ended."""

    key: str
    """Which step of the job, such as `l[3]/b`."""
    id: bytes
    """Id that it has as a job: 16 bytes."""
    script: int
    """Id of its script (`script.id`)."""
    started_us: int
    """`time.perf_counter_ns() // 1000`, as in an outcome."""
    duration_us: int
    state: int
    """1 success, 2 failure, 3 canceled; 4: failed, and runs again."""
    attempt: int
    args: bytes
    """JSON."""
    outcome: bytes
    """JSON: the result, or the error object."""
    log: str | None


class Mark(NamedTuple):
    """Something to remember of the job under a key, until it ends."""

    key: str
    value: bytes | None
    """JSON; None takes the mark away."""


class Dispatch(NamedTuple):
    """A job to put into the queue; the one that notes it goes on when it has ended."""

    key: str
    id: bytes
    """Id of the job: 16 bytes. A second one with the same id is none."""
    script: str
    tag: str | None
    """None: the script's own."""
    priority: int
    timeout_ms: int | None
    args: bytes
    """JSON."""


class Early(NamedTuple):
    """A result that is there to see before the job has ended."""

    value: bytes
    """JSON."""


class Cached(NamedTuple):
    """A result that whoever asks for this key may have, for `ttl` seconds."""

    key: bytes
    ttl: float
    value: bytes
    """JSON."""


Note: TypeAlias = "StepNote | Mark | Dispatch | Early | Cached"


def _earlier(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


@attrs.frozen
class Parking:
    """What a parked job waits for: it is due again at `until_us`, or when one of the rest has come."""

    until_us: int | None
    """Microseconds since the epoch, by the database's clock; None: until somebody wakes it."""
    children: tuple[bytes, ...] = ()
    """Ids of dispatched jobs, of which it waits for any."""
    events: Mapping[str, int] = attrs.field(factory=dict)
    """By key of a step, how many events of it were seen: it waits for more."""

    def __or__(self, other: Parking) -> Parking:
        """Waits for whatever of the two comes first."""
        events = {**self.events, **other.events}
        for key in self.events.keys() & other.events.keys():
            events[key] = min(self.events[key], other.events[key])
        children = tuple(dict.fromkeys((*self.children, *other.children)))
        return Parking(_earlier(self.until_us, other.until_us), children, events)


@attrs.frozen
class Checkpoint:
    """A step that has ended."""

    state: int
    outcome: bytes
    """JSON: the result, or the error object."""
    args: bytes | None
    id: bytes


@attrs.frozen
class Event:
    """What somebody said to a job that waited for it."""

    approved: bool
    payload: bytes
    """JSON."""
    approver: str | None


@attrs.frozen
class Child:
    """A dispatched job."""

    id: bytes
    state: int
    """0: it has not ended."""
    outcome: bytes
    """JSON: the result, or the error object; `null` if it has not ended."""


@attrs.frozen
class Recalled:
    """What was noted of a job before, by whichever worker."""

    steps: dict[str, Checkpoint] = attrs.field(factory=dict)
    """By key."""
    marks: dict[str, bytes] = attrs.field(factory=dict)
    """By key, JSON."""
    events: dict[str, list[Event]] = attrs.field(factory=dict)
    """By key, in the order they came."""
    children: dict[str, Child] = attrs.field(factory=dict)
    """By key."""
    generation: int = 0
    """How often the job was retried as a whole: ids of steps depend on it."""
    retried: bool = False
    """Whether it was retried, as a whole or from a step."""


OnWritten: TypeAlias = "Callable[[], object] | None"
Entry: TypeAlias = "tuple[Hand, int, Note, OnWritten]"
"""Hand and index of a job, what is noted of it, and whom to tell once that is durable."""


@attrs.frozen(eq=False)
class Notes:
    """What one write says. Columns of one kind have the same length; `*_of` counts from 1 into `runs`."""

    entries: Sequence[Entry]
    """What it was made from, in order."""
    touched: Sequence[tuple[Hand, int]]
    """Hand and index of each job that something is said of."""
    leases: Sequence[int]
    places: Sequence[int]
    runs: Sequence[UUID]
    """Of `touched`: its lease, the place in it, the job's id."""

    step_of: Sequence[int] = ()
    keys: Sequence[str] = ()
    ids: Sequence[bytes] = ()
    scripts: Sequence[int] = ()
    started: Sequence[int] = ()
    """In microseconds of the worker's `time.perf_counter_ns`."""
    durations: Sequence[int] = ()
    states: Sequence[int] = ()
    attempts: Sequence[int] = ()
    args: Sequence[bytes] = ()
    outcomes: Sequence[bytes] = ()
    logs: Sequence[str | None] = ()

    mark_of: Sequence[int] = ()
    mark_keys: Sequence[str] = ()
    mark_values: Sequence[bytes] = ()
    """JSON; `null` takes the mark away."""

    child_of: Sequence[int] = ()
    child_keys: Sequence[str] = ()
    child_ids: Sequence[bytes] = ()
    child_scripts: Sequence[str] = ()
    child_tags: Sequence[str | None] = ()
    child_priorities: Sequence[int] = ()
    child_timeouts: Sequence[int | None] = ()
    child_args: Sequence[bytes] = ()

    early_of: Sequence[int] = ()
    early_values: Sequence[bytes] = ()

    cache_keys: Sequence[bytes] = ()
    cache_ttls: Sequence[float] = ()
    cache_values: Sequence[bytes] = ()

    size: int = 0
    """Bytes of its JSON, and characters of its logs."""
    again: bool = False
    """Whether the same may have been written before: a reply was lost."""


def weight_of(note: Note) -> int:
    """Bytes of JSON, and characters of the log, that it adds to a write."""
    if type(note) is StepNote:
        log = note.log
        return len(note.args) + len(note.outcome) + (len(log) if log else 0)
    if type(note) is Dispatch:
        return len(note.args)
    return len(note.value or b"")  # type: ignore[union-attr]  # of the others, each has one


def columns(entries: Iterable[Entry], size: int = 0) -> Notes:
    """These notes as columns."""
    entries = list(entries)
    numbers: dict[tuple[int, int], int] = {}
    touched: list[tuple[Hand, int]] = []
    steps: list[StepNote] = []
    step_of: list[int] = []
    marks: dict[tuple[int, str], bytes] = {}
    children: list[Dispatch] = []
    child_of: list[int] = []
    early: dict[int, bytes] = {}
    cached: dict[bytes, Cached] = {}
    for hand, index, note, _ in entries:
        job = (hand.lease, index)
        number = numbers.get(job)
        if number is None:
            touched.append((hand, index))
            number = numbers[job] = len(touched)
        kind = type(note)
        if kind is StepNote:
            step_of.append(number)
            steps.append(note)  # type: ignore[arg-type]  # mypy does not follow `kind`
        elif kind is Mark:
            marks[number, note.key] = note.value or b"null"  # type: ignore[union-attr, index]  # the last counts
        elif kind is Dispatch:
            child_of.append(number)
            children.append(note)  # type: ignore[arg-type]
        elif kind is Early:
            early.setdefault(number, note.value)  # type: ignore[union-attr, arg-type]  # the first counts
        else:
            cached[note.key] = note  # type: ignore[union-attr, index, assignment]
    said: dict[str, Any] = {}
    if steps:
        if len({note.id for note in steps}) < len(steps):
            step_of, steps = _apart(step_of, steps)
        said["step_of"] = step_of
        said.update(zip(_STEPS, zip(*steps, strict=True), strict=True))
    if marks:
        said["mark_of"], said["mark_keys"] = zip(*marks, strict=True)
        said["mark_values"] = list(marks.values())
    if children:
        said["child_of"] = child_of
        said.update(zip(_CHILDREN, zip(*children, strict=True), strict=True))
    if early:
        said["early_of"], said["early_values"] = list(early), list(early.values())
    if cached:
        said.update(zip(_CACHED, zip(*cached.values(), strict=True), strict=True))
    return Notes(
        entries=entries,
        touched=touched,
        leases=[hand.lease for hand, _ in touched],
        places=[hand.place(index) for hand, index in touched],
        runs=[hand.ids[index] for hand, index in touched],
        size=size or sum(weight_of(entry[2]) for entry in entries),
        **said,
    )


def _apart(step_of: list[int], steps: list[StepNote]) -> tuple[list[int], list[StepNote]]:
    """Without what has no place beside the rest in one transaction: of each run of a step one note is kept,
    and one end of it; the last.
    """
    runs: dict[tuple[int, bytes, int], StepNote] = {}
    ends: dict[tuple[int, bytes], StepNote] = {}
    for number, note in zip(step_of, steps, strict=True):
        runs[number, note.id, note.attempt] = note
        if note.state != AGAIN:
            ends[number, note.id] = note
    kept = [
        (number, note)
        for (number, id, _), note in runs.items()
        if note.state == AGAIN or ends[number, id] is note
    ]
    return [number for number, _ in kept], [note for _, note in kept]


_STEPS = (
    "keys", "ids", "scripts", "started", "durations", "states", "attempts", "args", "outcomes", "logs",
)  # fmt: skip
_CHILDREN = (
    "child_keys", "child_ids", "child_scripts", "child_tags", "child_priorities", "child_timeouts",
    "child_args",
)  # fmt: skip
_CACHED = ("cache_keys", "cache_ttls", "cache_values")
