"""The runtime of flows: many runs at a time, whose steps are run by the runtimes of ordinary scripts.

Runs are advanced at one *home* (`flows.home`): in the lane, the process's main thread, where synchronous
steps run, so that from one step to the next there is no hop between threads; in Trio's thread, where a flow
has none. Steps of all runs that call the same script go together, as one batch. Async steps run on Trio,
whatever the home.

Of each step that has ended a note goes to the worker, which writes it before the run's outcome, within 25 ms.
A run of which nothing goes on here, and that waits for longer than a moment, is parked: it leaves this
worker, and whoever claims it again recalls what was noted and plays it again up to there
(`core.flow.engine`).
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from hotpath.core.elements import elements_of
from hotpath.core.flow.program import compile_flow
from hotpath.core.secrets import places_of
from hotpath.flows.cache import version_with_steps
from hotpath.flows.held import Group, Held, Kept
from hotpath.flows.home import Home
from hotpath.flows.javascript import JavaScript
from hotpath.flows.load import StepInHand, flow_of, foreign
from hotpath.model import ErrorKind
from hotpath.runtime.chain import LaneRunner
from hotpath.runtime.context import tracing
from hotpath.runtime.lane import Lane, tell
from hotpath.runtime.trio_runtime import AsyncRuntime

if TYPE_CHECKING:
    from hotpath.core.flow.waits import StepCall
    from hotpath.core.notes import Recalled
    from hotpath.flows.steps import StepBatch
    from hotpath.model import Description
    from hotpath.runtime.chain import Link
    from hotpath.runtime.protocol import Batch, Script

DEFAULT_CONCURRENCY = 1_000
"""Runs at a time in one process."""
FEW_ALARMS = 1_024
SHOW_AFTER = 0.5
"""Seconds after which a step that runs here is seen to run."""
STEPS_AT_A_TIME = 1_000
"""Of one async script in one process, where it does not say."""


def make_runtime(description: Description, lane: Lane | None, concurrency: int | None) -> FlowRuntime:
    """The runtime of a flow, as a worker asks for it; steps that are not async run in `lane`."""
    return FlowRuntime(lane, concurrency or description.settings.concurrency or DEFAULT_CONCURRENCY)


class FlowRuntime:
    """Runs a flow: all its scripts are loaded, and kept warm, in this process."""

    def __init__(self, lane: Lane | None = None, concurrency: int = DEFAULT_CONCURRENCY) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1, not {concurrency}")
        self.concurrency = concurrency
        self._given = lane
        self._home: Home | None = None
        self._chain: LaneRunner | None = None
        self._groups: dict[int, Group] = {}
        self._bell = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._alarms: list[tuple[float, int, Held, Callable[[], object]]] = []
        self._most_alarms = FEW_ALARMS
        """How many there may be before those of runs that are over are thrown out."""
        self._serial = itertools.count()
        self._rung = trio.Event()
        self._timeout: float | None = None
        self._script: Script
        self._last: StepBatch | None = None
        """What the lane has in hand."""

    # ------------------------------------------------------------ its life

    @asynccontextmanager
    async def open(self, script: Script) -> AsyncIterator[None]:
        """Load the flow and every script of it, and run their `preload()`. Raises `ScriptError`."""
        flow, steps = await trio.to_thread.run_sync(flow_of, script)
        self._timeout = script.version.description.settings.timeout
        self._script = script
        self._token = trio.lowlevel.current_trio_token()
        async with AsyncExitStack() as stack:
            kept = {name: await self._load(stack, name, step) for name, step in steps.items()}
            program = compile_flow(flow, JavaScript().evaluate, functools.partial(foreign, script))
            in_lane = self._chain is not None
            version = script.version
            places = places_of(version.description.schema)
            self._home = Home(
                program,
                kept,
                version.script,
                version_with_steps(version),
                self,
                in_lane=in_lane,
                places=places,
            )
            self._nursery = await stack.enter_async_context(trio.open_nursery())
            self._nursery.start_soon(self._serve)
            self._nursery.start_soon(self._watch_clock)
            self._nursery.start_soon(self._show_long_steps)
            try:
                yield
            finally:
                self._nursery.cancel_scope.cancel(reason="the runtime was closed")
                self._home = None

    async def _load(self, stack: AsyncExitStack, name: str, step: StepInHand) -> Kept:
        description = step.version.description
        limit = description.settings.timeout
        kept = Kept(name, step.version.script, description.hash, is_async=description.is_async, limit=limit)
        if kept.is_async:
            kept.warm = AsyncRuntime(description.settings.concurrency or STEPS_AT_A_TIME)
            await stack.enter_async_context(kept.warm.open(step))
            return kept
        if self._chain is None:
            self._chain = LaneRunner(self._given)
            await stack.enter_async_context(self._chain.open())
        kept.warm = (await self._chain.load(step), step)
        return kept

    async def run(self, batch: Batch) -> None:
        """Run the flow once for each job of the batch. From `batch.stopped` on no further step begins; runs
        that are not through by then are not reported, and go on elsewhere.
        """
        home = self._home
        if home is None:
            raise RuntimeError("FlowRuntime.run() outside of `async with runtime.open(script)`")
        if not len(batch):
            await trio.lowlevel.checkpoint()
            return
        batch.begun = len(batch)  # who wants to end a run before it is here need not stop the others for it
        recalled = await batch.recall(range(len(batch)))
        args = [bytes(raw) for raw in elements_of(batch.args)]
        limits: Sequence[float | None] = [self._timeout] * len(batch)
        if batch.timeouts is not None:
            limits = [self._timeout if limit is None else limit for limit in batch.timeouts]
        admitted = await self._admit(batch)
        make = tracing()
        group = Group(batch, trio.Event(), None if make is None else make(batch, self._script))
        self._groups[batch.number] = group
        home.post(lambda: home.begin(group, args, limits, recalled, admitted))
        try:
            await group.done.wait()
        finally:
            group.given_up = True
            self._groups.pop(batch.number, None)

    async def _admit(self, batch: Batch) -> Container[int]:
        """The runs that may be under way now."""
        home = self._home
        most = None if home is None else home.program.flow.concurrent_limit
        if home is None or most is None:
            return range(len(batch))
        return await batch.admit(home.flow_script, most)

    # ------------------------------------------------------------ ends, in Trio's thread

    def interrupt(self, batch: Batch, index: int, kind: ErrorKind) -> None:
        """End a run: the steps of it that run are interrupted, and none begins any more."""
        home = self._home
        token = batch.number + index
        for number, group in self._groups.items():
            held = group.held.get(token - number)
            if home is not None and held is not None and held.token == token:
                self.end(held, kind)
                return

    def end(self, held: Held, kind: ErrorKind) -> None:
        """End a run. Steps of it that run are canceled, whatever it ends for: theirs is no time-out."""
        home = self._home
        if home is None or held.over:
            return
        held.ending = held.ending or kind
        home.endings.add(held)  # before the look at what was given: the lane does it the other way round
        for batch in list(home.given):
            for index, call in enumerate(batch.calls):
                if call.run is held.run:
                    kept = home.kept[call.script]
                    runner = kept.warm if kept.is_async else self._chain
                    if runner is not None:
                        runner.interrupt(batch, index, ErrorKind.CANCELED)
        home.post(functools.partial(home.end, held, kind))

    def stuck(self, after: float) -> Sequence[tuple[Batch, int, ErrorKind]]:
        """Runs with an async step that does not end though it was told to."""
        found: list[tuple[Batch, int, ErrorKind]] = []
        for kept in self._home.kept.values() if self._home is not None else ():
            if kept.is_async:
                for steps, index, kind in kept.warm.stuck(after):
                    held: Held = steps.calls[index].run.holder
                    found.append((held.batch, held.index, held.ending or kind))
        return found

    # ------------------------------------------------------------ what its home asks for

    def knock(self) -> None:
        """Something was posted to the home."""
        if trio.lowlevel.in_trio_run():
            self._bell.set()
        elif self._token is not None:
            tell(self._token, self._ring, idempotent=True)

    def _ring(self) -> None:
        self._bell.set()

    def launch(self, batch: StepBatch, kept: Kept) -> None:
        """Run async steps."""
        self._soon(lambda: self._start(self._run_async, batch, kept))

    def look_up(self, batch: Batch, key: bytes, then: Callable[[bytes | None], object]) -> None:
        """Ask the database for a result that is still good."""
        self._soon(lambda: self._start(self._look_up, batch, key, then))

    def recall(self, batch: Batch, index: int, then: Callable[[Recalled | None], object]) -> None:
        """Ask the database what is noted of a run by now."""
        self._soon(lambda: self._start(self._recall, batch, index, then))

    def arm(self, seconds: float, then: Callable[[], object], held: Held) -> None:
        """Do this after so many seconds, in Trio's thread, if the run is not over by then."""

        def push() -> None:
            if len(self._alarms) >= self._most_alarms:  # a run that is over is not kept for its time-out
                self._alarms = [alarm for alarm in self._alarms if not alarm[2].over]
                heapq.heapify(self._alarms)
                self._most_alarms = max(FEW_ALARMS, 2 * len(self._alarms))
            heapq.heappush(self._alarms, (trio.current_time() + seconds, next(self._serial), held, then))
            self._rung.set()

        self._soon(push)

    def settled(self, event: trio.Event) -> None:
        """Set the event."""
        self._soon(event.set)

    def _soon(self, what: Callable[[], object]) -> None:
        """In Trio's thread: at once if this is it."""
        if trio.lowlevel.in_trio_run():
            what()
        elif self._token is not None:
            tell(self._token, what)

    def _start(self, task: Callable[..., Any], *args: Any) -> None:
        if self._nursery is not None and self._home is not None:
            self._nursery.start_soon(task, *args)

    # ------------------------------------------------------------ tasks

    async def _serve(self) -> None:
        """Let the home have its turns."""
        home = self._home
        while home is not None:
            await self._bell.wait()
            self._bell = trio.Event()
            if self._chain is None:
                home.turn()
            else:
                await self._chain.run_chain(lambda: self._next(home))

    def _next(self, home: Home) -> Link | None:
        """In the lane: what to run there next, now that the last is over."""
        if self._last is not None:
            home.returned(self._last)
            self._last = None
        found = home.next_batch()
        if found is None:
            return None
        kept, self._last = found
        warm, script = kept.warm
        return warm, script, self._last

    async def _run_async(self, batch: StepBatch, kept: Kept) -> None:
        home = self._home
        try:
            await kept.warm.run(batch)
        finally:
            if home is not None:
                home.post(lambda: home.returned(batch))

    async def _look_up(self, batch: Batch, key: bytes, then: Callable[[bytes | None], object]) -> None:
        found: Mapping[bytes, bytes] = await batch.cached([key])
        then(found.get(key))

    async def _recall(self, batch: Batch, index: int, then: Callable[[Recalled | None], object]) -> None:
        then((await batch.recall([index])).get(index))

    async def _show_long_steps(self) -> None:
        """Note which steps take a while, so that who looks at a run sees what it is about."""
        before: dict[StepBatch, set[StepCall]] = {}
        while True:
            await trio.sleep(SHOW_AFTER)
            home = self._home
            seen: dict[StepBatch, set[StepCall]] = {}
            for batch in list(home.given) if home is not None else ():
                seen[batch] = set(batch.under_way(one_by_one=not batch.kept.is_async))
                for call in seen[batch] & before.get(batch, set()):
                    if home is not None:
                        _show(home, call)
            before = seen

    async def _watch_clock(self) -> None:
        while True:
            while self._alarms and self._alarms[0][0] <= trio.current_time():
                _, _, held, then = heapq.heappop(self._alarms)
                if not held.over:
                    then()
            self._rung = trio.Event()
            with trio.move_on_at(self._alarms[0][0] if self._alarms else math.inf):
                await self._rung.wait()


def _show(home: Home, call: StepCall) -> None:
    """Note that a step takes a while. Not in the home's thread: the step may hold that."""
    held: Held = call.run.holder
    if call.shown or held.over or held.group.given_up:
        return
    call.shown = True
    since = time.perf_counter_ns() // 1000 - round(SHOW_AFTER * 1e6) + home.offset_us
    held.batch.note(held.index, home.running(call, since))
