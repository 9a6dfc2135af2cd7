"""A flow's JSON Schema as those who enqueue can check it: `core.schema` and `hotpath.check_args`.

Windmill's schemas are for forms, and Windmill checks little of them. So what both can check is kept (types,
enums, limits, nested objects and lists), a field that may be left out may be null too, and whatever else a
schema says (formats, patterns, resource types) constrains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hotpath.core.schema import ArgsValidator
from hotpath.core.secrets import Places

_TYPES = frozenset({"string", "integer", "number", "boolean", "null", "array", "object"})
_NUMBER_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_SIZE_LIMITS = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}
_MAX_DEPTH = 20
ANYTHING: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
"""Any object."""


def args_schema_of(schema: Mapping[str, Any], *, has_preprocessor: bool = False) -> dict[str, Any]:
    """What a flow's args are checked against. With a preprocessor it is anything: it makes the args."""
    if has_preprocessor or not isinstance(schema.get("properties", {}), dict):
        return dict(ANYTHING)
    found = _object(schema, 0)
    if not _is_usable(found):
        found["properties"] = {
            name: field
            if _is_usable({**ANYTHING, "properties": {name: field}})
            else {key: field[key] for key in ("description", "default") if key in field}
            for name, field in found["properties"].items()
        }
    order = schema.get("order")
    if isinstance(order, list) and all(isinstance(name, str) for name in order):
        found["order"] = [name for name in order if name in found["properties"]]
    return found


def _object(schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    given = schema["properties"] if isinstance(schema.get("properties"), dict) else {}
    named = schema.get("required")
    needed = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    properties: dict[str, Any] = {}
    required = []
    for name in dict.fromkeys([*given, *needed]):
        field = given.get(name)
        if not isinstance(field, dict):
            field = {}
        # Defaults of the args themselves are filled in before the flow runs.
        is_needed = name in needed and (depth > 0 or field.get("default") is None)
        if is_needed:
            required.append(name)
        properties[name] = _field(field, depth, nullable=not is_needed)
    found: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    if schema.get("additionalProperties") is False:
        found["additionalProperties"] = False
    return found


def _field(field: Mapping[str, Any], depth: int, *, nullable: bool) -> dict[str, Any]:
    """One field, with what people are told about it."""
    checked = _value(field, depth)
    if nullable and checked and not _takes_null(checked):
        members = checked.get("anyOf", [checked])
        checked = {"anyOf": [*members, {"type": "null"}]}
    told: dict[str, Any] = {}
    for word in ("title", "description"):
        if isinstance(field.get(word), str) and field[word]:
            told[word] = field[word]
    if field.get("default") is not None and not Places({}).leads(checked):
        told["default"] = field["default"]
    return told | checked


def _takes_null(checked: Mapping[str, Any]) -> bool:
    return checked.get("type") == "null" or {"type": "null"} in checked.get("anyOf", ())


def _value(schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """What can be checked of a schema; nothing if that is nothing."""
    kind = schema.get("type")
    if depth > _MAX_DEPTH:
        return {}
    if isinstance(kind, list):
        members = [_value({**schema, "type": each}, depth + 1) for each in kind if isinstance(each, str)]
        return {"anyOf": members} if members and all(members) and len(members) == len(kind) else {}
    if kind not in _TYPES or any(word in schema for word in ("anyOf", "oneOf", "allOf", "not", "$ref")):
        return {}
    if kind == "string" and _is_secret(schema):
        return {"type": kind, "writeOnly": True, "format": "password"}
    options = schema.get("enum")
    if isinstance(options, list) and options:
        return _enum(options, str(kind))
    found: dict[str, Any] = {"type": kind}
    if kind in {"integer", "number"}:
        found |= {word: schema[word] for word in _NUMBER_LIMITS if _is_limit(schema.get(word), str(kind))}
    for word in _SIZE_LIMITS.get(str(kind), ()):
        size = schema.get(word)
        if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
            found[word] = size
    if kind == "array" and isinstance(schema.get("items"), dict):
        items = _value(schema["items"], depth + 1)
        found |= {"items": items} if items else {}
    if kind == "object" and schema.get("properties") and isinstance(schema["properties"], dict):
        return _object(schema, depth + 1)
    return found


def _is_secret(schema: Mapping[str, Any]) -> bool:
    """Whether Windmill's form, or JSON Schema's own word, says that nobody is to see it."""
    return schema.get("format") == "password" or True in (schema.get("password"), schema.get("writeOnly"))


def _enum(options: list[Any], kind: str) -> dict[str, Any]:
    """The values of an enum, if they are of kinds that both can tell apart."""
    if kind == "string" and all(isinstance(each, str) for each in options):
        return {"enum": list(dict.fromkeys(options))}
    if kind == "integer" and all(type(each) is int and abs(each) < 2**63 for each in options):
        return {"enum": list(dict.fromkeys(options))}
    return {}


def _is_limit(value: object, kind: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return abs(value) < 2**53 and (kind == "number" or isinstance(value, int))


def _is_usable(schema: Mapping[str, Any]) -> bool:
    try:
        ArgsValidator(schema)
    except Exception:  # noqa: BLE001 - what msgspec cannot make a type of, whatever it raises, is not checked
        return False
    return True
