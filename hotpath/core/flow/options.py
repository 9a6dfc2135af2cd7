"""The options of a step that are values of their own: inputs, retries, stops, approvals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import msgspec

from hotpath.core.flow.model import Expression, Static, StepRetry, Stop, Suspend, Transform
from hotpath.core.flow.paths import parse_literal, parse_path
from hotpath.core.flow.source import Fields, Reading, fault_of_number, kind_of
from hotpath.core.storable import find_fault

SUSPEND_SECONDS = 1800.0
"""How long approvals are waited for where the flow does not say: Windmill's default. An explicit null in the
file means for ever.
"""
MAX_SECONDS = 100 * 366 * 86400
"""Of anything that waits: a hundred years; what is longer is a mistake."""
MAX_ATTEMPTS = 32767
_IGNORED_SUSPEND = ("user_auth_required", "user_groups_required", "self_approval_disabled", "hide_cancel")

Check = Callable[[Any], str | None]
"""What is wrong with a static value, as `must be ...`; None: nothing."""


def is_seconds(value: Any, *, above: bool = False) -> str | None:
    """What is wrong with a number of seconds."""
    return fault_of_number(value, low=0, high=MAX_SECONDS, above=above)


def is_duration(value: Any) -> str | None:
    """What is wrong with a time-out."""
    return is_seconds(value, above=True)


def expression(text: str, line: int) -> Expression:
    """The expression, with its path if it is one."""
    return Expression(text, parse_path(text), line)


def read_expression(fields: Fields, key: str) -> Expression | None:
    """The expression that is the text of an option; None: absent, or empty as the editor leaves it."""
    text = fields.text(key)
    return expression(text, fields.line(key)) if text and text.strip() else None


def read_static(reading: Reading, step: str | None, line: int, name: str, value: Any) -> Static | None:
    """A value as JSON, unless it cannot be that or refers to what is only in Windmill."""
    if fault := find_fault(value, finite=True):
        reading.fault(step, line, f"{name}{fault.path}: {fault.reason}")
        return None
    if reference := _reference(value):
        reading.fault(
            step,
            line,
            f"{name}: `{reference[:80]}` is a resource or variable of Windmill's, which are not supported: "
            "give the value itself, or let the script read it",
        )
        return None
    try:
        return Static(msgspec.json.encode(value))
    except (ValueError, OverflowError, RecursionError) as error:
        reading.fault(step, line, f"{name} cannot be written as JSON: {error}")
        return None


def _reference(value: Any) -> str | None:
    if isinstance(value, str):
        return value if value.startswith(("$res:", "$var:")) else None
    parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return next((found for part in parts if (found := _reference(part))), None)


def read_transform(fields: Fields, key: str, check: Check | None = None) -> Transform | None:
    """An input transform, or a plain value where only a check of it tells that it is meant; None: absent, or
    wrong.
    """
    given = fields.get(key)
    if given is None:
        return None
    if check is not None and not isinstance(given, dict):  # as Windmill wrote them earlier
        given = {"type": "static", "value": given}
    inner = Fields(fields.reading, given, fields.step, name=fields.name_of(key), line=fields.line(key))
    return _transform(inner, fields.name_of(key), check) if isinstance(given, dict) else None


def _transform(inner: Fields, name: str, check: Check | None) -> Transform | None:
    reading, step = inner.reading, inner.step
    kind = inner.get("type")
    if not isinstance(kind, str):
        inner.fault("type", f"must be `static` or `javascript`, not {kind_of(kind)}")
        return None
    if kind == "static":
        value = inner.get("value")
        inner.close(ignored=("expr",))  # the editor keeps what was there before
        if check is not None:
            if value is None:
                return None
            if fault := check(value):
                reading.fault(step, inner.line("value"), f"`{name}` {fault}")
                return None
        return read_static(reading, step, inner.line("value"), f"`{name}`", value)
    if kind != "javascript":
        inner.fault("type", f"must be `static` or `javascript`, not {kind[:60]!r}")
        return None
    text = inner.text("expr")
    inner.close(ignored=("value",))
    if text is None or not text.strip():
        if check is None and not ("expr" in inner.given and text is None and inner.given["expr"] is not None):
            inner.fault("expr", "is empty; give an expression, such as `flow_input.x`")
        return None
    is_literal, literal = parse_literal(text)
    if not is_literal:
        return expression(text, inner.line("expr"))
    if check is not None and (fault := check(literal)):
        reading.fault(step, inner.line("expr"), f"`{name}` {fault}")
        return None
    return read_static(reading, step, inner.line("expr"), f"`{name}`", literal)


def read_inputs(fields: Fields, lines: dict[tuple[str, str], int]) -> tuple[tuple[str, Transform], ...]:
    """`input_transforms`. `lines` gets the line of each, by step and name."""
    given = fields.mapping("input_transforms")
    key = "input_transforms"
    inner = Fields(fields.reading, given, fields.step, name=fields.name_of(key), line=fields.line(key))
    found = []
    for name in given:
        lines[fields.step or "", name] = inner.line(name)
        if fault := find_fault(name):
            fields.fault("input_transforms", f"has a name that {fault.reason}")
            continue
        if given[name] is None:
            inner.fault(name, "must be `static` or `javascript`, with `type:`, not null")
        elif (transform := read_transform(inner, name)) is not None:
            found.append((name, transform))
    return tuple(found)


def read_stop(fields: Fields, key: str) -> Stop | None:
    """`stop_after_if` and its like."""
    inner = fields.inner(key)
    if inner is None:
        return None
    when = read_expression(inner, "expr")
    skip, message = inner.flag("skip_if_stopped"), inner.text("error_message")
    inner.close()
    return None if when is None else Stop(when, skip, message)


def read_condition(fields: Fields, key: str) -> Expression | None:
    """An `expr` in a mapping of its own, as `skip_if` has it."""
    inner = fields.inner(key)
    if inner is None:
        return None
    found = read_expression(inner, "expr")
    inner.close()
    return found


def read_retry(fields: Fields) -> StepRetry | None:
    """`retry`; None if there is nothing to do again."""
    retry = fields.inner("retry")
    if retry is None:
        return None
    constant, growing = retry.inner("constant"), retry.inner("exponential")
    found = StepRetry(retry_if=read_condition(retry, "retry_if"))
    if constant is not None:
        found = attrs.evolve(
            found,
            constant_attempts=constant.integer("attempts", high=MAX_ATTEMPTS),
            constant_seconds=constant.number("seconds", high=MAX_SECONDS),
        )
        constant.close()
    if growing is not None:
        found = attrs.evolve(
            found,
            exponential_attempts=growing.integer("attempts", high=MAX_ATTEMPTS),
            multiplier=growing.number("multiplier", 1.0, high=MAX_SECONDS),
            seconds=growing.number("seconds", 1.0, high=MAX_SECONDS),
            random_factor=growing.number("random_factor", high=100),
        )
        growing.close()
    retry.close()
    return found if found.constant_attempts or found.exponential_attempts else None


def read_suspend(fields: Fields) -> Suspend | None:
    """`suspend`."""
    inner = fields.inner("suspend")
    if inner is None:
        return None
    form = inner.inner("resume_form")
    schema = None
    if form is not None:
        schema = form.mapping("schema") or None
        form.close()
        if schema is not None and (fault := find_fault(schema, finite=True)):
            form.fault("schema", f"cannot be stored: {fault.path.lstrip('.')} {fault.reason}")
    for_ever = "timeout" in inner.given and inner.given["timeout"] is None
    timeout = inner.number("timeout", SUSPEND_SECONDS, high=MAX_SECONDS, above=True)
    found = Suspend(
        required_events=inner.integer("required_events", 1, low=1),
        timeout=None if for_ever else timeout,
        continue_on_disapprove_timeout=inner.flag("continue_on_disapprove_timeout"),
        form=schema,
    )
    inner.close(_IGNORED_SUSPEND)
    return found
