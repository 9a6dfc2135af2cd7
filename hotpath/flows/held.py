"""What a flow's runtime has in hand: the scripts of its steps, runs, and batches of runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import trio

    from hotpath.core.flow.engine import Run
    from hotpath.core.flow.waits import StepCall
    from hotpath.core.notes import Recalled
    from hotpath.core.secrets import Masker
    from hotpath.flows.steps import StepBatch
    from hotpath.model import ErrorKind
    from hotpath.runtime.protocol import Batch
    from hotpath.runtime.tracing import Spans

SLICE_US = 20_000
"""Work of one batch of steps: those of other scripts wait for it."""
MOST_STEPS = 500
FIRST_STEPS = 8
"""Steps of one batch, while nobody knows how long they take."""


class Kept:
    """The script of steps, warm, with what is known of it."""

    __slots__ = ("id", "is_async", "limit", "mean_us", "name", "ready", "version", "warm")

    def __init__(
        self, name: str, id: int, version: str, *, is_async: bool, limit: float | None = None
    ) -> None:
        self.name = name
        self.id = id
        """`script.id`."""
        self.version = version
        """Hash of its source."""
        self.is_async = is_async
        self.limit = limit
        """Seconds that it says it may take."""
        self.warm: Any = None
        """What runs it: of an async one an `AsyncRuntime`, else what the lane takes."""
        self.ready: list[StepCall] = []
        self.mean_us: float | None = None

    def take(self) -> list[StepCall]:
        """Calls for one batch: as many as make a slice of work."""
        room = FIRST_STEPS
        if self.is_async:
            room = MOST_STEPS
        elif self.mean_us is not None:
            room = max(1, min(MOST_STEPS, int(SLICE_US / max(self.mean_us, 1.0))))
        taken = self.ready[:room]
        del self.ready[:room]
        return taken

    def observe(self, duration_us: int) -> None:
        """A step has taken so long."""
        mean = self.mean_us
        self.mean_us = float(duration_us) if mean is None else mean + 0.1 * (duration_us - mean)


class Group:
    """The runs of one batch."""

    __slots__ = ("_stopped", "batch", "busy", "done", "given_up", "held", "left", "spans")

    def __init__(self, batch: Batch, done: trio.Event, spans: Spans | None = None) -> None:
        self.batch = batch
        self.spans = spans
        """Of its runs; None: nobody wants them."""
        self.held: dict[int, Held] = {}
        """By index, the runs that have not ended."""
        self.left = len(batch)
        self.busy = 0
        """Calls of theirs that a runtime has."""
        self.given_up = False
        self.done = done
        self._stopped = False

    @property
    def stops(self) -> bool:
        """Whether no further step of its runs is to begin here: once so, always so, whatever its lease does
        then, since a call may have been dropped for it.
        """
        self._stopped = self._stopped or self.given_up or self.batch.stopped
        return self._stopped


class Held:
    """A run in hand."""

    __slots__ = (
        "asking",
        "batch",
        "calls",
        "cut",
        "ending",
        "group",
        "index",
        "life",
        "limit",
        "masker",
        "over",
        "run",
        "started_us",
        "timer",
        "token",
    )

    def __init__(self, group: Group, index: int, run: Run) -> None:
        self.group = group
        self.batch = group.batch
        self.index = index
        self.token = group.batch.tokens[index]
        self.run = run
        self.life = group.batch.attempts[index]
        """Which attempt at the run this is, from 1."""
        self.calls = 0
        """Calls of it that have not ended, given to a runtime or waiting to be."""
        self.ending: ErrorKind | None = None
        """How it is to end, once it was told to."""
        self.cut = False
        """Whether a step of it did not succeed after that: what the run makes of it is no result."""
        self.asking = False
        """Whether somebody looks what people have said about it."""
        self.over = False
        self.started_us = time.perf_counter_ns() // 1000
        self.limit: float | None = None
        """Seconds that it may take."""
        self.masker: Masker | None = None
        """What hides the secrets of its args."""
        self.timer: int | None = None
        """When it is to be ticked, by the database's clock in microseconds."""


class Outside(Protocol):
    """What a home asks of Trio's thread; all of it may be called in any thread."""

    def knock(self) -> object:
        """Something was posted: see that there is a turn soon."""

    def launch(self, batch: StepBatch, kept: Kept) -> object:
        """Run async steps."""

    def arm(self, seconds: float, then: Callable[[], object], held: Held) -> object:
        """Do this in Trio's thread after so many seconds, if the run is not over by then."""

    def look_up(self, batch: Batch, key: bytes, then: Callable[[bytes | None], object]) -> object:
        """Look whether a result is in the database's cache, and tell it in whichever thread."""

    def end(self, held: Held, kind: ErrorKind) -> object:
        """In Trio's thread: end the run, and interrupt the steps of it that are under way."""

    def recall(self, batch: Batch, index: int, then: Callable[[Recalled | None], object]) -> object:
        """Look what is noted of a run, and tell it in whichever thread."""

    def settled(self, event: trio.Event) -> object:
        """Set the event."""


def traces_of(calls: Sequence[StepCall]) -> dict[int, str]:
    """By index, the spans of the runs that these calls are steps of."""
    found = {}
    for index, call in enumerate(calls):
        held: Held = call.run.holder
        spans = held.group.spans
        trace = None if spans is None else spans.traceparent(held.index)
        if trace is not None:
            found[index] = trace
    return found
