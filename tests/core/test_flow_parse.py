"""Reading flows from plain data: what is taken, and what is refused with the step named."""

import time

import pytest

from hotpath.core.flow.kinds import MAX_DEPTH, MAX_MODULES, SubFlowFound
from hotpath.core.flow.model import (
    BranchAll,
    BranchOne,
    Call,
    Durability,
    Expression,
    Flow,
    ForLoop,
    Identity,
    Module,
    Static,
    StepRetry,
    Stop,
    SubFlow,
    Suspend,
    WhileLoop,
)
from hotpath.core.flow.parse import parse_flow
from hotpath.core.flow.paths import Path
from hotpath.core.flow.source import Lines


class Around:
    """A workspace with the script `known` and the flow `sub`."""

    def __init__(self, sub=None):
        self.inlined = {}
        self.sub = sub or SubFlowFound(Flow("sub", (Module("i", Identity()),)), 1, 1)

    def inline(self, step, content):
        self.inlined[step] = content
        return "there is no such file" if content == "!inline gone.py" else None

    def script(self, path, version):
        if version == "beef":
            return "version beef is asked for, the workspace has cafe"
        return None if path == "known" else f"no script {path}"

    def flow(self, path):
        return self.sub if path == "sub" else f"no flow {path}"


def parse(value, around=None, **top):
    """Parse a flow with this value."""
    return parse_flow({"summary": "s", "value": value, **top}, Lines(), "flow_x", around or Around())


def step(id="a", value=None, **options):
    """A module; by default one that does nothing."""
    return {"id": id, "value": value or {"type": "identity"}, **options}


def raw(**inputs):
    """A Python script, as a module's value."""
    transforms = {
        name: {"type": "javascript", "expr": given} if isinstance(given, str) else given
        for name, given in inputs.items()
    }
    return {
        "type": "rawscript",
        "language": "python3",
        "content": "def main(): ...",
        "input_transforms": transforms,
    }


def read(module, *others, **flow):
    """The one module of a flow, which has no faults."""
    parsed = parse({"modules": [module, *others], **flow})
    assert parsed.faults == ()
    return parsed.flow.modules[0]


def faults(value, around=None, **top):
    """What is wrong with a flow, as texts."""
    return [str(fault) for fault in parse(value, around, **top).faults]


def faults_of(*modules, **flow):
    """What is wrong with a flow of these modules."""
    return faults({"modules": list(modules), **flow})


def loop(*modules, **options):
    """A for loop's value."""
    return {
        "type": "forloopflow",
        "iterator": {"type": "static", "value": [1]},
        "modules": list(modules),
        **options,
    }


def test_script_in_the_flow():
    """A `rawscript` calls a script named after flow and step; its inputs are paths, constants or
    JavaScript.
    """
    value = raw(x="flow_input.x", y="flow_input.a + 1", z={"type": "static", "value": {"k": [1]}}, w="[1, 2]")
    module = read(step("a", value | {"tag": "gpu", "lock": "# nothing", "path": "x"}, summary="Sum"))
    assert module.summary == "Sum"
    assert module.value == Call(
        "flow_x/a",
        (
            ("x", Expression("flow_input.x", Path("flow_input", ("x",)))),
            ("y", Expression("flow_input.a + 1")),
            ("z", Static(b'{"k":[1]}')),
            ("w", Static(b"[1,2]")),
        ),
        inline=True,
        tag="gpu",
    )


def test_script_and_flow_of_the_workspace():
    """`script` and `flow` call what the workspace has, by its name."""
    value = {"type": "script", "path": "known", "hash": "abc", "tag_override": "t", "input_transforms": {}}
    assert read(step("a", value)).value == Call("known", (), hash="abc", tag="t")
    sub = read(
        step("a", {"type": "flow", "path": "sub", "input_transforms": {"x": {"type": "static", "value": 1}}})
    )
    assert isinstance(sub.value, SubFlow)
    assert sub.value.inputs == (("x", Static(b"1")),)


