"""The runtime of scripts whose `main` is async: up to `concurrency` jobs at a time, on Trio.

A task, a cancel scope or a hop between threads per job would each cost more than a small job. So jobs are run
by *runners*: tasks that live as long as the runtime and run one job after another from one queue. A runner
steps the coroutine of its job by hand, which gives two things: each job has a context of its own, and a
runner knows whether its job blocks. As long as jobs do not block one runner does them all; when one blocks,
others are woken (or started, up to `concurrency`), a few at a time, and wake further ones.

Each runner has one cancel scope, in which all its jobs run; it is replaced only after it was used.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from types import coroutine
from typing import TYPE_CHECKING, Any

import attrs
import trio

from hotpath.errors import BadArgsError
from hotpath.runtime import payload
from hotpath.runtime.capture import capture_logging, capturing, unbuffer
from hotpath.runtime.context import CLOSED, BatchInHand, RunningJob, current
from hotpath.runtime.load import WarmScript, await_preload, warm

if TYPE_CHECKING:
    from hotpath.runtime.protocol import Batch, Script

DEFAULT_CONCURRENCY = 100
SUCCESS, FAILURE = 1, 2

YIELD_NS = 1_000_000
"""After a millisecond of jobs that never block, the other tasks of this thread get a turn."""

WAKE_AT_ONCE = 8
"""Runners that one blocked runner wakes: they wake others, so 1,000 are up after four rounds."""


class _Run:
    """One call of `AsyncRuntime.run`: a batch and how much of it is left."""

    __slots__ = ("batch", "calls", "done", "faults", "hand", "left", "next", "report")

    def __init__(self, hand: BatchInHand, calls: list[Any], faults: dict[int, str]) -> None:
        self.hand = hand
        self.batch = hand.batch
        self.calls = calls
        self.faults = faults
        self.next = 0
        self.left = len(calls)
        self.report = hand.batch.report
        self.done = trio.Event()


@attrs.define(eq=False)
class _Runner:
    """One runner: the scope its jobs run in, and the run its job belongs to while that job is blocked."""

    scope: trio.CancelScope
    blocked: _Run | None = None


class AsyncRuntime:
    """Runs an async `main` on Trio, up to `concurrency` jobs at a time, in Trio's own thread."""

    def __init__(self, concurrency: int = DEFAULT_CONCURRENCY) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1, not {concurrency}")
        self._concurrency = concurrency
        self._queue: deque[_Run] = deque()
        self._lot = trio.lowlevel.ParkingLot()
        self._runners: set[_Runner] = set()
        self._waking = 0
        self._yielded = 0
        self._nursery: trio.Nursery | None = None
        self._script: Script | None = None
        self._warm: WarmScript | None = None
        self._base = Context()

    @property
    def concurrency(self) -> int:
        """How many jobs run at the same time."""
        return self._concurrency

    @asynccontextmanager
    async def open(self, script: Script) -> AsyncIterator[None]:
        """Import the script and run its `preload()`. On exit, jobs that still run are cancelled.

        Raises `ScriptError` for a script that cannot be run.
        """
        with capturing():
            ready = warm(script, wants_async=True)
            await await_preload(ready)
            unbuffer()
            capture_logging()
            self._base = copy_context()  # with what preload() set in it
            self._script, self._warm = script, ready
            try:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    yield
                    nursery.cancel_scope.cancel(reason="the runtime was closed")
            finally:
                self._nursery = self._script = self._warm = None
                self._queue.clear()

    async def run(self, batch: Batch) -> None:
        """Run every job of the batch; its jobs start after those of earlier calls.

        Once `batch.stopped`, no further job of it starts, and it returns when those that run are reported. If
        cancelled, those that run are cancelled too, and nothing more is reported.
        """
        if self._script is None or self._warm is None:
            raise RuntimeError("AsyncRuntime.run() outside of `async with runtime.open(script)`")
        if not len(batch):
            await trio.lowlevel.checkpoint()
            return
        hand = BatchInHand(batch, self._script)
        try:
            calls, faults = self._warm.decoder.calls(batch.args)
        except BadArgsError as error:
            calls, faults = [None] * len(batch), dict.fromkeys(range(len(batch)), str(error))
        run = _Run(hand, calls, faults)
        self._queue.append(run)
        self._wake(1)
        try:
            await run.done.wait()
        finally:
            if run.left:
                self._abandon(run)

    def _abandon(self, run: _Run) -> None:
        run.hand.given_up = True
        if run in self._queue:
            self._queue.remove(run)
        for runner in self._runners:
            if runner.blocked is run:
                runner.scope.cancel(reason="the batch was given up")

    def _wake(self, wanted: int) -> None:
        """Let so many more runners look at the queue, as far as there are any and jobs for them."""
        if not self._queue or self._nursery is None:
            return
        if not len(self._lot) and len(self._runners) >= self._concurrency:
            return
        waiting = sum(len(run.calls) - run.next for run in self._queue)
        wanted = min(wanted, waiting - self._waking)
        while wanted > 0:
            if len(self._lot):
                self._lot.unpark(count=1)
            elif len(self._runners) < self._concurrency:
                runner = _Runner(trio.CancelScope())
                self._runners.add(runner)
                self._nursery.start_soon(self._work, runner)
            else:
                return
            self._waking += 1
            wanted -= 1

    async def _work(self, runner: _Runner) -> None:
        """One runner's life. Only its nursery's cancellation, or a fault of ours, ends it."""
        try:
            self._waking -= 1
            while True:
                with runner.scope:
                    await self._run_jobs(runner)
                runner.scope = trio.CancelScope()
        finally:
            self._runners.discard(runner)

    async def _run_jobs(self, runner: _Runner) -> None:
        """Run jobs until the runner's scope is used up. The async hot path."""
        queue, lot, base, scope = self._queue, self._lot, self._base, runner.scope
        assert self._warm is not None
        main, keywords = self._warm.main, self._warm.decoder.keywords
        clock, encode = time.perf_counter_ns, payload.encode
        nul, large = payload.NUL, payload.MAX_BYTES
        run: _Run | None
        hand: BatchInHand | None
        job: RunningJob | None
        context: Context | None
        while True:
            if not queue:
                run = hand = job = context = call = body = None  # an idle runner keeps nothing alive
                await lot.park()
                self._waking -= 1
                self._yielded = clock()
                continue
            run = queue[0]
            if run.batch.stopped:
                queue.popleft()
                self._ended(run, len(run.calls) - run.next)
                continue
            index = run.next
            run.next = index + 1
            if run.next == len(run.calls):
                queue.popleft()
            if run.faults and index in run.faults:
                run.report((index, FAILURE, clock() // 1000, 0, payload.bad_args(run.faults[index]), None))
                self._ended(run)
                continue
            hand = run.hand
            job = RunningJob(hand, index)
            call = run.calls[index]
            run.calls[index] = None
            context = base.copy()  # what main sets in its context ends with it
            context.run(current.set, job)
            blocked = False
            result: Any = None
            error: BaseException | None = None
            job.started = started = clock()
            try:
                body = main(**call) if keywords else main(*call)
                trap = context.run(body.send, None)
            except StopIteration as stop:
                result = stop.value
            except BaseException as raised:  # noqa: BLE001 - sys.exit() in main ends the job, not the worker
                error = raised
            else:
                blocked = True
                runner.blocked = run
                self._wake(WAKE_AT_ONCE)
                if hand.timeout is not None:
                    scope.deadline = trio.current_time() + hand.timeout
                result, error = await _resume(body, context, trap)
                runner.blocked = None
                if hand.timeout is not None:
                    scope.deadline = math.inf
            ended = clock()
            if error is not None:
                state, outcome = FAILURE, b""
                if blocked and _cancels(error) and trio.current_effective_deadline() == -math.inf:
                    if hand.timeout is None or not scope.cancel_called or hand.given_up:
                        # The batch was given up (this scope), or the runtime is closing (one outside).
                        error = None
                        if not scope.cancel_called:
                            await trio.lowlevel.checkpoint_if_cancelled()
                        return
                    outcome = payload.timed_out(hand.timeout, error)
                else:
                    outcome = payload.failure(error, _hint(error))
                error = None  # its traceback holds this frame
            else:
                try:
                    state, outcome = SUCCESS, encode(result)
                    if (nul in outcome or len(outcome) > large) and not payload.is_storable(outcome):
                        state, outcome = FAILURE, payload.bad_result(result, outcome, None)
                except BaseException as raised:  # noqa: BLE001 - the result's own code runs in there
                    state, outcome = FAILURE, payload.bad_result(result, None, raised)
                result = None
            log, job.log = job.log, CLOSED
            if not hand.given_up:
                text = log.text() if log else None  # type: ignore[union-attr]
                run.report((index, state, started // 1000, (ended - started) // 1000, outcome, text))
            self._ended(run)
            if blocked:
                self._yielded = ended
                if scope.cancel_called:
                    return
            elif ended - self._yielded > YIELD_NS:
                await trio.lowlevel.checkpoint()
                self._yielded = clock()

    def _ended(self, run: _Run, jobs: int = 1) -> None:
        run.left -= jobs
        if not run.left:
            run.done.set()


@coroutine
def _resume(
    body: Coroutine[Any, Any, Any], context: Context, trap: Any
) -> Generator[Any, Any, tuple[Any, BaseException | None]]:
    """Step a job's coroutine, which has yielded `trap` to Trio, to its end: its result, or what it raised."""
    while True:
        step, given = body.send, None
        try:
            given = yield trap
        except GeneratorExit:  # nobody will resume this task again
            body.close()
            raise
        except BaseException as thrown:  # noqa: BLE001 - Trio throws what it cannot understand back at the job
            step, given = body.throw, thrown
        try:
            trap = context.run(step, given)
        except StopIteration as stop:
            return stop.value, None
        except BaseException as error:  # noqa: BLE001 - whatever main raises ends the job
            return None, error
        finally:
            given = None


def _cancels(error: BaseException) -> bool:
    """Whether a cancellation is what ended the job, alone or among what its tasks raised."""
    if isinstance(error, BaseExceptionGroup):
        return any(_cancels(part) for part in error.exceptions)
    return isinstance(error, trio.Cancelled)


def _hint(error: BaseException) -> str:
    """What to add to the message of an error that asyncio code meets here."""
    if isinstance(error, RuntimeError) and str(error) == "no running event loop":
        return "an async main runs on Trio: use trio's functions, or asyncio.run in a synchronous main"
    return ""
