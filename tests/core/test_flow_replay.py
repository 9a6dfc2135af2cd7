"""Runs that wait, are interrupted and go on: always to the end that the reference says, and nothing twice."""

from __future__ import annotations

import gc
import sys
from unittest import mock

import msgspec
import pytest
from flow_driver import AGAIN, FAILURE, RUN_ID, START_US, SUCCESS, Driver
from flow_making import both, call, echo, every, ex, fails, flow, identity, loop, one, result, sub
from flow_reference import Event
from flow_strategies import SCRIPTS, cases, evaluate_text, execute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thoroughness import examples

from hotpath.core.flow.engine import Run
from hotpath.core.flow.keys import step_uuid
from hotpath.core.flow.model import Durability, StepRetry, Suspend
from hotpath.core.flow.program import compile_flow
from hotpath.core.notes import Checkpoint, Dispatch, Mark, Recalled

EXAMPLES = settings(
    max_examples=examples(40, 100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SEEDS = st.integers(0, 2**32)
YES, NO = Event(approved=True, payload={"by": 1}, approver="ann"), Event(approved=False, approver="bob")


# --------------------------------------------------------------------------------------------- any flow
@pytest.mark.slow
@EXAMPLES
@given(cases(), SEEDS)
def test_any_flow_ends_as_it_should(case, seed):
    """In whatever order calls end, a run ends as the reference says, with the same calls and early result."""
    both(case.flow, case.args, case.people, seed=seed)


@pytest.mark.slow
@EXAMPLES
@given(cases(), SEEDS, st.integers(1, 8))
def test_any_flow_survives(case, seed, crashes):
    """However often a run is interrupted, it ends as if it had not been; no step that is known to have ended
    is called again, and one whose end was lost once more at most each time (the driver looks to that).
    """
    both(case.flow, case.args, case.people, seed=seed, crashes=crashes)


@pytest.mark.slow
@EXAMPLES
@given(cases(), SEEDS, st.integers(0, 3), st.sets(st.sampled_from(sorted(SCRIPTS)), min_size=1))
def test_any_flow_with_steps_elsewhere(case, seed, crashes, foreign):
    """Steps that go through the queue change nothing of how a run ends, and each is sent once."""
    both(case.flow, case.args, case.people, seed=seed, crashes=crashes, foreign=frozenset(foreign))


@pytest.mark.slow
@EXAMPLES
@given(cases(), SEEDS, st.integers(0, 2), st.integers(2, 5))
def test_any_flow_in_a_small_window(case, seed, crashes, window):
    """Nor does it matter how many calls may be under way."""
    with (
        mock.patch("hotpath.core.flow.waits.WINDOW", window),
        mock.patch("hotpath.core.flow.engine.WINDOW", window),
    ):
        both(case.flow, case.args, case.people, seed=seed, crashes=crashes)


RICH = flow(
    call("a", "list", {"x": 1, "y": 2}),
    loop(
        "l",
        ex("results.a"),
        call("b", "flaky1", {"x": ex("flow_input.iter.value")}, retry=StepRetry(constant_attempts=1)),
        every("e", [echo("c", "results.b")], [call("d", "odd", {"x": 1})], parallel=True, keeps=True),
        parallel=True,
    ),
    call("ok", "number", suspend=Suspend(timeout=60)),
    one("o", ("resume.by", [sub("s", [call("f", "first", {"x": ex("flow_input.v")}, sleep=5)], {"v": 7})])),
    call("z", "echo", {"l": ex("results.l"), "o": ex("results.o")}, durability=Durability.STRICT),
    failure=call("failure", "number"),
    early_return=ex("results.ok"),
)


def test_interrupted_everywhere():
    """A run that is interrupted after each single thing that happens ends the same way."""
    plain = both(RICH, people={"ok": [YES]})
    assert plain.state == "success"
    steps = len(plain.called)
    for stop in range(120):
        driver = Driver(RICH, {}, execute, {"ok": [YES]}, seed=stop)
        driver.begin()
        for _ in range(stop):
            driver.do_commands()
            if driver.run.over is not None:
                break
            driver.act()
        driver.do_commands()
        driver.crash()
        after = driver.drive()
        assert (after.state, after.value) == ("success", plain.value)
        assert len(after.made) <= 2 * steps


# ---------------------------------------------------------------------------------------------- retries
def waits_of(what, args=None, chance=0.5):
    """Seconds between the attempts of the only call of a flow, which always fails."""
    driver = Driver(what, args or {}, execute)
    driver.random.random = lambda: chance
    driver.begin()
    waits = []
    while driver.run.over is None:
        driver.do_commands()
        if driver.under_way:
            driver.end_call(driver.under_way.pop())
        else:
            waits.append((driver.run.timer - driver.now_us) / 1e6)
            driver.run.tick(driver.run.timer - 1)
            driver.do_commands()
            assert not driver.under_way  # not a microsecond too early
            driver.now_us = driver.run.timer
            driver.run.tick(driver.now_us)
    return waits


def test_retry_delays():
    """First come the constant attempts, then those at growing distances, each varied as the flow says."""
    retry = StepRetry(
        constant_attempts=2, constant_seconds=3, exponential_attempts=3, multiplier=2, seconds=4
    )
    assert waits_of(flow(call("a", "fail", retry=retry))) == [3, 3, 8, 32, 128]
    varied = StepRetry(exponential_attempts=2, seconds=10, random_factor=20)
    assert waits_of(flow(call("a", "fail", retry=varied)), chance=1.0) == [12, 120]
    assert waits_of(flow(call("a", "fail", retry=varied)), chance=0.0) == [8, 80]
    huge = StepRetry(exponential_attempts=1, multiplier=1e300, seconds=1e300)
    assert waits_of(flow(call("a", "fail", retry=huge))) == [366 * 86_400]


def test_retry():
    """A step runs again until it succeeds, or its attempts are used up."""
    once = StepRetry(constant_attempts=1)
    assert both(flow(call("a", "flaky1", retry=once))).called == ["a", "a"]
    assert both(flow(call("a", "flaky1", retry=StepRetry()))).called == ["a"]
    failed = both(flow(call("a", "flaky2", retry=once)))
    assert (failed.state, failed.called, failed.value["message"]) == ("failure", ["a", "a"], "flaky2 2")


def test_retry_if():
    """Only if `retry_if` holds of the error; it sees what the step sees."""

    def called(text, script="fail"):
        retry = StepRetry(constant_attempts=2, retry_if=ex(text))
        return len(both(flow(loop("l", [7], call("a", script, retry=retry))), {"n": 1}).called)

    assert called('error.name === "ValueError"') == 3
    assert called('error.name === "OtherError"') == 1
    assert called('result.error.message === "fail 1"') == 2
    assert called("flow_input.iter.value === 7") == 3
    assert called("flow_input.iter.index") == 1
    assert called("nope(1)") == 1


def test_the_scripts_own_retry():
    """A script that wants to run again does, whatever the flow says of retries, and later, as it said."""
    driver = Driver(flow(call("a", "fail", retry=StepRetry())), {}, execute)
    driver.begin()
    driver.do_commands()
    step = driver.under_way.pop()
    assert driver.run.ended(step, AGAIN, b'{"name":"E","message":"m"}', START_US, again=2.5) == AGAIN
    driver.do_commands()
    assert mark_of(driver, "retry:a") == {"failures": 1, "until": START_US + 2_500_000}
    assert driver.run.parking.until_us == START_US + 2_500_000
    driver.run.tick(START_US + 2_500_000)
    [again] = driver.run.commands
    assert (again.key, again.attempt) == ("a", 2)


def test_retry_is_remembered():
    """A run that is interrupted between two attempts neither starts counting anew nor comes too early."""
    what = flow(call("a", "fail", retry=StepRetry(constant_attempts=2, constant_seconds=60)))
    driver = Driver(what, {}, execute)
    driver.begin()
    driver.do_commands()
    driver.end_call(driver.under_way.pop())
    driver.do_commands()
    assert driver.run.parking.until_us == START_US + 60_000_000
    driver.write(9)
    driver.now_us += 59_000_000
    driver.give_up()
    driver.do_commands()
    assert not driver.under_way
    assert driver.run.timer == START_US + 60_000_000
    ended = driver.drive()
    assert [made.attempt for made in ended.made] == [1, 2, 3]


# ---------------------------------------------------------------------------------------- sleep, approvals
def test_sleep():
    """A run that sleeps can be parked until then; taken up too early it sleeps on, and then goes on."""
    driver = Driver(
        flow(call("a", "number", sleep=ex("result")), call("b", "number", sleep=90), call("c", "number")),
        {},
        execute,
    )
    driver.begin()
    for _ in range(2):
        driver.do_commands()
        assert driver.run.parking is None
        driver.end_call(driver.under_way.pop())
    driver.do_commands()
    parking = driver.run.parking
    assert (parking.until_us, parking.children, dict(parking.events)) == (START_US + 90_000_000, (), {})
    driver.write(9)
    driver.now_us += 89_999_999
    driver.give_up()
    driver.do_commands()
    assert driver.run.parking == parking
    driver.now_us += 1
    driver.give_up()
    driver.do_commands()
    assert [each.key for each in driver.under_way] == ["c"]


def waiting(**options):
    """A flow that waits for an approval behind `a`, and tells what was said."""
    tells = {name: ex(name) for name in ("resume", "resumes", "approvers")}
    return flow(call("a", "number", suspend=Suspend(**options)), call("b", "echo", tells))


def test_approval():
    """A suspended run goes on once it is approved, and sees the payload and by whom."""
    got = result(waiting(timeout=None), people={"a": [YES]})
    assert got == {"resume": {"by": 1}, "resumes": [{"by": 1}], "approvers": ["ann"]}
    inside = one("o", ("true", [echo("b", "resume.by")]))
    assert result(flow(call("a", "number", suspend=Suspend()), inside), people={"a": [YES]}) == 1
    two = [YES, Event(approved=True, payload=[2], approver="bob")]
    got = result(waiting(required_events=2), people={"a": two})
    assert got == {"resume": [2], "resumes": [{"by": 1}, [2]], "approvers": ["ann", "bob"]}


def test_what_a_suspended_run_waits_for():
    """It is parked until its time is over, for one more event than it has seen, and notes what it needs."""
    driver = Driver(waiting(required_events=2, timeout=60, form={"x": 1}), {}, execute, {"a": [YES, YES]})
    driver.begin()
    driver.do_commands()
    driver.end_call(driver.under_way.pop())
    driver.do_commands()
    assert driver.run.parking.until_us == START_US + 60_000_000
    assert dict(driver.run.parking.events) == {"a": 0}
    driver.park(driver.run.parking)
    assert mark_of(driver, "suspend:a") == {
        "required": 2,
        "until": START_US + 60_000_000,
        "form": {"x": 1},
    }
    driver.do_commands()
    assert dict(driver.run.parking.events) == {"a": 1}
    assert driver.run.parking.until_us == START_US + 60_000_000
    assert driver.drive().state == "success"


def mark_of(driver, key):
    """A mark that was noted."""
    driver.write(len(driver.unwritten))
    return msgspec.json.decode(driver.marks()[key])


def test_a_run_without_time_out_waits_for_ever():
    """Then only an event can wake it."""
    driver = Driver(waiting(timeout=None), {}, execute)
    driver.begin()
    driver.do_commands()
    driver.end_call(driver.under_way.pop())
    driver.do_commands()
    assert driver.run.parking.until_us is None
    assert driver.run.timer is None


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ([NO], "DisapprovedError"),
        ([YES, NO], "DisapprovedError"),
        ([YES], "ApprovalTimeoutError"),
        ([], "ApprovalTimeoutError"),
    ],
)
def test_no_approval(said, name):
    """A disapproval, or nobody's answer in time, is an error; or goes to `resume`, and the flow goes on."""
    error = fails(waiting(required_events=2, timeout=60), people={"a": said})
    assert (error["name"], error["step"]) == (name, "a")
    got = result(
        waiting(required_events=2, timeout=60, continue_on_disapprove_timeout=True), people={"a": said}
    )
    assert got["resume"]["error"]["name"] == name