def test_loops_and_branches():
    """Loops and branches hold modules, with their own options."""
    parallel = {"type": "javascript", "expr": "2"}
    found = read(step("l", loop(step("c"), parallel=True, parallelism=parallel, skip_failures=True))).value
    assert isinstance(found, ForLoop)
    assert (found.iterator, found.parallel, found.skip_failures) == (Static(b"[1]"), True, True)
    assert found.parallelism == Static(b"2")
    assert read(step("l", loop(step("c"), parallelism=3))).value.parallelism == Static(b"3")
    found = read(step("w", {"type": "whileloopflow", "modules": [step("c")], "skip_failures": True})).value
    assert found == WhileLoop((Module("c", Identity()),), skip_failures=True)
    one = {"type": "branchone", "branches": [{"expr": "flow_input.x", "modules": [step("c")]}], "default": []}
    found = read(step("b", one)).value
    assert isinstance(found, BranchOne)
    assert found.branches[0].expression.path == Path("flow_input", ("x",))
    assert found.default.modules == ()
    both = {"type": "branchall", "branches": [{"modules": [], "skip_failure": True}], "parallel": True}
    found = read(step("b", both)).value
    assert isinstance(found, BranchAll)
    assert (found.parallel, found.branches[0].skip_failure) == (True, True)


def test_options_of_a_step():
    """Every option of a step has its place."""
    module = read(
        step(
            value=raw(),
            stop_after_if={"expr": "result.x", "skip_if_stopped": True, "error_message": ""},
            skip_if={"expr": "flow_input.no"},
            sleep={"type": "static", "value": 5},
            timeout={"type": "javascript", "expr": "flow_input.t"},
            cache_ttl=60,
            mock={"enabled": True, "return_value": [1]},
            priority=3,
            continue_on_error=True,
            delete_after_use=True,
            durable="strict",
            suspend={
                "required_events": 2,
                "resume_form": {"schema": {"type": "object"}},
                "hide_cancel": True,
            },
            retry={
                "constant": {"attempts": 2, "seconds": 3},
                "exponential": {"attempts": 4, "multiplier": 2, "seconds": 5, "random_factor": 10},
                "retry_if": {"expr": "error.name"},
            },
        )
    )
    assert module.stop == Stop(Expression("result.x", Path("result", ("x",))), True, "")
    assert module.skip.text == "flow_input.no"
    assert module.sleep == Static(b"5")
    assert module.timeout.text == "flow_input.t"
    assert module.cache_ttl == 60
    assert module.mock == Static(b"[1]")
    assert module.priority == 3
    assert (module.continue_on_error, module.delete_after_use) == (True, True)
    assert module.durability is Durability.STRICT
    assert module.suspend == Suspend(2, 1800.0, False, {"type": "object"})
    condition = Expression("error.name", Path("error", ("name",)))
    assert module.retry == StepRetry(2, 3.0, 4, 2.0, 5.0, 10.0, condition)


def test_options_that_are_left_as_the_editor_leaves_them():
    """What is null, empty or not enabled is not set."""
    module = read(
        step(
            value=raw(),
            stop_after_if={"expr": "", "skip_if_stopped": False},
            skip_if={"expr": " "},
            sleep={"type": "static"},
            timeout=None,
            mock={"enabled": False, "return_value": 5},
            retry={"constant": {"attempts": 0, "seconds": 0}},
            suspend=None,
            priority=None,
        )
    )
    assert module == Module("a", module.value)


@pytest.mark.parametrize(
    ("given", "seconds"), [({}, 1800.0), ({"timeout": None}, None), ({"timeout": 10}, 10.0)]
)
def test_how_long_approvals_are_waited_for(given, seconds):
    """Half an hour, as Windmill does; for ever if the flow says null."""
    assert read(step(suspend=given)).suspend.timeout == seconds


def test_options_of_the_flow():
    """Every option of a flow has its place; some stand beside its value."""
    value = {
        "modules": [step("a"), step("b-c")],
        "failure_module": {"value": raw(e="error.message", a="results.a")},
        "preprocessor_module": {"id": "other", "value": raw()},
        "skip_expr": "flow_input.no",
        "early_return": "b-c",
        "flow_env": {"K": "v"},
        "concurrent_limit": 3,
        "same_worker": True,
        "priority": 7,
        "notes": [],
    }
    parsed = parse(value, tag="t", timeout=9, priority=1, schema={"type": "object"})
    assert parsed.faults == ()
    flow = parsed.flow
    assert (flow.failure.id, flow.preprocessor.id) == ("failure", "preprocessor")
    assert flow.failure.value.script == "flow_x/failure"
    assert flow.skip.text == "flow_input.no"
    assert flow.early_return == Expression('results["b-c"]', Path("results", ("b-c",)))
    assert (flow.env, flow.concurrent_limit, flow.schema) == ({"K": "v"}, 3, {"type": "object"})
    assert (flow.priority, flow.tag, flow.timeout) == (7, "t", 9.0)


