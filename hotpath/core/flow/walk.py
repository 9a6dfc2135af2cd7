"""How a run walks through its modules: generators that yield what they wait for (`core.flow.waits`)."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from hotpath.core.flow.keys import step_of
from hotpath.core.flow.model import BranchAll, BranchOne, Call, ForLoop, Identity, SubFlow, WhileLoop
from hotpath.core.flow.paths import UNDEFINED, ExpressionError
from hotpath.core.flow.pauses import elsewhere, is_number, noted_args, short, sleep, suspend, timeout_of
from hotpath.core.flow.values import NULL, FlowInput, Scope, Value
from hotpath.core.flow.waits import (
    SUCCESS,
    Breath,
    Failed,
    Group,
    PlainLoop,
    StepCall,
    Until,
    Walk,
    Written,
)
from hotpath.core.storable import MAX_BYTES

if TYPE_CHECKING:
    from hotpath.core.flow.engine import Run
    from hotpath.core.flow.program import Condition, Node, Program

Extra: TypeAlias = "Mapping[str, Value] | None"
LARGEST_LIST = 4 * MAX_BYTES
"""Bytes of the results of a loop or of branches together: of loops in loops they multiply."""
ROUNDS = 1_000
"""Iterations of loops after which others have their turn: a run that calls no script can be ended, too."""
MOST_ITERATIONS = 100_000
"""Of a while loop: one that goes on for longer has no end."""
_encode = msgspec.json.encode
_decode = msgspec.json.decode


def walk_flow(run: Run) -> Walk:
    """The whole run."""
    program = run.program
    scope = Scope(FlowInput(Value(program.defaults(run.args)), program.flow.env), "")
    return (yield from _program(run, program, scope))


def _program(run: Run, program: Program, scope: Scope) -> Walk:
    """A flow, or a sub-flow, with its special modules."""
    top = scope.prefix == ""
    try:
        if top and program.preprocessor is not None:
            value, _ = yield from _module(run, program.preprocessor, scope, scope.input.value)
            if not isinstance(value.data, dict):
                key = scope.prefix + program.preprocessor.id
                raise run.failed(
                    key, "BadArgsError", "a preprocessor has to return an object, the flow's args"
                )
            scope.input.become(Value(program.defaults(value.raw)))
        if program.skip is not None and run.holds(
            program.skip, "skip_expr", scope.prefix.removesuffix("/"), scope, scope.input.value
        ):
            return NULL, False
        early = program.early if top else None
        value, _ = yield from _sequence(run, program.nodes, scope, scope.input.value, early)
    except Failed as failed:
        if program.failure is not None:
            yield from _failure(run, program.failure, scope, failed)
        raise
    return value, False


def _failure(run: Run, node: Node, scope: Scope, failed: Failed) -> Walk:
    """Run the failure module; what becomes of it does not change how the flow ends."""
    error = _decode(failed.error)
    told = {
        "name": error.get("name"),
        "message": error.get("message"),
        "stack": error.get("traceback"),
        "step_id": step_of(failed.key) if failed.key else None,
    }
    try:
        return (yield from _module(run, node, scope, failed.wrapped, {"error": Value(_encode(told))}))
    except Failed:
        return NULL, False


def _sequence(
    run: Run, nodes: tuple[Node, ...], scope: Scope, previous: Value, early: Condition | None = None
) -> Walk:
    known, results, prefix = run.known, scope.results, scope.prefix
    waits = run.recalled.marks if run.recalled is not None else None
    for node in nodes:
        stopped = False
        if node.is_plain and not run.has_sent and not (waits and f"retry:{prefix}{node.id}" in waits):
            key = prefix + node.id
            if known and key in known:
                found = known[key]
                state, outcome = found.state, found.outcome
            else:
                try:
                    args = node.args(scope, previous)
                except ExpressionError as error:
                    raise run.failed(key, "ExpressionError", str(error), node.module.line) from None
                state, outcome = yield StepCall(run, node, key, args)
            if state != SUCCESS:
                raise Failed(outcome, key)
            previous = Value(outcome)
        else:
            previous, stopped = yield from _module(run, node, scope, previous)
        results[node.id] = previous
        if early is not None:
            early = _return_early(run, early, scope, previous)
        if stopped:
            return previous, True
    return previous, False


def _return_early(run: Run, early: Condition, scope: Scope, previous: Value) -> Condition | None:
    """Tell the early result if there is one by now; what is still to be looked for."""
    try:
        value = early.data(scope, previous, None)
    except ExpressionError:
        return early
    if value is UNDEFINED:
        return early
    if run.recalled is None or "early:" not in run.recalled.marks:
        run.early(_encode(value))
    return None


def _module(run: Run, node: Node, scope: Scope, previous: Value, extra: Extra = None) -> Walk:
    """One module with all that is before and behind it."""
    module, key = node.module, scope.prefix + node.id
    if node.skip is not None and run.holds(node.skip, "skip_if", key, scope, previous, extra):
        return previous, False
    stopped = False
    try:
        if node.mock is not None:
            value = node.mock
            run.note_step(node, key, value)
        else:
            value, stopped = yield from _value(run, node, key, scope, previous, extra)
    except Failed as failed:
        if not module.continue_on_error:
            raise
        value = failed.wrapped
    if not stopped and node.stop is not None and not isinstance(node.value, ForLoop | WhileLoop):
        stopped = _stops(run, node, node.stop, "stop_after_if", key, scope, value)
    if not stopped and node.stop_all is not None:
        stopped = _stops(run, node, node.stop_all, "stop_after_all_iters_if", key, scope, value)
    if stopped:
        return value, True
    if module.suspend is not None:
        yield from suspend(run, node, key, scope)
    if node.sleep is not None:
        yield from sleep(run, node.sleep, key, scope, value)
    return value, False


def _stops(
    run: Run, node: Node, condition: Condition, what: str, key: str, scope: Scope, value: Value
) -> bool:
    """Whether the sequence ends here. Raises `Failed` where that is to be an error."""
    if not run.holds(condition, what, key, scope, value, {"result": value}):
        return False
    stop = node.module.stop if what == "stop_after_if" else node.module.stop_all
    if stop is not None and stop.error_message is not None:
        message = stop.error_message or f"stopped early by step {node.id}"
        raise Failed(
            _encode({"name": "StoppedError", "message": message, "traceback": "", "kind": "exception"}), key
        )
    return True


# ------------------------------------------------------------------------------------------ kinds of modules


def _value(run: Run, node: Node, key: str, scope: Scope, previous: Value, extra: Extra) -> Walk:
    match node.value:
        case Call():
            return (yield from _call(run, node, key, scope, previous, extra)), False
        case Identity():
            run.note_step(node, key, previous)
            return previous, False
        case SubFlow():
            return (yield from _sub_flow(run, node, key, scope, previous, extra)), False
        case ForLoop():
            return (yield from _for_loop(run, node, key, scope, previous)), False
        case WhileLoop():
            return (yield from _while_loop(run, node, key, scope, previous)), False
        case BranchOne():
            return (yield from _branch_one(run, node, key, scope, previous))
        case BranchAll():
            return (yield from _branch_all(run, node, key, scope, previous)), False


def _call(
    run: Run, node: Node, key: str, scope: Scope, previous: Value, extra: Extra
) -> Generator[Any, Any, Value]:
    found = run.known.get(key)
    if node.foreign is not None or run.sent(key) is not None:
        state, outcome = yield from elsewhere(run, node, key, scope, previous, extra)
    elif found is not None:
        state, outcome = found.state, found.outcome
    else:
        call = StepCall(run, node, key, noted_args(run, node, key, scope, previous, extra))
        call.timeout = timeout_of(run, node, key, scope, previous)
        call.scope = scope
        before = run.mark(f"retry:{key}")
        if before is not None:
            call.attempt = before["failures"] + 1
            yield Until(run, before["until"])
        state, outcome = yield call
        if node.is_strict:
            yield Written(run, key)
    if state != SUCCESS:
        raise Failed(outcome, key)
    return Value(outcome)


def _sub_flow(
    run: Run, node: Node, key: str, scope: Scope, previous: Value, extra: Extra
) -> Generator[Any, Any, Value]:
    sub = node.sub
    assert sub is not None
    args = noted_args(run, node, key, scope, previous, extra)
    inner = Scope(FlowInput(Value(sub.defaults(args)), sub.flow.env), f"{key}/")
    value, _ = yield from _program(run, sub, inner)
    return value


def _for_loop(run: Run, node: Node, key: str, scope: Scope, previous: Value) -> Generator[Any, Any, Value]:
    loop = node.value
    assert isinstance(loop, ForLoop)
    assert node.iterator is not None
    items = run.decide(node.iterator, "iterator", key, scope, previous)
    if not isinstance(items, list):
        raise run.failed(
            key,
            "NotAListError",
            f"the loop's iterator must be a list, not {short(items)}",
            node.iterator.line,
        )
    elements = [_encode(item) for item in items]
    body = node.parts[0]
    if loop.parallel:
        limit = _parallelism(run, node, key, scope, previous)
        group: Group | PlainLoop
        if len(body) == 1 and body[0].is_plain and not run.has_sent and not _has_failed(run, f"{key}["):
            group = PlainLoop(run, body[0], scope, key, elements, limit, keeps=loop.skip_failures)
        else:
            walks = (
                _sequence(run, body, scope.iteration(node.id, index, item), Value(item))
                for index, item in enumerate(elements)
            )
            group = Group(run, walks, len(elements), limit, [loop.skip_failures] * len(elements))
        results = yield group
        if isinstance(results, Failed):
            raise results
        value = _list_of(run, key, results)
        if node.stop is not None:
            _stops(run, node, node.stop, "stop_after_if", key, scope, value)
        return value
    results = []
    for index, item in enumerate(elements):
        inner = scope.iteration(node.id, index, item)
        if (yield from _iteration(run, node, inner, Value(item), results, keeps=loop.skip_failures)):
            break
    return _list_of(run, key, results)


def _has_failed(run: Run, prefix: str) -> bool:
    """Whether a step below is to run again, as was noted before."""
    return run.recalled is not None and any(key.startswith(f"retry:{prefix}") for key in run.recalled.marks)


def _iteration(
    run: Run, node: Node, inner: Scope, previous: Value, results: list[Value], *, keeps: bool
) -> Generator[Any, Any, bool]:
    """One iteration of a sequential loop; whether the loop ends with it."""
    stopped = False
    try:
        value, stopped = yield from _sequence(run, node.parts[0], inner, previous)
    except Failed as failed:
        if not keeps:
            raise
        value = failed.wrapped
    results.append(value)
    run.rounds += 1
    if run.rounds % ROUNDS == 0:
        yield Breath(run)
    if node.stop is not None and not stopped:
        key = inner.prefix.removesuffix("/")
        stopped = _stops(run, node, node.stop, "stop_after_if", key, inner, value)
    return stopped


def _while_loop(run: Run, node: Node, key: str, scope: Scope, previous: Value) -> Generator[Any, Any, Value]:
    loop = node.value
    assert isinstance(loop, WhileLoop)
    results: list[Value] = []
    for index in range(MOST_ITERATIONS):
        inner = scope.iteration(node.id, index, _encode(index))
        if (yield from _iteration(run, node, inner, previous, results, keeps=loop.skip_failures)):
            return _list_of(run, key, results)
        previous = results[-1]
    raise run.failed(
        key, "LoopExhausted", f"nothing has ended the loop within {MOST_ITERATIONS:,} iterations"
    )


def _parallelism(run: Run, node: Node, key: str, scope: Scope, previous: Value) -> int | None:
    if node.parallelism is None:
        return None
    number = run.decide(node.parallelism, "parallelism", key, scope, previous)
    if number is None or number is UNDEFINED:
        return None
    if not is_number(number) or number < 1 or number != int(number):
        raise run.failed(
            key, "ExpressionError", f"`parallelism` must be a whole number from 1, not {short(number)}"
        )
    return int(number)


def _branch_one(run: Run, node: Node, key: str, scope: Scope, previous: Value) -> Walk:
    chosen, name = len(node.conditions), "default"
    for number, condition in enumerate(node.conditions):
        if run.holds(condition, f"branch {number}", key, scope, previous):
            chosen, name = number, str(number)
            break
    inner = scope.within(f"{node.id}[{name}]")
    return (yield from _sequence(run, node.parts[chosen], inner, previous))


def _branch_all(run: Run, node: Node, key: str, scope: Scope, previous: Value) -> Generator[Any, Any, Value]:
    branches = node.value
    assert isinstance(branches, BranchAll)
    if branches.parallel:
        walks = (
            _sequence(run, part, scope.within(f"{node.id}[{number}]"), previous)
            for number, part in enumerate(node.parts)
        )
        keeps = [branch.skip_failure for branch in branches.branches]
        results = yield Group(run, walks, len(node.parts), None, keeps, breaks=False)
        if isinstance(results, Failed):
            raise results
        return _list_of(run, key, results)
    results = []
    for number, part in enumerate(node.parts):
        try:
            value, _ = yield from _sequence(run, part, scope.within(f"{node.id}[{number}]"), previous)
        except Failed as failed:
            if not branches.branches[number].skip_failure:
                raise
            value = failed.wrapped
        results.append(value)
    return _list_of(run, key, results)


def _list_of(run: Run, key: str, values: list[Value]) -> Value:
    size = sum([len(value.raw) for value in values])
    if size > LARGEST_LIST:
        raise run.failed(
            key,
            "BadResultError",
            f"its results are {size:,} bytes of JSON; at most {LARGEST_LIST:,} are held",
        )
    return Value(b"[" + b",".join([value.raw for value in values]) + b"]")
