"""Short names for flows in tests, and `both`: run one by engine and reference, which have to agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec
from flow_driver import Driver, Drove, check_calls, normal
from flow_reference import Event, interpret
from flow_strategies import evaluate, execute, to

from hotpath.core.flow.model import (
    Branch,
    BranchAll,
    BranchOne,
    Call,
    Expression,
    Flow,
    ForLoop,
    Identity,
    Module,
    Static,
    Stop,
    SubFlow,
    Transform,
    Value,
    WhileLoop,
)
from hotpath.core.flow.paths import UNDEFINED

_ROOTS = ("flow_input", "results", "previous_result", "result", "resume", "approvers", "error", "flow_env")


def ex(text: str) -> Expression:
    """An expression: a plain path where it is one."""
    is_path = text.startswith(_ROOTS) and not set(text) & set(" !=(")
    return to(text) if is_path else Expression(text)


def given(value: Any) -> Transform:
    """An input: `ex("...")` as it is, all else a static value."""
    return value if isinstance(value, Expression) else Static(msgspec.json.encode(value))


def module(id: str, value: Value, **options: Any) -> Module:
    """A module; `stop`, `stop_all` and `skip` may be texts, `sleep`, `timeout` and `mock` plain values."""
    for name in ("stop", "stop_all"):
        if isinstance(options.get(name), str):
            options[name] = Stop(ex(options[name]))
    if isinstance(options.get("skip"), str):
        options["skip"] = ex(options["skip"])
    for name in ("sleep", "timeout", "mock"):
        if name in options:
            options[name] = given(options[name])
    return Module(id, value, **options)


def call(id: str, script: str, inputs: Mapping[str, Any] | None = None, **options: Any) -> Module:
    """A step that runs one of the scripts of `flow_strategies.execute`."""
    named = tuple((name, given(value)) for name, value in (inputs or {}).items())
    return module(id, Call(script, named), **options)


def echo(id: str, text: str, **options: Any) -> Module:
    """A step whose result is the value of this expression."""
    return call(id, "first", {"x": ex(text)}, **options)


def loop(id: str, items: Any, *body: Module, **options: Any) -> Module:
    """A for loop; options of the loop itself and of its module alike."""
    own = {
        name: options.pop(name) for name in ("parallel", "parallelism", "skip_failures") if name in options
    }
    if "parallelism" in own:
        own["parallelism"] = given(own["parallelism"])
    return module(id, ForLoop(body, given(items), **own), **options)


def loop_while(id: str, *body: Module, skip_failures: bool = False, **options: Any) -> Module:
    """A while loop."""
    return module(id, WhileLoop(body, skip_failures=skip_failures), **options)


def one(
    id: str, *branches: tuple[str, Sequence[Module]], default: Sequence[Module] = (), **options: Any
) -> Module:
    """A branchone: pairs of an expression and what it leads to."""
    made = tuple(Branch(tuple(body), expression=ex(text)) for text, body in branches)
    return module(id, BranchOne(made, Branch(tuple(default))), **options)


def every(
    id: str, *branches: Sequence[Module], parallel: bool = False, keeps: bool = False, **options: Any
) -> Module:
    """A branchall; `keeps`: its branches have `skip_failure`."""
    made = tuple(Branch(tuple(body), skip_failure=keeps) for body in branches)
    return module(id, BranchAll(made, parallel=parallel), **options)


def sub(id: str, body: Sequence[Module], inputs: Mapping[str, Any] | None = None, **options: Any) -> Module:
    """A sub-flow; `flow_` options are its own."""
    own = {name[5:]: options.pop(name) for name in list(options) if name.startswith("flow_")}
    named = tuple((name, given(value)) for name, value in (inputs or {}).items())
    return module(id, SubFlow(Flow("f/sub", tuple(body), **own), named), **options)


def identity(id: str, **options: Any) -> Module:
    """Gives on what it gets."""
    return module(id, Identity(), **options)


def flow(*modules: Module, **options: Any) -> Flow:
    """A flow; `skip` and `early_return` may be texts."""
    for name in ("skip", "early_return"):
        if isinstance(options.get(name), str):
            options[name] = ex(options[name])
    return Flow("f/flow", modules, **options)


@attrs.frozen
class Both:
    """What engine and reference agree on."""

    state: str
    value: Any
    called: list[str]
    """Keys of the calls, in the order the engine made them."""
    args: dict[str, Any]
    """Args of the last call of each key."""
    early: Any
    drove: Drove


def both(
    what: Flow,
    args: dict[str, Any] | None = None,
    people: Mapping[str, list[Event]] | None = None,
    **driving: Any,
) -> Both:
    """Run it both ways, and compare how it ends and what it calls."""
    args = {} if args is None else args
    wanted = interpret(what, args, execute, evaluate, people)
    drove = Driver(what, args, execute, people, **driving).drive()
    assert (drove.state, normal(drove.value)) == (wanted.state, normal(wanted.value))
    check_calls(wanted.calls, drove.made, whole=not drove.restarts)
    if wanted.early is UNDEFINED:
        assert not drove.early
    else:
        assert drove.early
        assert all(normal(early) == normal(wanted.early) for early in drove.early)
    return Both(
        drove.state,
        drove.value,
        [made.key for made in drove.made],
        {made.key: made.args for made in drove.made},
        drove.early[0] if drove.early else UNDEFINED,
        drove,
    )


def fails(what: Flow, *args: Any, **driving: Any) -> dict[str, Any]:
    """The error object of a flow that has to fail."""
    ended = both(what, *args, **driving)
    assert ended.state == "failure", ended.value
    return ended.value


def result(what: Flow, *args: Any, **driving: Any) -> Any:
    """The result of a flow that has to succeed."""
    ended = both(what, *args, **driving)
    assert ended.state == "success", ended.value
    return ended.value
