"""The thread of synchronous jobs: batches of warm scripts, one job after the other, in one lane.

The loop of `_run_batch` is the hot path that the project is named after. It does per batch what can be done
per batch (decode, the hop between threads) and per job what must be: a mark of what is in hand, a context of
its own, two clock readings, the call, the result's JSON.

A *chain* is batches that follow each other without a way back to Trio in between; each may be of another
script. Trio's side of it is the task that awaits `run_chain` (or `run`, for a chain of one batch): it looks
after time-outs and interrupts of whatever is in hand, and costs nothing where there are none.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, TextIO, TypeAlias

import trio

from hotpath.errors import BadArgsError, JobInterrupted
from hotpath.model import ErrorKind
from hotpath.runtime import payload
from hotpath.runtime.capture import (
    capture_logging,
    capturing,
    close_below,
    mend,
    open_below,
    unbuffer,
)
from hotpath.runtime.context import CLOSED, BatchInHand, RunningJob, current
from hotpath.runtime.ending import fail, refuse
from hotpath.runtime.interrupt import AGAIN, LOOK, Interrupter, Press
from hotpath.runtime.lane import Lane, tell
from hotpath.runtime.load import WarmScript, call_preload, warm

if TYPE_CHECKING:
    from hotpath.runtime.below import Below
    from hotpath.runtime.protocol import Batch, Script

SUCCESS, FAILURE = 1, 2

PUT_BACK = 0.5
"""Seconds that the lane gets, on exit, to put its signal handler back: a job may hold it for ever."""

Link: TypeAlias = "tuple[WarmScript, Script, Batch]"
"""One batch of a chain, and the script that runs it: as it is in the lane, and as the worker knows it."""


class _Chain:
    """Batches that follow each other in the lane, and what Trio's side needs to know of them."""

    __slots__ = ("broken", "done", "given_up", "hand", "next_batch", "stir", "warm")

    def __init__(
        self,
        next_batch: Callable[[], Link | None] | None,
        hand: BatchInHand | None = None,
        warm: WarmScript | None = None,
    ) -> None:
        self.next_batch = next_batch
        """None: it is only `hand`, of the script `warm`."""
        self.hand = hand
        """The batch in hand, or the only one."""
        self.warm = warm
        self.stir = trio.Event()
        """Set by whoever wants Trio's side to look up."""
        self.given_up = False
        self.done = False
        self.broken: BaseException | None = None


