"""Expressions that are plain paths (`results.a.x`, `flow_input.y[0]`) or literals, without JavaScript.

What is here agrees with JavaScript over JSON values, save where JavaScript would lose something: whole
numbers beyond 2**53 keep all their digits. `core.flow.scan` tells which names other expressions use.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, final

import attrs
import msgspec

from hotpath.core.flow.scan import ROOTS, roots_used, steps_used

__all__ = [
    "ROOTS",
    "UNDEFINED",
    "ExpressionError",
    "Key",
    "Path",
    "parse_literal",
    "parse_path",
    "resolve",
    "roots_used",
    "steps_used",
    "truthy",
]

Key: TypeAlias = "str | int"


class ExpressionError(Exception):
    """An expression has no value; the message says why, in JavaScript's words, on one line."""


@final
class Undefined:
    """The type of `UNDEFINED`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "undefined"

    def __bool__(self) -> bool:
        return False


UNDEFINED: Final = Undefined()
"""JavaScript's `undefined`: what a property is that is not there."""


@attrs.frozen
class Path:
    """`root.key[0].other`: a name, and the way from it."""

    root: str
    """One of `ROOTS`."""
    keys: tuple[Key, ...] = ()
    """Text, or an int for what can be the index of an array: `x[0]` and `x["0"]` are the same."""


_ROOT = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_STEP = re.compile(
    r"""[ \t\r\n]*(?:
        \.[ \t\r\n]*(?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
      | \[[ \t\r\n]*(?: (?P<index>0|[1-9][0-9]{0,14})
                      | "(?P<double>[^"\\\r\n\0]*)" | '(?P<single>[^'\\\r\n\0]*)' )[ \t\r\n]*\]
    )""",
    re.VERBOSE,
)
_INDEX = re.compile(r"0|[1-9][0-9]{0,14}")
_SPACE = " \t\r\n"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OF_OBJECTS = _names(
    "__defineGetter__ __defineSetter__ __lookupGetter__ __lookupSetter__ __proto__ constructor "
    "hasOwnProperty isPrototypeOf propertyIsEnumerable toLocaleString toString valueOf"
)
"""What every object has without holding it: a path to one of these is left to JavaScript."""

_METHODS: dict[type, frozenset[str]] = {
    list: _names(
        "at concat copyWithin entries every fill filter find findIndex findLast findLastIndex flat flatMap "
        "forEach includes indexOf join keys lastIndexOf map pop push reduce reduceRight reverse shift slice "
        "some sort splice toReversed toSorted toSpliced unshift values with"
    ),
    str: _names(
        "anchor at big blink bold charAt charCodeAt codePointAt concat endsWith fixed fontcolor fontsize "
        "includes indexOf isWellFormed italics lastIndexOf link localeCompare match matchAll normalize "
        "padEnd padStart repeat replace replaceAll search slice small split startsWith strike sub substr "
        "substring sup toLowerCase toLocaleLowerCase toLocaleUpperCase toUpperCase toWellFormed trim trimEnd "
        "trimLeft trimRight trimStart"
    ),
    int: _names("toExponential toFixed toPrecision"),
    float: _names("toExponential toFixed toPrecision"),
    bool: frozenset(),
}
"""What values of these types have in JavaScript, and JSON has no form of."""


def parse_path(text: str) -> Path | None:
    """The path that an expression is; None if it is anything else, which takes JavaScript."""
    text = _bare(text)
    root = _ROOT.match(text)
    if root is None or root[0] not in ROOTS:
        return None
    at, keys = root.end(), []
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            return None
        key = step["name"] or step["index"] or step["double"] or step["single"] or ""
        if key in _OF_OBJECTS:
            return None
        keys.append(int(key) if _INDEX.fullmatch(key) else key)
        at = step.end()
    return Path(root[0], tuple(keys))


def parse_literal(text: str) -> tuple[bool, Any]:
    """Whether an expression is a literal that is the same in JSON, and its value.

    Numbers, texts without escapes, true, false, null, and lists and objects written as JSON.
    """
    text = _bare(text)
    if not text or "__proto__" in text:
        return False, None
    if text[0] == "'":
        plain = len(text) > 1 and text[-1] == "'" and not re.search(r"[\\'\x00-\x1f]", text[1:-1])
        return (True, text[1:-1]) if plain else (False, None)
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False, None
    if isinstance(value, float) and not math.isfinite(value):
        return False, None
    return True, value


def _bare(text: str) -> str:
    """The text without white space, a semicolon behind it, and parentheses around the whole."""
    text = text.lstrip(_SPACE).rstrip(_SPACE + ";")
    for _ in range(8):  # what is wrapped more often is left to JavaScript
        if not (text.startswith("(") and text.endswith(")")):
            break
        text = text[1:-1].strip(_SPACE)
    return text


def resolve(path: Path, env: Mapping[str, Any]) -> Any:
    """The value at a path; `UNDEFINED` where there is none.

    Raises `ExpressionError` for a property of null or undefined, for a root that is not in `env`, for what is
    a method in JavaScript (`.map` of an array), and where half of a character is left.
    """
    try:
        value = env[path.root]
    except KeyError:
        raise ExpressionError(f"{path.root} is not defined") from None
    for key in path.keys:
        kind = type(value)
        if kind is dict and type(key) is str:
            value = value.get(key, UNDEFINED)
        elif kind is list and type(key) is int:
            value = value[key] if key < len(value) else UNDEFINED
        else:
            value = _member(value, key)
    if type(value) is str and len(value) == 1 and "\ud800" <= value < "\ue000":
        raise ExpressionError(
            "the value holds a lone surrogate, half of a character, which is not valid text"
        )
    return value


def _member(value: Any, key: Key) -> Any:
    """A property of a value, where it is not a plain one of an object or an element of an array."""
    if value is None or value is UNDEFINED:
        of = "null" if value is None else "undefined"
        raise ExpressionError(f"cannot read property '{key}' of {of}")
    if isinstance(value, Mapping):
        return value.get(str(key), UNDEFINED)
    if isinstance(value, list | tuple):
        if isinstance(key, int):
            return value[key] if key < len(value) else UNDEFINED
        if key == "length":
            return len(value)
        methods = _METHODS[list]
    elif isinstance(value, str):
        if key == "length":
            return len(value) if value.isascii() else len(_units(value)) // 2
        if isinstance(key, int):
            return _unit(value, key)
        methods = _METHODS[str]
    else:
        methods = _METHODS.get(type(value), frozenset())
    if key in methods:
        raise ExpressionError(f"the value is a function, `{key}`: call it, with parentheses behind")
    return UNDEFINED


def _units(text: str) -> bytes:
    """The text as JavaScript holds it, two bytes a unit."""
    return text.encode("utf-16-le", "surrogatepass")


def _unit(text: str, index: int) -> Any:
    if text.isascii():
        return text[index] if index < len(text) else UNDEFINED
    unit = _units(text)[2 * index : 2 * index + 2]
    return chr(int.from_bytes(unit, "little")) if unit else UNDEFINED  # perhaps half of a character


def truthy(value: Any) -> bool:
    """Whether a condition with this value holds, as JavaScript sees it: empty lists and objects do."""
    if value is True:
        return True
    if value is None or value is False or value is UNDEFINED:
        return False
    if isinstance(value, str | int):
        return bool(value)
    return not isinstance(value, float) or (value != 0 and not math.isnan(value))
