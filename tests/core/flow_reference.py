"""What a flow means, as plainly as it can be said: a recursive interpreter over Python values.

There is no time, no concurrency, no storage and no resume in it: a parallel loop runs its iterations one
after the other, a sleep takes no time, a suspended step finds all that people will ever say. It is slow and
obvious; the engine is fast and clever; whatever the engine does with a flow has to end as it ends here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import attrs
import msgspec

from hotpath.core.flow.keys import DEFAULT, child_key, iteration_key, iteration_of, step_of
from hotpath.core.flow.model import (
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
    WhileLoop,
)
from hotpath.core.flow.paths import UNDEFINED, ExpressionError, truthy

LOOPS = 100_000
"""Iterations after which a while loop is taken to go on for ever."""
LONGEST_SLEEP = 100 * 366 * 86_400
"""Seconds."""


@attrs.frozen
class Event:
    """What a person said to a suspended step."""

    approved: bool
    payload: Any = None
    approver: str = "somebody"


@attrs.frozen
class Made:
    """One run of a step's script."""

    key: str
    args: dict[str, Any]
    attempt: int


@attrs.define
class Calls:
    """The calls of a run, as far as they do not depend on who is faster.

    Of a parallel loop that fails, the iterations up to the failing one run in any case. Each later one either
    had started before the failure was seen, and ends, or never starts: it is one of `perhaps`.
    """

    made: list[Made] = attrs.field(factory=list)
    perhaps: list[Calls] = attrs.field(factory=list)

    def all(self) -> Iterable[Made]:
        """Every call that there may be."""
        yield from self.made
        for part in self.perhaps:
            yield from part.all()


@attrs.frozen
class End:
    """How a run ended: `value` is the result or the error object."""

    state: str
    value: Any
    calls: Calls
    early: Any
    """The early result, or `UNDEFINED`."""


Execute = Callable[[str, dict[str, Any], int], tuple[str, Any]]
"""`(script, args, attempt)` gives `("success", result)` or `("failure", error object)`."""
Evaluate = Callable[[Expression, Mapping[str, Any]], Any]


class Failed(Exception):
    """The step with this key failed with this error object, and what it is in fails with it."""

    def __init__(self, error: dict[str, Any], key: str) -> None:
        super().__init__(error, key)
        self.error = error
        self.key = key

    @property
    def result(self) -> dict[str, Any]:
        """What stands in the place of a result where the flow goes on all the same."""
        return {"error": self.error}


def interpret(
    flow: Flow,
    args: dict[str, Any],
    execute: Execute,
    evaluate: Evaluate,
    events: Mapping[str, Sequence[Event]] | None = None,
) -> End:
    """Run the flow to its end. `events` are what people say to each suspended step, by its key, in order."""
    interpreter = _Interpreter(execute, evaluate, events or {})
    try:
        state, value = "success", interpreter.run_flow(flow, args, "", top=True)
    except Failed as failed:
        state, value = "failure", placed(failed.error, failed.key)
    return End(state, value, interpreter.calls, interpreter.early)


@attrs.define
class Scope:
    """What the modules of one sequence see."""

    flow: Flow
    args: dict[str, Any]
    around: str
    """Key of the iteration, branch or sub-flow that they are in."""
    results: dict[str, Any] = attrs.field(factory=dict)
    """Of those that have ended, in this sequence and in those around it."""
    approvals: dict[str, Any] = attrs.field(
        factory=lambda: {"resume": UNDEFINED, "resumes": [], "approvers": []}
    )
    """What people said, behind a step that waited for them."""
    error: dict[str, Any] | None = None
    """In a failure module: what has failed, with Windmill's names."""
    iteration: dict[str, Any] | None = None
    """`flow_input.iter`."""

    def inner(self, around: str, iteration: dict[str, Any] | None = None) -> Scope:
        """Scope of a sequence within this one, which sees what this one sees, but not the other way round."""
        return attrs.evolve(
            self,
            around=around,
            results=dict(self.results),
            approvals=dict(self.approvals),
            iteration=iteration or self.iteration,
        )

    def env(self, previous: Any, **more: Any) -> dict[str, Any]:
        """Environment of an expression."""
        flow_input = self.args if self.iteration is None else {**self.args, "iter": self.iteration}
        return {
            "flow_input": flow_input, "results": self.results, "previous_result": previous,
            "flow_env": self.flow.env, "error": UNDEFINED if self.error is None else self.error,
            **self.approvals, **more,
        }  # fmt: skip


