"""Args against their JSON Schema: whoever enqueues validates what the job would refuse, without importing the
script.

The schemas are those that `hotpath.scripts.args_schema` writes, each word of which has its counterpart in
msgspec. So a schema is turned back into a msgspec type once, and then a job's args are validated by decoding
them: in 0.5 µs, by the very code that will decode them again when the job runs.

Whole numbers may be of any size that Python reads (4,300 digits); NaN and the infinities are refused, since
JSON has no name for them.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import difflib
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union

import msgspec

from hotpath.core.storable import MAX_BYTES, NUL, encode, encode_lines, find_fault, has_nul
from hotpath.errors import BadArgsError

_IN_KEY = re.compile(r" - at `key` in `(.*)`$", re.DOTALL)
_AT = re.compile(r" - at `(.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`$", re.DOTALL)
_EXPECTED = re.compile(r"^Expected `(.*?)`(?:, got `(.*?)`)?(.*)$", re.DOTALL)
_REFUSED = (msgspec.DecodeError, ValueError, RecursionError)  # ValidationError is a DecodeError


def explain(error: Exception, known: Iterable[str] = ()) -> str:
    """A msgspec error about args as one line that names the field: "field `x`: expected int, got str".

    `known` are the args' fields, among which the one is looked for that an unknown field may have meant.
    """
    if isinstance(error, RecursionError):
        return "args are nested too deeply"
    text = str(error)
    path = ""
    if in_key := _IN_KEY.search(text):
        text = f"{text[: in_key.start()]} as a key - at `{in_key.group(1)}`"
    if at := _AT.search(text):
        path = re.sub(r"^\$(\[\d+\](?=\.|$))?\.?", "", at.group(1))  # without the index in a batch
        text = text[: at.start()]
    if missing := _MISSING.match(text):
        return f"field `{_join(path, missing.group(1))}` is missing"
    if unknown := _UNKNOWN.match(text):
        close = [] if path else difflib.get_close_matches(unknown.group(1), list(known), n=1)
        hint = f" (did you mean `{close[0]}`?)" if close else ""
        return f"field `{_join(path, unknown.group(1))}` is unknown{hint}"
    if expected := _EXPECTED.match(text):
        what = expected.group(1).replace("`", "")
        got = f", got {expected.group(2)}" if expected.group(2) else ""
        text = f"expected {what}{got}{expected.group(3)}"
    else:
        text = text[:1].lower() + text[1:]
    return f"field `{path}`: {text}" if path else f"args: {text}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


class ArgsValidator:
    """Validates args against one version's schema; make it once per version, and share it between threads if
    you like.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        types = _Types(schema.get("$defs", {}))
        self._known = list(schema.get("properties", {}))
        extra = schema.get("additionalProperties", True)
        self._extra: msgspec.json.Decoder[Any] | None = None
        if isinstance(extra, Mapping):
            self._extra = msgspec.json.Decoder(types.of(extra))
        kind = types.struct(schema) if self._known or extra is False else dict[str, Any]
        decoder = msgspec.json.Decoder(kind)
        self._decode = decoder.decode
        self._decode_lines = decoder.decode_lines
        self._open = extra is not False

    def encode(self, args: Mapping[str, Any]) -> bytes:
        """The args as JSON, validated. Raises `BadArgsError` that names the field that is wrong."""
        if type(args) is not dict:
            if not isinstance(args, Mapping):
                raise BadArgsError(f"args must be one JSON object, not {_kind(args)}")
            args = dict(args)
        try:
            raw = encode(args)
            self._decode(raw)
        except Exception as error:  # noqa: BLE001 - encoding runs code of the values, which raises what it likes
            raise self._refusal(error, args) from None
        # Null may stand for a NaN, and `\u0000` for a NUL: only then is the slow look worth it.
        if (NUL in raw or b"null" in raw) and (fault := find_fault(args, finite=True)):
            raise BadArgsError(f"field `{fault.path.lstrip('.')}` {fault.reason}")
        self._check_rest(raw)
        return raw

    def encode_many(self, many: list[Any]) -> list[bytes] | None:
        """The JSON of each of many args, validated together, at a quarter of the cost of one by one.

        None when one of them is wrong, or may be: then `encode` each, which says what it is.
        """
        if set(map(type, many)) != {dict} or self._extra is not None:
            return None
        try:
            lines = encode_lines(many)
            self._decode_lines(lines)
        except Exception:  # noqa: BLE001 - as in `encode`, which will say it
            return None
        if NUL in lines or b"null" in lines or len(lines) > MAX_BYTES:
            return None
        # JSON as it is written here has no line ends inside, a `msgspec.Raw` may. The last line has one too.
        raws = lines.split(b"\n")[:-1]
        return raws if len(raws) == len(many) else None

    def check_json(self, raw: bytes) -> bytes:
        """One JSON document, validated and without insignificant white space. Raises `BadArgsError` that
        names the field.
        """
        if len(raw) > MAX_BYTES:
            raise BadArgsError(_too_large(len(raw)))
        try:
            if not raw.isascii():
                raw.decode()  # msgspec skips over text that it does not keep
            self._decode(raw)
            compact = msgspec.json.format(raw, indent=-1)
        except _REFUSED as error:
            raise self._json_refusal(error, raw) from None
        if NUL in compact and has_nul(compact):
            raise self._json_refusal(ValueError("NUL"), compact)
        self._check_rest(compact)
        return compact

    def _check_rest(self, raw: bytes) -> None:
        """What the decoder does not look at: the size, and the fields that `**kwargs` takes."""
        if len(raw) > MAX_BYTES:
            raise BadArgsError(_too_large(len(raw)))
        if self._extra is None:
            return
        for name, piece in msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).items():
            if name in self._known:
                continue
            try:
                self._extra.decode(piece)
            except _REFUSED as error:
                text = explain(error)
                inner = text.startswith("field `")
                where = f"field `{name}.{text[7:]}" if inner else f"field `{name}`{text.removeprefix('args')}"
                raise BadArgsError(where) from None

    def _refusal(self, error: Exception, args: Mapping[str, Any]) -> BadArgsError:
        if fault := find_fault(args, finite=True):
            where = f"field `{fault.path.lstrip('.')}`" if fault.path else "args"
            return BadArgsError(f"{where} {fault.reason}")
        if isinstance(error, RecursionError | msgspec.ValidationError):
            return BadArgsError(explain(error, self._known))
        return BadArgsError(f"args cannot be written as JSON: {error}")

    def _json_refusal(self, error: Exception, raw: bytes) -> BadArgsError:
        if isinstance(error, msgspec.ValidationError):
            text = str(error)
            if text.startswith("Expected `object`") and " - at " not in text:
                return BadArgsError(f"args must be one JSON object, {text[19:].replace('`', '').strip()}")
            return BadArgsError(explain(error, self._known))
        if isinstance(error, RecursionError):
            return BadArgsError(explain(error))
        if isinstance(error, UnicodeDecodeError):
            return BadArgsError(f"args are not UTF-8: byte {error.start} is {raw[error.start]:#04x}")
        import json  # here: the slow way is for what msgspec refuses

        try:
            fault = find_fault(json.loads(raw), finite=True)
        except (ValueError, RecursionError):
            fault = None
        if fault is not None:
            return BadArgsError(f"field `{fault.path.lstrip('.')}` {fault.reason}")
        return BadArgsError(f"args are not JSON: {str(error).removeprefix('JSON is malformed: ')}")