def test_what_is_said_later_changes_nothing():
    """An answer stays what it was, whoever says what behind it, in each later life of the run."""
    late = {"said": 0}

    class People:
        def get(self, key, default=()):
            return [YES, NO, YES][: late["said"]] if key == "a" else default

    for before, after, name in ((1, 3, None), (0, 1, "ApprovalTimeoutError")):
        late["said"] = before
        what = flow(
            call("a", "number", suspend=Suspend(timeout=60, continue_on_disapprove_timeout=True)),
            echo("b", "resume", sleep=10),
            echo("c", "resume"),
        )
        driver = Driver(what, {}, execute, People())
        driver.begin()
        while not any(isinstance(note, Mark) and note.key == "sleep:b" for note in driver.kept):
            driver.do_commands()
            driver.act()
        late["said"] = after
        driver.said["a"] = after
        driver.give_up()
        ended = driver.drive()
        assert ended.state == "success"
        assert (ended.value.get("error") or {}).get("name") == name


def test_a_stopped_step_waits_for_nobody():
    """A step that stops the sequence is neither suspended nor does it sleep."""
    stopped = flow(
        call("a", "number", stop="true", suspend=Suspend(timeout=None), sleep=1e6), call("b", "fail")
    )
    ended = both(stopped)
    assert (ended.value, ended.drove.slept_us) == (0, ended.drove.slept_us % 1_000_000)


