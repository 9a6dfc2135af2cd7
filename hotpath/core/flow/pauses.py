"""What a run waits for before and behind its steps: people, time, the workers of other tags."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import msgspec

from hotpath.core.flow.keys import PREPROCESSOR, TRY
from hotpath.core.flow.paths import UNDEFINED, ExpressionError
from hotpath.core.flow.values import Approvals, Scope, Value
from hotpath.core.flow.waits import FAILURE, Elsewhere, Failed, Heard, Until
from hotpath.core.notes import Mark

if TYPE_CHECKING:
    from hotpath.core.flow.engine import Run
    from hotpath.core.flow.program import Condition, Extra, Node
    from hotpath.core.notes import Checkpoint, Child, Event

LONGEST_SLEEP = 100 * 366 * 86_400
LONGEST_TIMEOUT = 2_147_483
"""Seconds: what a job's own time-out can be, almost 25 days."""
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
    until = mark["until"]
    said: list[Event] = []
    fault: Failed | None = None
    while True:
        events = run.events.get(key, [])
        said, denied = _answers(events[: mark.get("heard")], wanted.required_events)
        if denied is not None:
            by = f" by {denied.approver}" if denied.approver else ""
            fault = run.failed(key, "DisapprovedError", f"it was disapproved{by}")
        elif len(said) < wanted.required_events:
            is_late = until is not None and run.now_us >= until
            if "heard" not in mark and not is_late:
                run.wait_approval(key, len(events))
                yield Heard(run, key, until)
                continue
            if "heard" not in mark:
                run.note_mark(f"suspend:{key}", {**mark, "heard": len(events)})  # it stays too late
            fault = run.failed(key, "ApprovalTimeoutError", f"nobody approved it within {wanted.timeout:g} s")
        break
    run.answered(key)
    if fault is not None and not wanted.continue_on_disapprove_timeout:
        raise fault
    payloads = [event.payload for event in said]
    if fault is not None:
        payloads.append(fault.wrapped.raw)
    scope.approvals = Approvals(payloads, [event.approver for event in said if event.approver])


def _answers(events: list[Event], required: int) -> tuple[list[Event], Event | None]:
    """The approvals up to the answer, and the disapproval if it is that; what follows changes nothing."""
    said: list[Event] = []
    for event in events:
        if not event.approved:
            return said, event
        said.append(event)
        if len(said) == required:
            break
    return said, None


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


def noted_args(run: Run, node: Node, key: str, scope: Scope, previous: Value, extra: Extra) -> bytes:
    """The same, and the same again for another try where chance or the hour is in it."""
    if not node.volatile:
        return args_of(run, node, key, scope, previous, extra)
    mark = f"choice:{key}:inputs"
    args = None if run.recalled is None else run.recalled.marks.get(mark)
    if args is None:
        args = args_of(run, node, key, scope, previous, extra)
        run.commands.append(Mark(mark, args))
    return args


def elsewhere(
    run: Run, node: Node, key: str, scope: Scope, previous: Value, extra: Extra
) -> Generator[Any, Any, tuple[int, bytes]]:
    """Have a step run by the workers of another tag: each try is a job of its own, the second `KEY~2`."""
    attempt, this = 1, key
    while True:
        found: Checkpoint | Child | None = run.known.get(this) or run.sent(this)
        if found is None or not found.state:
            args = noted_args(run, node, key, scope, previous, extra)
            run.dispatch(node, this, args, timeout_of(run, node, key, scope, previous))
            yield Elsewhere()
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
    if not is_number(number) or not 0 < number <= LONGEST_TIMEOUT:
        raise run.failed(
            key,
            "ExpressionError",
            f"`timeout` must be above 0 and at most {LONGEST_TIMEOUT:,} seconds, not {short(number)}",
        )
    return float(number)


def is_number(value: Any) -> bool:
    """Whether a JSON value is one."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def short(value: Any) -> str:
    """A value, as an error message shows it."""
    text = "undefined" if value is UNDEFINED else _encode(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."
