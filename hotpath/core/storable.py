"""What text and which values can be stored as JSON in PostgreSQL, and where in a value the part is that
cannot.

PostgreSQL's text holds no NUL; UTF-8 holds no lone surrogates; JSON has no name for NaN and no place for
cycles. One such part must not poison the transaction that carries a thousand neighbours, so it is found
before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from hotpath.model import Secret

MAX_BYTES = 16 * 1024 * 1024
"""Size up to which args and results are stored, in bytes of JSON."""

MAX_DEPTH = 200
"""Depth to which a fault is sought."""

NUL = b"\\u0000"
"""A NUL as JSON writes it; also the end of an escaped backslash before `u0000`, hence `has_nul`."""

_ESCAPES = {0: "\\x00"} | {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}


def storable(text: str) -> str:
    """The text with what PostgreSQL cannot hold (NUL, lone surrogates) written out as escapes."""
    if text.isascii():
        return text.replace("\0", "\\x00") if "\0" in text else text
    return text.translate(_ESCAPES)


def has_nul(raw: bytes) -> bool:
    """Whether JSON holds a NUL. `NUL in raw` is the quick test to make before."""
    at = raw.find(NUL)
    while at >= 0:
        start = at
        while start and raw[start - 1] == 0x5C:
            start -= 1
        if (at - start) % 2 == 0:
            return True
        at = raw.find(NUL, at + 1)
    return False


def encode_custom(value: Any) -> Any:
    """msgspec's hook for values it knows no JSON form of: paths and secrets become text."""
    if isinstance(value, Secret) or hasattr(value, "__fspath__"):
        return str(value)
    raise TypeError(f"`{type(value).__qualname__}` has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=encode_custom)
encode = _encoder.encode
"""JSON of a value, compact. Raises whatever the value provokes; `find_fault` then says where."""
encode_lines = _encoder.encode_lines
"""The same for many values, a line each."""


@attrs.frozen
class Fault:
    """A part of a value that cannot be stored."""

    path: str
    """Where it is, as Python would write it behind the value's name: `.items[3].name`; empty for the value
    itself.
    """
    reason: str
    """Why, as the end of a sentence whose subject is the path."""


def find_fault(value: Any, *, finite: bool = False) -> Fault | None:
    """The first part of the value that cannot be stored; None if each part is fine by itself.

    With `finite`, NaN and the infinities are faults too; without, they are stored as null.
    """
    return _find(value, "", (), finite=finite)


def _find(value: Any, path: str, above: tuple[int, ...], *, finite: bool) -> Fault | None:
    if isinstance(value, str):
        reason = _text_fault(value)
        return Fault(path, reason) if reason else None
    if isinstance(value, float):
        return (
            Fault(path, f"is {value}, which JSON cannot hold")
            if finite and not math.isfinite(value)
            else None
        )
    if id(value) in above:
        return Fault(path, "contains itself")
    if len(above) >= MAX_DEPTH:
        return Fault(path, "is nested too deeply")
    parts = _parts(value)
    for key, item in parts:
        if isinstance(key, str):
            if reason := _text_fault(key):
                return Fault(path, f"has a key that {reason}")
            step = f".{key}" if key.isidentifier() else f"[{key!r}]"
        else:
            step = f"[{key!r}]"
            if isinstance(value, Mapping) and not _encodes({key: None}):
                return Fault(path, f"has a key of type {type(key).__name__}: JSON keys are text")
        if fault := _find(item, path + step, (*above, id(value)), finite=finite):
            return fault
    if not parts and not _encodes(value):
        return Fault(path, f"is of type {type(value).__qualname__}, which has no JSON form")
    return None


def _parts(value: Any) -> list[tuple[Any, Any]]:
    """The members of a container with their keys; nothing for what is no container."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, set | frozenset):
        return [(repr(item), item) for item in value]
    if isinstance(value, msgspec.Struct):
        names = list(value.__struct_fields__)
    elif attrs.has(type(value)):
        names = [field.name for field in attrs.fields(type(value))]
    else:
        names = list(getattr(type(value), "__dataclass_fields__", ()))
    return [(name, getattr(value, name, None)) for name in names]


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character, which PostgreSQL cannot store"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds a lone surrogate, which is not valid text"
    return None


def _encodes(value: Any) -> bool:
    try:
        encode(value)
    except Exception:  # noqa: BLE001 - whatever the value's own code raises, it does not encode
        return False
    return True
