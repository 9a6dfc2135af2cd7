"""What each feature of a flow does. Every flow here is run by the engine and by the reference interpreter."""

from __future__ import annotations

import attrs
import pytest
from flow_driver import Driver
from flow_making import (
    both,
    call,
    echo,
    every,
    ex,
    fails,
    flow,
    identity,
    loop,
    loop_while,
    module,
    one,
    result,
    sub,
)
from flow_strategies import execute

from hotpath.core.flow import walk
from hotpath.core.flow.model import Branch, BranchAll, Stop
from hotpath.core.flow.paths import UNDEFINED

MANY = {"n": 2, "items": [5, 6, 7]}


# ------------------------------------------------------------------------------- inputs and what they see
def test_inputs():
    """Inputs are static values or expressions; what is undefined becomes null."""
    step = call(
        "a", "echo", {"s": [1], "n": ex("flow_input.n"), "no": ex("flow_input.nope"), "e": ex("true")}
    )
    assert result(flow(step), MANY) == {"s": [1], "n": 2, "no": None, "e": True}


def test_input_throws():
    """An input that throws ends the run, and the error names the step and the input."""
    error = fails(flow(call("a", "echo", {"x": ex("flow_input.nope.deep")})), MANY)
    assert (error["name"], error["step"], error["kind"]) == ("ExpressionError", "a", "exception")
    assert "step a: " in error["message"]
    assert "`x`" in error["message"]


def test_defaults():
    """`flow_input` has the schema's defaults for args that are not given, a sub-flow's its own."""
    schema = {"properties": {"d": {"default": 9}, "n": {"default": 8}}}
    inner = sub("s", [echo("a", "flow_input.d")], {"n": 1}, flow_schema=schema)
    steps = [
        echo("a", "flow_input.d"),
        inner,
        call("b", "echo", {"a": ex("results.a"), "s": ex("results.s")}),
    ]
    assert result(flow(*steps, schema=schema), MANY) == {"a": 9, "s": 9}
    assert result(flow(echo("a", "flow_input.n"), schema=schema), MANY) == 2


def test_previous_result():
    """It is the result before, of the flow's first module its args, of a loop's body the element, of a branch
    what the branch module got.
    """
    echoed = echo("a", "previous_result")
    assert result(flow(echoed), MANY) == MANY
    assert result(flow(call("z", "number"), echoed), MANY) == 0
    assert result(flow(loop("l", [3, 4], echoed))) == [3, 4]
    assert result(flow(call("z", "number"), one("b", ("true", [echoed])))) == 0
    assert result(flow(call("z", "number"), every("b", [echoed], [echoed]))) == [0, 0]
    assert result(flow(sub("s", [echoed], {"x": 1}))) == {"x": 1}


def test_results_are_seen_inside():
    """A step sees the results of its own sequence and of those around it; none sees into one from outside."""
    inside = one("b", ("true", [call("in", "echo", {"x": ex("results.a")})]))
    assert result(flow(call("a", "number"), inside)) == {"x": 0}
    outside = echo("z", "results.in")
    assert result(flow(call("a", "number"), inside, outside)) is None


def test_sub_flow_starts_afresh():
    """A sub-flow sees its own results, inputs, environment and iteration only."""
    names = ("results.a", "flow_input.n", "flow_env.e", "flow_input.iter", "flow_input.mine")
    looks = call("x", "echo", {name.replace(".", "_"): ex(name) for name in names})
    inner = sub("s", [looks], {"mine": ex("results.a")}, flow_env={"f": 1})
    got = result(flow(call("a", "number"), loop("l", [1], inner), env={"e": 5}), MANY)
    assert got == [
        {
            "results_a": None,
            "flow_input_n": None,
            "flow_env_e": None,
            "flow_input_iter": None,
            "flow_input_mine": 0,
        }
    ]


def test_exact_numbers():
    """A value that is passed on as it is keeps every digit, and its integers their size."""
    args = {"big": 2**63 - 1, "small": 1e-300, "list": [2**53 + 1]}
    assert result(flow(echo("a", "flow_input"), echo("b", "results.a.list[0]")), args) == 2**53 + 1


