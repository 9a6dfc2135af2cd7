"""What a run waits for before and behind its steps: people, time, the workers of other tags."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import msgspec

from hotpath.core.flow.keys import PREPROCESSOR, TRY
from hotpath.core.flow.paths import UNDEFINED, ExpressionError
from hotpath.core.flow.values import Approvals, Scope, Value
from hotpath.core.flow.waits import FAILURE, Elsewhere, Failed, Until

if TYPE_CHECKING:
    from hotpath.core.flow.engine import Run
    from hotpath.core.flow.program import Condition, Extra, Node
    from hotpath.core.notes import Checkpoint, Child, Event

LONGEST_SLEEP = 100 * 366 * 86_400
_encode = msgspec.json.encode


def suspend(run: Run, node: Node, key: str, scope: Scope) -> Generator[Any, Any, None]:
    """Wait for people."""
    wanted = node.module.suspend
    assert wanted is not None
    mark = run.mark(f"suspend:{key}")
    if mark is None:
        until = None if wanted.timeout is None else run.now_us + round(wanted.timeout * 1e6)
        mark = {"required": wanted.required_events, "until": until, "form": wanted.form}
        run.note_mark(f"suspend:{key}", mark)
    events = [] if run.recalled is None else run.recalled.events.get(key, [])
    said: list[Event] = []
    fault: Failed | None = None
    for event in events[: mark.get("heard")]:  # in their order: what comes behind the answer changes nothing
        if not event.approved:
            by = f" by {event.approver}" if event.approver else ""
            fault = run.failed(key, "DisapprovedError", f"it was disapproved{by}")
            break
        said.append(event)
        if len(said) == wanted.required_events:
            break
    if fault is None and len(said) < wanted.required_events:
        if "heard" not in mark:
            run.wait_approval(key, len(events))
            yield Elsewhere(run, key, mark["until"])
            run.note_mark(f"suspend:{key}", {**mark, "heard": len(events)})  # it stays too late
        fault = run.failed(key, "ApprovalTimeoutError", f"nobody approved it within {wanted.timeout:g} s")
    if fault is not None and not wanted.continue_on_disapprove_timeout:
        raise fault
    payloads = [event.payload for event in said]
    if fault is not None:
        payloads.append(fault.wrapped.raw)
    scope.approvals = Approvals(payloads, [event.approver for event in said if event.approver])


def sleep(run: Run, seconds: Condition, key: str, scope: Scope, value: Value) -> Generator[Any, Any, None]:
    """Wait behind a step. Raises `Failed` for what is no number of seconds."""
    until = run.mark(f"sleep:{key}")
    if until is None:
        number = run.decide(seconds, "sleep", key, scope, value, {"result": value})
        if number is UNDEFINED or number is None:
            return
        if not is_number(number) or not 0 <= number <= LONGEST_SLEEP:
            raise run.failed(
                key, "ExpressionError", f"`sleep` must be a number of seconds from 0, not {short(number)}"
            )
        until = {"until": run.now_us + round(number * 1e6)}
        run.note_mark(f"sleep:{key}", until)
    yield Until(run, until["until"])


def args_of(run: Run, node: Node, key: str, scope: Scope, previous: Value, extra: Extra) -> bytes:
    """JSON of what a step is given. Raises `Failed` that names the input."""
    if node.id == PREPROCESSOR and not node.inputs:
        return scope.input.value.raw  # it gets the run's own args, unless it says what it wants
    try:
        return node.args(scope, previous, extra)
    except ExpressionError as error:
        raise run.failed(key, "ExpressionError", str(error), node.module.line) from None


def elsewhere(
    run: Run, node: Node, key: str, scope: Scope, previous: Value, extra: Extra
) -> Generator[Any, Any, tuple[int, bytes]]:
    """Have a step run by the workers of another tag: each try is a job of its own, the second `KEY~2`."""
    attempt, this = 1, key
    while True:
        found: Checkpoint | Child | None = run.known.get(this) or run.sent(this)
        if found is None or not found.state:
            args = args_of(run, node, key, scope, previous, extra)
            run.dispatch(node, this, args, timeout_of(run, node, key, scope, previous))
            yield Elsewhere(run, this, None)
            raise AssertionError("what comes from elsewhere finds the run anew")
        if found.state != FAILURE:
            return found.state, found.outcome
        mark = run.mark(f"retry:{this}")
        if mark is None:
            delay = run.delay(node, attempt, found.outcome, scope)
            if delay is None:
                return found.state, found.outcome
            mark = {"failures": attempt, "until": run.now_us + round(delay * 1e6)}
            run.note_mark(f"retry:{this}", mark)
        yield Until(run, mark["until"])
        attempt += 1
        this = f"{key}{TRY}{attempt}"


def timeout_of(run: Run, node: Node, key: str, scope: Scope, previous: Value) -> float | None:
    """Seconds that one run of a step may take. Raises `Failed` for what cannot be that."""
    if node.timeout is None:
        return None
    number = run.decide(node.timeout, "timeout", key, scope, previous)
    if number is None or number is UNDEFINED:
        return None
    if not is_number(number) or number <= 0:
        raise run.failed(
            key, "ExpressionError", f"`timeout` must be a number of seconds above 0, not {short(number)}"
        )
    return float(number)


def is_number(value: Any) -> bool:
    """Whether a JSON value is one."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def short(value: Any) -> str:
    """A value, as an error message shows it."""
    text = "undefined" if value is UNDEFINED else _encode(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."
