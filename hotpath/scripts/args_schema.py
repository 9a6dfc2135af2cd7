"""From the types of `main`'s parameters to a JSON Schema (2020-12) of its args.

msgspec can write such schemas itself, but it leaves out what it checks and JSON Schema has no word for (a
date-time without an offset, a number where a Decimal is wanted). What is refused at the door and what the job
itself would refuse must be the same thing, so the schema is written here and read in `hotpath.core.schema`;
nothing else needs to understand every word of it.

Words beyond the obvious ones: `format` is `date-time`, `date`, `time`, `duration`, `uuid`, `decimal`, `path`
or, with `writeOnly`, `password`: what nobody is to see; `x-tz` says whether a time must (true) or must not
(false) have an offset; `discriminator` names the property that tells the members of a union apart.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec
from msgspec import inspect as info

from hotpath.core.secrets import places_of
from hotpath.model import Secret
from hotpath.scripts.signature import Signature

_FORMATS: dict[type, dict[str, Any]] = {
    info.BoolType: {"type": "boolean"},
    info.NoneType: {"type": "null"},
    info.DateType: {"type": "string", "format": "date"},
    info.TimeDeltaType: {"type": "string", "format": "duration"},
    info.UUIDType: {"type": "string", "format": "uuid"},
    info.DecimalType: {"type": ["string", "number"], "format": "decimal"},
    info.AnyType: {},
    info.RawType: {},
}
_PATH = {"type": "string", "format": "path"}
_SECRET = {"type": "string", "writeOnly": True, "format": "password"}
_NUMBERS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
}
_TEXTS = {"min_length": "minLength", "max_length": "maxLength", "pattern": "pattern"}
_ARRAYS = {"min_length": "minItems", "max_length": "maxItems"}
_OBJECTS = {"min_length": "minProperties", "max_length": "maxProperties"}
_BYTES = (info.BytesType, info.ByteArrayType, info.MemoryViewType)
_ANNOTATIONS = frozenset({"title", "description", "examples", "deprecated"})


def args_schema(signature: Signature) -> dict[str, Any]:
    """The JSON Schema of the args object, with the types that it refers to in `$defs`."""
    writer = _Writer()
    node = info.type_info(signature.struct)
    assert isinstance(node, info.StructType)
    schema = writer.object(node.fields, closed=not signature.takes_extra)
    schema["order"] = list(schema["properties"])
    if signature.takes_extra:
        schema["additionalProperties"] = writer.schema(info.type_info(signature.extra)) or True
    if writer.defs:
        schema["$defs"] = writer.defs
    if places := places_of(schema):
        for part in (schema, *writer.defs.values()):
            for field in (*part.get("properties", {}).values(), *part.get("prefixItems", ())):
                if places.leads(field):
                    field.pop("default", None)
    return schema


class _Writer:
    """Writes one schema and gathers the named types that it meets."""

    def __init__(self) -> None:
        self.defs: dict[str, dict[str, Any]] = {}
        self._names: dict[Any, str] = {}

    def schema(self, node: info.Type) -> dict[str, Any]:
        """The schema of one type."""
        if type(node) in _FORMATS:
            return dict(_FORMATS[type(node)])
        if isinstance(node, info.CustomType):  # there are but these two
            return dict(_SECRET if issubclass(node.cls, Secret) else _PATH)
        if isinstance(node, info.Metadata):
            extra = node.extra_json_schema or {}
            return self.schema(node.type) | {
                key: value for key, value in extra.items() if key in _ANNOTATIONS
            }
        if isinstance(node, info.IntType):
            return {"type": "integer"} | _limits(node, _NUMBERS)
        if isinstance(node, info.FloatType):
            return {"type": "number"} | _limits(node, _NUMBERS)
        if isinstance(node, info.StrType):
            return {"type": "string"} | _limits(node, _TEXTS)
        if isinstance(node, _BYTES):
            return {"type": "string", "contentEncoding": "base64"}
        if isinstance(node, info.DateTimeType | info.TimeType):
            kind = "date-time" if isinstance(node, info.DateTimeType) else "time"
            return {"type": "string", "format": kind} | ({} if node.tz is None else {"x-tz": node.tz})
        if isinstance(node, info.LiteralType):
            return {"enum": list(node.values)}
        if isinstance(node, info.UnionType):
            return self._union(node)
        if isinstance(node, info.DictType | info.FrozenDictType):
            return self._dict(node)
        if isinstance(node, info.TupleType):
            return _tuple([self.schema(item) for item in node.item_types], len(node.item_types), closed=True)
        item = getattr(node, "item_type", None)
        if item is not None:
            return {"type": "array"} | _optional("items", self.schema(item)) | _limits(node, _ARRAYS)
        return {"$ref": f"#/$defs/{self._name(node)}"}

    def object(self, fields: tuple[info.Field, ...], *, closed: bool) -> dict[str, Any]:
        """The schema of an object with these fields."""
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {field.encode_name: self._field(field) for field in fields},
            "required": [field.encode_name for field in fields if field.required],
        }
        if closed:
            schema["additionalProperties"] = False
        return schema

    def _field(self, field: info.Field) -> dict[str, Any]:
        schema = self.schema(field.type)
        factory = field.default_factory
        default = field.default if field.default is not msgspec.NODEFAULT else None
        if field.required or (
            default is None and field.default is msgspec.NODEFAULT and factory is msgspec.NODEFAULT
        ):
            return schema
        try:
            if field.default is msgspec.NODEFAULT:
                default = factory()
            msgspec.json.encode(default)
            return schema | {"default": msgspec.to_builtins(default, str_keys=True)}
        except Exception:  # noqa: BLE001 - a default without a JSON form is simply not shown
            return schema

    def _union(self, node: info.UnionType) -> dict[str, Any]:
        members = [self.schema(member) for member in node.types]
        tagged = [member for member in node.types if isinstance(member, info.StructType) and member.tag_field]
        if len(tagged) > 1:  # alone, a struct may come without its tag; among others it may not
            tag = tagged[0].tag_field
            for schema, member in zip(members, node.types, strict=True):
                if member in tagged and not tagged[0].array_like:
                    schema["required"] = [tag]
        return {"anyOf": members}

    def _dict(self, node: info.DictType | info.FrozenDictType) -> dict[str, Any]:
        key = self.schema(node.key_type)
        if "$ref" in key:  # an enum
            key = {"enum": self.defs[key["$ref"].rpartition("/")[2]]["enum"]}
        if key.pop("type", None) == "integer":
            key = {"format": "integer"}
        return (
            {"type": "object"}
            | _optional("propertyNames", key)
            | _optional("additionalProperties", self.schema(node.value_type))
            | _limits(node, _OBJECTS)
        )

    def _name(self, node: Any) -> str:
        """The name in `$defs` of a class, which is described there at its first mention."""
        if node.cls in self._names:
            return self._names[node.cls]
        origin = getattr(node.cls, "__origin__", node.cls)
        plain = name = str(origin.__name__)
        number = 1
        while name in self.defs:
            number += 1
            name = f"{plain}_{number}"
        self._names[node.cls] = name
        self.defs[name] = {}  # taken: the class may refer to itself
        self.defs[name] |= {"title": plain} | self._class(node)
        return name

    def _class(self, node: Any) -> dict[str, Any]:
        if isinstance(node, info.EnumType):
            if issubclass(node.cls, enum.Flag):
                return {"type": "integer"}  # any combination of its members
            return {"enum": [member.value for member in node.cls]}
        if isinstance(node, info.NamedTupleType):
            return self._row(node.fields, closed=True)
        if not isinstance(node, info.StructType):
            return self.object(node.fields, closed=False)
        tag = {"const": node.tag}
        if node.array_like:
            schema = self._row(node.fields, closed=node.forbid_unknown_fields)
            if node.tag_field:
                schema["prefixItems"].insert(0, tag)
                schema |= {
                    "minItems": schema["minItems"] + 1,
                    "discriminator": {"propertyName": node.tag_field},
                }
                if "maxItems" in schema:
                    schema["maxItems"] += 1
            return schema
        schema = self.object(node.fields, closed=node.forbid_unknown_fields)
        if node.tag_field:
            schema["properties"] = {node.tag_field: tag} | schema["properties"]
            schema["discriminator"] = {"propertyName": node.tag_field}
        return schema

    def _row(self, fields: tuple[info.Field, ...], *, closed: bool) -> dict[str, Any]:
        needed = sum(1 for field in fields if field.required)
        return _tuple([self._field(field) for field in fields], needed, closed=closed)


def _tuple(items: list[dict[str, Any]], needed: int, *, closed: bool) -> dict[str, Any]:
    most = {"maxItems": len(items), "items": False} if closed else {}
    return {"type": "array", "prefixItems": items, "minItems": needed} | most


def _limits(node: Any, words: dict[str, str]) -> dict[str, Any]:
    return {word: value for name, word in words.items() if (value := getattr(node, name, None)) is not None}


def _optional(word: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {word: schema} if schema else {}