def test_empty():
    """A sequence without modules gives what it got."""
    assert result(flow(call("a", "number"), one("b"))) == 0
    assert result(flow(call("a", "number"), every("b", [], []))) == [0, 0]
    assert result(flow(call("a", "number"), every("b"))) == []
    assert result(flow(loop("l", [], call("a", "fail")))) == []
    assert result(flow(loop("l", [], call("a", "fail"), parallel=True))) == []


# ---------------------------------------------------------------------------------- options of one module
def test_skip():
    """A skipped module's result is the one before, and nothing else of it happens."""
    skipped = call("b", "fail", skip="true", sleep="no number", stop=Stop(ex("true"), error_message="no"))
    ended = both(flow(call("a", "number"), skipped, echo("c", "results.b")))
    assert (ended.value, ended.called) == (0, ["a", "c"])
    assert result(flow(call("a", "number"), call("b", "list", skip="results.a >= 1"))) == [0]


def test_mock():
    """A mocked module's result is that value; what is behind it happens as ever."""
    ended = both(flow(call("a", "fail", mock={"x": 1}, stop="result.x"), call("b", "fail")))
    assert (ended.value, ended.called) == ({"x": 1}, [])


def test_stop():
    """`stop_after_if` ends the sequence with the module's result; it sees `result`."""
    assert both(flow(call("a", "number", stop="result === 0"), call("b", "fail"))).value == 0
    assert result(flow(call("a", "number", stop="result === 1"), call("b", "list"))) == [0]


@pytest.mark.parametrize(("message", "said"), [("enough", "enough"), ("", "stopped early by step a")])
def test_stop_with_error(message, said):
    """With an `error_message` a stop is an error; an empty one stands for a default."""
    error = fails(
        flow(call("a", "number", stop=Stop(ex("true"), error_message=message)), call("b", "number"))
    )
    assert (error["name"], error["message"], error["step"]) == ("StoppedError", said, "a")


def test_stop_goes_up():
    """A stop in a branch stops the sequence around its BranchOne too, up to the next loop, BranchAll branch
    or sub-flow, which itself ends in success.
    """
    stops = one("b", ("true", [call("a", "number", stop="true"), call("never", "fail")]))
    after = call("never2", "fail")
    assert result(flow(stops, after)) == 0
    assert result(flow(one("c", ("true", [stops, after])), after)) == 0
    assert result(flow(sub("s", [stops, after]), echo("z", "results.s"))) == 0
    assert result(flow(every("e", [stops, after], [call("y", "list")]))) == [0, [0]]
    assert result(flow(loop("l", [1, 2], stops, after), echo("z", "results.l"))) == [0]
    assert result(flow(loop("l", [1, 2], stops, after, parallel=True))) == [0, 0]
    assert result(flow(loop_while("l", stops, after, stop="false"))) == [0]


def test_continue_on_error():
    """The error is the result, and the flow goes on; `stop_after_if` is still asked."""
    ended = both(flow(call("a", "fail", continue_on_error=True), echo("b", "results.a.error.name")))
    assert ended.value == "ValueError"
    stopped = both(flow(call("a", "fail", continue_on_error=True, stop="result.error"), call("b", "list")))
    assert stopped.called == ["a"]
    assert stopped.value["error"]["message"] == "fail 1"


def test_continue_after_bad_input():
    """It holds for an error of the step's inputs, of a loop's list, and of what is within."""
    assert (
        result(flow(call("a", "echo", {"x": ex("nope(1)")}, continue_on_error=True), call("b", "number")))
        == 0
    )
    assert result(flow(loop("l", 5, call("a", "echo"), continue_on_error=True), call("b", "number"))) == 0
    assert result(flow(sub("s", [call("a", "fail")], continue_on_error=True), call("b", "number"))) == 0


def test_timeout_is_told():
    """The call that is to be made knows how long it may take; null means as long as it likes."""
    for seconds, told in ((2, 2.0), (0.5, 0.5), (None, None)):
        driver = Driver(flow(call("a", "echo", timeout=seconds)), {}, execute)
        driver.begin()
        driver.do_commands()
        assert driver.under_way[0].timeout == told