def _kind(value: object) -> str:
    return {"list": "an array", "tuple": "an array", "str": "text", "NoneType": "null"}.get(
        type(value).__name__, f"of type {type(value).__name__}"
    )


def _too_large(size: int) -> str:
    return f"args are {size:,} bytes of JSON; at most {MAX_BYTES:,} are stored"


_FORMATS: dict[str, Any] = {
    "date": dt.date,
    "duration": dt.timedelta,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
    "integer": int,
    "path": str,
}
_PLAIN: dict[str, Any] = {"null": None, "boolean": bool}
_LIMITS = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "pattern": "pattern",
    "minItems": "min_length",
    "maxItems": "max_length",
    "minProperties": "min_length",
    "maxProperties": "max_length",
}


class _Types:
    """msgspec types for the schemas of one document."""

    def __init__(self, defs: Mapping[str, Any]) -> None:
        self._defs = defs
        self._made: dict[str, Any] = {}

    def of(self, schema: Any) -> Any:
        """The type whose values are those that the schema allows."""
        if not isinstance(schema, Mapping):
            return Any
        if ref := schema.get("$ref"):
            return self._named(ref.rpartition("/")[2])
        if "anyOf" in schema:
            return Union[tuple(self.of(member) for member in schema["anyOf"])]  # noqa: UP007 - of a computed tuple
        if "enum" in schema:
            return Literal[tuple(schema["enum"])]
        if "const" in schema:
            return Literal[schema["const"]]
        form = schema.get("format")
        if form in {"date-time", "time"}:
            kind = dt.datetime if form == "date-time" else dt.time
            return Annotated[kind, msgspec.Meta(tz=schema["x-tz"])] if "x-tz" in schema else kind
        if form in _FORMATS:
            return _FORMATS[form]
        if schema.get("contentEncoding") == "base64":
            return bytes
        return self._by_type(schema)

    def _by_type(self, schema: Mapping[str, Any]) -> Any:
        kind = schema.get("type")
        if kind in _PLAIN:
            return _PLAIN[kind]
        if kind in {"integer", "number", "string"}:
            return _limited({"integer": int, "number": float, "string": str}[kind], schema)
        if kind == "array":
            if "prefixItems" in schema:
                return self._row(schema)
            return _limited(list[self.of(schema.get("items"))], schema)  # type: ignore[misc]
        if kind == "object":
            if "properties" in schema:
                return self.struct(schema)
            keys = schema.get("propertyNames")
            key = str if keys is None else self.of({"type": "string"} | keys)
            return _limited(dict[key, self.of(schema.get("additionalProperties"))], schema)  # type: ignore[misc,valid-type]
        return Any

    def _named(self, name: str) -> Any:
        if name not in self._made:
            schema = self._defs[name]
            if schema.get("type") == "object":
                self.struct(schema, name)
            elif "prefixItems" in schema:
                self._row(schema, name)
            else:
                self._made[name] = self.of(schema)
        return self._made[name]

    def struct(self, schema: Mapping[str, Any], name: str | None = None) -> Any:
        """A struct for an object with known properties; remembered under `name` before its fields are looked
        at.
        """
        tag_field = schema.get("discriminator", {}).get("propertyName")
        properties = dict(schema["properties"])
        tag = properties.pop(tag_field)["const"] if tag_field else None
        required = set(schema.get("required", ()))
        closed = schema.get("additionalProperties") is False
        attributes = {f"f{index}": field for index, field in enumerate(properties)}
        kind = msgspec.defstruct(
            "object",
            [
                (attribute, Any) if field in required else (attribute, Any, msgspec.field(default=None))
                for attribute, field in attributes.items()
            ],
            kw_only=True,
            rename=attributes,
            forbid_unknown_fields=closed,
            tag=tag,
            tag_field=tag_field,
        )
        if name is not None:
            self._made[name] = kind
        # msgspec reads annotations when a decoder is made, so a class may refer to itself by then.
        kind.__annotations__.update(
            {attribute: self.of(properties[field]) for attribute, field in attributes.items()}
        )
        return kind

    def _row(self, schema: Mapping[str, Any], name: str | None = None) -> Any:
        """A tuple, or a class that is written as an array; remembered before its items are looked at."""
        items = list(schema["prefixItems"])
        needed = schema.get("minItems", 0)
        closed = schema.get("items") is False
        tag_field = schema.get("discriminator", {}).get("propertyName")
        if closed and tag_field is None and name is None:
            return tuple[tuple(self.of(item) for item in items)]  # type: ignore[misc]
        tag = None
        if tag_field:
            tag = items.pop(0)["const"]
            needed -= 1
        names = [f"f{index}" for index in range(len(items))]
        row: Any
        if (
            closed and tag_field is None
        ):  # msgspec names the field when a named tuple is too long, a struct's not
            row = collections.namedtuple("array", names)  # type: ignore[misc,no-redef]  # noqa: PYI024
            row._field_defaults = dict.fromkeys(names[needed:])
        else:
            fields = [
                (item, Any) if index < needed else (item, Any, None) for index, item in enumerate(names)
            ]
            row = msgspec.defstruct(
                "array", fields, array_like=True, forbid_unknown_fields=closed, tag=tag, tag_field=tag_field
            )
        if name is not None:
            self._made[name] = row
        row.__annotations__ = dict(zip(names, map(self.of, items), strict=True))
        return row


def _limited(kind: Any, schema: Mapping[str, Any]) -> Any:
    limits = {meta: schema[word] for word, meta in _LIMITS.items() if word in schema}
    return Annotated[kind, msgspec.Meta(**limits)] if limits else kind