class _Interpreter:
    def __init__(self, execute: Execute, evaluate: Evaluate, events: Mapping[str, Sequence[Event]]) -> None:
        self.execute = execute
        self.evaluate = evaluate
        self.events = events
        self.calls = Calls()
        self.early: Any = UNDEFINED

    # ------------------------------------------------------------------------------------------- flows
    def run_flow(self, flow: Flow, args: dict[str, Any], around: str, *, top: bool) -> Any:
        scope = Scope(flow, _with_defaults(flow, args), around)
        try:
            if flow.preprocessor is not None and top:
                self.preprocess(flow.preprocessor, scope)
            if flow.skip is not None and truthy(self.ask(flow.skip, scope.env(scope.args), around)):
                return None
            result, _ = self.sequence(flow.modules, scope, scope.args, flow if top else None)
            return result
        except Failed as failed:
            if flow.failure is not None:
                self.run_failure(flow.failure, scope, failed)
            raise

    def preprocess(self, module: Module, scope: Scope) -> None:
        key = child_key(scope.around, "preprocessor")
        result, _ = self.module(module, key, scope, scope.args)
        if not isinstance(result, dict):
            _fail("BadArgsError", key)
        scope.args = _with_defaults(scope.flow, result)

    def run_failure(self, module: Module, scope: Scope, failed: Failed) -> None:
        scope.error = {
            "name": failed.error["name"],
            "message": failed.error["message"],
            "stack": failed.error.get("traceback"),
            "step_id": step_of(failed.key) if failed.key else None,
        }
        try:
            self.module(module, child_key(scope.around, "failure"), scope, failed.result)
        except Failed:
            pass  # the run ends with the first error

    # --------------------------------------------------------------------------------------- sequences
    def sequence(
        self, modules: Sequence[Module], scope: Scope, before: Any, top: Flow | None = None
    ) -> tuple[Any, bool]:
        """Result, and whether a step stopped it. `top` is the flow whose own modules these are."""
        previous = before
        for module in modules:
            result, stopped = self.module(module, child_key(scope.around, module.id), scope, previous)
            scope.results[module.id] = previous = result
            if top is not None and top.early_return is not None and self.early is UNDEFINED:
                try:
                    self.early = self.evaluate(top.early_return, scope.env(previous))
                except ExpressionError:
                    pass
            if stopped:
                return result, True
        return previous, False

    def module(self, module: Module, key: str, scope: Scope, previous: Any) -> tuple[Any, bool]:
        """Result, and whether the sequence that it is in stops behind it."""
        env = scope.env(previous)
        if module.skip is not None and truthy(self.ask(module.skip, env, key)):
            return previous, False
        try:
            if module.mock is not None:
                result, stopped = _static(module.mock), False
            else:
                result, stopped = self.value(module, key, scope, previous)
        except Failed as failed:
            if not module.continue_on_error:
                raise
            result, stopped = failed.result, False
        env = scope.env(result, result=result)
        is_loop = isinstance(module.value, ForLoop | WhileLoop)
        stop = module.stop_all if is_loop else module.stop
        if stopped or (stop is not None and self.stops(stop, env, key)):
            return result, True
        if module.suspend is not None:
            self.wait(module, key, scope)
        if module.sleep is not None:
            self.sleep(module.sleep, scope.env(result, result=result), key)
        return result, False

    def stops(self, stop: Stop, env: dict[str, Any], key: str) -> bool:
        if not truthy(self.ask(stop.expression, env, key)):
            return False
        if stop.error_message is not None:
            _fail("StoppedError", key, stop.error_message or f"stopped early by step {step_of(key)}")
        return True

    def wait(self, module: Module, key: str, scope: Scope) -> None:
        """Count approvals until there are enough; a disapproval or their absence is an error."""
        suspend = module.suspend
        approved: list[Event] = []
        error = None
        for event in self.events.get(key, ()):
            if len(approved) == suspend.required_events:
                break
            if not event.approved:
                error = _error("DisapprovedError", key)
                break
            approved.append(event)
        if error is None and len(approved) < suspend.required_events:
            assert suspend.timeout is not None, f"{key} would wait for ever"
            error = _error("ApprovalTimeoutError", key)
        if error is not None and not suspend.continue_on_disapprove_timeout:
            raise Failed(error, key)
        resumes = [event.payload for event in approved]
        if error is not None:
            resumes.append({"error": error})
        scope.approvals = {
            "resume": resumes[-1],
            "resumes": resumes,
            "approvers": [event.approver for event in approved],
        }

    def sleep(self, seconds: Transform, env: dict[str, Any], key: str) -> None:
        value = self.input(seconds, env, key)
        if value is not None and not (_is_number(value) and 0 <= value <= LONGEST_SLEEP):
            _fail("ExpressionError", key)

    # ------------------------------------------------------------------------------------------ values
    def value(self, module: Module, key: str, scope: Scope, previous: Any) -> tuple[Any, bool]:
        """Result of what the module runs, and whether a step in it stopped the sequence around it too."""
        match module.value:
            case Call() as call:
                return self.call(module, call, key, scope, previous), False
            case Identity():
                return previous, False
            case SubFlow(flow=flow, inputs=inputs):
                return self.run_flow(
                    flow, self.inputs(inputs, scope.env(previous), key), key, top=False
                ), False
            case ForLoop() as loop:
                return self.for_loop(module, loop, key, scope, previous), False
            case WhileLoop() as loop:
                return self.while_loop(module, loop, key, scope, previous), False
            case BranchOne(branches=branches, default=default):
                env = scope.env(previous)
                for number, branch in enumerate(branches):
                    if truthy(self.ask(branch.expression, env, key)):
                        return self.sequence(
                            branch.modules, scope.inner(iteration_key(key, number)), previous
                        )
                return self.sequence(default.modules, scope.inner(iteration_key(key, DEFAULT)), previous)
            case BranchAll() as branches:
                return self.branch_all(branches, key, scope, previous), False
        raise AssertionError(module.value)

    def call(self, module: Module, call: Call, key: str, scope: Scope, previous: Any) -> Any:
        env = scope.env(previous)
        args = self.inputs(call.inputs, env, key)
        if module.timeout is not None:
            seconds = self.input(module.timeout, env, key)
            if seconds is not None and not (_is_number(seconds) and seconds > 0):
                _fail("ExpressionError", key)
        attempt = 1
        while True:
            self.calls.made.append(Made(key, args, attempt))
            state, outcome = self.execute(call.script, args, attempt)
            if state == "success":
                return outcome
            if not self.tries_again(module, outcome, attempt, env):
                raise Failed(outcome, key)
            attempt += 1

    def tries_again(self, module: Module, error: dict[str, Any], attempt: int, env: dict[str, Any]) -> bool:
        retry = module.retry
        if retry is None or attempt > retry.constant_attempts + retry.exponential_attempts:
            return False
        if retry.retry_if is None:
            return True
        try:
            return truthy(self.evaluate(retry.retry_if, {**env, "error": error, "result": {"error": error}}))
        except ExpressionError:
            return False  # the step's own error says more

    def for_loop(self, module: Module, loop: ForLoop, key: str, scope: Scope, previous: Any) -> list[Any]:
        items = self.input(loop.iterator, scope.env(previous), key)
        if not isinstance(items, list):
            _fail("NotAListError", key)
        if loop.parallel:
            if loop.parallelism is not None:
                most = self.input(loop.parallelism, scope.env(previous), key)
                if most is not None and not (_is_number(most) and most >= 1 and most == int(most)):
                    _fail("ExpressionError", key)
            results = self.parallel(loop, items, key, scope)
            if module.stop is not None:
                self.stops(module.stop, scope.env(results, result=results), key)
            return results
        results = []
        for index, item in enumerate(items):
            inner = scope.inner(iteration_key(key, index), {"index": index, "value": item})
            if self.iterate(module, loop, inner, item, results):
                break
        return results

    def parallel(self, loop: ForLoop, items: list[Any], key: str, scope: Scope) -> list[Any]:
        results: list[Any] = []
        failed: Failed | None = None
        for index, item in enumerate(items):
            inner = scope.inner(iteration_key(key, index), {"index": index, "value": item})
            around = self.calls
            if failed is not None:
                self.calls = Calls()
                around.perhaps.append(self.calls)
            try:
                results.append(self.sequence(loop.modules, inner, item)[0])
            except Failed as error:
                if loop.skip_failures:
                    results.append(error.result)
                else:
                    failed = failed or error
            self.calls = around
        if failed is not None:
            raise failed
        return results

    def iterate(
        self, module: Module, loop: ForLoop | WhileLoop, inner: Scope, before: Any, results: list[Any]
    ) -> bool:
        """Whether a sequential loop ends behind this iteration."""
        try:
            result, stopped = self.sequence(loop.modules, inner, before)
        except Failed as failed:
            if not loop.skip_failures:
                raise
            result, stopped = failed.result, False
        results.append(result)
        if stopped:
            return True
        env = inner.env(result, result=result)
        return module.stop is not None and self.stops(module.stop, env, inner.around)

    def while_loop(self, module: Module, loop: WhileLoop, key: str, scope: Scope, previous: Any) -> list[Any]:
        results: list[Any] = []
        before = previous
        while True:
            index = len(results)
            if index == LOOPS:
                _fail("LoopExhausted", key)
            inner = scope.inner(iteration_key(key, index), {"index": index, "value": index})
            if self.iterate(module, loop, inner, before, results):
                return results
            before = results[-1]

    def branch_all(self, value: BranchAll, key: str, scope: Scope, previous: Any) -> list[Any]:
        results = []
        failed: Failed | None = None
        for number, branch in enumerate(value.branches):
            try:
                inner = scope.inner(iteration_key(key, number))
                results.append(self.sequence(branch.modules, inner, previous)[0])
            except Failed as error:
                if branch.skip_failure:
                    results.append(error.result)
                elif value.parallel:
                    failed = failed or error
                else:
                    raise
        if failed is not None:
            raise failed
        return results

    # ------------------------------------------------------------------------------------- expressions
    def inputs(
        self, inputs: Iterable[tuple[str, Transform]], env: dict[str, Any], key: str
    ) -> dict[str, Any]:
        if key == "preprocessor" and not inputs:
            return dict(env["flow_input"])  # it gets the run's own, unless it says what it wants
        return {name: self.input(transform, env, key) for name, transform in inputs}

    def input(self, transform: Transform, env: dict[str, Any], key: str) -> Any:
        if isinstance(transform, Static):
            return _static(transform)
        value = self.ask(transform, env, key)
        return None if value is UNDEFINED else value

    def ask(self, expression: Expression, env: dict[str, Any], key: str) -> Any:
        try:
            return self.evaluate(expression, env)
        except ExpressionError as error:
            _fail("ExpressionError", key, str(error))


# ------------------------------------------------------------------------------------------------ errors
def _error(name: str, key: str, message: str = "") -> dict[str, Any]:
    """An error that no script raised."""
    text = f"step {step_of(key)}: {message}"
    return {"name": name, "message": text, "traceback": "", "kind": "exception"}


def _fail(name: str, key: str, message: str = "") -> NoReturn:
    raise Failed(_error(name, key, message), key)


def placed(error: dict[str, Any], key: str) -> dict[str, Any]:
    """The error object with the step that it comes from, and the iteration if it is in one."""
    if not key:
        return error
    iteration = iteration_of(key)
    return {**error, "step": step_of(key), **({"iteration": iteration} if iteration else {})}


def _with_defaults(flow: Flow, args: dict[str, Any]) -> dict[str, Any]:
    properties = flow.schema.get("properties", {})
    defaults = {name: each["default"] for name, each in properties.items() if "default" in each}
    return {**defaults, **args}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _static(transform: Static) -> Any:
    return msgspec.json.decode(transform.raw)