REFUSED = {
    "other language": (
        [step(value=raw() | {"language": "bun"})],
        "step a: `value.language` bun is not supported; scripts are `python3`",
    ),
    "agent": (
        [step(value={"type": "aiagent", "tools": []})],
        "step a: `value.type` `aiagent` is not supported",
    ),
    "unknown type": (
        [step(value={"type": "loop"})],
        "step a: `value.type` 'loop' is unknown; known are rawscript",
    ),
    "unknown option": ([step(sleeep=1)], "step a: `sleeep` is unknown; known here are id, value"),
    "unknown option of a value": ([step(value=raw() | {"x": 1})], "step a: `value.x` is unknown"),
    "limit of a step": (
        [step(value=raw() | {"concurrent_limit": 2})],
        "`value.concurrent_limit` is not supported",
    ),
    "wrong flag": (
        [step(continue_on_error="yes")],
        "step a: `continue_on_error` must be true or false, not text",
    ),
    "same id": ([step("a"), step("a")], "step a: `id` a is taken by another step"),
    "same id within": ([step("a"), step("l", loop(step("a")))], "step a: `id` a is taken by another step"),
    "no id": ([{"value": {"type": "identity"}}], "step modules[0]: has no `id`"),
    "number for an id": ([step(1)], "step modules[0]: `id` must be text, not a number"),
    "wrong id": ([step("1a")], "step modules[0]: `id` '1a' cannot be an id"),
    "slash in an id": ([step("a/b")], "step modules[0]: `id` 'a/b' cannot be an id"),
    "no value": ([{"id": "a"}], "step a: `value` is missing"),
    "no mapping": (["a"], "step modules[0]: a step is a mapping with `id` and `value`, not text"),
    "missing script": (
        [step(value={"type": "script", "path": "gone"})],
        "step a: `value.path`: no script gone",
    ),
    "script of the hub": ([step(value={"type": "script", "path": "hub/1/x"})], "is one of Windmill's hub"),
    "script outside": ([step(value={"type": "script", "path": "../x"})], "cannot be the name of a script"),
    "other version": (
        [step(value={"type": "script", "path": "known", "hash": "beef"})],
        "step a: `value.hash`: version beef is asked for",
    ),
    "missing flow": ([step(value={"type": "flow", "path": "gone"})], "step a: `value.path`: no flow gone"),
    "missing file": (
        [step(value=raw() | {"content": "!inline gone.py"})],
        "`value.content`: there is no such file",
    ),
    "squash and parallel": (
        [step("l", loop(step("c"), parallel=True, squash=True))],
        "step l: `value.squash` and `parallel` contradict each other",
    ),
    "parallel while": (
        [step("w", {"type": "whileloopflow", "modules": [step("c")], "parallel": True})],
        "step w: `value.parallel` cannot be",
    ),
    "while loop without end": (
        [step("w", {"type": "whileloopflow", "modules": []})],
        "the loop would never end",
    ),
    "parallelism": (
        [step("l", loop(parallelism=0))],
        "step l: `value.parallelism` must be a whole number of at least 1",
    ),
    "no iterator": (
        [step("l", {"type": "forloopflow", "modules": []})],
        "step l: `value.iterator` is missing",
    ),
    "loop over text": (
        [step("l", loop() | {"iterator": {"type": "static", "value": "abc"}})],
        "step l: `value.iterator` must be a list, not text",
    ),
    "loop over literal": (
        [step("l", loop() | {"iterator": {"type": "javascript", "expr": "5"}})],
        "step l: `value.iterator` must be a list, not a number",
    ),
    "negative sleep": (
        [step(sleep={"type": "static", "value": -1})],
        "step a: `sleep` must be a number of at least 0",
    ),
    "time-out 0": ([step(value=raw(), timeout=0)], "step a: `timeout` must be a number above 0"),
    "endless sleep": (
        [step(sleep={"type": "javascript", "expr": "1e300"})],
        "step a: `sleep` must be a number",
    ),
    "negative attempts": (
        [step(value=raw(), retry={"constant": {"attempts": -1}})],
        "step a: `retry.constant.attempts` must be a whole number from 0",
    ),
    "retry of a loop": (
        [step("l", loop(step("c")), retry={"constant": {"attempts": 1}})],
        "step l: `retry` is for a step that runs a script",
    ),
    "no events": (
        [step(suspend={"required_events": 0})],
        "step a: `suspend.required_events` must be a whole number",
    ),
    "stop behind no loop": (
        [step(value=raw(), stop_after_all_iters_if={"expr": "result"})],
        "step a: `stop_after_all_iters_if` is for loops",
    ),
    "durable": ([step(durable="very")], "step a: `durable` must be `strict` or `relaxed`, not 'very'"),
    "empty expression": ([step(value=raw(x=""))], "step a: `value.input_transforms.x.expr` is empty"),
    "kind of input": (
        [step(value=raw(x={"type": "ai"}))],
        "step a: `value.input_transforms.x.type` must be `static` or `javascript`, not 'ai'",
    ),
    "no input": (
        [step(value=raw(x={}))],
        "step a: `value.input_transforms.x.type` must be `static` or `javascript`",
    ),
    "resource": (
        [step(value=raw(x={"type": "static", "value": ["$res:u/me/db"]}))],
        "`$res:u/me/db` is a resource or variable of Windmill's",
    ),
    "NUL": ([step(value=raw(x={"type": "static", "value": "a\0"}))], "NUL"),
    "branch without condition": (
        [step("b", {"type": "branchone", "branches": [{"modules": []}], "default": []})],
        "step b: `value.branches[0].expr` is missing",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_steps(name):
    """What a step cannot be is refused once, with the step and the option named."""
    modules, words = REFUSED[name]
    said = faults_of(*modules)
    assert len(said) == 1
    assert words in said[0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"modules": []}, "`value.modules` is empty"),
        ({}, "`value.modules` is missing"),
        ({"modules": {}}, "`value.modules` must be a list, not a mapping"),
        ({"modules": [step()], "early_return": "nope"}, "`value.early_return` names nope, which is no step"),
        (
            {"modules": [step()], "concurrent_limit": 0},
            "`value.concurrent_limit` must be a whole number from 1",
        ),
        ({"modules": [step()], "priority": 40000}, "`value.priority` must be a whole number from -32768"),
        ({"modules": [step()], "debounce_key": "x"}, "`value.debounce_key` is not supported"),
        (
            {"modules": [step()], "preprocessor_module": {"value": loop()}},
            "must be a `rawscript` or a `script`",
        ),
        ({"modules": [step()], "skip_expr": "results.a"}, "`results.a`: step a comes later"),
        ({"modules": [step()], "what": 1}, "`value.what` is unknown"),
    ],
)
def test_refused_flows(value, words):
    """What a flow cannot be is refused once, with the option named."""
    said = faults(value)
    assert len(said) == 1
    assert words in said[0]


