"""How one job ended, as the JSON that is stored: its result, or its error object (CONTRACT).

A result is encoded the moment `main` returns it, so that nothing which happens to the object later can change
what is stored. It follows msgspec: attrs classes, dataclasses, structs, date-times, UUIDs, Decimals (as
strings), sets, enums, bytes (as base64) all have a JSON form, and so do paths. NaN and the infinities become
null, because JSON has no name for them.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from hotpath.core.flow.keys import iteration_of, step_of
from hotpath.core.storable import MAX_BYTES, NUL, encode, find_fault, has_nul, storable
from hotpath.errors import StepFailed
from hotpath.model import ErrorKind
from hotpath.scripts.failure import MESSAGE_BYTES, message_of, shorten, traceback_of

__all__ = [
    "MAX_BYTES",
    "NUL",
    "bad_args",
    "bad_result",
    "canceled",
    "encode",
    "failure",
    "is_storable",
    "timed_out",
]


def is_storable(payload: bytes) -> bool:
    """Whether the JSON of a result can be stored; call it only when it is large or holds `NUL`."""
    return len(payload) <= MAX_BYTES and not (NUL in payload and has_nul(payload))


def failure(exc: BaseException, hint: str = "") -> bytes:
    """The error object of an exception that `main` raised; a hint goes behind its message."""
    message = message_of(exc)
    if hint:
        message = f"{message} ({hint})"
    step = exc.step if isinstance(exc, StepFailed) else ""
    return error_object(type(exc).__name__, message, ErrorKind.EXCEPTION, traceback_of(exc), step)


def bad_args(reason: str) -> bytes:
    """The error object of a job whose args do not fit the signature."""
    return error_object("BadArgsError", reason, ErrorKind.BAD_ARGS)


def timed_out(seconds: float | None, exc: BaseException | None = None) -> bytes:
    """The error object of a job that ran longer than its script allows."""
    allowed = "it may" if seconds is None else f"its timeout of {seconds:g} s"
    message = f"the job ran longer than {allowed}"
    return error_object("TimeoutError", message, ErrorKind.TIMEOUT, "" if exc is None else traceback_of(exc))


def canceled(exc: BaseException | None = None) -> bytes:
    """The error object of a job that was canceled, before it began or while it ran."""
    message = "canceled before it started" if exc is None else "canceled while it ran"
    return error_object("JobCanceled", message, ErrorKind.CANCELED, "" if exc is None else traceback_of(exc))


def error_object(name: str, message: str, kind: ErrorKind, traceback: str = "", step: str = "") -> bytes:
    """The error object of CONTRACT as JSON; its texts are cleaned and bounded here. `step`: key of the step
    of a flow that it is the error of.
    """
    said = {
        "name": storable(name),
        "message": shorten(storable(message), MESSAGE_BYTES),
        "traceback": traceback,
        "kind": kind.value,
    }
    if step:
        said["step"] = step_of(step)
        if iteration := iteration_of(step):
            said["iteration"] = iteration
    return msgspec.json.encode(said)


def bad_result(value: Any, payload: bytes | None, error: BaseException | None) -> bytes:
    """The error object of a job whose result cannot be stored, with the place of the fault in the result."""
    try:
        reason = _fault_of_result(value, payload, error)
    except BaseException as fault:  # noqa: BLE001 - the result's own code runs in there
        reason = f"the result cannot be written as JSON: looking at it raised {type(fault).__name__}"
    return error_object("BadResultError", reason, ErrorKind.BAD_RESULT)


def _fault_of_result(value: Any, payload: bytes | None, error: BaseException | None) -> str:
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()  # else Python warns about it in some later job
        return f"`main` returned {_article(value)} that was not awaited: make `main` async, or await it"
    if inspect.isgenerator(value):
        return "`main` returned a generator: return a list, or remove the `yield`"
    if payload is not None and len(payload) > MAX_BYTES:
        return f"the result is {len(payload):,} bytes of JSON; at most {MAX_BYTES:,} are stored"
    if fault := find_fault(value):
        return f"`result{fault.path}` {fault.reason}"
    why = message_of(error) if error else "for no known reason"
    return f"the result cannot be written as JSON: {why}"


def _article(value: Any) -> str:
    return "a coroutine" if inspect.iscoroutine(value) else f"an awaitable of type {type(value).__name__}"
