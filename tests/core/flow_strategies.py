"""Random flows, small and likely to be awkward, with the scripts and expressions that they are made of.

A script's name says what it does, so that a flow that Hypothesis prints can be read. Expressions are plain
paths, or of the few forms that `evaluate` knows, all of them JavaScript too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec
from flow_reference import Event
from hypothesis import strategies as st

from hotpath.core.flow.keys import step_of
from hotpath.core.flow.model import (
    Branch,
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
    Transform,
    Value,
    WhileLoop,
)
from hotpath.core.flow.paths import UNDEFINED, ExpressionError, Path

_encode = msgspec.json.encode
SCRIPTS = ("echo", "first", "list", "number", "nothing", "odd", "flaky1", "flaky2", "fail")
_LIKELY = ("echo", "first", "list", "number", "echo", "first", "list", *SCRIPTS)


def execute(script: str, args: dict[str, Any], attempt: int) -> tuple[str, Any]:
    """What the script called `script` does, always the same."""
    values = list(args.values())
    first = values[0] if values else None
    match script:
        case "echo":
            return "success", args
        case "first":
            return "success", first
        case "list":
            return "success", [len(values), *(value for value in values if isinstance(value, int))][:3]
        case "number":
            return "success", len(values)
        case "nothing":
            return "success", None
        case "odd" if isinstance(first, int) and first % 2:
            return "failure", _raised("OddError", str(first))
        case "odd":
            return "success", first
        case "flaky1" | "flaky2" if attempt > int(script[-1]):
            return "success", {"attempt": attempt}
    return "failure", _raised("ValueError", f"{script} {attempt}")


def _raised(name: str, message: str) -> dict[str, Any]:
    return {"name": name, "message": message, "traceback": "Traceback\n", "kind": "exception"}


# ------------------------------------------------------------------------------------------- expressions
_COMPARED = re.compile(r"(.+?) (>=|===) (.+)")


def evaluate(expression: Expression, env: Mapping[str, Any]) -> Any:
    """The value of an expression: a plain path, or what `evaluate_text` knows."""
    if expression.path is not None:
        return _look_up(expression.path, env)
    return evaluate_text(expression.text, env)


def evaluate_text(text: str, env: Mapping[str, Any]) -> Any:
    """The value of `true`, `false`, `PATH >= NUMBER`, `PATH === JSON` or `!PATH`; all else throws."""
    if text in {"true", "false"}:
        return text == "true"
    if text.startswith("!"):
        value = _look_up(path_of(text[1:]), env)
        return value is UNDEFINED or value is None or value is False or value in (0, "")
    compared = _COMPARED.fullmatch(text)
    if compared is None:
        raise ExpressionError(f"{text!r} is not defined")
    value, other = _look_up(path_of(compared[1]), env), msgspec.json.decode(compared[3])
    if compared[2] == "===":
        return type(value) is type(other) and value == other
    return isinstance(value, int) and not isinstance(value, bool) and value >= other


def path_of(text: str) -> Path:
    """`root.key[0]` taken apart."""
    root, *keys = re.findall(r"\w+", text)
    return Path(root, tuple(int(key) if key.isdecimal() else key for key in keys))


def text_of(path: Path) -> str:
    """The path as it is written in a flow."""
    return path.root + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path.keys)


def _look_up(path: Path, env: Mapping[str, Any]) -> Any:
    """As JavaScript does, as far as the expressions here need it."""
    value = env.get(path.root, UNDEFINED)
    for key in path.keys:
        if value is UNDEFINED or value is None:
            raise ExpressionError(f"cannot read property '{key}' of {value}")
        if isinstance(value, dict):
            value = value.get(str(key), UNDEFINED)
        elif isinstance(value, list | str) and isinstance(key, int):
            value = value[key] if key < len(value) else UNDEFINED
        else:
            value = UNDEFINED
    return value


# ------------------------------------------------------------------------------------------------ flows
@attrs.define
class People:
    """What people say to each suspended step, in every iteration; a mapping from keys to events."""

    says: dict[str, list[Event]] = attrs.field(factory=dict)
    """By the step's id."""

    def get(self, key: str, default: Any = ()) -> Any:
        """The events of the step with this key."""
        return self.says.get(step_of(key), default)


