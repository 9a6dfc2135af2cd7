"""A tiny driver of flow runs: a worker, a database and people, all in one place and in any order.

It ends the calls under way in random order, writes notes in bulk now and then, lets the run park when it only
waits, brings events and children's ends, moves its clock, and dies at random points: whatever had not been
written by then is lost, and a new `Run` goes on from what had. It checks on the way that nothing is called
that was known to have ended.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import attrs
import msgspec
from flow_reference import Calls, Event, Made
from flow_strategies import evaluate_text

from hotpath.core import notes
from hotpath.core.flow.engine import Run
from hotpath.core.flow.keys import TRY
from hotpath.core.flow.model import Call, Flow
from hotpath.core.flow.program import compile_flow
from hotpath.core.flow.waits import Ask, StepCall

RUN_ID = UUID("01985c1e-7b3a-7def-8123-456789abcdef")
START_US = 1_750_000_000_000_000
MOST_ACTIONS = 20_000
SUCCESS, FAILURE, CANCELED, AGAIN = 1, 2, 3, 4
_encode = msgspec.json.encode
_decode = msgspec.json.decode


@attrs.frozen
class Drove:
    """What came of it."""

    state: str
    value: Any
    made: list[Made]
    early: list[Any]
    """Early results, in the order they were told."""
    restarts: int
    """How often the run was taken up again."""
    slept_us: int
    """Time that went by."""


class Driver:
    """Drives one run to its end."""

    def __init__(
        self,
        flow: Flow,
        args: dict[str, Any],
        execute: Callable[[str, dict[str, Any], int], tuple[str, Any]],
        people: Mapping[str, list[Event]] | None = None,
        *,
        seed: int = 0,
        crashes: int = 0,
        foreign: frozenset[str] = frozenset(),
    ) -> None:
        def tag_of(call: Call) -> str | None:
            return "elsewhere" if call.script in foreign else None

        self.program = compile_flow(flow, evaluate_text, tag_of)
        self.args = _encode(args)
        self.execute = execute
        self.people = people or {}
        self.random = random.Random(seed)
        self.crashes = crashes
        self.now_us = START_US
        self.kept: list[notes.Note] = []
        self.unwritten: list[notes.Note] = []
        self.under_way: list[StepCall] = []
        self.said: Counter[str] = Counter()
        """By key, how many of its events have come."""
        self.ended_children: dict[str, tuple[int, bytes]] = {}
        self.made: list[Made] = []
        self.called: Counter[tuple[str, int]] = Counter()
        self.forgotten: Counter[tuple[str, int]] = Counter()
        """Calls that may be made again: what came of them was lost."""
        self.restarts = -1
        self.run: Run

    # -------------------------------------------------------------------------------------------- driving
    def drive(self) -> Drove:
        """To the end. Raises `AssertionError` if the run does what it may not do, or gets stuck."""
        if self.restarts < 0:
            self.begin()
        for _ in range(MOST_ACTIONS):
            self.do_commands()
            if self.run.over is not None:
                if self.crashes > 0 and self.random.random() < 0.5:
                    self.crash()  # the notes are written, the outcome is not
                    continue
                return self.end()
            self.act()
        raise AssertionError("the run does not end")

    def begin(self) -> None:
        """Take the run up, with what was written of it."""
        self.restarts += 1
        self.run = Run(
            self.program,
            self.args,
            run_id=RUN_ID,
            recalled=self.recalled() if self.restarts else None,
            chance=self.random.random,
        )
        self.run.start(self.now_us)

    def act(self) -> None:
        """One thing happens."""
        run, chance = self.run, self.random.random
        self.now_us += 1
        if self.crashes > 0 and chance() < 0.15:
            self.crash()
        elif self.unwritten and chance() < 0.3:
            self.write(len(self.unwritten))
        elif self.under_way and chance() < 0.9:
            self.end_call(self.under_way.pop(self.random.randrange(len(self.under_way))))
        elif run.timer is not None and not self.unsaid() and chance() < 0.5:
            self.now_us = max(self.now_us, run.timer)
            run.tick(self.now_us)
        elif run.parking is not None:
            self.park(run.parking)
        elif self.unwritten:
            self.write(len(self.unwritten))
        else:
            assert self.under_way or run.timer is not None, "stuck: nothing under way, nothing waited for"

    def do_commands(self) -> None:
        """What the run asks for."""
        commands, self.run.commands = self.run.commands, []
        for command in commands:
            if isinstance(command, StepCall):
                self.call(command)
            elif isinstance(command, Ask):
                self.run.told(self.recalled().events, self.now_us)
                self.do_commands()
            else:
                if isinstance(command, notes.Dispatch):
                    assert command.key not in self.children(), f"{command.key} was sent before"
                if isinstance(command, notes.Early):
                    assert "early:" not in self.marks(), "the early result was told before"
                self.unwritten.append(command)
        assert self.run.active >= len(self.under_way)

    def call(self, call: StepCall) -> None:
        """A call begins; it may be the second of its kind only if the first was lost."""
        once = (call.key, call.attempt)
        assert self.called[once] <= self.forgotten[once], f"{call.key} is called again"
        assert call.key not in self.steps(), f"{call.key} is called, and has ended"
        self.called[once] += 1
        self.made.append(Made(call.key, _decode(call.args), call.attempt))
        self.under_way.append(call)

    def end_call(self, call: StepCall) -> None:
        """Its script has ended."""
        state, value = self.execute(call.script, _decode(call.args), call.attempt)
        outcome, attempt = _encode(value), call.attempt
        noted = self.run.ended(call, SUCCESS if state == "success" else FAILURE, outcome, self.now_us)
        self.unwritten.append(
            notes.StepNote(call.key, call.id, 1, 0, 0, noted, attempt, call.args, outcome, None)
        )

    def write(self, count: int) -> None:
        """So many notes become durable."""
        written, self.unwritten = self.unwritten[:count], self.unwritten[count:]
        self.kept += written
        for note in written:
            if isinstance(note, notes.StepNote) and note.state != AGAIN:
                self.run.written(note.key, self.now_us)

    def crash(self) -> None:
        """The worker dies; of the last notes the first few have reached the database."""
        self.crashes -= 1
        lost = self.random.randint(0, len(self.unwritten))
        self.kept += self.unwritten[:lost]
        self.give_up()

    def give_up(self) -> None:
        self.unwritten.clear()
        self.under_way.clear()
        steps, tries = self.steps(), self.tries()
        for key, attempt in self.called:
            if key not in steps and attempt > tries.get(key, 0):
                self.forgotten[key, attempt] = self.called[key, attempt]
        self.begin()

    def park(self, parking: notes.Parking) -> None:
        """The run leaves the worker, and comes back for what it waited for."""
        assert not self.under_way
        self.write(len(self.unwritten))
        if self.run.parking != parking:
            return  # a strict step's note was all that it waited for
        children = self.children()
        ids = {child.id: key for key, child in children.items()}
        undone = [ids[id] for id in parking.children if not children[ids[id]].state]
        assert len(undone) == len(parking.children), "it waits for a child that has ended"
        unsaid = [key for key in parking.events if self.has_more(key)]
        for key, seen in parking.events.items():
            assert seen == self.said[key], f"{key} has seen {seen} events of {self.said[key]}"
        if undone and (not unsaid or self.random.random() < 0.5):
            for key in self.random.sample(undone, self.random.randint(1, len(undone))):
                self.end_child(key)
        elif unsaid:
            self.said[self.random.choice(unsaid)] += 1
        else:
            assert parking.until_us is not None, f"it waits for what never comes: {parking}"
            self.now_us = max(self.now_us, parking.until_us)
        if self.random.random() < 0.2:  # somebody says more than was asked
            for key in self.said:
                self.said[key] = len(self.people.get(key, ()))
        self.give_up()

    def end(self) -> Drove:
        self.write(len(self.unwritten))
        over = self.run.over
        assert over is not None
        return Drove(
            {SUCCESS: "success", FAILURE: "failure"}[over.state],
            _decode(over.payload),
            self.made,
            [_decode(note.value) for note in self.kept if isinstance(note, notes.Early)],
            self.restarts,
            self.now_us - START_US,
        )

    # ---------------------------------------------------------------------------------- what was written
    def recalled(self) -> notes.Recalled:
        """All that the database knows."""
        return notes.Recalled(
            steps=self.steps(),
            marks=self.marks(),
            events={
                key: [
                    notes.Event(each.approved, _encode(each.payload), each.approver)
                    for each in self.people.get(key, ())[:count]
                ]
                for key, count in self.said.items()
            },
            children=self.children(),
        )

    def steps(self) -> dict[str, notes.Checkpoint]:
        """Steps that have ended for good."""
        return {
            note.key: notes.Checkpoint(note.state, note.outcome, note.args, note.id)
            for note in self.kept
            if isinstance(note, notes.StepNote) and note.state != AGAIN
        }

    def marks(self) -> dict[str, bytes]:
        """Marks that are still there."""
        marks = {note.key: note.value for note in self.kept if isinstance(note, notes.Mark)}
        return {key: value for key, value in marks.items() if value is not None}

    def tries(self) -> dict[str, int]:
        """By key, how many failures are known of."""
        prefix = "retry:"
        return {
            key.removeprefix(prefix): _decode(value)["failures"]
            for key, value in self.marks().items()
            if key.startswith(prefix)
        }

    def children(self) -> dict[str, notes.Child]:
        """Jobs in the queue that are steps of the run."""
        sent = {note.key: note for note in self.kept if isinstance(note, notes.Dispatch)}
        return {
            key: notes.Child(note.id, *self.ended_children.get(key, (0, b"null")))
            for key, note in sent.items()
        }

    def end_child(self, key: str) -> None:
        """Some other worker has run it."""
        sent = next(note for note in self.kept if isinstance(note, notes.Dispatch) and note.key == key)
        step, _, number = key.partition(TRY)
        attempt = int(number or 1)
        state, value = self.execute(sent.script, _decode(sent.args), attempt)
        self.made.append(Made(step, _decode(sent.args), attempt))
        self.ended_children[key] = (SUCCESS if state == "success" else FAILURE, _encode(value))

    def has_more(self, key: str) -> bool:
        """Whether people have still to say something about this step."""
        return self.said[key] < len(self.people.get(key, ()))

    def unsaid(self) -> bool:
        """Whether people will say more about a step that waits: until then no time-out may pass."""
        marks = [*self.marks(), *(note.key for note in self.unwritten if isinstance(note, notes.Mark))]
        return any(self.has_more(key.removeprefix("suspend:")) for key in marks if key.startswith("suspend:"))


# ------------------------------------------------------------------------------------------- comparing
def normal(value: Any) -> Any:
    """A value without what may be said in other words: the messages of errors."""
    if isinstance(value, dict):
        worded = ("message", "stack", "traceback") if "name" in value and "message" in value else ()
        return {key: normal(each) for key, each in sorted(value.items()) if key not in worded}
    if isinstance(value, list):
        return [normal(each) for each in value]
    return value


def fingerprint(made: Made) -> tuple[str, int, bytes]:
    """A call as something to put in a set."""
    return made.key, made.attempt, _encode(normal(made.args))


def check_calls(calls: Calls, made: list[Made], *, whole: bool) -> None:
    """Raise `AssertionError` unless these are the calls that the reference made.

    `whole`: an iteration that may have run or not ran wholly or not at all.
    """
    actual = {fingerprint(each) for each in made}
    allowed = {fingerprint(each) for each in calls.all()}
    assert not actual - allowed, f"called without need: {sorted(actual - allowed)}"
    _check_made(calls, actual, whole=whole)


def _check_made(calls: Calls, actual: set[tuple[str, int, bytes]], *, whole: bool) -> None:
    needed = {fingerprint(each) for each in calls.made}
    assert not needed - actual, f"not called: {sorted(needed - actual)}"
    for part in calls.perhaps:
        if whole and any(fingerprint(each) in actual for each in part.all()):
            _check_made(part, actual, whole=whole)
