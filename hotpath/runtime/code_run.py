"""A run of a flow that is written as code, while it is in hand: what its calls share, and how it ends.

`main` of such a script is wrapped once, when it is loaded; scripts that are no flows never come here. What
the calls do (`hotpath/flows/code.py`) is written once, as generators that yield *wishes*
(`runtime/wishes.py`), for a synchronous `main` and an async one.

The run is parked once nothing of it goes on but waiting. What goes on are the calls under way; tasks of
`main`'s own are not seen, so where there are any (a nursery, a coroutine given to `gather`) they get a moment
to make a call first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio

from hotpath.core.flow.replay import Replay, Scope
from hotpath.core.notes import Note, Parking, Recalled
from hotpath.errors import HotpathError, JobInterrupted
from hotpath.model import ErrorKind
from hotpath.runtime.context import running_job
from hotpath.runtime.ending import delay_of
from hotpath.runtime.parking import Parked
from hotpath.runtime.wishes import in_trio

if TYPE_CHECKING:
    from hotpath.runtime.context import RunningJob
    from hotpath.runtime.protocol import Batch

MOMENT = 0.05
"""Seconds without any call after which tasks of `main`'s own are taken to wait for something else."""
AHEAD = 64
"""Runs of a synchronous flow that are asked about at once."""


class _Waiter:
    __slots__ = ("parking", "stir")

    def __init__(self, parking: Parking) -> None:
        self.parking = parking
        self.stir = trio.Event()


class CodeRun:
    """One run in hand."""

    __slots__ = (
        "_waits", "activity", "batch", "busy", "flow", "index", "is_async", "job", "loose", "nurseries",
        "parked", "replay", "scope", "task",
    )  # fmt: skip

    def __init__(self, job: RunningJob, flow: CodeFlow, *, is_async: bool) -> None:
        self.job = job
        self.flow = flow
        self.batch: Batch = job.of.batch
        self.index = job.index
        self.is_async = is_async
        self.replay = Replay(self.batch.ids[job.index])
        self.scope = Scope()
        self.task = trio.lowlevel.current_task() if is_async else None
        self.busy = 0
        """Calls that go on, and do not only wait for a time or for somebody."""
        self.activity = 0
        """Changes whenever a call begins, ends or waits."""
        self.loose = 0
        """Coroutines that run in a `gather`: what they do between their calls is not seen."""
        self.nurseries: set[trio.Nursery] = set()
        """Those of `gather`, whose tasks are known."""
        self.parked: Parking | None = None
        self._waits: dict[_Waiter, None] = {}

    def note(self, note: Note, on_written: Callable[[], object] | None = None) -> None:
        """Have this written before the run's outcome."""
        self.batch.note(self.index, note, on_written)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """While this is open, a call is under way."""
        self.busy += 1
        self.activity += 1
        try:
            yield
        finally:
            self.busy -= 1
            self.stir()

    def stir(self) -> None:
        """A call has ended: whoever waits looks whether anything else goes on."""
        self.activity += 1
        if not self.busy and self._waits:
            next(iter(self._waits)).stir.set()

    # ------------------------------------------------------------ waiting

    def park(self, parking: Parking | None = None) -> Parked:
        """The exception that ends this call of `main`; the run is replayed by a later one."""
        if self.parked is None:
            waits = [waiter.parking for waiter in self._waits]
            if parking is not None:
                waits.append(parking)
            times = [each.until_us for each in waits if each.until_us is not None]
            children = dict.fromkeys(child for each in waits for child in each.children)
            events = {key: seen for each in waits for key, seen in each.events.items()}
            self.parked = Parking(min(times, default=None), tuple(children), events)
        return Parked(self.parked)

    async def wait(self, parking: Parking) -> None:
        """Returns when its time has come while the run was still in hand; else the run is parked."""
        waiter = _Waiter(parking)
        self._waits[waiter] = None
        self.busy -= 1  # the call that waits
        self.activity += 1
        try:
            while True:
                pause = math.inf
                if parking.until_us is not None:
                    pause = (parking.until_us - self.batch.now_us()) / 1e6
                    if pause <= 0:
                        return
                if not self.busy:
                    if not self._has_own_tasks():
                        raise self.park()
                    pause = min(pause, MOMENT)
                seen = self.activity
                with trio.move_on_after(pause):
                    await waiter.stir.wait()
                is_over = parking.until_us is not None and parking.until_us <= self.batch.now_us()
                if not (self.busy or waiter.stir.is_set() or is_over) and seen == self.activity:
                    raise self.park()
                waiter.stir = trio.Event()
        finally:
            del self._waits[waiter]
            self.busy += 1
            self.activity += 1

    def _has_own_tasks(self) -> bool:
        """Whether `main` has tasks that are not `gather`'s, or that do more than one call."""
        assert self.task is not None
        return self.loose > 0 or any(each not in self.nurseries for each in self.task.child_nurseries)

    # ------------------------------------------------------------ the end

    def finish(self) -> None:
        """`main` has returned: raises what is wrong with that."""
        if self.parked is not None:
            raise HotpathError(
                "`main` has caught the exception that parks the run: `except Exception` lets it through, "
                "`except:` and `except BaseException:` have to raise it again"
            )
        if self.replay.learned or self.replay.made:
            self.replay.check_end()

    def fail(self, error: BaseException) -> None:
        """`main` has raised: if it is to run again, the steps that failed are too."""
        if self.parked is not None or not self.replay.asked or self.job.of.given_up:
            return
        kind: ErrorKind | None = None
        if isinstance(error, JobInterrupted):
            kind = ErrorKind(error.kind)
        elif isinstance(error, trio.Cancelled):
            kind = ErrorKind.CANCELED if self.index in self.batch.canceling else ErrorKind.TIMEOUT
        elif isinstance(error, GeneratorExit):
            return
        if kind is not ErrorKind.CANCELED and delay_of(self.job.of, self.index, error, kind) is not None:
            self.note(self.replay.again())