@attrs.frozen(repr=False)
class Case:
    """A flow and all that decides how a run of it ends."""

    flow: Flow
    args: dict[str, Any]
    people: People

    def __repr__(self) -> str:
        return f"Case({shown(self.flow)}, {self.args}, {self.people})"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))  # for Hypothesis


def shown(value: Any) -> str:
    """The expression that makes this part of a flow, without what is as usual."""
    if isinstance(value, tuple):
        return f"({''.join(f'{shown(each)}, ' for each in value)})"
    if isinstance(value, Path) or not attrs.has(type(value)):
        return repr(value)
    if isinstance(value, Expression) and value.path is not None:
        return f"to({value.text!r})"
    fields = []
    for field in attrs.fields(type(value)):
        each, default = getattr(value, field.name), field.default
        if isinstance(default, attrs.Factory):
            default = default.factory()
        if each != default:
            fields.append(f"{field.name}={shown(each)}")
    return f"{type(value).__name__}({', '.join(fields)})"


def to(text: str) -> Expression:
    """An expression that is a plain path."""
    return Expression(text, path_of(text))


@attrs.define
class _Place:
    """Where a module is to stand: what it may refer to."""

    ids: Iterator[str]
    people: People
    depth: int
    seen: list[str] = attrs.field(factory=list)
    in_loop: bool = False
    approved: bool = False
    in_flow: bool = True
    """Whether it stands in the run's flow, not in a sub-flow."""

    def inner(self, **changes: Any) -> _Place:
        return attrs.evolve(self, **{"depth": self.depth - 1, "seen": list(self.seen), **changes})


def _odds(draw: Any, percent: int) -> bool:
    return draw(st.integers(0, 99)) >= 100 - percent


_JSON = st.sampled_from([0, 1, 2, 3, None, True, "text", [], [1, 2], [0, 1, 2], {"x": 1}, {"error": 1}])


def _path(draw: Any, place: _Place, roots: tuple[str, ...] = ()) -> Path:
    known: list[Path] = [path_of(text) for text in roots]
    if not known:
        known = [path_of(f"flow_input.{name}") for name in ("n", "items", "some", "nope", "d")]
        known += [path_of("flow_env.e"), path_of("previous_result"), path_of("previous_result")]
        known += [Path("results", (id,)) for id in place.seen] * 3
        if place.in_loop:
            known += [path_of("flow_input.iter.value"), path_of("flow_input.iter.index")] * 2
        if place.approved:
            known += [path_of("resume"), path_of("resumes"), path_of("approvers")]
    path = draw(st.sampled_from(known))
    if _odds(draw, 12):
        path = Path(path.root, (*path.keys, draw(st.sampled_from(["x", "attempt", "error", 0, 1]))))
    return path


def _expression(draw: Any, place: _Place, *roots: str) -> Expression:
    """Something to decide by."""
    kind = draw(st.sampled_from(["true", "path", ">=", "===", "!", "throw"]))
    if kind == "true":
        return Expression(draw(st.sampled_from(["true", "true", "false"])))
    if kind == "throw":
        return Expression("nope(1)") if _odds(draw, 20) else Expression("false")
    path = _path(draw, place, roots)
    if kind == "path":
        return to(text_of(path))
    if kind == "!":
        return Expression(f"!{text_of(path)}")
    return Expression(f"{text_of(path)} {kind} {draw(st.integers(0, 2))}")


def _transform(draw: Any, place: _Place) -> Transform:
    if _odds(draw, 30):
        return Static(_encode(draw(_JSON)))
    if _odds(draw, 10):
        return _expression(draw, place)
    path = _path(draw, place)
    return to(text_of(path))


