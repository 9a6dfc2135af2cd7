"""How one job ended, as the JSON that is stored: its result, or its error object (CONTRACT).

A result is encoded the moment `main` returns it, so that nothing which happens to the object later can change
what is stored. It follows msgspec: attrs classes, dataclasses, structs, date-times, UUIDs, Decimals (as
strings), sets, enums, bytes (as base64) all have a JSON form, and so do paths. NaN and the infinities become
null, because JSON has no name for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import attrs
import msgspec

from hotpath.model import ErrorKind
from hotpath.scripts.failure import MESSAGE_BYTES, message_of, shorten, storable, traceback_of

MAX_BYTES = 16 * 1024 * 1024
"""Size up to which a result is stored, in bytes of JSON."""

NUL = b"\\u0000"


def _encode_custom(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(type(value).__qualname__)


_encoder = msgspec.json.Encoder(enc_hook=_encode_custom)
encode: Callable[[Any], bytes] = _encoder.encode
"""JSON of a result. Raises whatever the value provokes; `bad_result` then says why."""


def is_storable(payload: bytes) -> bool:
    """Whether the JSON of a result can be stored; call it only when it is large or holds `NUL`."""
    return len(payload) <= MAX_BYTES and not (NUL in payload and _has_nul(payload))


def _has_nul(payload: bytes) -> bool:
    r"""Whether a `\u0000` in the JSON is really the escape of a NUL, not of a backslash before `u0000`."""
    at = payload.find(NUL)
    while at >= 0:
        start = at
        while start and payload[start - 1] == 0x5C:
            start -= 1
        if (at - start) % 2 == 0:
            return True
        at = payload.find(NUL, at + 1)
    return False


def failure(exc: BaseException, hint: str = "") -> bytes:
    """The error object of an exception that `main` raised; a hint goes behind its message."""
    message = message_of(exc)
    if hint:
        message = f"{message} ({hint})"
    return error_object(type(exc).__name__, message, ErrorKind.EXCEPTION, traceback_of(exc))


def bad_args(reason: str) -> bytes:
    """The error object of a job whose args do not fit the signature."""
    return error_object("BadArgsError", reason, ErrorKind.BAD_ARGS)


def timed_out(seconds: float, exc: BaseException | None = None) -> bytes:
    """The error object of a job that ran longer than its script allows."""
    message = f"the job ran longer than its timeout of {seconds:g} s"
    return error_object("TimeoutError", message, ErrorKind.TIMEOUT, "" if exc is None else traceback_of(exc))


def error_object(name: str, message: str, kind: ErrorKind, traceback: str = "") -> bytes:
    """The error object of CONTRACT as JSON; its texts are cleaned and bounded here."""
    return msgspec.json.encode(
        {
            "name": storable(name),
            "message": shorten(storable(message), MESSAGE_BYTES),
            "traceback": traceback,
            "kind": kind.value,
        }
    )


def bad_result(value: Any, payload: bytes | None, error: BaseException | None) -> bytes:
    """The error object of a job whose result cannot be stored, with the place of the fault in the result."""
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()  # else Python warns about it in some later job
        reason = f"`main` returned {_article(value)} that was not awaited: make `main` async, or await it"
    elif inspect.isgenerator(value):
        reason = "`main` returned a generator: return a list, or remove the `yield`"
    elif payload is not None and len(payload) > MAX_BYTES:
        reason = f"the result is {len(payload):,} bytes of JSON; at most {MAX_BYTES:,} are stored"
    else:
        reason = (
            find_fault(value)
            or f"the result cannot be written as JSON: {message_of(error) if error else 'unknown'}"
        )
    return error_object("BadResultError", reason, ErrorKind.BAD_RESULT)


def _article(value: Any) -> str:
    return "a coroutine" if inspect.iscoroutine(value) else f"an awaitable of type {type(value).__name__}"


def find_fault(value: Any) -> str | None:
    """Where in a result the part is that cannot be stored, and why; None if every part is fine by itself."""
    return _find(value, "result", [], 200)


def _find(value: Any, path: str, above: list[int], depth: int) -> str | None:
    if isinstance(value, str):
        return _text_fault(value, path)
    if id(value) in above:
        return f"`{path}` contains itself"
    if depth == 0:
        return f"`{path}` is nested too deeply"
    below = [*above, id(value)]
    for key, item in _parts(value):
        if isinstance(key, str):
            if fault := _text_fault(key, f"a key of {path}"):
                return fault
            step = f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]"
        else:
            step = f"{path}[{key!r}]"
            if isinstance(value, dict) and not _encodes({key: None}):
                return f"`{path}` has a key of type {type(key).__name__}: JSON keys are text"
        if fault := _find(item, step, below, depth - 1):
            return fault
    if not _encodes(value) and not any(True for _ in _parts(value)):
        return f"`{path}` is of type {type(value).__qualname__}, which has no JSON form"
    return None


def _parts(value: Any) -> list[tuple[Any, Any]]:
    """The members of a container, with their keys."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, set | frozenset):
        return [(repr(item), item) for item in value]
    if isinstance(value, msgspec.Struct):
        return [(name, getattr(value, name, None)) for name in value.__struct_fields__]
    if attrs.has(type(value)):
        return [(field.name, getattr(value, field.name, None)) for field in attrs.fields(type(value))]
    fields = getattr(type(value), "__dataclass_fields__", None)
    return [(name, getattr(value, name, None)) for name in fields] if fields else []


def _text_fault(text: str, path: str) -> str | None:
    if "\0" in text:
        return f"`{path}` holds a NUL character, which PostgreSQL cannot store"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"`{path}` holds a lone surrogate, which is not valid text"
    return None


def _encodes(value: Any) -> bool:
    try:
        encode(value)
    except Exception:  # noqa: BLE001 - whatever the value's own code raises, it does not encode
        return False
    return True