# ---------------------------------------------------------------------------------------------- branches
def test_branch_one():
    """The first branch whose expression holds runs, else the default."""
    ways = [("flow_input.n >= 3", [call("a", "fail")]), ("flow_input.n >= 2", [call("b", "number")])]
    chosen = both(flow(one("x", *ways, ("true", [call("c", "fail")]))), MANY)
    assert chosen.called == ["x[1]/b"]
    usual = both(flow(one("x", *ways, default=[call("d", "list")])), {"n": 1})
    assert (usual.called, usual.value) == (["x[default]/d"], [0])


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        *((value, False) for value in (0, "", None, False, 0.0)),
        *((value, True) for value in (1, "0", [], {}, -1, "false", True)),
    ],
)
def test_truthiness(value, holds):
    """An expression holds when JavaScript would say so."""
    flow_ = flow(one("x", ("flow_input.v", [echo("a", "true")]), default=[echo("b", "false")]))
    assert result(flow_, {"v": value}) is holds
    assert result(flow(call("a", "number"), call("b", "list", skip="flow_input.v")), {"v": value}) == (
        0 if holds else [0]
    )


def test_undefined_does_not_hold():
    """What is not there does not hold either."""
    assert result(flow(one("x", ("flow_input.nope", [call("a", "fail")]))), MANY) == MANY


@pytest.mark.parametrize("parallel", [False, True])
def test_branch_all(parallel):
    """All branches run; the result is the list of theirs, in order."""
    branches = [call("a", "number")], [call("b", "list"), echo("c", "previous_result")], []
    assert result(flow(every("x", *branches, parallel=parallel)), MANY) == [0, [0], MANY]


def test_branch_all_fails():
    """A failing branch fails it: at once, or if they run side by side, when all have ended."""
    branches = [call("a", "odd", {"x": 1}), call("b", "fail")], [call("c", "fail")], [call("d", "number")]
    at_once = both(flow(every("x", *branches)))
    assert (at_once.value["name"], at_once.called) == ("OddError", ["x[0]/a"])
    for seed in range(10):
        later = both(flow(every("x", *branches, parallel=True)), seed=seed)
        assert (later.value["step"], later.value["iteration"]) == ("a", "0")
        assert sorted(later.called) == ["x[0]/a", "x[1]/c", "x[2]/d"]


def test_branch_all_runs_all_even_if_the_first_fails_at_once():
    """Branches side by side all run, though one fails before the next has begun."""
    assert both(flow(every("x", [echo("a", "nope(1)")], [call("b", "number")], parallel=True))).called == [
        "x[1]/b"
    ]


@pytest.mark.parametrize("parallel", [False, True])
def test_branch_skips_failure(parallel):
    """With `skip_failure` the branch's element is its error."""
    got = result(flow(every("x", [call("a", "fail")], [call("b", "number")], parallel=parallel, keeps=True)))
    assert got[0]["error"]["name"] == "ValueError"
    assert got[1] == 0


@pytest.mark.parametrize("parallel", [False, True])
def test_one_branch_skips_failure(parallel):
    """`skip_failure` is each branch's own: the failure of one that does not have it fails them all."""
    made = tuple(
        Branch((call(id, "fail"),), skip_failure=skips)
        for id, skips in (("a", True), ("b", False), ("c", True))
    )
    error = fails(flow(module("x", BranchAll(made, parallel=parallel))))
    assert (error["step"], error["iteration"]) == ("b", "1")


# ------------------------------------------------------------------------------------------------- loops
def test_for_loop():
    """It runs once for each element, one after the other, and gives the list of results."""
    body = call("a", "echo", {"v": ex("flow_input.iter.value"), "i": ex("flow_input.iter.index")})
    ended = both(flow(loop("l", ex("flow_input.items"), body)), MANY)
    assert ended.value == [{"v": value, "i": index} for index, value in enumerate(MANY["items"])]
    assert ended.called == ["l[0]/a", "l[1]/a", "l[2]/a"]


