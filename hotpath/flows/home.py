"""Where the runs of a flow are advanced: one thread, the *home*, that does nothing else with them.

What comes from other threads is posted, and taken in at the next turn. What a home needs done elsewhere
(async steps, timers, words for the worker's loop) it hands to Trio's thread through `Outside`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from hotpath.core.flow.engine import Run
from hotpath.core.flow.waits import Ask, StepCall
from hotpath.core.notes import Early, Mark, Parking, StepNote
from hotpath.core.secrets import masker_of
from hotpath.flows.cache import Cache, cache_key
from hotpath.flows.ends import Ends
from hotpath.flows.held import Group, Held, Kept, Outside, traces_of
from hotpath.flows.marks import RUNNING, blank_mark, running_mark
from hotpath.flows.steps import StepBatch
from hotpath.model import ErrorKind, OutcomeState
from hotpath.runtime import payload

if TYPE_CHECKING:
    from hotpath.core.flow.program import Program
    from hotpath.core.notes import Recalled
    from hotpath.core.secrets import Places
    from hotpath.runtime.protocol import Outcome

log = logging.getLogger("hotpath.worker")

PARK_AFTER_US = 1_000_000
"""What waits for longer than this is not held in memory."""
WARY = 3
"""From which attempt on a run notes each step before it begins: another crash may be its last."""
ASK_EVERY = 1.0
"""Seconds between two looks at what people have said, about a run that is held."""
SLOT = "slot:"
"""Key of the event that says that there is a place for a run, where a flow has a `concurrent_limit`."""
SUCCESS, FAILURE, CANCELED, AGAIN = map(
    int, (OutcomeState.SUCCESS, OutcomeState.FAILURE, OutcomeState.CANCELED, OutcomeState.RETRY)
)


class Home(Ends):
    """The runs in hand, and what is to be done for them next."""

    def __init__(
        self,
        program: Program,
        kept: Mapping[str, Kept],
        flow_script: int,
        version: str,
        outside: Outside,
        *,
        in_lane: bool,
        places: Places | None = None,
    ) -> None:
        self.program = program
        self._places = places
        """Where the args of its runs hold secrets."""
        super().__init__(kept, outside)
        self.flow_script = flow_script
        """`script.id` of the flow: of the steps that run no script of their own."""
        self.version = version
        """What its results are kept by: of the flow and the scripts that it calls."""
        self.in_lane = in_lane
        """Whether it is not Trio's thread."""
        self.inbox: deque[Callable[[], object]] = deque()
        self.cache = Cache()
        self._ttl = program.flow.cache_ttl
        self.given: set[StepBatch] = set()
        """Batches of steps that a runtime has."""
        self._due: dict[Kept, None] = {}
        """Scripts with calls that are ready, the longest waiting first."""
        self._timed = False
        """Whether any run has had a time-out."""
        self.offset_us = 0
        """What makes the worker's clock the database's."""

    def post(self, what: Callable[[], object]) -> None:
        """Have this done here; from any thread."""
        self.inbox.append(what)
        self.outside.knock()

    def _poster(self, what: Callable[..., object], *args: Any) -> Callable[..., object]:
        """What posts this, with what it is given itself behind, when it is called."""
        return lambda *more: self.post(partial(what, *args, *more))

    # ------------------------------------------------------------ in the home's thread

    def turn(self) -> None:
        """Take in what was posted, and send async steps on their way."""
        inbox = self.inbox
        while inbox:
            inbox.popleft()()
        for kept in [kept for kept in self._due if kept.is_async]:
            del self._due[kept]
            while kept.ready:
                batch = self._batch(kept)
                if batch is not None:
                    self.outside.launch(batch, kept)

    def next_batch(self) -> tuple[Kept, StepBatch] | None:
        """The next batch for the lane; None if there is nothing to run there now."""
        self.turn()
        while self._due:
            kept = next(iter(self._due))
            del self._due[kept]
            batch = self._batch(kept)
            if kept.ready:
                self._due[kept] = None  # behind the others
            if batch is not None:
                return kept, batch
        return None

    def _batch(self, kept: Kept) -> StepBatch | None:
        calls = []
        group: Group | None = None
        stops = False
        for call in kept.take():
            held: Held = call.run.holder
            if held.group is not group:
                group = held.group
                stops = group.stops
            if stops or held.over or held.ending is not None:
                self._dropped(held)
            else:
                held.group.busy += 1
                calls.append(call)
        if not calls:
            return None
        apart = self.in_lane and kept.is_async
        batch = StepBatch(kept, calls, self.heard, self.endings, timed=self._timed, apart=apart)
        if group is not None and group.spans is not None:
            batch.traces = traces_of(calls)
        if self._places is not None:
            batch.maskers = [call.run.holder.masker for call in calls]
        self.given.add(batch)
        return batch

    @staticmethod
    def _is_wanted(held: Held) -> bool:
        """Whether further steps of it are to begin."""
        return not (held.over or held.ending is not None or held.group.stops)

    def returned(self, batch: StepBatch) -> None:
        """A runtime is through with a batch. What it did not begin, because one of the runs' batches was to
        stop, waits anew, where its own was not.
        """
        self.given.discard(batch)
        if batch.left:
            for call in batch.unreported():
                held: Held = call.run.holder
                held.group.busy -= 1
                if self._is_wanted(held):
                    self._queue(self.kept[call.script], call)
                else:
                    self._dropped(held)
        for group in {call.run.holder.group for call in batch.calls}:
            self._look_whether_stopped(group)

    def _dropped(self, held: Held) -> None:
        """A call of it will not be made."""
        held.calls -= 1
        if held.ending is not None and not held.over and not held.calls:
            self._end(held)
        self._look_whether_stopped(held.group)

    def _look_whether_stopped(self, group: Group) -> None:
        """Let go of runs that are to go on elsewhere, as soon as no step of theirs runs."""
        if not group.busy and group.left and group.stops:
            for held in group.held.values():
                held.over = True
            group.held.clear()
            self.outside.settled(group.done)

    # ------------------------------------------------------------ runs

    def begin(
        self,
        group: Group,
        args: Sequence[bytes],
        limits: Sequence[float | None],
        recalled: Mapping[int, Recalled],
        admitted: Container[int],
    ) -> None:
        """Start the runs of a batch, or play them again up to where they were; those that are not admitted
        wait for their turn elsewhere.
        """
        batch = group.batch
        self.offset_us = batch.now_us() - time.perf_counter_ns() // 1000
        for index, raw in enumerate(args if not group.stops else ()):
            if group.given_up:
                break
            run = Run(self.program, raw, run_id=batch.ids[index], recalled=recalled.get(index))
            held = run.holder = group.held[index] = Held(group, index, run)
            if group.spans is not None:
                group.spans.start(index)
            if self._refused(held, raw):
                continue
            if self._places is not None:
                given = msgspec.json.decode(self.program.defaults(raw))
                held.masker = masker_of(tuple(self._places.texts(given)))
            limit = limits[index]
            if limit is not None:
                held.limit, self._timed = limit, True
                self.outside.arm(limit, partial(self.outside.end, held, ErrorKind.TIMEOUT), held)
            if index in batch.canceling:
                held.ending = ErrorKind.CANCELED
                self._end(held)
            elif index not in admitted:
                self._park(held, Parking(None, events={SLOT: 0}))
            elif self._ttl:
                self._start_unless_cached(held)
            else:
                self._guarded(held, run.start, self._now())
        self._look_whether_stopped(group)

    def _start_unless_cached(self, held: Held) -> None:
        """Start a run of a flow whose results are good for a while, unless there is one for these args."""
        key = cache_key(self.version, held.run.args)
        found = self.cache.get(key)
        if found is None and held.run.recalled is None:
            self.outside.look_up(held.batch, key, self._poster(self._start_or_answer, held))
        else:
            self._start_or_answer(held, found)

    def _start_or_answer(self, held: Held, found: bytes | None) -> None:
        if held.over or held.group.stops:
            self._look_whether_stopped(held.group)
        elif held.ending is not None:
            self._end(held)
        elif found is None:
            self._guarded(held, held.run.start, self._now())
        else:
            self._finish(held, SUCCESS, found)

    def _now(self) -> int:
        return time.perf_counter_ns() // 1000 + self.offset_us

    def _guarded(self, held: Held, step: Callable[..., object], *args: Any) -> None:
        """Advance a run. A fault of ours ends it, and not the worker."""
        try:
            step(*args)
            self._after(held)
        except Exception as error:
            id_ = held.batch.ids[held.index]
            log.exception("run %s could not be advanced", id_, extra={"job": id_})
            if not held.over:
                self._finish(held, FAILURE, payload.failure(error))

    def _after(self, held: Held) -> None:
        """Do what the run asks for."""
        run = held.run
        while run.commands:
            commands, run.commands = run.commands, []
            for command in commands:
                if type(command) is StepCall:
                    self._ready(held, command)
                elif type(command) is StepNote:
                    now = time.perf_counter_ns() // 1000
                    held.batch.note(held.index, command._replace(script=self.flow_script, started_us=now))
                elif type(command) is Ask:
                    self._ask(held)
                elif type(command) is Early and held.masker is not None:
                    held.batch.note(held.index, Early(held.masker.json(command.value)))
                else:
                    held.batch.note(held.index, command)  # type: ignore[arg-type]  # a note of another kind
        if run.over is not None:
            state, body = run.over.state, run.over.payload
            if self._ttl and state == SUCCESS and len(body) <= payload.MAX_BYTES:
                held.batch.note(held.index, self.cache.put(self.version, run.args, body, self._ttl))
            self._finish(held, state, body)
            return
        timer = run.timer
        if not run.active:
            parking = run.parking
            assert parking is not None, "a run that does nothing waits for something"
            waits_long = timer is None or timer - self._now() > PARK_AFTER_US
            if waits_long or parking.children or parking.events:
                self._park(held, parking)
                return
        elif run.waits_for_people and not held.asking:  # nobody wakes it: it is not in the queue
            held.asking = True
            self.outside.arm(ASK_EVERY, self._poster(self._ask, held), held)
        if timer is not None and timer != held.timer:
            held.timer = timer
            seconds = max(0.0, (timer - self._now()) / 1e6)
            self.outside.arm(seconds, self._poster(self._tick, held), held)

    def _ask(self, held: Held) -> None:
        """Look what people have said about a run that cannot be parked, because other steps of it run."""
        if not held.over and not held.group.stops:
            held.asking = True
            self.outside.recall(held.batch, held.index, self._poster(self._told, held))

    def _told(self, held: Held, recalled: Recalled | None) -> None:
        held.asking = False
        if not held.over and not held.group.stops:
            self._guarded(held, held.run.told, {} if recalled is None else recalled.events, self._now())

    def _park(self, held: Held, parking: Parking) -> None:
        """The run leaves this worker, and comes back when there is something for it to do."""
        held.over = True
        (held.batch if held.group.spans is None else held.group.spans).park(held.index, parking)
        self._left(held)

    def _tick(self, held: Held) -> None:
        if held.over or held.group.given_up:
            return
        held.timer = None
        if held.group.stops:
            self._look_whether_stopped(held.group)
            return
        self._guarded(held, held.run.tick, self._now())

    def _ready(self, held: Held, call: StepCall) -> None:
        """A call is to be made, unless its result is known from elsewhere."""
        held.calls += 1
        kept = self.kept[call.script]
        if len(call.args) > payload.MAX_BYTES:
            size, most = len(call.args), payload.MAX_BYTES
            why = f"the args of step {call.node.id} are {size:,} bytes of JSON; at most {most:,} are stored"
            self.post(partial(self._answer, call, FAILURE, payload.bad_args(why)))
            return
        if call.node.module.cache_ttl:
            key = cache_key(kept.version, call.args)
            found = self.cache.get(key)
            if found is not None:
                self.post(partial(self._answer, call, SUCCESS, found))
            else:
                self.outside.look_up(held.batch, key, self._poster(self._looked_up, call))
            return
        self._queue(kept, call)

    def _queue(self, kept: Kept, call: StepCall) -> None:
        held: Held = call.run.holder
        if held.life >= WARY and not call.shown:
            call.shown = True  # written before the step begins: the process may not live to say it later
            held.batch.note(held.index, self.running(call), self._poster(self._queue, kept, call))
            return
        if not kept.ready:
            self._due[kept] = None
        kept.ready.append(call)

    def running(self, call: StepCall, since_us: int | None = None) -> Mark:
        """What is noted of a step that is under way."""
        held: Held = call.run.holder
        since = self._now() if since_us is None else since_us
        return running_mark(call, since, self.kept[call.script].id, held.life)

    def _looked_up(self, call: StepCall, found: bytes | None) -> None:
        """What the cache has for a call."""
        held: Held = call.run.holder
        if held.over or held.group.given_up:
            return
        if found is None:
            self._queue(self.kept[call.script], call)
        else:
            self._answer(call, SUCCESS, found)

    def _answer(self, call: StepCall, state: int, body: bytes) -> None:
        """A call has ended without being made."""
        held: Held = call.run.holder
        if not held.over and not held.group.given_up:
            held.group.busy += 1
            now = time.perf_counter_ns() // 1000
            outcome = (0, state, now, 0, body, None)
            self._ended(self.kept[call.script], call, held, outcome, None, cached=state == SUCCESS)

    # ------------------------------------------------------------ steps that have ended

    def heard(self, batch: StepBatch, outcome: Outcome, again: float | None) -> None:
        """A runtime has reported a step; in the thread that ran it."""
        call = batch.calls[outcome[0]]
        held: Held = call.run.holder
        kept: Kept = batch.kept
        kept.observe(outcome[3])
        if self.in_lane and kept.is_async:
            self.post(partial(self._ended, kept, call, held, outcome, again))
        else:
            self._ended(kept, call, held, outcome, again)
            if not self.in_lane:
                self.outside.knock()

    def _ended(
        self,
        kept: Kept,
        call: StepCall,
        held: Held,
        outcome: Outcome,
        again: float | None,
        *,
        cached: bool = False,
    ) -> None:
        _, state, started, duration, body, text = outcome
        held.calls -= 1
        group = held.group
        group.busy -= 1
        if held.over or group.given_up:
            self._look_whether_stopped(group)
            return
        run, node = held.run, call.node
        attempt = call.attempt
        try:
            noted = run.ended(call, state, body, started + duration + self.offset_us, again=again)
            written = None
            if node.is_strict and noted != AGAIN:
                written = self._poster(self._written, held, call.key)
            note = StepNote(
                *(call.key, call.id, kept.id, started, duration, noted, attempt, call.args, body, text)
            )
            held.batch.note(held.index, note, written)
            if call.shown:
                held.batch.note(held.index, Mark(f"{RUNNING}{call.key}", None))
                call.shown = False
            if not node.is_plain:
                self._note_more(kept, call, held, body if noted == SUCCESS and not cached else None)
            held.cut = held.cut or (held.ending is not None and state != SUCCESS)
            if held.ending is not None and (held.cut or run.over is None or run.over.state != SUCCESS):
                run.commands.clear()  # that it fails by its steps' being canceled is not how it ends
                if not held.calls:
                    self._end(held)
            else:
                self._after(held)
        except Exception as error:
            id_ = held.batch.ids[held.index]
            log.exception("run %s could not be advanced", id_, extra={"job": id_})
            if not held.over:
                self._finish(held, FAILURE, payload.failure(error))

    def _note_more(self, kept: Kept, call: StepCall, held: Held, fresh: bytes | None) -> None:
        """What the options of a step want to be noted of it, which has a fresh result or None."""
        module = call.node.module
        if module.cache_ttl and fresh is not None:
            held.batch.note(held.index, self.cache.put(kept.version, call.args, fresh, module.cache_ttl))
        if module.delete_after_use:
            held.batch.note(held.index, blank_mark(call))

    def _written(self, held: Held, key: str) -> None:
        if not held.over and not held.group.given_up:
            self._guarded(held, held.run.written, key, self._now())