def _inputs(draw: Any, place: _Place) -> tuple[tuple[str, Transform], ...]:
    names = ("x", "items", "n")[: draw(st.integers(0, 3))]
    return tuple((name, _transform(draw, place)) for name in names)


def _stop(draw: Any, place: _Place, *roots: str) -> Stop:
    message = draw(st.sampled_from([None, None, None, "enough", ""]))
    return Stop(_expression(draw, place, *roots), draw(st.booleans()), message)


def _retry(draw: Any, place: _Place) -> StepRetry:
    return StepRetry(
        constant_attempts=draw(st.integers(0, 2)),
        constant_seconds=draw(st.sampled_from([0, 0.001, 5])),
        exponential_attempts=draw(st.integers(0, 1)),
        seconds=2,
        random_factor=draw(st.sampled_from([0, 50])),
        retry_if=_expression(draw, place, "error.name", "result.error.name", "flow_input.n")
        if _odds(draw, 30)
        else None,
    )


def _suspend(draw: Any, place: _Place, id: str) -> Suspend:
    events = draw(
        st.lists(
            st.builds(
                Event,
                approved=st.sampled_from([True, True, True, False]),
                payload=_JSON,
                approver=st.sampled_from(["ann", "bob"]),
            ),
            max_size=3,
        )
    )
    required = draw(st.integers(1, 2))
    place.people.says[id] = events
    sure = [event.approved for event in events][:required] == [True] * required
    return Suspend(
        required_events=required,
        timeout=None if sure and draw(st.booleans()) else draw(st.sampled_from([10.0, 1800.0])),
        continue_on_disapprove_timeout=draw(st.booleans()),
    )


def _sequence(draw: Any, place: _Place, least: int = 0, most: int = 3) -> tuple[Module, ...]:
    modules = []
    for _ in range(draw(st.integers(least, most))):
        modules.append(_module(draw, place))
        place.seen.append(modules[-1].id)
    return tuple(modules)


def _branch(draw: Any, place: _Place, *, conditional: bool) -> Branch:
    return Branch(
        _sequence(draw, place.inner()),
        expression=_expression(draw, place) if conditional else None,
        skip_failure=not conditional and draw(st.booleans()),
    )


def _value(draw: Any, place: _Place) -> Value:
    kinds = ["for"] * 4 + ["while", "one", "all", "flow"] if place.depth > 0 else []
    kinds = ["call"] * 4 + ["identity"] + kinds
    match draw(st.sampled_from(kinds)):
        case "call":
            return Call(draw(st.sampled_from(_LIKELY)), _inputs(draw, place))
        case "identity":
            return Identity()
        case "for":
            parallel = draw(st.booleans())
            iterator: Transform = Static(_encode(draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))))
            if _odds(draw, 30):
                iterator = to("flow_input.items") if _odds(draw, 60) else _transform(draw, place)
            return ForLoop(
                _sequence(draw, place.inner(in_loop=True), least=1),
                iterator,
                skip_failures=draw(st.booleans()),
                parallel=parallel,
                parallelism=Static(b"%d" % draw(st.integers(1, 3)))
                if parallel and draw(st.booleans())
                else None,
            )
        case "while":
            return WhileLoop(
                _sequence(draw, place.inner(in_loop=True), least=1), skip_failures=draw(st.booleans())
            )
        case "one":
            branches = tuple(_branch(draw, place, conditional=True) for _ in range(draw(st.integers(0, 2))))
            return BranchOne(branches, Branch(_sequence(draw, place.inner())))
        case "all":
            branches = tuple(_branch(draw, place, conditional=False) for _ in range(draw(st.integers(0, 3))))
            return BranchAll(branches, parallel=draw(st.booleans()))
    flow = _flow(draw, place.inner(seen=[], in_loop=False, approved=False, in_flow=False), 1, 2)
    return SubFlow(flow, _inputs(draw, place))