# ------------------------------------------------------------------------------------------ steps elsewhere
def test_step_elsewhere():
    """A step with another tag is sent there once, as a job with the step's id; the run is parked for it."""
    what = flow(call("a", "list", {"x": 5}, timeout=2.5, priority=7), echo("b", "results.a"))
    driver = Driver(what, {}, execute, foreign=frozenset(["list"]))
    driver.begin()
    [sent] = driver.run.commands
    assert sent == Dispatch("a", step_uuid(RUN_ID, "a", 0), "list", "elsewhere", 7, 2500, b'{"x":5}')
    assert driver.run.parking.children == (sent.id,)
    assert driver.run.parking.until_us is None
    driver.do_commands()
    driver.write(1)
    driver.give_up()
    assert not driver.run.commands
    assert driver.run.parking.children == (sent.id,)
    assert driver.drive().value == [1, 5]


def test_failing_step_elsewhere():
    """Its failure is the step's."""
    error = fails(flow(loop("l", [1], call("a", "fail"))), foreign=frozenset(["fail"]))
    assert (error["message"], error["step"], error["iteration"]) == ("fail 1", "a", "0")


def test_retry_elsewhere():
    """A step that fails elsewhere is sent again as the flow says, each time as a job of its own."""
    retry = StepRetry(constant_attempts=2, constant_seconds=60)
    what = flow(loop("l", [1], call("a", "flaky2", retry=retry)))
    driver = Driver(what, {}, execute, foreign=frozenset(["flaky2"]))
    ended = driver.drive()
    assert (ended.state, ended.slept_us >= 120_000_000) == ("success", True)
    assert list(driver.children()) == ["l[0]/a", "l[0]/a~2", "l[0]/a~3"]
    assert len({child.id for child in driver.children().values()}) == 3
    error = fails(flow(call("a", "fail", retry=retry)), foreign=frozenset(["fail"]))
    assert (error["message"], error["step"]) == ("fail 3", "a")


