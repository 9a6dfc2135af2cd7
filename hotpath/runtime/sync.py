"""The runtime of scripts whose `main` is an ordinary function: one job after the other, in one thread.

The loop of `_run_batch` is the hot path that the project is named after. It does per batch what can be done
per batch (decode, the hop between threads) and per job what must be: a mark of what is in hand, a context of
its own, two clock readings, the call, the result's JSON.

Trio's side of a batch is the task that awaits `run`: it looks after time-outs and interrupts, and costs
nothing where there are none.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, TextIO

import trio

from hotpath.errors import BadArgsError, JobInterrupted
from hotpath.model import ErrorKind
from hotpath.runtime import payload
from hotpath.runtime.capture import capture_logging, capturing, mend, unbuffer
from hotpath.runtime.context import CLOSED, BatchInHand, RunningJob, current
from hotpath.runtime.ending import fail, refuse
from hotpath.runtime.interrupt import AGAIN, LOOK, Interrupter, Press
from hotpath.runtime.lane import Lane, tell
from hotpath.runtime.load import WarmScript, call_preload, warm

if TYPE_CHECKING:
    from hotpath.runtime.protocol import Batch, Script

SUCCESS, FAILURE = 1, 2

PUT_BACK = 0.5
"""Seconds that the lane gets, on exit, to put its signal handler back: a job may hold it for ever."""


class SyncRuntime:
    """Runs a synchronous `main` in a lane: the module is imported, preloaded and called in one and the same
    thread.

    With `lane=None` it has a daemon thread of its own; give it a lane that runs in the main thread if the
    script needs that, or if jobs that wait in a system call are to be interrupted.
    """

    concurrency = 1

    def __init__(self, lane: Lane | None = None) -> None:
        self._given = lane
        self._lane: Lane | None = None
        self._script: Script | None = None
        self._warm: WarmScript | None = None
        self._hands: list[BatchInHand] = []
        self._interrupter = Interrupter(_LOOP)
        self._streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)

    @asynccontextmanager
    async def open(self, script: Script) -> AsyncIterator[None]:
        """Import the script in the lane and run its `preload()`. Raises `ScriptError` for a script that
        cannot be run.
        """
        self._lane = self._given or Lane().start()
        self._script = script
        try:
            with capturing():
                await self._lane.call(self._load)
                unbuffer()
                capture_logging()
                self._streams = (sys.stdout, sys.stderr)
                yield
        finally:
            if self._given is None:
                self._lane.close()
            else:
                await self._put_back(self._lane)
            self._lane = self._warm = None

    def _load(self) -> None:
        """In the lane: everything the module creates belongs to the thread that will use it."""
        assert self._script is not None
        self._warm = warm(self._script, wants_async=False)
        call_preload(self._warm)
        self._interrupter.install()

    async def _put_back(self, lane: Lane) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PUT_BACK):
            try:
                await lane.call(self._interrupter.remove)
            except RuntimeError:  # the lane is closed
                pass

    async def run(self, batch: Batch) -> None:
        """Run every job of the batch in the lane, after the batches of earlier calls.

        From `batch.until` on, the job in hand is finished and reported and no further one starts. If
        cancelled, nothing more is reported either; the job in hand runs on in the lane, and batches given
        later wait for it.
        """
        if self._lane is None or self._script is None:
            raise RuntimeError("SyncRuntime.run() outside of `async with runtime.open(script)`")
        hand = BatchInHand(batch, self._script)
        token = trio.lowlevel.current_trio_token()
        broken: list[BaseException] = []
        done = False

        def work() -> None:
            try:
                self._run_batch(hand)
            except BaseException as error:  # noqa: BLE001 - raised again by run(), in the caller's task
                broken.append(error)
            tell(token, ended)

        def ended() -> None:
            nonlocal done
            done = True
            if hand.stir is not None:
                hand.stir.set()

        hand.stir = trio.Event()
        self._hands.append(hand)
        try:
            self._lane.submit(work)
            while True:
                pause = self._attend(hand)
                if pause == math.inf:
                    await hand.stir.wait()
                else:
                    with trio.move_on_after(pause):
                        await hand.stir.wait()
                if done:
                    break
                hand.stir = trio.Event()
        finally:
            self._hands.remove(hand)
            hand.give_up()
        if broken:
            raise broken[0]

    # ------------------------------------------------------------ time-outs and interrupts, in Trio's thread

    def interrupt(self, batch: Batch, index: int, kind: ErrorKind) -> None:
        """End this job: raise `JobInterrupted` in its `main`, or have it skipped if it has not begun.

        What cannot be interrupted: code in C that does not come back, and, unless the lane is the main
        thread, what waits in a system call.
        """
        token = batch.number + index
        for hand in self._hands:
            first = hand.batch.number
            if first <= token < first + len(hand.batch):
                if kind is ErrorKind.CANCELED:
                    hand.refused.setdefault(token - first, kind)  # looked at after the mark is set
                self._press(hand, token, kind)
                self._interrupter.send(hand)  # run() sees to further tries
                return

    def stuck(self, after: float) -> Sequence[tuple[Batch, int, ErrorKind]]:
        """None: a job that does not end is the one that `mark` names."""
        return []

    def _press(self, hand: BatchInHand, token: int, kind: ErrorKind) -> None:
        """Begin to interrupt a job if it is in hand, and not interrupted yet."""
        if hand.batch.mark[0] == token and (hand.press is None or hand.press.token != token):
            hand.press = Press(token, kind)
            hand.disturbed = True
            if hand.stir is not None:
                hand.stir.set()

    def _attend(self, hand: BatchInHand) -> float:
        """Do what is due for a batch; seconds until the next look."""
        if hand.press is not None and self._interrupter.send(hand):
            return AGAIN
        if not hand.timed:
            return math.inf
        mark = hand.batch.mark
        token, deadline = mark[0], mark[1]
        if not deadline or mark[0] != token or not 0 <= token - hand.batch.number < len(hand.batch):
            return LOOK
        left = (deadline - time.perf_counter_ns()) / 1e9
        if left > 0:
            return min(left, LOOK)
        self._press(hand, token, ErrorKind.TIMEOUT)
        return AGAIN if self._interrupter.send(hand) else LOOK

    # ------------------------------------------------------------ the jobs, in the lane

    def _run_batch(self, hand: BatchInHand) -> None:
        """Run the jobs, in the lane. Whatever `main` raises ends its job; what escapes here means the runtime
        is broken.
        """
        if self._warm is None or hand.given_up:
            return  # while the batch waited
        main, decoder = self._warm.main, self._warm.decoder
        batch = hand.batch
        report, mark, number = batch.report, batch.mark, batch.number
        try:
            calls, faults = decoder.calls(batch.args)
        except BadArgsError as error:
            calls, faults = [None] * len(batch), dict.fromkeys(range(len(batch)), str(error))
        refused, timed = hand.refused, hand.timed
        for index, reason in faults.items():
            refused.setdefault(index, reason)
        keywords = decoder.keywords
        clock, encode, set_current, copy = time.perf_counter_ns, payload.encode, current.set, copy_context
        nul, large = payload.NUL, payload.MAX_BYTES
        (out, err), system = self._streams, sys
        size = len(calls)
        jobs = zip(range(size), range(number, number + size), calls, strict=True)
        job = RunningJob(hand, 0)
        self._interrupter.running = hand
        try:
            while True:
                try:
                    for index, token, call in jobs:
                        mark[0] = token  # before `until` and `refused` are looked at
                        if refused and index in refused:
                            if clock() >= batch.until:
                                break
                            refuse(hand, index)
                            if hand.given_up:
                                break  # type: ignore[unreachable]  # Trio's thread sets it
                            continue
                        job = RunningJob(hand, index)
                        set_current(job)
                        run = copy().run  # what main sets in its context ends with it
                        job.started = started = clock()
                        if started >= batch.until:
                            break
                        if timed:
                            limit = hand.limit(index)
                            if limit is not None:
                                mark[1] = started + int(limit * 1e9)
                        try:
                            result = run(main, **call) if keywords else run(main, *call)
                            ended = clock()
                        except BaseException as error:  # noqa: BLE001 - sys.exit() and Ctrl-C in main end the job, not the worker
                            self._fail(job, error, clock())
                            if hand.given_up:
                                break  # type: ignore[unreachable]  # Trio's thread sets it
                        else:
                            if hand.disturbed:
                                self._interrupter.settle(hand, token)
                                if hand.given_up:
                                    break  # type: ignore[unreachable]  # Trio's thread sets it
                            try:
                                state, body = SUCCESS, encode(result)
                                if (nul in body or len(body) > large) and not payload.is_storable(body):
                                    state, body = FAILURE, payload.bad_result(result, body, None)
                            except BaseException as error:  # noqa: BLE001 - the result's own code runs in there
                                state, body = FAILURE, payload.bad_result(result, None, error)
                            result = None
                            log, job.log = job.log, CLOSED
                            text = log.text() if log else None  # type: ignore[union-attr]
                            report((index, state, started // 1000, (ended - started) // 1000, body, text))
                        if timed:
                            mark[1] = 0
                        try:
                            if system.stdout is not out or system.stderr is not err:  # it has left others
                                sys.stdout, sys.stderr = out, err
                        except AttributeError:  # or none
                            sys.stdout, sys.stderr = out, err
                    break
                except JobInterrupted as late:  # came up between the end of `main` and `settle`
                    self._fail(job, late, clock())
                    mark[1] = 0
                    if hand.given_up:
                        break  # type: ignore[unreachable]  # Trio's thread sets it
        finally:
            self._interrupter.running = None
            mark[1] = mark[0] = 0
            set_current(None)
            mend(out, err)

    def _fail(self, job: RunningJob, error: BaseException, ended: int) -> None:
        """Report a job that raised, as what it was made to be if it was interrupted."""
        hand = job.of
        kind = None
        if hand.disturbed:
            kind = self._interrupter.settle(hand, hand.batch.number + job.index)
        fail(job, error, ended, kind)


_LOOP = SyncRuntime._run_batch.__code__  # noqa: SLF001 - its own
