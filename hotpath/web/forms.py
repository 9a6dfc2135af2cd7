"""Plain forms from JSON Schema, and values from what was filled in. No I/O.

An object's properties become fields: text, number, check box, choice; what has no such field is written as
JSON. Whoever takes the payload checks it against the schema once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import msgspec

PREFIX = "field."
"""Begins the names of the fields, so that they meet no other."""
_MAX_FIELDS = 200
_INPUTS = {"date": "date", "time": "time", "email": "email", "uri": "url", "password": "password"}


class FieldError(ValueError):
    """What was filled into a field is not a value of its kind; the message names the field."""


def has_fields(schema: Any) -> bool:
    """Whether a form can be made of this."""
    return (
        isinstance(schema, dict) and isinstance(schema.get("properties"), dict) and bool(schema["properties"])
    )


def render(schema: Any, given: Mapping[str, str]) -> str:
    """The fields as HTML, filled with `given` (by name, with `PREFIX`), else with defaults."""
    if not has_fields(schema):
        return ""
    needed = _needed(schema)
    fields = list(schema["properties"].items())[:_MAX_FIELDS]
    return "".join(_field(str(name), _dict(kind), name in needed, given) for name, kind in fields)


def read(schema: Any, given: Mapping[str, str]) -> Any:
    """The payload that was filled in; None where there is no form. Raises `FieldError`."""
    if not has_fields(schema):
        return None
    needed = _needed(schema)
    payload = {}
    for name, kind in list(schema["properties"].items())[:_MAX_FIELDS]:
        text = given.get(PREFIX + name, "")
        if _type(_dict(kind)) == "boolean":
            payload[name] = text == "on"
        elif text != "" or (name in needed and _type(_dict(kind)) == "string"):
            payload[name] = _value(name, _dict(kind), text)
    return payload


def _needed(schema: dict[str, Any]) -> list[Any]:
    found = schema.get("required")
    return found if isinstance(found, list) else []


def _field(name: str, kind: dict[str, Any], needed: bool, given: Mapping[str, str]) -> str:  # noqa: FBT001 - private
    label = escape(str(kind.get("title") or name))
    hint = f'<span class="hint">{escape(str(kind["description"]))}</span>' if kind.get("description") else ""
    key = escape(PREFIX + name)
    mark = " required" if needed else ""
    value = given.get(PREFIX + name, _text(kind["default"]) if "default" in kind and not given else "")
    shown = f'<label for="{key}">{label}{" *" if needed else ""}</label>{hint}'
    if "enum" in kind and isinstance(kind["enum"], list):
        options = "".join(
            f'<option value="{escape(_text(one))}"{" selected" if _text(one) == value else ""}>'
            f"{escape(_text(one))}</option>"
            for one in kind["enum"]
        )
        empty = "" if needed else '<option value=""></option>'
        return f'{shown}<select id="{key}" name="{key}"{mark}>{empty}{options}</select>'
    match _type(kind):
        case "boolean":
            checked = " checked" if value in ("on", "true") else ""
            box = f'<input type="checkbox" id="{key}" name="{key}"{checked}>'
            return f'<label class="check">{box} {label}</label>{hint}'
        case "integer" | "number" as number:
            step = f'type="number" step="{1 if number == "integer" else "any"}"'
            return f'{shown}<input {step} id="{key}" name="{key}" value="{escape(value)}"{mark}>'
        case "string" if kind.get("format") != "textarea":
            type_ = _INPUTS.get(str(kind.get("format")), "text")
            return f'{shown}<input type="{type_}" id="{key}" name="{key}" value="{escape(value)}"{mark}>'
    return f'{shown}<textarea id="{key}" name="{key}" rows="4"{mark}>{escape(value)}</textarea>'


def _value(name: str, kind: dict[str, Any], text: str) -> Any:
    if "enum" in kind and isinstance(kind["enum"], list):
        return next((one for one in kind["enum"] if _text(one) == text), text)
    match _type(kind):
        case "string":
            return text
        case "integer" | "number" as number:
            try:
                return int(text) if number == "integer" or text.lstrip("-").isdecimal() else float(text)
            except ValueError:
                raise FieldError(f"{name}: {text[:40]!r} is no {number}") from None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise FieldError(f"{name}: this is not JSON; text needs quotes") from None


def _type(kind: dict[str, Any]) -> str:
    """The type of a field; of several, the one that is not null."""
    found = kind.get("type")
    if isinstance(found, list):
        found = next((one for one in found if one != "null"), None)
    return found if isinstance(found, str) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _dict(kind: Any) -> dict[str, Any]:
    return kind if isinstance(kind, dict) else {}
