"""How a run of a flow advances: events in, commands out, no I/O and no clock.

A run is a set of *strands*, one for each thing that goes on at the same time; each is a generator that
walks its modules and yields what it waits for: a script's call, a moment, an approval, other strands. Whoever
drives the run empties `commands`, does what they say, and tells what came of it (`ended`, `tick`, `written`).

There is no program counter to store. A run that was interrupted is started anew with what was noted of it
(`Recalled`), and walks the same way: a step whose outcome is known is not called again but answered from
there. What is decided by chance or by the hour is noted as a mark, so that it comes out the same.

`parking` is set when nothing of the run goes on here, and it only waits: then it need not be held.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from hotpath.core.flow.keys import iteration_of, step_of, step_uuids
from hotpath.core.flow.paths import UNDEFINED, ExpressionError, truthy
from hotpath.core.flow.values import Value
from hotpath.core.flow.waits import WINDOW, Ask, Failed, StepCall, Strand
from hotpath.core.flow.walk import walk_flow
from hotpath.core.notes import Dispatch, Early, Mark, Parking, StepNote
from hotpath.core.storable import MAX_BYTES
from hotpath.model import OutcomeState

if TYPE_CHECKING:
    from hotpath.core.flow.program import Condition, Node, Program
    from hotpath.core.flow.values import Scope
    from hotpath.core.flow.walk import Extra
    from hotpath.core.notes import Checkpoint, Child, Event, Note, Recalled

SUCCESS, FAILURE, CANCELED, AGAIN = map(
    int, (OutcomeState.SUCCESS, OutcomeState.FAILURE, OutcomeState.CANCELED, OutcomeState.RETRY)
)
_encode = msgspec.json.encode
_decode = msgspec.json.decode


class RunEnd:
    """How a run ended."""

    __slots__ = ("payload", "state")

    def __init__(self, state: int, payload: bytes) -> None:
        self.state = state
        """1 success, 2 failure."""
        self.payload = payload
        """JSON of the result, or of the error."""


class Run:
    """One run of a flow. Not for two threads at once."""

    def __init__(
        self,
        program: Program,
        args: bytes,
        *,
        run_id: UUID,
        recalled: Recalled | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.program = program
        self.args = args
        self.run_id = run_id
        self.recalled = recalled
        self.generation = 0 if recalled is None else recalled.generation
        self.known = _answers({} if recalled is None else recalled.steps)
        self.events: Mapping[str, list[Event]] = {} if recalled is None else recalled.events
        """What people have said, by key, as far as is known."""
        self.rounds = 0
        """Iterations of loops."""
        self.has_sent = recalled is not None and bool(recalled.children)
        """Whether steps of it went through the queue: one may have, although it would run here by now."""
        self.commands: list[StepCall | Note | Ask] = []
        """What is to be done, in order; whoever drives the run takes it out."""
        self.over: RunEnd | None = None
        self.holder: Any = None
        """Whoever drives it keeps here what is his."""
        self.active = 0
        """Calls under way here, and notes that have to be written before it goes on."""
        self.now_us = 0
        self.strands: set[Strand] = set()
        """Those that have not ended. Were a strand held by the innermost of its generators alone, the garbage
        collector, closing that one, would free the strand, and close the outer ones within: an error.
        """
        self.stalled: list[Any] = []
        """Groups that would start more, had the run not so many calls under way."""
        self._timers: list[tuple[int, int, Callable[[], object]]] = []
        self._serial = itertools.count()
        self._writing: dict[str, list[Strand]] = {}
        self._children: dict[str, bytes] = {}
        self._approvals: dict[str, int] = {}
        self._asking: dict[str, Strand] = {}
        self._late: set[str] = set()
        self._chance = chance
        self._ids: Callable[[str], bytes] | None = None

    # ------------------------------------------------------------ for the driver

    def start(self, now_us: int) -> None:
        """Begin, or go on from what is known. Times are microseconds since the epoch, by one clock."""
        self.now_us = now_us
        lost = [key for key in self.known if not self.program.knows(key)]
        if lost:
            self.fail(
                "FlowChangedError",
                f"step {lost[0]} has run, and is not in the flow any more: it was changed under way",
            )
            return
        Strand(self, walk_flow(self), self).go()

    def ended(
        self, call: StepCall, state: int, outcome: bytes, now_us: int, *, again: float | None = None
    ) -> int:
        """A call has ended: 1 success, 2 failure, 3 canceled, or 4, failed and its script wants to run again
        in `again` seconds. `outcome` is the JSON of its result or error object.

        Returns the state to note: 4 if it runs again, whoever wanted it.
        """
        self.now_us = now_us
        self.active -= 1
        if self.over is not None:
            return state
        delay = again if state == AGAIN else None
        if state == FAILURE:
            delay = self.delay(call.node, call.attempt, outcome, call.scope)
        if delay is not None:
            failures = call.attempt
            call.attempt += 1
            until = now_us + round(delay * 1e6)
            self.commands.append(Mark(f"retry:{call.key}", _encode({"failures": failures, "until": until})))
            self.at(until, lambda: self.call(call))
            self.unstall()
            return AGAIN
        call.strand.call_ended(call, state, outcome)
        self.unstall()
        return state

    def tick(self, now_us: int) -> None:
        """Time has passed."""
        self.now_us = max(now_us, self.now_us)
        while self._timers and self._timers[0][0] <= self.now_us and self.over is None:
            heapq.heappop(self._timers)[2]()
        self.unstall()

    def written(self, key: str, now_us: int) -> None:
        """The note of a step that is to be durable before the next one begins is committed."""
        self.now_us = now_us
        strands = self._writing.pop(key, [])
        self.active -= len(strands)
        for strand in strands:
            strand.go(None)
        self.unstall()

    def told(self, events: Mapping[str, list[Event]], now_us: int) -> None:
        """What people have said by now, as `Ask` wanted to know."""
        self.now_us = now_us
        if self.over is None:
            self.events = events
            asking, self._asking = self._asking, {}
            for strand in asking.values():
                strand.go()
            self.unstall()

    @property
    def waits_for_people(self) -> bool:
        """Whether it would go on if somebody had said something meanwhile."""
        return bool(self._asking) and self.over is None

    @property
    def timer(self) -> int | None:
        """When to call `tick`, at the latest; None: never."""
        return self._timers[0][0] if self._timers and self.over is None else None

    @property
    def parking(self) -> Parking | None:
        """What it waits for, when nothing of it goes on here; None while something does."""
        if self.active or self.over is not None:
            return None
        return Parking(self.timer, tuple(self._children.values()), dict(self._approvals))

    # ------------------------------------------------------------ for its strands

    def id_of(self, key: str) -> bytes:
        """Id of the job of this step."""
        if self._ids is None:
            self._ids = step_uuids(self.run_id, self.generation)
        return self._ids(key)

    def call(self, call: StepCall) -> None:
        """Have a script run."""
        self.active += 1
        self.commands.append(call)

    def at(self, until_us: int, then: Callable[[], object]) -> None:
        """Do this when the time comes."""
        heapq.heappush(self._timers, (until_us, next(self._serial), then))

    def unstall(self) -> None:
        """There may be room for more calls."""
        if self.stalled and self.active < WINDOW // 2:
            stalled, self.stalled = self.stalled, []
            for group in stalled:
                group.pump()

    def wait_written(self, key: str, strand: Strand) -> None:
        """The strand goes on when the step's note is committed."""
        self.active += 1
        self._writing.setdefault(key, []).append(strand)

    def dispatch(self, node: Node, key: str, args: bytes, timeout: float | None) -> None:
        """Send a step through the queue; unless that was done before."""
        if len(args) > MAX_BYTES:
            raise self.failed(key, "BadArgsError", _too_large("args", args))
        child = self.id_of(key)
        self._children[key] = child
        if self.sent(key) is not None:
            return
        self.commands.append(
            Dispatch(
                key,
                child,
                node.script,
                node.foreign or None,
                node.module.priority or 0,
                None if timeout is None else max(1, round(timeout * 1000)),
                args,
            )
        )
        if node.module.delete_after_use:
            self.note_mark(f"blank:{key}", {"id": str(UUID(bytes=child))})

    def sent(self, key: str) -> Child | None:
        """The job that this step was sent through the queue as, if it was."""
        return None if self.recalled is None else self.recalled.children.get(key)

    def hear(self, key: str, strand: Strand, until_us: int | None) -> None:
        """The strand goes on whenever `told` is called; that is asked for when the time is over."""
        self._asking[key] = strand
        if until_us is not None and key not in self._late:
            self._late.add(key)
            self.at(until_us, lambda: self.commands.append(Ask()))

    def wait_approval(self, key: str, seen: int) -> None:
        """Somebody has to say something about this step."""
        self._approvals[key] = seen

    def answered(self, key: str) -> None:
        """What this step waited for has come, or its time is over."""
        self._approvals.pop(key, None)
        self._children.pop(key, None)

    def mark(self, key: str) -> Any:
        """What was noted under this name; None: nothing."""
        if self.recalled is None:
            return None
        raw = self.recalled.marks.get(key)
        return None if raw is None else _decode(raw)

    def note_mark(self, key: str, value: Any) -> None:
        """Note it."""
        self.commands.append(Mark(key, _encode(value)))

    def decide(
        self, condition: Condition, what: str, key: str, scope: Scope, previous: Value, extra: Extra = None
    ) -> Any:
        """The value of an expression that something is decided by; the same one when the run walks here
        again.
        """
        mark = ""
        if condition.volatile:
            mark = f"choice:{key}:{what}"
            if self.recalled is not None and mark in self.recalled.marks:
                (value,) = _decode(self.recalled.marks[mark])
                return value
        try:
            value = condition.data(scope, previous, extra)
        except ExpressionError as error:
            raise self.failed(key, "ExpressionError", f"`{what}`: {error}", condition.line) from None
        if mark:
            self.note_mark(mark, [None if value is UNDEFINED else value])  # in a list: a null is no mark
        return value

    def holds(
        self, condition: Condition, what: str, key: str, scope: Scope, previous: Value, extra: Extra = None
    ) -> bool:
        """Whether it is true, as JavaScript sees it."""
        return truthy(self.decide(condition, what, key, scope, previous, extra))

    def failed(self, key: str, name: str, message: str, line: int = 0) -> Failed:
        """An error of a step's that its script did not raise."""
        where = f" (line {line})" if line else ""
        error = {
            "name": name,
            "message": f"step {step_of(key)}: {message}{where}" if key else f"{message}{where}",
            "traceback": "",
            "kind": "exception",
        }
        return Failed(_encode(error), key)

    def note_step(self, node: Node, key: str, value: Value) -> None:
        """A step that ran no script has this result."""
        if len(value.raw) > MAX_BYTES:
            raise self.failed(key, "BadResultError", _too_large("result", value.raw))
        if key not in self.known:
            self.commands.append(StepNote(key, self.id_of(key), 0, 0, 0, SUCCESS, 1, b"{}", value.raw, None))

    def early(self, raw: bytes) -> None:
        """A result for those who wait, before the run ends; not one that is too large to be stored."""
        if len(raw) > MAX_BYTES:
            return
        self.commands.append(Early(raw))
        self.note_mark("early:", value=True)

    # ------------------------------------------------------------ its end

    def strand_ended(self, _strand: Strand, value: tuple[Value, bool]) -> None:
        """The whole flow has ended in success."""
        self.finish(SUCCESS, value[0].raw)

    def strand_failed(self, _strand: Strand, failed: Failed) -> None:
        """The whole flow has failed."""
        error = _decode(failed.error)
        if failed.key:
            error["step"] = step_of(failed.key)
            if iteration := iteration_of(failed.key):
                error["iteration"] = iteration
        self.finish(FAILURE, _encode(error))

    def fail(self, name: str, message: str) -> None:
        """End it with an error of no step's."""
        error = {"name": name, "message": message, "traceback": "", "kind": "exception"}
        self.finish(FAILURE, _encode(error))

    def finish(self, state: int, payload: bytes) -> None:
        """Nothing more of it happens."""
        if self.over is None:
            self.over = RunEnd(state, payload)
            self._timers.clear()

    # ------------------------------------------------------------ retries

    def delay(self, node: Node, failures: int, outcome: bytes, scope: Scope | None) -> float | None:
        """Seconds until a step that has failed so often runs again, as the flow says; None: it does not."""
        retry = node.module.retry
        if retry is None:
            return None
        if failures > retry.constant_attempts + retry.exponential_attempts:
            return None
        condition = node.retry_if
        if condition is not None:
            error = Value(outcome)
            extra = {"error": error, "result": Value(b'{"error":' + outcome + b"}")}
            try:
                assert scope is not None
                if not truthy(condition.data(scope, error, extra)):
                    return None
            except ExpressionError:
                return None  # the step's own error says more than that of the question about it
        if failures <= retry.constant_attempts:
            return retry.constant_seconds
        number = failures - retry.constant_attempts
        try:
            delay = retry.multiplier * retry.seconds**number
        except OverflowError:
            delay = LONGEST_DELAY
        spread = retry.random_factor / 100 * (2 * self._chance() - 1)
        return min(max(0.0, delay * (1 + spread)), LONGEST_DELAY)


def _too_large(what: str, raw: bytes) -> str:
    return f"its {what} are {len(raw):,} bytes of JSON; at most {MAX_BYTES:,} are stored".replace(
        "result are", "result is"
    )


def _answers(steps: dict[str, Checkpoint]) -> dict[str, Checkpoint]:
    """The steps that do not run again. One that was canceled does: where the run goes on all the same, that
    was because its lease had run out.
    """
    canceled = [key for key, step in steps.items() if step.state == CANCELED]
    return {key: step for key, step in steps.items() if step.state != CANCELED} if canceled else steps


LONGEST_DELAY = 366 * 86_400.0
"""Seconds between two tries of a step: a year."""