def test_step_that_was_sent_and_runs_here_now():
    """A step that is on its way through the queue is waited for, also where it would not be sent any more."""
    what = flow(loop("l", [1, 2], call("a", "first", {"x": ex("flow_input.iter.value")}), parallel=True))
    driver = Driver(what, {}, execute, foreign=frozenset(["first"]))
    driver.begin()
    driver.do_commands()
    driver.write(9)
    driver.program = compile_flow(what, evaluate_text)
    driver.give_up()
    assert not driver.run.commands
    assert len(driver.run.parking.children) == 2
    assert driver.drive().value == [1, 2]


def test_many_steps_elsewhere():
    """Those of a parallel loop are all sent at once; each that ends lets its iteration go on."""
    body = call("a", "first", {"x": ex("flow_input.iter.value")}), call("b", "echo", {"x": ex("results.a")})
    what = flow(loop("l", list(range(20)), *body, parallel=True))
    driver = Driver(what, {}, execute, foreign=frozenset(["first"]))
    driver.begin()
    assert len([each for each in driver.run.commands if isinstance(each, Dispatch)]) == 20
    assert both(what, foreign=frozenset(["first"])).value == [{"x": number} for number in range(20)]


# --------------------------------------------------------------------------------------- chance and the hour
def test_what_was_decided_stays():
    """What an expression over chance or the hour decided is noted, and the same in each later life of a run:
    a branch, a list, a skip, the inputs of a sub-flow.
    """
    clock = iter(range(1, 1000))

    def evaluate(text, env):
        assert text == "Date.now()"
        return [next(clock)] if env == {} else None

    now = ex("Date.now()")
    inner = sub(
        "s",
        [call("b", "echo", {"x": ex("flow_input.t")}), call("c", "echo", {"x": ex("flow_input.t")})],
        {"t": now},
    )
    what = flow(
        loop("l", now, echo("a", "flow_input.iter.value")), inner, call("d", "echo", skip="Date.now()")
    )
    driver = Driver(what, {}, execute)
    driver.program = compile_flow(what, evaluate)
    driver.begin()
    seen = {}
    while driver.run.over is None:
        driver.do_commands()
        if driver.under_way:
            step = driver.under_way.pop()
            seen[step.key] = step.args
            driver.end_call(step)
            driver.do_commands()
        if driver.run.over is None:
            driver.write(len(driver.unwritten))
            driver.give_up()
    assert list(seen) == ["l[0]/a", "s/b", "s/c"]
    assert seen["s/b"] == seen["s/c"]
    assert set(driver.marks()) >= {"choice:l:iterator", "choice:s:inputs"}