def test_nested_loops():
    """`flow_input.iter` is the innermost iteration; behind the inner loop it is the outer one again."""
    inner = loop("m", ex("flow_input.iter.value"), echo("a", "flow_input.iter.value"))
    outer = loop(
        "l", [[1, 2], [3]], inner, call("b", "echo", {"m": ex("results.m"), "i": ex("flow_input.iter.index")})
    )
    ended = both(flow(outer))
    assert ended.value == [{"m": [1, 2], "i": 0}, {"m": [3], "i": 1}]
    assert "l[0]/m[1]/a" in ended.called


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_loop_fails(parallel, plain):
    """A failing iteration fails the loop with its error, step and iteration."""
    body = [call("a", "odd", {"x": ex("flow_input.iter.value")})]
    body += [] if plain else [identity("b")]
    error = fails(flow(loop("l", [0, 3, 5], *body, parallel=parallel)))
    assert (error["name"], error["message"], error["step"], error["iteration"]) == ("OddError", "3", "a", "1")


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_loop_skips_failures(parallel, plain):
    """With `skip_failures` the iteration's element is its error, and the loop goes on."""
    body = [call("a", "odd", {"x": ex("flow_input.iter.value")})]
    body += [] if plain else [identity("b")]
    got = result(flow(loop("l", [0, 3, 2], *body, parallel=parallel, skip_failures=True)))
    assert (got[0], got[1]["error"]["message"], got[2]) == (0, "3", 2)


def most_at_once(what):
    """How many calls were under way at the same time."""
    driver = Driver(what, {}, execute)
    driver.begin()
    most = 0
    while driver.run.over is None:
        driver.do_commands()
        most = max(most, len(driver.under_way))
        if driver.under_way:
            driver.end_call(driver.under_way.pop())
    return most


@pytest.mark.parametrize("plain", [False, True])
def test_parallelism(plain):
    """So many iterations are under way at a time as `parallelism` says, and no fewer; without it all."""
    body = [call("a", "echo")] + ([] if plain else [call("b", "echo", sleep=None)])
    for parallelism, most in ((1, 1), (3, 3), (99, 8), (None, 8)):
        assert (
            most_at_once(flow(loop("l", list(range(8)), *body, parallel=True, parallelism=parallelism)))
            == most
        )


@pytest.mark.parametrize("plain", [False, True])
def test_parallel_failure_starts_no_more(plain):
    """After a failure no further iteration starts, those under way end, and the lowest error is told."""
    body = [call("a", "odd", {"x": ex("flow_input.iter.value")})] + ([] if plain else [identity("b")])
    what = flow(loop("l", [2, 3, 5, 4, 4, 4], *body, parallel=True, parallelism=3))
    driver = Driver(what, {}, execute)
    driver.begin()
    driver.do_commands()
    assert [each.key for each in driver.under_way] == ["l[0]/a", "l[1]/a", "l[2]/a"]
    for at in (2, 0, 0):  # the third fails first, then the first ends, then the second fails
        assert driver.run.over is None
        driver.end_call(driver.under_way.pop(at))
        driver.do_commands()
    ended = driver.end()
    assert len(ended.made) == 3
    assert (ended.value["message"], ended.value["iteration"]) == ("3", "1")


def test_loop_stop():
    """A loop's `stop_after_if` is asked after each iteration, and ends the loop, not the flow."""
    stops = loop("l", [1, 2, 3, 4], echo("a", "flow_input.iter.value"), stop="result >= 2")
    assert result(flow(stops, echo("b", "results.l"))) == [1, 2]
    by_index = loop("l", [1, 2, 3, 4], echo("a", "flow_input.iter.value"), stop="flow_input.iter.index >= 2")
    assert result(flow(by_index)) == [1, 2, 3]


def test_loop_stop_with_error():
    """With an `error_message` it fails the loop."""
    stop = Stop(ex("result >= 2"), error_message="too many")
    error = fails(flow(loop("l", [1, 2, 3], echo("a", "flow_input.iter.value"), stop=stop)))
    assert (error["name"], error["message"], error["step"]) == ("StoppedError", "too many", "l")


