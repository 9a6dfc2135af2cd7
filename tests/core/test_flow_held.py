"""Runs that wait while other steps of them run, and what must not take a worker down."""

from __future__ import annotations

import msgspec
import pytest
from flow_driver import RUN_ID, START_US
from flow_making import call, echo, every, ex, flow, identity, loop_while
from flow_strategies import evaluate_text

from hotpath.core.flow import pauses
from hotpath.core.flow.engine import Run
from hotpath.core.flow.model import Suspend
from hotpath.core.flow.program import compile_flow
from hotpath.core.flow.waits import Ask, StepCall
from hotpath.core.notes import Checkpoint, Event, Mark, Recalled
from hotpath.core.storable import MAX_BYTES
from hotpath.flows.javascript import JavaScript

SECOND = 1_000_000
YES = Event(approved=True, payload=b"7", approver="ann")


def started(what, args=None, recalled=None, evaluate=evaluate_text) -> Run:
    """A run that has begun."""
    program = compile_flow(what, evaluate, lambda call: "elsewhere" if call.script == "far" else None)
    run = Run(program, msgspec.json.encode(args or {}), run_id=RUN_ID, recalled=recalled)
    run.start(START_US)
    return run


def calls(run: Run) -> list[StepCall]:
    """What it wants to have run, taken out."""
    commands, run.commands = run.commands, []
    return [command for command in commands if isinstance(command, StepCall)]


def beside(timeout: float | None) -> Run:
    """A run of two branches: one waits for people, the other's step runs."""
    asked = call("a", "echo", suspend=Suspend(timeout=timeout))
    run = started(flow(every("e", [asked, echo("b", "resume")], [call("c", "echo")], parallel=True)))
    first, other = calls(run)
    run.ended(first, 1, b"1", START_US)
    calls(run)
    assert (run.active, run.parking, run.waits_for_people) == (1, None, True)
    assert other.key == "e[1]/c"
    return run


def test_an_approval_reaches_a_run_that_is_held():
    """What people say while other steps of the run go on is heard when somebody looks, and is taken once."""
    run = beside(60)
    run.told({}, START_US + SECOND)
    assert not calls(run)
    run.told({"e[0]/a": [YES]}, START_US + 2 * SECOND)
    [after] = calls(run)
    assert (after.key, after.args) == ("e[0]/b", b'{"x":7}')
    assert not run.waits_for_people
    run.tick(START_US + 61 * SECOND)  # its time-out passes, and changes nothing
    run.told({"e[0]/a": [YES, YES]}, START_US + 62 * SECOND)
    assert not calls(run)
    assert run.over is None


def test_nobody_is_too_late_before_somebody_has_looked():
    """When the time is over it is asked once more what people have said: an approval in time is taken."""
    run = beside(60)
    run.tick(START_US + 60 * SECOND)
    [asked] = run.commands
    assert isinstance(asked, Ask)
    run.commands.clear()
    run.told({"e[0]/a": [YES]}, START_US + 60 * SECOND)
    assert [each.key for each in calls(run)] == ["e[0]/b"]
    run = beside(60)
    run.tick(START_US + 60 * SECOND)
    run.commands.clear()
    run.told({}, START_US + 60 * SECOND)
    [heard] = run.commands
    assert isinstance(heard, Mark)
    assert msgspec.json.decode(heard.value)["heard"] == 0
    assert not run.waits_for_people


def test_steps_that_were_canceled_run_again():
    """A run that goes on although a step of it was canceled had lost its lease: the step is no failure."""
    known = Recalled(
        steps={
            "a": Checkpoint(1, b"1", None, b""),
            "b": Checkpoint(3, b'{"name":"JobCanceled","message":"m"}', None, b""),
        }
    )
    run = started(flow(echo("a", "1"), echo("b", "results.a")), recalled=known)
    [again] = calls(run)
    assert again.key == "b"


def test_inputs_of_chance_stay():
    """What chance put into an input is noted, and is the same when the run is played again."""
    what = flow(call("a", "echo", {"x": ex('"k" + Math.random()')}))
    javascript = JavaScript().evaluate
    mark, first = started(what, evaluate=javascript).commands
    assert (mark.key, mark.value) == ("choice:a:inputs", first.args)
    [again] = calls(started(what, recalled=Recalled(marks={mark.key: mark.value}), evaluate=javascript))
    assert again.args == first.args


def test_loops_without_calls_let_others_have_their_turn():
    """Loops in loops that call no script take a breath, in which the run can be ended, and go on after it."""
    inner = loop_while("i", call("a", "echo", mock=1), stop="flow_input.iter.index >= 999")
    run = started(flow(loop_while("o", inner, stop="flow_input.iter.index >= 2")))
    breaths = 0
    while run.over is None:
        assert (run.active, run.timer) == (0, START_US + breaths + 1)
        run.commands.clear()
        breaths += 1
        run.tick(START_US + breaths)
    assert breaths == 3
    assert run.over.state == 1


@pytest.mark.parametrize("seconds", [0, -1, 1e10, 2_147_484, "x"])
def test_time_outs_that_cannot_be(seconds):
    """A time-out that no worker can keep is an error of its step, wherever that would run."""
    for script in ("echo", "far"):
        run = started(flow(call("a", script, timeout=ex("flow_input.t"))), {"t": seconds})
        assert run.over is not None
        error = msgspec.json.decode(run.over.payload)
        assert (run.over.state, error["step"]) == (2, "a")
        assert f"at most {pauses.LONGEST_TIMEOUT:,}" in error["message"]


def test_what_is_too_large_is_its_steps_error():
    """Args of a step elsewhere and results that no script has made are held to what can be stored."""
    large = b"[" + b",".join([b'"' + b"x" * 1000 + b'"'] * (MAX_BYTES // 1000)) + b"]"
    for module in (identity("b"), call("b", "far", {"x": ex("results.a")})):
        run = started(flow(call("a", "echo"), module))
        [first] = calls(run)
        run.ended(first, 1, large, START_US)
        assert run.over is not None
        error = msgspec.json.decode(run.over.payload)
        assert (run.over.state, error["step"], "16,777,216" in error["message"]) == (2, "b", True)


def test_lists_that_multiply():
    """Loops in loops that give on lists of lists end with an error, and not with all the memory there is."""
    inner = loop_while("i", identity("a"), stop="flow_input.iter.index >= 999")
    run = started(flow(loop_while("o", inner, stop="flow_input.iter.index >= 5")))
    for tick in range(1, 20):
        run.commands.clear()
        run.tick(START_US + tick)
    assert run.over is not None
    error = msgspec.json.decode(run.over.payload)
    assert (error["name"], error["step"]) == ("BadResultError", "i")
