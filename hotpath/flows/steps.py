"""Calls of steps as batches: what the runtimes of ordinary scripts are given to run.

A batch holds calls of one script, of any number of runs. Its outcomes go to whoever made it, one by one, as
they are reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Container, Mapping, MutableSequence, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from hotpath.core.flow.waits import StepCall
from hotpath.errors import HotpathError

if TYPE_CHECKING:
    from hotpath.core.secrets import Masker
    from hotpath.model import ErrorKind
    from hotpath.runtime.protocol import Batch, Outcome


class Holder(Protocol):
    """A run in hand, as a batch of steps knows it: `Run.holder`."""

    batch: Batch
    """The batch of runs that it came with."""
    index: int
    token: int
    """The run's own token: a step that kills the process does so in its name."""
    ending: ErrorKind | None
    """How the run is to end, once it was told to."""
    limit: float | None
    """Seconds that the run may take."""
    started_us: int


BEHIND = 0.25
"""Seconds after its run's time-out at which a step's own is over at the latest: one that nobody could
interrupt by then is ended by whoever watches the worker.
"""


def _within_run(own: float | None, script: float | None, holder: Holder) -> float | None:
    """Seconds that a step may take: what the flow, or else its script, says, and not much more than its run
    has left.
    """
    if holder.limit is None:
        return own
    said = script if own is None else own
    left = max(0.0, holder.limit - (time.perf_counter_ns() // 1000 - holder.started_us) / 1e6) + BEHIND
    return left if said is None else min(said, left)


class _Ids(Sequence[UUID]):
    """Made when asked for: most steps never ask."""

    __slots__ = ("_calls",)

    def __init__(self, calls: list[StepCall]) -> None:
        self._calls = calls

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, index: int) -> UUID:  # type: ignore[override]  # a slice is never asked for
        return UUID(bytes=self._calls[index].id)


class _Ending(Container[int]):
    __slots__ = ("_any", "_calls")

    def __init__(self, calls: list[StepCall], endings: Collection[Any]) -> None:
        self._calls = calls
        self._any = endings

    def __bool__(self) -> bool:
        return bool(self._any)

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and self._calls[index].run.holder.ending is not None


Ended = Callable[["StepBatch", "Outcome", "float | None"], object]
"""Hears of each outcome, and in how many seconds a script that wants to run again does."""


SHOWN = 100
"""Steps of one batch that are looked at."""


class StepBatch:
    """Calls of one script as `hotpath.runtime.Batch`.

    `endings` are the runs, if any, that are to end; `timed`: some runs have a time-out; `apart`: the worker's
    mark is for other steps.
    """

    of_steps = True
    """What its jobs print goes to logs of their own, and not to that of the job which their tokens name."""

    __slots__ = (
        "_ended", "_open", "_parents", "args", "attempts", "begun", "calls", "canceling", "ids", "kept",
        "left", "mark", "maskers", "tag", "timeouts", "tokens", "traces",
    )  # fmt: skip

    def __init__(
        self,
        kept: Any,
        calls: list[StepCall],
        ended: Ended,
        endings: Collection[Any] = (),
        *,
        timed: bool = False,
        apart: bool = False,
    ) -> None:
        self.kept = kept
        """Their script, for whoever made the batch."""
        self.calls = calls
        self.left = len(calls)
        """How many have not been reported."""
        self._open = bytearray(b"\1" * len(calls))
        self._ended = ended
        holders: list[Holder] = [call.run.holder for call in calls]
        parents = {id(holder.batch): holder.batch for holder in holders}
        self._parents = list(parents.values())
        self.begun = 0
        self.traces: Mapping[int, str] | None = None
        """By index, the spans of their runs, as `traceparent`; None: they have none."""
        self.maskers: Sequence[Masker | None] | None = None
        """What hides the secrets of their runs; None: they have none."""
        self.args = b"[" + b",".join([call.args for call in calls]) + b"]"
        self.attempts = [call.attempt for call in calls]
        self.ids = _Ids(calls)
        self.canceling = _Ending(calls, endings)
        self.tag = self._parents[0].tag
        # Where two threads run steps, the mark is that of the lane: the other would wipe out its deadline.
        self.mark: MutableSequence[int] = [0, 0] if apart else self._parents[0].mark
        self.tokens = [holder.token for holder in holders]
        timeouts = [call.timeout for call in calls]
        if timed:
            timeouts = [_within_run(call.timeout, kept.limit, call.run.holder) for call in calls]
        self.timeouts = timeouts if any(timeouts) else None

    def __len__(self) -> int:
        return len(self.calls)

    @property
    def number(self) -> int:
        """Token of its first job; `tokens` says those of the others."""
        return self.tokens[0]

    @property
    def until(self) -> int:
        """The earliest of the runs' batches."""
        parents = self._parents
        return parents[0].until if len(parents) == 1 else min([parent.until for parent in parents])

    @property
    def stopped(self) -> bool:
        """Whether none of it should start any more."""
        return any(parent.stopped for parent in self._parents)

    def report(self, outcome: Outcome) -> None:
        """A step has ended."""
        self._close(outcome[0])
        self._ended(self, outcome, None)

    def retry(self, outcome: Outcome, delay: float) -> None:
        """A step has failed, and its script wants to run again."""
        self._close(outcome[0])
        self._ended(self, outcome, delay)

    def key_of(self, index: int) -> str:
        """Which step of its run it is."""
        return self.calls[index].key

    def _close(self, index: int) -> None:
        self.left -= self._open[index]
        self._open[index] = 0

    def under_way(self, *, one_by_one: bool) -> list[StepCall]:
        """Calls that have begun, as far as is known, and have not ended; not for one that does not last."""
        if one_by_one:
            first = self._open.find(1)
            return [] if first < 0 else [self.calls[first]]
        return self.unreported()[:SHOWN]

    def unreported(self) -> list[StepCall]:
        """The calls that nothing was reported of."""
        return [call for call, is_open in zip(self.calls, self._open, strict=True) if is_open]

    # A step of a flow has no steps of its own: whoever asks is told so.

    def note(self, index: int, note: Any, on_written: Callable[[], object] | None = None) -> None:
        """Raises HotpathError."""
        raise HotpathError(NESTED)

    def park(self, index: int, parking: Any, log: str | None = None) -> None:
        """Raises HotpathError."""
        raise HotpathError(NESTED)

    async def recall(self, indexes: Sequence[int]) -> dict[int, Any]:
        """Raises HotpathError."""
        raise HotpathError(NESTED)

    async def cached(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Raises HotpathError."""
        raise HotpathError(NESTED)

    async def admit(self, script: int, most: int) -> set[int]:
        """Raises HotpathError."""
        raise HotpathError(NESTED)

    def now_us(self) -> int:
        """The database's clock."""
        return self._parents[0].now_us()


NESTED = "a step of a flow cannot have steps of its own: make its script a flow, and call that as a sub-flow"