def test_parallel_loop_stop():
    """Of a parallel loop it is asked once, at the end, with the list: only with an error has it an effect."""
    body = echo("a", "flow_input.iter.value")
    assert result(flow(loop("l", [1, 2], body, parallel=True, stop="result[1]"), call("b", "number"))) == 0
    stop = Stop(ex("result[1] === 2"), error_message="two")
    assert fails(flow(loop("l", [1, 2], body, parallel=True, stop=stop)))["message"] == "two"


@pytest.mark.parametrize("parallel", [False, True])
def test_stop_after_all(parallel):
    """`stop_after_all_iters_if` is asked once behind the loop, and stops the sequence that it is in."""
    body = echo("a", "flow_input.iter.value")
    stops = loop("l", [1, 2], body, parallel=parallel, stop_all="result[1] === 2")
    assert result(flow(stops, call("b", "fail"))) == [1, 2]
    goes_on = loop("l", [1, 3], body, parallel=parallel, stop_all="result[1] === 2")
    assert result(flow(goes_on, call("b", "number"))) == 0
    error = Stop(ex("true"), error_message="all")
    assert fails(flow(loop("l", [], body, parallel=parallel, stop_all=error)))["message"] == "all"


def test_while_loop():
    """It goes on until its `stop_after_if` holds; each iteration gets the result of the one before."""
    body = call("a", "echo", {"p": ex("previous_result"), "i": ex("flow_input.iter.index")})
    got = result(flow(call("z", "number"), loop_while("l", body, stop="flow_input.iter.index >= 1")))
    assert got == [{"p": 0, "i": 0}, {"p": {"p": 0, "i": 0}, "i": 1}]


def test_while_loop_ends_with_a_step():
    """A step that stops ends the iteration and the loop."""
    body = [echo("a", "flow_input.iter.index", stop="result >= 2"), echo("b", "results.a")]
    assert result(flow(loop_while("l", *body), echo("z", "results.l"))) == [0, 1, 2]


def test_while_loop_skips_failures():
    """With `skip_failures` an error is the iteration's result, and the loop goes on."""
    body = call("a", "odd", {"x": ex("flow_input.iter.index")})
    got = result(flow(loop_while("l", body, skip_failures=True, stop="flow_input.iter.index >= 2")))
    assert (got[0], got[1]["error"]["name"], got[2]) == (0, "OddError", 2)


def test_endless_while_loop(monkeypatch):
    """A loop that nothing ends is ended, with an error."""
    monkeypatch.setattr(walk, "MOST_ITERATIONS", 30)
    monkeypatch.setattr("flow_reference.LOOPS", 30)
    error = fails(flow(loop_while("l", identity("a"))))
    assert (error["name"], error["step"]) == ("LoopExhausted", "l")


# ------------------------------------------------------------------------------------------ special modules
def test_preprocessor():
    """It runs first, with the run's args; its result is `flow_input` from then on."""
    first = call("preprocessor", "echo", {"x": ex("flow_input.n")})
    ended = both(flow(echo("a", "flow_input"), preprocessor=first), MANY)
    assert (ended.value, ended.called) == ({"x": 2}, ["preprocessor", "a"])


def test_preprocessor_without_inputs():
    """A preprocessor that says nothing of its inputs gets the run's args."""
    ended = both(flow(echo("a", "flow_input"), preprocessor=call("preprocessor", "echo", {})), {"x": 3})
    assert ended.value == {"x": 3}


def test_preprocessor_without_object():
    """One that gives anything but an object ends the run, and is named."""
    error = fails(flow(identity("a"), preprocessor=call("preprocessor", "number")))
    assert (error["name"], error["step"]) == ("BadArgsError", "preprocessor")


def test_skip_flow():
    """`skip_expr` ends the run in success, with null, before any step."""
    assert both(flow(call("a", "fail"), skip="flow_input.n >= 2"), MANY).value is None
    assert result(flow(call("a", "number"), skip="flow_input.n >= 3"), MANY) == 0
    inner = sub("s", [call("a", "fail")], {"n": 5}, flow_skip=ex("flow_input.n >= 2"))
    assert result(flow(inner, echo("b", "results.s"))) is None


