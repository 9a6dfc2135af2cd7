"""Texts made of a job's args: `$args[customer.id]` is that field, `$workspace` the workspace's name.

Tags, keys of limits and unique keys are such texts. SQL has the same rules (`hotpath.fill`, migration 0014):
one table of cases holds the two together (`tests/client/test_placeholders.py`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

PLACE = re.compile(r"\$args\[([^\[\]]+)\]|\$workspace")
_PLAIN = ("string", "integer", "number", "boolean")
"""Types of values that have no fields."""
MISSING = "\x01"
"""What a field that is not there puts into the key of a limit: it has a key of its own."""


class FillError(ValueError):
    """A field that is not there, or is a list or an object; the message names it."""


def has_places(text: str) -> bool:
    """Whether the text depends on the job or the workspace."""
    return PLACE.search(text) is not None


def needs_args(text: str) -> bool:
    """Whether the text depends on the job."""
    return any(found[1] is not None for found in PLACE.finditer(text))


def unknown_field(text: str, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with the first field that the text is made of and that args of this schema cannot have,
    with the nearest that they can; None: there is no such field.
    """
    for found in PLACE.finditer(text):
        if found[1] is None or (wrong := _wrong(found[1].split("."), schema)) is None:
            continue
        name, known = wrong
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        there = f"did you mean $args[{near[0]}]?" if near else f"there are {', '.join(known) or 'none'}"
        return f"$args[{found[1]}] is no field of the script's args ({there})"
    return None


def _wrong(path: Sequence[str], schema: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """The field of this path that cannot be there, and those that can in its place; None: all may be."""
    node: Any = schema
    for at, name in enumerate(path):
        reference = node.get("$ref", "")
        if reference.startswith("#/$defs/"):
            node = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        fields = node.get("properties", {})
        if name not in fields:
            if node.get("type") in _PLAIN:
                return ".".join(path[: at + 1]), [".".join(path[:at])]
            if node.get("additionalProperties", True) is not False:
                return None
            return ".".join(path[: at + 1]), [".".join([*path[:at], field]) for field in fields]
        node = fields[name]
        if not isinstance(node, Mapping):
            return None
    return None


def broken_place(text: str) -> str | None:
    """The first thing that begins like a placeholder and is none; None when there is no such thing."""
    rest = PLACE.sub("", text)
    at = rest.find("$args")
    return None if at < 0 else rest[at : at + 40]


def decode(raw: bytes) -> dict[str, Any]:
    """Args for `fill`: numbers as they are written, since the text is what counts."""
    args: dict[str, Any] = json.loads(raw, parse_float=Decimal, parse_int=Decimal)
    return args


def fill(
    template: str, args: Mapping[str, Any], what: str, *, workspace: str = "", missing: str | None = None
) -> str:
    """`template` with its placeholders filled in.

    `args` come from `decode`. A field that is not there, or is null, becomes `missing`; without that it is a
    `FillError`, as a field is that is a list or an object. `what` says in it what is made of the text.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] is None:
            return workspace
        field: Any = args
        for part in found[1].split("."):
            field = field.get(part) if isinstance(field, Mapping) else None
        if field is None:
            if missing is None:
                raise FillError(f"args.{found[1]} is missing, and {what} is made of it")
            return missing
        if isinstance(field, bool):
            return "true" if field else "false"
        if isinstance(field, str):
            return field
        if isinstance(field, Decimal):
            return _number(field)
        raise FillError(f"args.{found[1]} must be text, a number, true or false: {what} is made of it")

    return PLACE.sub(value, template)


def _number(value: Decimal) -> str:
    """A number as PostgreSQL writes it."""
    text = format(value, "f")
    return text.removeprefix("-") if not value else text


def key_hash(text: str) -> int:
    """The int8 that stands for a key or a tag (`hotpath.tag_id`)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], signed=True)


def limit_key(template: str, args: Mapping[str, Any], *, workspace: str = "") -> int:
    """The hash of a limit's key for these args. Raises `FillError`."""
    return key_hash(fill(template, args, "the key of the limit", workspace=workspace, missing=MISSING))