def _module(draw: Any, place: _Place) -> Module:
    id = next(place.ids)
    value = _value(draw, place)
    module = Module(id, value)
    around = "flow_input.n", "flow_env.e"
    if isinstance(value, WhileLoop):  # which has to end
        most = Expression(f"flow_input.iter.index >= {draw(st.integers(0, 2))}")
        module = attrs.evolve(module, stop=Stop(most))
    elif isinstance(value, ForLoop) and _odds(draw, 20):
        own = ("result", "flow_input.n") if value.parallel else ("result", "flow_input.iter.index")
        module = attrs.evolve(module, stop=_stop(draw, place, *own))
    elif not isinstance(value, ForLoop) and _odds(draw, 15):
        module = attrs.evolve(module, stop=_stop(draw, place, "result", *around))
    if isinstance(value, ForLoop | WhileLoop) and _odds(draw, 15):
        module = attrs.evolve(module, stop_all=_stop(draw, place, "result", *around))
    if isinstance(value, Call):
        if _odds(draw, 60 if value.script.startswith("flaky") else 20):
            module = attrs.evolve(module, retry=_retry(draw, place))
        if _odds(draw, 10):
            timeout = draw(st.sampled_from([b"5", b"5", b"5", b"5", b"5", b"0.5", b"null", b"0", b'"long"']))
            module = attrs.evolve(module, timeout=Static(timeout))
        if _odds(draw, 10):
            module = attrs.evolve(module, durability=Durability.STRICT)
    if _odds(draw, 10):
        module = attrs.evolve(module, skip=_expression(draw, place))
    if _odds(draw, 5):
        module = attrs.evolve(module, mock=Static(_encode(draw(_JSON))))
    if _odds(draw, 30):
        module = attrs.evolve(module, continue_on_error=True)
    if _odds(draw, 10):
        module = attrs.evolve(module, suspend=_suspend(draw, place, id))
        place.approved = True
    if _odds(draw, 10):
        sleep = draw(st.sampled_from([b"0", b"1", b"2.5", b"86400", b"null", b"5", b"-1", b'"long"']))
        module = attrs.evolve(module, sleep=Static(sleep))
    return module


def _flow(draw: Any, place: _Place, least: int, most: int) -> Flow:
    early = None
    special = None
    first = None
    if place.in_flow and _odds(draw, 10):
        first = Module("preprocessor", Call("echo" if _odds(draw, 70) else "first", _inputs(draw, place)))
    skip = _expression(draw, place, "flow_input.n", "flow_env.e") if _odds(draw, 5) else None
    modules = _sequence(draw, place, least=least, most=most)
    if place.in_flow and _odds(draw, 20):
        path = _path(draw, place)
        early = to(text_of(path))
    if _odds(draw, 20):
        known = ("error", "error.step_id", "error.name", "flow_input.n", "previous_result")
        inputs = tuple((name, to(text_of(_path(draw, place, known)))) for name in ("x", "n"))
        retry = _retry(draw, place) if _odds(draw, 20) else None
        special = Module("failure", Call(draw(st.sampled_from(SCRIPTS)), inputs), retry=retry)
    schema = {"properties": {"d": {"default": 2}, "n": {"type": "integer"}}} if draw(st.booleans()) else {}
    return Flow("f/flow", modules, schema=schema, failure=special, preprocessor=first, skip=skip,
                early_return=early, env={"e": 1})  # fmt: skip


_NAMES = tuple("abcdefghijklmnopqrstuvwxyz")


@st.composite
def cases(draw: Any, depth: int = 2, least: int = 2, most: int = 5) -> Case:
    """Any flow, with args for it and with what people say."""
    ids = (name + (str(turn) if turn else "") for turn in itertools.count() for name in _NAMES)
    people = People()
    flow = _flow(draw, _Place(ids, people, depth), least, most)
    args = draw(
        st.fixed_dictionaries(
            {"n": st.integers(0, 3), "items": st.lists(st.integers(0, 3), max_size=3)},
            optional={"some": _JSON},
        )
    )
    return Case(flow, args, people)