def test_early_return():
    """The early result is told as soon as it can be had, once, and does not end the run."""
    steps = call("a", "number"), call("b", "list"), call("c", "echo")
    ended = both(flow(*steps, early_return="results.b[0]"))
    assert (ended.early, ended.value) == (0, {})
    assert both(flow(*steps, early_return="results.nope")).early is UNDEFINED
    for seed in range(30):
        both(flow(*steps, early_return="results.b"), seed=seed, crashes=4)


def test_failure_module():
    """It runs once when the flow fails, and sees the error; the run ends with that error."""
    names = ("error.name", "error.message", "error.step_id", "results.a", "flow_input.n")
    tells = call("failure", "echo", {name.replace(".", "_"): ex(name) for name in names})
    ended = both(flow(call("a", "number"), loop("l", [1], call("b", "fail")), failure=tells), MANY)
    assert (ended.state, ended.value["name"], ended.value["iteration"]) == ("failure", "ValueError", "0")
    assert ended.args["failure"] == {
        "error_name": "ValueError",
        "error_message": "fail 1",
        "error_step_id": "b",
        "results_a": 0,
        "flow_input_n": 2,
    }
    assert both(flow(call("a", "number"), failure=tells)).called == ["a"]


def test_failure_module_fails():
    """What becomes of it does not change how the run ends."""
    failing = call("failure", "fail")
    ended = both(flow(call("a", "odd", {"x": 1}), failure=failing))
    assert (ended.value["name"], ended.value["step"], ended.called) == ("OddError", "a", ["a", "failure"])


def test_sub_flow_has_its_own_failure_module():
    """It runs for its own errors, before that of the flow around it."""
    inner = sub("s", [call("a", "fail")], flow_failure=call("failure", "echo"))
    ended = both(flow(inner, failure=call("failure", "number")))
    assert ended.called == ["s/a", "s/failure", "failure"]
    assert ended.value["step"] == "a"


