"""A flow compiled for running: of every expression, a function that gives its value in a scope.

Plain paths are spliced as JSON, without decoding, wherever the whole of a result or an arg is meant; what is
no path goes to JavaScript, with only the names that it uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import msgspec

from hotpath.core.flow.keys import DEFAULT, FAILURE, PREPROCESSOR, TRY
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
    SubFlow,
    Transform,
    WhileLoop,
)
from hotpath.core.flow.paths import UNDEFINED, ExpressionError, Path, resolve
from hotpath.core.flow.scan import roots_used, steps_used
from hotpath.core.flow.values import Scope, Value

_encode = msgspec.json.encode
_VOLATILE = re.compile(r"\b(Date|random|performance|Temporal|Intl)\b")
"""What makes an expression give another value at another time: there is no other input or output in it."""


class Evaluate(Protocol):
    """Evaluates what is no plain path; raises `ExpressionError`."""

    def __call__(self, text: str, env: Mapping[str, Any]) -> Any:
        """The value of a JavaScript expression; `UNDEFINED` where it has none."""


Extra: TypeAlias = "Mapping[str, Value] | None"
"""Names that only some expressions know: `result`, `error`."""
Raw: TypeAlias = "Callable[[Scope, Value, Extra], bytes]"
"""Gives JSON, in a scope, with `previous_result`."""
Data: TypeAlias = "Callable[[Scope, Value, Extra], Any]"


def _is_volatile(transform: Transform) -> bool:
    return (
        isinstance(transform, Expression)
        and transform.path is None
        and _VOLATILE.search(transform.text) is not None
    )


class Condition:
    """An expression that something is decided by."""

    __slots__ = ("data", "line", "volatile")

    def __init__(self, transform: Transform, evaluate: Evaluate) -> None:
        self.data = data_of(transform, evaluate)
        self.line = transform.line if isinstance(transform, Expression) else 0
        self.volatile = _is_volatile(transform)
        """Whether it has to be written down how it came out, because it may come out otherwise next time."""


class Node:
    """One module, compiled."""

    __slots__ = (
        "conditions", "foreign", "id", "inputs", "is_plain", "is_strict", "iterator", "mock", "module",
        "parallelism", "parts", "retry_if", "script", "skip", "sleep", "stop", "stop_all", "sub", "timeout",
        "value", "volatile",
    )  # fmt: skip

    def __init__(self, module: Module, compiler: _Compiler, id: str = "") -> None:
        evaluate = compiler.evaluate

        def condition(transform: Transform | None) -> Condition | None:
            return None if transform is None else Condition(transform, evaluate)

        self.id = id or module.id
        self.module = module
        self.value = value = module.value
        self.is_strict = module.durability is Durability.STRICT
        self.skip = condition(module.skip)
        self.sleep = condition(module.sleep)
        self.timeout = condition(module.timeout)
        self.stop = condition(module.stop.expression if module.stop else None)
        self.stop_all = condition(module.stop_all.expression if module.stop_all else None)
        self.retry_if = condition(module.retry.retry_if if module.retry else None)
        self.mock = None if module.mock is None else Value(module.mock.raw)
        self.script = ""
        self.foreign: str | None = None
        """Tag to send its jobs to; None: it runs here."""
        self.inputs: tuple[tuple[str, bytes, Raw], ...] = ()
        self.sub: Program | None = None
        self.volatile = False
        """Whether a sub-flow's inputs have to be written down: all its steps have to see the same."""
        self.iterator: Condition | None = None
        self.parallelism: Condition | None = None
        self.parts: tuple[tuple[Node, ...], ...] = ()
        self.conditions: tuple[Condition, ...] = ()
        if isinstance(value, Call):
            self.script = value.script
            self.foreign = compiler.foreign(value)
        if isinstance(value, Call | SubFlow):
            self.inputs = tuple(
                (name, (b"," if at else b"{") + _encode(name) + b":", raw_of(transform, evaluate))
                for at, (name, transform) in enumerate(value.inputs)
            )
            self.volatile = any(_is_volatile(transform) for _, transform in value.inputs)
        match value:
            case SubFlow(flow=flow):
                self.sub = compiler.program(flow)
            case ForLoop():
                self.iterator = Condition(value.iterator, evaluate)
                self.parallelism = condition(value.parallelism)
                self.parts = (compiler.nodes(value.modules),)
            case WhileLoop():
                self.parts = (compiler.nodes(value.modules),)
            case BranchOne():
                self.conditions = tuple(
                    Condition(branch.expression, evaluate)
                    for branch in value.branches
                    if branch.expression is not None
                )
                self.parts = tuple(compiler.nodes(part) for part in module.parts())
            case BranchAll():
                self.parts = tuple(compiler.nodes(part) for part in module.parts())
            case Call() | Identity():
                pass
        self.is_plain = module.is_plain and self.foreign is None and not self.volatile

    def args(self, scope: Scope, previous: Value, extra: Extra = None) -> bytes:
        """The args of its script, as JSON. Raises `ExpressionError` that names the input."""
        inputs = self.inputs
        if not inputs:
            return b"{}"
        parts = []
        try:
            for _, begin, get in inputs:
                parts.append(begin)
                parts.append(get(scope, previous, extra))
        except ExpressionError as error:
            name = inputs[(len(parts) - 1) // 2][0]
            raise ExpressionError(f"input `{name}`: {error}") from None
        parts.append(b"}")
        return b"".join(parts)


class Program:
    """A flow, compiled. Made once, used by all its runs."""

    __slots__ = ("early", "failure", "flow", "ids", "nodes", "preprocessor", "skip")

    def __init__(self, flow: Flow, compiler: _Compiler) -> None:
        self.flow = flow
        self.nodes = compiler.nodes(flow.modules)
        self.failure = None if flow.failure is None else Node(flow.failure, compiler, FAILURE)
        self.preprocessor = (
            None if flow.preprocessor is None else Node(flow.preprocessor, compiler, PREPROCESSOR)
        )
        self.skip = None if flow.skip is None else Condition(flow.skip, compiler.evaluate)
        self.early = None if flow.early_return is None else Condition(flow.early_return, compiler.evaluate)

    def defaults(self, args: bytes) -> bytes:
        """The args, with the schema's defaults for those that are not there."""
        properties = self.flow.schema.get("properties")
        if not properties:
            return args
        given = {
            name: field["default"]
            for name, field in properties.items()
            if isinstance(field, dict) and field.get("default") is not None
        }
        if not given:
            return args
        said = msgspec.json.decode(args, type=dict[str, msgspec.Raw])
        missing = {name: value for name, value in given.items() if name not in said}
        return _encode({**missing, **said}) if missing else args

    def knows(self, key: str) -> bool:
        """Whether a step with this key can be part of a run of this flow."""
        place: tuple[Node, ...] = self.nodes
        special = tuple(node for node in (self.failure, self.preprocessor) if node is not None)
        segments = key.split("/")
        for at, segment in enumerate(segments):
            id, _, rest = segment.partition(TRY)[0].partition("[")
            node = next((node for node in (*place, *special) if node.id == id), None)
            if node is None:
                return False
            if at == len(segments) - 1:
                return not rest
            if node.sub is not None:
                return node.sub.knows("/".join(segments[at + 1 :]))
            if not node.parts:
                return False
            inside = rest.removesuffix("]")
            match node.value:
                case ForLoop() | WhileLoop():
                    place = node.parts[0] if inside.isdecimal() else ()
                case _:
                    numbers = [str(number) for number in range(len(node.parts))]
                    if isinstance(node.value, BranchOne):
                        numbers[-1] = DEFAULT
                    place = node.parts[numbers.index(inside)] if inside in numbers else ()
            special = ()
        return False


class _Compiler:
    def __init__(self, evaluate: Evaluate, foreign: Callable[[Call], str | None]) -> None:
        self.evaluate = evaluate
        self.foreign = foreign
        self._programs: dict[int, Program] = {}

    def nodes(self, modules: tuple[Module, ...]) -> tuple[Node, ...]:
        return tuple(Node(module, self) for module in modules)

    def program(self, flow: Flow) -> Program:
        if id(flow) not in self._programs:
            self._programs[id(flow)] = Program(flow, self)
        return self._programs[id(flow)]


def _here(_call: Call) -> str | None:
    return None


def compile_flow(flow: Flow, evaluate: Evaluate, foreign: Callable[[Call], str | None] = _here) -> Program:
    """Make a flow ready to run. `foreign` says to which tag a call goes; None: it runs in this worker."""
    return _Compiler(evaluate, foreign).program(flow)


# ------------------------------------------------------------------------------------------ expressions


def raw_of(transform: Transform, evaluate: Evaluate) -> Raw:
    """A function that gives the transform's value as JSON; what is undefined becomes null."""
    if isinstance(transform, Static):
        raw = transform.raw
        return lambda _scope, _previous, _extra: raw
    path = transform.path
    if path is not None:
        root, keys = path.root, path.keys
        if root == "results" and len(keys) == 1 and isinstance(keys[0], str):
            return _whole_result(keys[0])
        if root == "previous_result" and not keys:
            return lambda _scope, previous, _extra: previous.raw
        if root == "flow_input" and keys == ("iter", "value"):
            return _item
        if root == "flow_input" and len(keys) == 1 and isinstance(keys[0], str) and keys[0] != "iter":
            return _arg(keys[0])
    data = data_of(transform, evaluate)

    def get(scope: Scope, previous: Value, extra: Extra) -> bytes:
        value = data(scope, previous, extra)
        return b"null" if value is UNDEFINED else _encode(value)

    return get


def _whole_result(id: str) -> Raw:
    def get(scope: Scope, _previous: Value, _extra: Extra) -> bytes:
        value = scope.results.get(id) or scope.find(id)
        return b"null" if value is None else value.raw

    return get


def _arg(name: str) -> Raw:
    def get(scope: Scope, _previous: Value, _extra: Extra) -> bytes:
        return scope.input.field(name) or b"null"

    return get


def _item(scope: Scope, _previous: Value, _extra: Extra) -> bytes:
    if scope.item is None:
        if scope.input.field("iter") is not None:
            return _encode(resolve_in(scope.input.value.data, ("iter", "value")))
        raise ExpressionError(
            "cannot read property 'value' of undefined (flow_input.iter is there in loops only)"
        )
    return scope.item


def resolve_in(data: Any, keys: tuple[str | int, ...]) -> Any:
    """What lies at these keys; null where it is undefined."""
    value = resolve(Path("root", keys), {"root": data})
    return None if value is UNDEFINED else value


def data_of(transform: Transform, evaluate: Evaluate) -> Data:
    """A function that gives the transform's value; `UNDEFINED` where there is none."""
    if isinstance(transform, Static):
        constant = msgspec.json.decode(transform.raw)
        return lambda _scope, _previous, _extra: constant
    path, text = transform.path, transform.text
    if path is not None:
        step = (
            path.keys[0] if path.root == "results" and path.keys and isinstance(path.keys[0], str) else None
        )
        steps = frozenset() if step is None else frozenset([step])
        whole = path.root == "results" and step is None
        roots = frozenset([path.root])

        def by_path(scope: Scope, previous: Value, extra: Extra) -> Any:
            return resolve(path, environment(scope, previous, extra, roots, None if whole else steps))

        return by_path
    used, named = roots_used(text), steps_used(text)

    def by_javascript(scope: Scope, previous: Value, extra: Extra) -> Any:
        return evaluate(text, environment(scope, previous, extra, used, named))

    return by_javascript


def environment(
    scope: Scope, previous: Value, extra: Extra, roots: frozenset[str], steps: frozenset[str] | None
) -> dict[str, Any]:
    """The names that an expression uses, with their values; of `results` only these steps (None: all)."""
    env: dict[str, Any] = {}
    for root in roots:
        if extra is not None and root in extra:
            env[root] = extra[root].data
        elif root == "flow_input":
            env[root] = scope.input_data()
        elif root == "results":
            if steps is None:
                env[root] = scope.all_results()
            else:
                found = ((step, scope.find(step)) for step in steps)
                env[root] = {step: value.data for step, value in found if value is not None}
        elif root == "previous_result":
            env[root] = previous.data
        elif root == "flow_env":
            env[root] = scope.input.env
        elif root in {"resume", "resumes", "approvers"}:
            said = scope.approvals
            if said is None:
                env[root] = UNDEFINED if root == "resume" else []
            elif root == "approvers":
                env[root] = said.approvers
            else:
                payloads = [msgspec.json.decode(payload) for payload in said.payloads]
                env[root] = payloads if root == "resumes" else payloads[-1] if payloads else UNDEFINED
        else:
            env[root] = UNDEFINED
    return env
