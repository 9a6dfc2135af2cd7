"""The runtime of scripts whose `main` is async: up to `concurrency` jobs at a time, on Trio.

A task, a cancel scope or a hop between threads per job would each cost more than a small job. So jobs are run
by *runners*: tasks that live as long as the runtime and run one job after another from one queue. A runner
steps the coroutine of its job by hand, which gives two things: each job has a context of its own, and a
runner knows whether its job blocks. As long as jobs do not block one runner does them all; when one blocks,
others are woken (or started, up to `concurrency`), a few at a time, and wake further ones.

Each runner has one cancel scope, in which all its jobs run; it is replaced only after it was used. A job's
time-out is that scope's deadline, an interrupt its cancellation. The batch's `mark` names a job while its own
code runs, never while it waits: a job that waits cannot have killed the process.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, MutableSequence, Sequence
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TextIO

import attrs
import trio

from hotpath.errors import BadArgsError
from hotpath.model import ErrorKind
from hotpath.runtime import payload
from hotpath.runtime.capture import capture_logging, capturing, mend, unbuffer
from hotpath.runtime.context import CLOSED, BatchInHand, RunningJob, current
from hotpath.runtime.ending import fail, refuse
from hotpath.runtime.load import WarmScript, await_preload, warm
from hotpath.runtime.stepping import cancels, hint, resume

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

    __slots__ = ("batch", "calls", "done", "hand", "left", "mark", "next", "refused", "report", "tokens")

    def __init__(self, hand: BatchInHand, calls: list[Any], faults: dict[int, str]) -> None:
        self.hand = hand
        self.batch = hand.batch
        self.mark = hand.batch.mark
        self.tokens = hand.batch.tokens
        self.calls = calls
        self.refused = hand.refused
        self.refused.update(faults)
        self.next = 0
        self.left = len(calls)
        self.report = hand.report
        self.done = trio.Event()


@attrs.define(eq=False)
class _Runner:
    """One runner: the scope its jobs run in, and which job is blocked in it."""

    scope: trio.CancelScope
    blocked: _Run | None = None
    index: int = 0
    kind: ErrorKind | None = None
    """Why the scope was cancelled; None: it was not, or its deadline has passed."""
    since: float = math.inf
    """`trio.current_time()` at which it was."""

    def end(self, kind: ErrorKind) -> None:
        """Cancel the job that is blocked here, unless it is being cancelled."""
        if not self.scope.cancel_called:
            self.kind, self.since = kind, trio.current_time()
            self.scope.cancel(reason=f"the job is to end: {kind}")

    def renew(self) -> None:
        """A scope that is unused."""
        self.scope, self.kind, self.since = trio.CancelScope(), None, math.inf


class AsyncRuntime:
    """Runs an async `main` on Trio, up to `concurrency` jobs at a time, in Trio's own thread."""

    def __init__(self, concurrency: int = DEFAULT_CONCURRENCY) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1, not {concurrency}")
        self._concurrency = concurrency
        self._queue: deque[_Run] = deque()
        self._runs: list[_Run] = []
        self._lot = trio.lowlevel.ParkingLot()
        self._runners: set[_Runner] = set()
        self._waking = 0
        self._yielded = 0
        self._nursery: trio.Nursery | None = None
        self._script: Script | None = None
        self._warm: WarmScript | None = None
        self._base = Context()
        self._streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)

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
            self._streams = (sys.stdout, sys.stderr)
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

        From `batch.until` on no further job of it starts, and it returns when those that run are reported. If
        cancelled, those that run are cancelled too, and nothing more is reported.
        """
        if self._script is None or self._warm is None:
            raise RuntimeError("AsyncRuntime.run() outside of `async with runtime.open(script)`")
        if not len(batch):
            await trio.lowlevel.checkpoint()
            return
        hand = BatchInHand(batch, self._script, self._warm.places)
        try:
            calls, faults = self._warm.decoder.calls(batch.args)
        except BadArgsError as error:
            calls, faults = [None] * len(batch), dict.fromkeys(range(len(batch)), str(error))
        run = _Run(hand, calls, faults)
        if batch.canceling:  # type: ignore[truthy-bool]  # by whom `interrupt` was called too early
            for index in range(len(calls)):
                if index in batch.canceling:
                    run.refused.setdefault(index, ErrorKind.CANCELED)
        self._queue.append(run)
        self._runs.append(run)
        self._wake(1)
        try:
            await run.done.wait()
        finally:
            self._runs.remove(run)
            if run.left:
                self._abandon(run)
            mend(*self._streams)

    def interrupt(self, batch: Batch, index: int, kind: ErrorKind) -> None:
        """End this job: cancel it where it waits, or have it skipped if it has not begun."""
        for run in self._runs:
            if run.batch is batch:
                if kind is ErrorKind.CANCELED:
                    run.refused.setdefault(index, kind)
                for runner in self._runners:
                    if runner.blocked is run and runner.index == index:
                        runner.end(kind)
                return

    def stuck(self, after: float) -> Sequence[tuple[Batch, int, ErrorKind]]:
        """Jobs that still wait for something `after` seconds after they were cancelled, under a shield."""
        now = trio.current_time()
        return [
            (runner.blocked.batch, runner.index, runner.kind or ErrorKind.TIMEOUT)
            for runner in self._runners
            if runner.blocked is not None
            and runner.scope.cancel_called
            and now - min(runner.since, runner.scope.deadline) > after
        ]

    def _abandon(self, run: _Run) -> None:
        run.hand.give_up()
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
                runner.renew()
        finally:
            self._runners.discard(runner)

    async def _run_jobs(self, runner: _Runner) -> None:
        """Run jobs until the runner's scope is used up. The async hot path."""
        queue, lot, base, scope = self._queue, self._lot, self._base, runner.scope
        assert self._warm is not None
        main, keywords = self._warm.main, self._warm.decoder.keywords
        clock, encode = time.perf_counter_ns, payload.encode
        nul, large = payload.NUL, payload.MAX_BYTES
        (out, err), system = self._streams, sys
        mark: MutableSequence[int] = [0, 0]
        run: _Run | None
        hand: BatchInHand | None
        job: RunningJob | None
        context: Context | None
        while True:
            if not queue:
                mark[0] = 0
                mark = [0, 0]
                run = hand = job = context = call = body = None  # an idle runner keeps nothing alive
                await lot.park()
                self._waking -= 1
                self._yielded = clock()
                continue
            run = queue[0]
            index = run.next
            mark = run.mark
            mark[0] = token = run.tokens[index]  # before `until` is looked at
            started = clock()
            if started >= run.batch.until:
                mark[0] = 0
                queue.popleft()
                self._ended(run, len(run.calls) - index)
                continue
            run.batch.begun = run.next = index + 1
            if run.next == len(run.calls):
                queue.popleft()
            hand = run.hand
            if run.refused and index in run.refused:
                refuse(hand, index)
                self._ended(run)
                continue
            job = RunningJob(hand, index)
            call = run.calls[index]
            run.calls[index] = None
            context = base.copy()  # what main sets in its context ends with it
            context.run(current.set, job)
            blocked = False
            result: Any = None
            error: BaseException | None = None
            limit: float | None = None
            deadline = 0
            job.started = started
            if hand.timed:
                limit = hand.limit(index)
                if limit is not None:
                    mark[1] = deadline = started + int(limit * 1e9)
            try:
                body = main(**call) if keywords else main(*call)
                trap = context.run(body.send, None)
            except StopIteration as stop:
                result = stop.value
            except BaseException as raised:  # noqa: BLE001 - sys.exit() in main ends the job, not the worker
                error = raised
            else:
                blocked = True
                runner.blocked, runner.index = run, index
                self._wake(WAKE_AT_ONCE)
                if limit is not None:
                    scope.deadline = trio.current_time() + limit - (clock() - started) / 1e9
                if run.refused and index in run.refused:
                    runner.end(ErrorKind.CANCELED)  # it was interrupted from within
                result, error = await resume(body, context, trap, mark, token, deadline)
                runner.blocked = None
                if limit is not None:
                    scope.deadline = math.inf
            ended = clock()
            if error is not None:
                kind = None
                if blocked and scope.cancel_called and not hand.given_up:
                    kind = runner.kind or ErrorKind.TIMEOUT
                elif blocked and cancels(error) and trio.current_effective_deadline() == -math.inf:
                    # The batch was given up (this scope), or the runtime is closing (one outside).
                    error = None
                    mark[1] = mark[0] = 0
                    if not scope.cancel_called:
                        await trio.lowlevel.checkpoint_if_cancelled()
                    return
                fail(job, error, ended, kind, hint(error))
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
            if deadline:
                mark[1] = 0
            self._ended(run)
            try:
                if system.stdout is not out or system.stderr is not err:  # the job has left others
                    sys.stdout, sys.stderr = out, err
            except AttributeError:  # or none
                sys.stdout, sys.stderr = out, err
            if blocked:
                self._yielded = ended
                if scope.cancel_called:
                    mark[0] = 0
                    return
            elif ended - self._yielded > YIELD_NS:
                mark[0] = 0
                await trio.lowlevel.checkpoint()
                self._yielded = clock()

    def _ended(self, run: _Run, jobs: int = 1) -> None:
        run.left -= jobs
        if not run.left:
            run.done.set()
