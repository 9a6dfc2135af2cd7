"""The runtime of scripts whose `main` is an ordinary function: one job after the other, in one thread.

The loop of `_run_batch` is the hot path that the project is named after. It does per batch what can be done
per batch (decode, the hop between threads) and per job what must be: a context of its own, two clock
readings, the call, the result's JSON.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING

import trio

from hotpath.errors import BadArgsError
from hotpath.runtime import payload
from hotpath.runtime.capture import capture_logging, capturing, unbuffer
from hotpath.runtime.context import CLOSED, BatchInHand, RunningJob, current
from hotpath.runtime.lane import Lane, tell
from hotpath.runtime.load import WarmScript, call_preload, warm

if TYPE_CHECKING:
    from hotpath.runtime.protocol import Batch, Script

SUCCESS, FAILURE = 1, 2


class SyncRuntime:
    """Runs a synchronous `main` in a lane: the module is imported, preloaded and called in one and the same
    thread.

    With `lane=None` it has a daemon thread of its own; give it a lane that runs in the main thread if the
    script needs that.
    """

    concurrency = 1

    def __init__(self, lane: Lane | None = None) -> None:
        self._given = lane
        self._lane: Lane | None = None
        self._script: Script | None = None
        self._warm: WarmScript | None = None

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
                yield
        finally:
            if self._given is None:
                self._lane.close()
            self._lane = self._warm = None

    def _load(self) -> None:
        """In the lane: everything the module creates belongs to the thread that will use it."""
        assert self._script is not None
        self._warm = warm(self._script, wants_async=False)
        call_preload(self._warm)

    async def run(self, batch: Batch) -> None:
        """Run every job of the batch in the lane, after the batches of earlier calls.

        Once `batch.stopped`, the job in hand is finished and reported and no further one starts. If
        cancelled, nothing more is reported either; the job in hand cannot be interrupted: it runs on in the
        lane, and batches given later wait for it.
        """
        if self._lane is None or self._script is None:
            raise RuntimeError("SyncRuntime.run() outside of `async with runtime.open(script)`")
        hand = BatchInHand(batch, self._script)
        done = trio.Event()
        token = trio.lowlevel.current_trio_token()
        broken: list[BaseException] = []

        def work() -> None:
            try:
                self._run_batch(hand)
            except BaseException as error:  # noqa: BLE001 - raised again by run(), in the caller's task
                broken.append(error)
            tell(token, done.set)

        self._lane.submit(work)
        try:
            await done.wait()
        finally:
            hand.given_up = True
        if broken:
            raise broken[0]

    def _run_batch(self, hand: BatchInHand) -> None:
        """Run the jobs, in the lane. Whatever `main` raises ends its job; what escapes here means the runtime
        is broken.
        """
        if self._warm is None or hand.given_up:
            return  # while the batch waited
        main, decoder = self._warm.main, self._warm.decoder
        batch = hand.batch
        report = batch.report
        try:
            calls, faults = decoder.calls(batch.args)
        except BadArgsError as error:
            calls, faults = [None] * len(batch), dict.fromkeys(range(len(batch)), str(error))
        keywords = decoder.keywords
        clock, encode, set_current, copy = time.perf_counter_ns, payload.encode, current.set, copy_context
        nul, large = payload.NUL, payload.MAX_BYTES
        try:
            for index, call in enumerate(calls):
                if batch.stopped:
                    break
                if faults and index in faults:
                    report((index, FAILURE, clock() // 1000, 0, payload.bad_args(faults[index]), None))
                    if hand.given_up:
                        break  # type: ignore[unreachable]  # Trio's thread sets it
                    continue
                job = RunningJob(hand, index)
                set_current(job)
                run = copy().run  # what main sets in its context ends with it
                job.started = started = clock()
                try:
                    result = run(main, **call) if keywords else run(main, *call)
                    ended = clock()
                except BaseException as error:  # noqa: BLE001 - sys.exit() and Ctrl-C in main end the job, not the worker
                    ended = clock()
                    state, body = FAILURE, payload.failure(error)
                else:
                    try:
                        state, body = SUCCESS, encode(result)
                        if (nul in body or len(body) > large) and not payload.is_storable(body):
                            state, body = FAILURE, payload.bad_result(result, body, None)
                    except BaseException as error:  # noqa: BLE001 - the result's own code runs in there
                        state, body = FAILURE, payload.bad_result(result, None, error)
                    result = None
                log, job.log = job.log, CLOSED
                text = log.text() if log else None  # type: ignore[union-attr]
                if hand.given_up:
                    break  # type: ignore[unreachable]  # Trio's thread sets it
                report((index, state, started // 1000, (ended - started) // 1000, body, text))
        finally:
            set_current(None)