# ------------------------------------------------------------------------------------------------ the rest
def test_strict_step():
    """The step behind a strict one begins when the strict one's note is committed, not before."""
    driver = Driver(flow(call("a", "number", durability=Durability.STRICT), call("b", "number")), {}, execute)
    driver.begin()
    driver.do_commands()
    driver.end_call(driver.under_way.pop())
    driver.do_commands()
    assert not driver.under_way
    assert driver.run.parking is None
    driver.write(1)
    driver.do_commands()
    assert [each.key for each in driver.under_way] == ["b"]


def test_known_steps_are_answered():
    """A step whose end is known is not called; its result or error is what was recorded."""
    what = flow(
        call("a", "number"),
        call("b", "fail", continue_on_error=True),
        call("c", "echo", {"a": ex("results.a"), "b": ex("results.b.error.name")}),
    )
    known = {
        "a": Checkpoint(SUCCESS, b'"old"', None, step_uuid(RUN_ID, "a", 0)),
        "b": Checkpoint(FAILURE, b'{"name":"OldError","message":"m"}', None, step_uuid(RUN_ID, "b", 0)),
    }
    run = Run(compile_flow(what, evaluate_text), b"{}", run_id=RUN_ID, recalled=Recalled(steps=known))
    run.start(START_US)
    [only] = run.commands
    assert (only.key, only.args) == ("c", b'{"a":"old","b":"OldError"}')


CHANGED = [
    "gone",
    "l[0]/gone",
    "l/b",
    "l[0]",
    "l[x]/b",
    "o[0]/c[1]",
    "o[2]/c",
    "o[default]/c",
    "s/b",
    "a/b",
    "l[-1]/b",
    "",
    "failure",
    "e[default]/f",
]
KEPT = ["a", "l[0]/b", "l[12]/b", "o[0]/c", "o[default]/d", "s/t", "s/failure", "e[0]/f"]
GRAPH = flow(
    call("a", "number"),
    loop("l", [1], call("b", "number")),
    one("o", ("true", [call("c", "number")]), default=[call("d", "number")]),
    sub("s", [call("t", "number")], flow_failure=call("failure", "number")),
    every("e", [call("f", "number")]),
)


@pytest.mark.parametrize("key", CHANGED + KEPT)
def test_changed_flow(key):
    """A run of which a step has ended that is not in the flow any more ends with an error that says so."""
    known = {key: Checkpoint(SUCCESS, b"1", None, step_uuid(RUN_ID, key, 0))}
    run = Run(compile_flow(GRAPH, evaluate_text), b"{}", run_id=RUN_ID, recalled=Recalled(steps=known))
    run.start(START_US)
    if key in KEPT:
        assert run.over is None
        return
    assert run.over.state == FAILURE
    assert b"FlowChangedError" in run.over.payload
    assert f"step {key} ".encode() in run.over.payload
    assert not run.commands


def test_what_ends_after_the_end():
    """A call that ends when the run is over changes nothing any more."""
    driver = Driver(flow(every("e", [call("a", "number")], [call("b", "fail")], parallel=True)), {}, execute)
    driver.begin()
    driver.do_commands()
    driver.run.fail("GivenUp", "by hand")
    driver.end_call(driver.under_way.pop())
    driver.do_commands()
    assert not driver.run.commands
    assert b"GivenUp" in driver.run.over.payload
    assert (driver.run.timer, driver.run.parking) == (None, None)


def test_a_dropped_run_goes_quietly(monkeypatch):
    """A run that is parked, or lost, in whatever it is doing, leaves nothing for the garbage collector to
    complain of.
    """
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    for stop in range(0, 60, 4):
        driver = Driver(RICH, {}, execute, {"ok": [YES]}, seed=stop)
        driver.begin()
        for _ in range(stop):
            driver.do_commands()
            if driver.run.over is not None:
                break
            driver.act()
        del driver
        gc.collect()
    assert not said


def test_ids_of_a_retried_run():
    """The steps of a run that was retried as a whole have other ids than those of before."""
    program = compile_flow(flow(call("a", "number"), identity("b")), evaluate_text)
    ids = []
    for generation in (0, 1):
        run = Run(program, b"{}", run_id=RUN_ID, recalled=Recalled(generation=generation, retried=True))
        run.start(START_US)
        ids.append(run.commands[0].id)
    assert ids[0] == step_uuid(RUN_ID, "a", 0)
    assert ids[1] == step_uuid(RUN_ID, "a", 1)