class LaneRunner:
    """Runs batches in a lane: scripts are imported, preloaded and called in one and the same thread.

    With `lane=None` it has a daemon thread of its own; give it a lane that runs in the main thread if a
    script needs that, or if jobs that wait in a system call are to be interrupted.
    """

    def __init__(self, lane: Lane | None = None) -> None:
        self._given = lane
        self._lane: Lane | None = None
        self._hands: dict[BatchInHand, _Chain] = {}
        """The batches that wait or are in hand; the lane's thread changes it, too."""
        self.interrupter = Interrupter(_LOOP)
        self._streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
        self._below: Below | None = None
        """What its jobs write below Python, if that is theirs."""
        self._loose: _Chain | None = None
        """Stands for all batches that were begun without a task that follows them; None: none may be."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Be ready to load scripts and run batches, with output captured."""
        self._lane = self._given or Lane().start()
        try:
            with capturing():
                try:
                    yield
                finally:
                    if self._below is not None:
                        self._below = None
                        close_below()
        finally:
            lane, self._lane = self._lane, None
            if self._given is None:
                lane.close()
            else:
                await self._put_back(lane)

    async def load(self, script: Script, *, alone: bool = False) -> WarmScript:
        """Import a script in the lane and run its `preload()` there: everything that its module creates
        belongs to the thread that will use it. `alone`: no code runs in this process but in this lane, so
        what is written below Python is the job's in hand. Raises `ScriptError` for a script that cannot be
        run.
        """

        def load() -> WarmScript:
            ready = warm(script, wants_async=False)
            call_preload(ready)
            self.interrupter.install()
            return ready

        ready = await self._opened().call(load)
        unbuffer()
        capture_logging()
        if alone:
            self._below = open_below()
        self._streams = (sys.stdout, sys.stderr)
        return ready

    def _opened(self) -> Lane:
        if self._lane is None:
            raise RuntimeError("run() outside of `async with runtime.open(script)`")
        return self._lane

    async def _put_back(self, lane: Lane) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PUT_BACK):
            try:
                await lane.call(self.interrupter.remove)
            except RuntimeError:  # the lane is closed
                pass

    # ------------------------------------------------------------ Trio's side

    async def run(self, warm: WarmScript, script: Script, batch: Batch) -> None:
        """Run every job of the batch in the lane, after what was given earlier.

        From `batch.until` on, the job in hand is finished and reported and no further one starts. If
        cancelled, nothing more is reported either; the job in hand runs on in the lane, and what is given
        later waits for it.
        """
        hand = BatchInHand(batch, script, warm.places)
        hand.trio_token = trio.lowlevel.current_trio_token()
        chain = self._hands[hand] = _Chain(None, hand, warm)
        await self._follow(chain)

    async def run_chain(self, next_batch: Callable[[], Link | None]) -> None:
        """Run batch after batch in the lane, as `run` does, until `next_batch` has none. It is called in the
        lane's thread, each time the batch before has ended; what it raises breaks the chain and is raised
        here.

        To interrupt a job, add it to its batch's `canceling` first: a batch that `next_batch` has given and
        the lane has not begun is looked at for that.
        """
        await self._follow(_Chain(next_batch))

    def begin(
        self,
        warm: WarmScript,
        script: Script,
        batch: Batch,
        ended: Callable[[BaseException | None], object],
    ) -> bool:
        """Run the batch as `run` does, but without a task that waits for it: `ended` is called in the lane's
        thread, with what has broken the runtime, if anything has. False, and nothing happens, where somebody
        has to watch the clock (time-outs), or nobody attends (`attend`).
        """
        hand, loose = BatchInHand(batch, script, warm.places), self._loose
        if loose is None or hand.timed:
            return False
        hand.trio_token = trio.lowlevel.current_trio_token()
        self._hands[hand] = loose

        def work() -> None:
            broken: BaseException | None = None
            try:
                self._run_batch(hand, warm)
            except BaseException as error:  # noqa: BLE001 - raised again by whoever is told
                broken = error
            self._hands.pop(hand, None)
            ended(broken)

        self._opened().submit(work)
        return True

    async def attend(self) -> None:
        """Look after batches that are begun without a task: send interrupts until they have an effect. If
        cancelled, those batches are given up.
        """
        loose = self._loose = _Chain(None)
        try:
            while True:
                hands = [hand for hand, of in list(self._hands.items()) if of is loose]
                pause = min(map(self._attend, hands), default=math.inf)
                with trio.move_on_after(pause):
                    await loose.stir.wait()
                loose.stir = trio.Event()
        finally:
            self._loose = None
            for hand, of in list(self._hands.items()):
                if of is loose:
                    hand.give_up()
                    self._hands.pop(hand, None)

    async def _follow(self, chain: _Chain) -> None:
        token = trio.lowlevel.current_trio_token()

        def work() -> None:
            try:
                self._work(chain)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's task
                chain.broken = error
            tell(token, ended)

        def ended() -> None:
            chain.done = True
            chain.stir.set()

        try:
            self._opened().submit(work)
            while True:
                hand = chain.hand
                pause = math.inf if hand is None else self._attend(hand)
                if chain.next_batch is not None:
                    pause = min(pause, LOOK)  # the next batch may have time-outs
                if pause == math.inf:
                    await chain.stir.wait()
                else:
                    with trio.move_on_after(pause):
                        await chain.stir.wait()
                if chain.done:
                    break
                chain.stir = trio.Event()
        finally:
            chain.given_up = True  # before the look at what is in hand: the lane does it the other way round
            for hand, of in list(self._hands.items()):
                if of is chain:
                    hand.give_up()
                    if chain.next_batch is None:
                        del self._hands[hand]
        if chain.broken is not None:
            raise chain.broken

    def interrupt(self, batch: Batch, index: int, kind: ErrorKind) -> None:
        """End this job: raise `JobInterrupted` in its `main`, or have it skipped if it has not begun.

        What cannot be interrupted: code in C that does not come back, and, unless the lane is the main
        thread, what waits in a system call.
        """
        for hand in list(self._hands):
            if hand.batch is batch:
                if kind is ErrorKind.CANCELED:
                    hand.refused.setdefault(index, kind)  # looked at after the mark is set
                token = batch.tokens[index]
                twin = sum(other == token for other in batch.tokens) > 1
                if not twin or self.interrupter.index_in_hand() == index:
                    self._press(hand, Press(token, kind, index if twin else None))
                    self.interrupter.send(hand)  # `_follow` sees to further tries
                return

    def _press(self, hand: BatchInHand, press: Press) -> None:
        """Begin to interrupt a job if it is in hand, and not interrupted yet."""
        before = hand.press
        if hand.batch.mark[0] != press.token:
            return
        if before is None or before.token != press.token or before.over:
            press.by = self.interrupter
            hand.press = press
            hand.disturbed = True
            chain = self._hands.get(hand)
            if chain is not None:
                chain.stir.set()

    def _attend(self, hand: BatchInHand) -> float:
        """Do what is due for a batch; seconds until the next look."""
        if hand.press is not None and self.interrupter.send(hand):
            return AGAIN
        if not hand.timed:
            return math.inf
        mark = hand.batch.mark
        token, deadline = mark[0], mark[1]
        if not deadline or mark[0] != token or token not in hand.batch.tokens:
            return LOOK
        left = (deadline - time.perf_counter_ns()) / 1e9
        if left > 0:
            return min(left, LOOK)
        self._press(hand, Press(token, ErrorKind.TIMEOUT, deadline=deadline))
        return AGAIN if self.interrupter.send(hand) else LOOK

    # ------------------------------------------------------------ the lane's side

    def _work(self, chain: _Chain) -> None:
        if chain.next_batch is None:
            assert chain.hand is not None
            assert chain.warm is not None
            self._run_batch(chain.hand, chain.warm)
            return
        while not chain.given_up:
            link = chain.next_batch()
            if link is None:
                return
            warm, script, batch = link
            hand = BatchInHand(batch, script, warm.places)
            self._hands[hand] = chain
            chain.hand = hand
            if chain.given_up:
                hand.give_up()  # type: ignore[unreachable]  # Trio's thread sets it
            if batch.canceling:  # type: ignore[truthy-bool]  # of a set, a shortcut; of others no harm
                self._refuse_canceled(hand)
            try:
                self._run_batch(hand, warm)
            finally:
                chain.hand = None
                del self._hands[hand]
            del link, batch, hand  # nothing of it stays alive while it is asked for the next one

    def _run_batch(self, hand: BatchInHand, warm: WarmScript) -> None:
        """Run the jobs, in the lane. Whatever `main` raises ends its job; what escapes here means the runtime
        is broken.
        """
        if hand.given_up:
            return  # while the batch waited
        main, decoder = warm.main, warm.decoder
        batch = hand.batch
        report, mark = hand.report, batch.mark
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
        below, seek = self._below, os.lseek
        if below is not None:
            below.beside()  # what came between the batches is nobody's
        jobs = zip(range(len(calls)), batch.tokens, calls, strict=True)
        job = RunningJob(hand, 0)
        self.interrupter.running = hand
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
                        if below is not None:
                            below.job = job
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
                                self.interrupter.settle(hand, index)
                                if hand.given_up:
                                    break  # type: ignore[unreachable]  # Trio's thread sets it
                            try:
                                state, body = SUCCESS, encode(result)
                                if (nul in body or len(body) > large) and not payload.is_storable(body):
                                    state, body = FAILURE, payload.bad_result(result, body, None)
                            except BaseException as error:  # noqa: BLE001 - the result's own code runs in there
                                state, body = FAILURE, payload.bad_result(result, None, error)
                            result = None
                            if below is not None and seek(below.descriptor, 0, 2) != below.at:
                                below.settle()
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
            self.interrupter.running = None
            if below is not None:
                below.job = None
            mark[1] = mark[0] = 0
            set_current(None)
            mend(out, err)

    def _refuse_canceled(self, hand: BatchInHand) -> None:
        """Jobs that were canceled before anybody could be told to interrupt them do not begin."""
        for index in range(len(hand.batch)):
            if index in hand.batch.canceling:
                hand.refused.setdefault(index, ErrorKind.CANCELED)

    def _fail(self, job: RunningJob, error: BaseException, ended: int) -> None:
        """Report a job that raised, as what it was made to be if it was interrupted."""
        hand = job.of
        kind = None
        if hand.disturbed:
            kind = self.interrupter.settle(hand, job.index)
        if self._below is not None:
            self._below.settle()
        fail(job, error, ended, kind)


_LOOP = LaneRunner._run_batch.__code__  # noqa: SLF001 - its own