# --------------------------------------------------------------------------------------------- bad input
BAD = {
    "a loop over a number": (loop("bad", 5, call("a", "echo")), "NotAListError"),
    "a loop over an object": (loop("bad", {"x": 1}, call("a", "echo")), "NotAListError"),
    "a loop over nothing": (loop("bad", ex("flow_input.nope"), call("a", "echo")), "NotAListError"),
    "a throwing iterator": (loop("bad", ex("nope(1)"), call("a", "echo")), "ExpressionError"),
    "a throwing skip": (call("bad", "echo", skip="nope(1)"), "ExpressionError"),
    "a throwing stop": (call("bad", "echo", stop="nope(1)"), "ExpressionError"),
    "a throwing loop's stop": (loop("bad", [1], call("a", "echo"), stop="nope(1)"), "ExpressionError"),
    "a throwing end of a loop": (loop("bad", [1], call("a", "echo"), stop_all="nope(1)"), "ExpressionError"),
    "a throwing branch": (one("bad", ("nope(1)", [])), "ExpressionError"),
    "a throwing input": (call("bad", "echo", {"x": ex("nope(1)")}), "ExpressionError"),
    "a throwing sub-flow's input": (sub("bad", [call("a", "echo")], {"x": ex("nope(1)")}), "ExpressionError"),
    "a throwing sub-flow's skip": (
        sub("bad", [call("a", "echo")], flow_skip=ex("nope(1)")),
        "ExpressionError",
    ),
    "a sleep of words": (call("bad", "echo", sleep="long"), "ExpressionError"),
    "a negative sleep": (call("bad", "echo", sleep=-1), "ExpressionError"),
    "an endless sleep": (call("bad", "echo", sleep=1e300), "ExpressionError"),
    "a sleep of true": (call("bad", "echo", sleep=True), "ExpressionError"),
    "no time": (call("bad", "echo", timeout=0), "ExpressionError"),
    "time of words": (call("bad", "echo", timeout="long"), "ExpressionError"),
    "no parallelism": (loop("bad", [1], call("a", "echo"), parallel=True, parallelism=0), "ExpressionError"),
    "half a parallelism": (
        loop("bad", [1], call("a", "echo"), parallel=True, parallelism=1.5),
        "ExpressionError",
    ),
    "a null element looked into": (
        loop("l", [{"x": 1}, None], echo("bad", "flow_input.iter.value.x"), parallel=True),
        "ExpressionError",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input(bad):
    """What cannot be done ends the run in failure, with an error that names the step, and is never stuck."""
    step, name = BAD[bad]
    error = fails(flow(call("first", "number"), step), {})
    assert (error["name"], error["step"], error["kind"]) == (name, "bad", "exception")
    assert error["message"].startswith("step bad: ")


def test_throwing_skip_of_the_flow():
    """An error that is no step's has none, and says what it comes from."""
    error = fails(flow(call("a", "number"), skip="nope(1)"))
    assert error["name"] == "ExpressionError"
    assert "skip_expr" in error["message"]
    assert "step" not in error


def test_a_failed_step_that_was_not_the_flows_fault_keeps_its_error():
    """The run's error is the step's, with its traceback and kind, and where it came from."""
    error = fails(flow(loop("l", [[1]], loop("m", ex("flow_input.iter.value"), call("a", "fail")))))
    assert error == {
        "name": "ValueError",
        "message": "fail 1",
        "traceback": "Traceback\n",
        "kind": "exception",
        "step": "a",
        "iteration": "0.0",
    }


# ------------------------------------------------------------------------------------------------- sizes
def test_long_flow():
    """Ten thousand modules one after the other are no deeper than one."""
    steps = [identity(f"a{number}") for number in range(10_000)]
    assert both(flow(*steps), MANY).value == MANY


def test_deep_flow():
    """Fifty modules within one another run as any other."""
    inner = call("x", "number")
    for depth in range(50):
        inner = loop(f"l{depth}", [1], inner) if depth % 2 else one(f"b{depth}", ("true", [inner]))
    value = 0
    for _ in range(25):
        value = [value]
    assert result(flow(inner)) == value


def test_long_loops():
    """A parallel loop has at most so many calls under way as the window allows, whatever its length."""
    for body in ([call("a", "echo")], [call("a", "echo"), identity("b")]):
        assert most_at_once(flow(loop("l", list(range(10_000)), *body, parallel=True))) == 2_000


def test_plain_loop_behind_a_full_window(monkeypatch):
    """A loop that had to wait for room ends, though all that is left of it fails before it is called."""
    monkeypatch.setattr("hotpath.core.flow.waits.WINDOW", 8)
    monkeypatch.setattr("hotpath.core.flow.engine.WINDOW", 8)
    full = loop("l", list(range(4)), call("a", "number"), parallel=True)
    items = [{"x": 1}] * 4 + [None] * 6
    bad = loop("m", items, echo("b", "flow_input.iter.value.x"), parallel=True, skip_failures=True)
    driver = Driver(flow(every("x", [full], [bad], parallel=True)), {}, execute)
    driver.begin()
    driver.do_commands()
    assert len(driver.under_way) == 8
    for at in (-1, -1, -1, -1, 0, 0, 0, 0):
        driver.end_call(driver.under_way.pop(at))
        driver.do_commands()
    assert driver.run.over is not None
    got = driver.end().value
    assert got[1][:4] == [1] * 4
    assert [each["error"]["name"] for each in got[1][4:]] == ["ExpressionError"] * 6


def test_options_are_those_of_the_model():
    """This file knows every option that a module has: whoever adds one adds a test, and its name here."""
    tested = {"stop", "stop_all", "skip", "sleep", "timeout", "retry", "continue_on_error", "mock", "suspend"}
    tested |= {"durability"}
    elsewhere = {"cache_ttl", "priority", "delete_after_use"}  # the worker's business
    names = {each.name for each in attrs.fields(type(module("a", None)))}
    assert names - tested - elsewhere == {"id", "value", "summary", "line"}