class CodeFlow:
    """One script that is a flow, as it is loaded: asks what was recorded of many runs at once."""

    def __init__(self) -> None:
        self._asking: dict[int, tuple[trio.Lock, dict[int, Recalled | None], list[int]]] = {}
        """By batch: its lock, what was answered, who asks."""
        self._ahead: tuple[Batch, int, dict[int, Recalled]] | None = None

    async def recall(self, batch: Batch, index: int) -> Recalled | None:
        """What was recorded of this run. Runs of one batch that begin together are asked about together."""
        lock, answers, asking = self._asking.setdefault(id(batch), (trio.Lock(), {}, []))
        asking.append(index)
        try:
            async with lock:  # others join meanwhile
                if index not in answers:
                    indexes = [each for each in asking if each not in answers]
                    found = await batch.recall(indexes)
                    answers.update({each: found.get(each) for each in indexes})
                return answers[index]
        finally:
            asking.remove(index)
            answers.pop(index, None)
            if not asking:
                self._asking.pop(id(batch), None)

    def recall_sync(self, run: CodeRun) -> Recalled | None:
        """What was recorded of this run; those that follow are asked about too. While they are in hand
        nothing is recorded but by themselves.
        """
        batch, index, ahead = run.batch, run.index, self._ahead
        if ahead is None or ahead[0] is not batch or not index < ahead[1]:
            end = min(index + AHEAD, len(batch))
            ahead = self._ahead = batch, end, in_trio(run, batch.recall, list(range(index, end)))
        if index + 1 >= len(batch):
            self._ahead = None  # nothing of the batch stays alive
        return ahead[2].pop(index, None)


current_run: ContextVar[CodeRun | str | None] = ContextVar("hotpath_code_run", default=None)
"""The run whose `main` runs here; in one of its steps, that step's key."""


def as_flow(main: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """`main` of a script that is a flow, for a runtime to call."""
    flow = CodeFlow()
    if is_async:

        @functools.wraps(main)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            run = CodeRun(running_job(), flow, is_async=True)
            current_run.set(run)
            try:
                result = await main(*args, **kwargs)
            except BaseException as error:
                run.fail(error)
                raise
            run.finish()
            return result

        return run_async

    @functools.wraps(main)
    def run_sync(*args: Any, **kwargs: Any) -> Any:
        run = CodeRun(running_job(), flow, is_async=False)
        current_run.set(run)
        try:
            result = main(*args, **kwargs)
        except BaseException as error:
            run.fail(error)
            raise
        run.finish()
        return result

    return run_sync


_scope: ContextVar[Scope | None] = ContextVar("hotpath_code_scope", default=None)
"""Where calls are made, if not in `main` itself."""


def current_scope(run: CodeRun) -> Scope:
    """Where in the run this code is."""
    return _scope.get() or run.scope


@contextmanager
def enter_scope(run: CodeRun, key: str, index: int) -> Iterator[None]:
    """While this is open, calls are those of coroutine `index` of the `gather` with this key."""
    token = _scope.set(current_scope(run).within(key, index))
    try:
        yield
    finally:
        _scope.reset(token)


def run_here() -> CodeRun:
    """The run that this code belongs to. Raises HotpathError outside one, and within a step."""
    run = current_run.get()
    if isinstance(run, CodeRun):
        return run
    if run is not None:
        raise HotpathError(f"step {run} cannot have steps of its own: call the function, or do it in `main`")
    running_job()
    raise HotpathError(
        "this job is no run of a flow: say `hotpath.settings(flow=True)` in the module of its script; "
        "a step of a flow cannot have steps of its own"
    )