@pytest.mark.parametrize("data", [None, [], "x", 5])
def test_what_is_no_flow(data):
    """Any data but a mapping is one fault."""
    (fault,) = parse_flow(data, Lines(), "flow_x", Around()).faults
    assert "a flow is a mapping" in fault.message


def test_all_faults_at_once():
    """Each fault is told; a step that is wrong is still there for those that refer to it."""
    said = faults_of(
        step("a", {"type": "aiagent"}, sleeep=1),
        step("b", raw(x="results.a.y", z="results.nope")),
        step("b"),
    )
    assert len(said) == 4
    assert sum("results" in each for each in said) == 1


REFERENCES = {
    "unknown": (
        [step("alpha"), step("b", raw(x="results.alpah + 1"))],
        "there is no step alpah (did you mean alpha?)",
    ),
    "unknown in brackets": ([step("a"), step("b", raw(x='results["no pe"].x'))], "there is no step no pe"),
    "dash": (
        [step("a-b"), step("c", raw(x="results.a-b + 1"))],
        'a step with a dash is written results["a-b"]',
    ),
    "later": ([step("a", raw(x="results.b.x")), step("b")], "step b comes later"),
    "own": (
        [step("a", raw(), stop_after_if={"expr": "results.a > 1"})],
        "behind it, what it gave is `result`",
    ),
    "around": ([step("l", loop(step("c", raw(x="results.l.x"))))], "step l has not ended"),
    "inside": (
        [step("l", loop(step("c"))), step("d", raw(x="results.c"))],
        "step c is inside l; only results.l",
    ),
    "iterator": (
        [step("l", loop() | {"iterator": {"type": "javascript", "expr": "results.z"}})],
        "no step z",
    ),
    "sleep": ([step(sleep={"type": "javascript", "expr": "results.z"})], "there is no step z"),
    "retry": (
        [step(value=raw(), retry={"constant": {"attempts": 1}, "retry_if": {"expr": "results.z"}})],
        "no step z",
    ),
    "other branch": (
        [
            step(
                "b",
                {
                    "type": "branchone",
                    "branches": [{"expr": "true", "modules": [step("c")]}],
                    "default": [step("d", raw(x="results.c.x"))],
                },
            )
        ],
        "step c is in another branch of b",
    ),
    "template": ([step("a", raw(x="`${results.z}`"))], "there is no step z"),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_refused_references(name):
    """An expression that speaks of a step whose result cannot be there is refused, and told why."""
    modules, words = REFERENCES[name]
    said = faults_of(*modules)
    assert len(said) == 1
    assert words in said[0]


def test_references_that_can_be_resolved():
    """A step sees those before it, in its own sequence and in those around; a loop's condition its body."""
    assert not faults_of(
        step("a"),
        step(
            "l",
            loop(step("c", raw(x="results.a")), step("d", raw(x="results.c + results.a"))),
            stop_after_if={"expr": "results.d > 1"},
        ),
        step(
            "m",
            raw(x="results.l[0]", y="'results.z'", z="// results.z\n1", w="x.results.z", v="results?.a?.b"),
        ),
        step(
            "n", raw(x="((results) => results.z)({z: 1})", y="Object.keys(results)", z="/results.z/.test('')")
        ),
        failure_module={"value": raw(x="results.m")},
        early_return="results.m.x",
    )


def nested(depth):
    """A step so deep in loops."""
    module = step("s0")
    for at in range(1, depth):
        module = step(f"s{at}", loop(module))
    return module


def test_depth():
    """Steps lie in one another up to a bound, sub-flows counted."""
    assert not faults_of(nested(MAX_DEPTH))
    (said,) = faults_of(nested(MAX_DEPTH + 1))
    assert said.startswith("step s0: lies 51 deep in other steps")
    deep = Around(SubFlowFound(Flow("sub", (Module("i", Identity()),)), 1, MAX_DEPTH))
    (said,) = faults({"modules": [step("a", {"type": "flow", "path": "sub"})]}, deep)
    assert "has steps 51 deep" in said


@pytest.mark.parametrize("count", [MAX_MODULES + 1, 100_000])
def test_too_many_steps(count):
    """A flow of too many steps is refused with one fault, without reading on."""
    (said,) = faults_of(*[step(f"s{at}") for at in range(count)])
    assert said == "has more than 10,000 modules, sub-flows included"


def test_as_many_steps_as_are_allowed():
    """A flow as long as is allowed, each step of which speaks of the one before, is read, and not in the
    square of its length.
    """
    begin = time.process_time()
    assert not faults_of(
        step("s0"), *[step(f"s{at}", raw(x=f"results.s{at - 1}")) for at in range(1, MAX_MODULES)]
    )
    assert time.process_time() - begin < 20


def test_sub_flows_count():
    """The steps of sub-flows count each time they are called."""
    big = Around(SubFlowFound(Flow("sub", ()), MAX_MODULES // 2, 1))
    call = {"type": "flow", "path": "sub"}
    assert faults({"modules": [step("a", call)]}, big) == []
    (said,) = faults({"modules": [step("a", call), step("b", call)]}, big)
    assert "more than 10,000 modules" in said


def test_behind_all_branches():
    """`stop_after_all_iters_if` of a `branchall` asks behind it, as `stop_after_if` does."""
    both = {"type": "branchall", "branches": []}
    module = read(step("b", both, stop_after_all_iters_if={"expr": "result.x"}))
    assert module.stop.expression.text == "result.x"
    assert module.stop_all is None


def test_lines():
    """A fault is on the line of the option it is about."""
    lines = Lines()
    module = {"id": "a", "value": {"type": "identity"}, "sleeep": 1}
    data = {"value": {"modules": [module]}}
    lines.note(module, 4, {"id": 4, "value": 5, "sleeep": 9})
    (fault,) = parse_flow(data, lines, "flow_x", Around()).faults
    assert (fault.line, fault.step) == (9, "a")
