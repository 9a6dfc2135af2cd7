"""What a request asks for, checked: the query string and the path, a JSON body, the lines of a body. What is
wrong becomes a problem that names the field; nothing is taken on trust, nothing is read without a bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import isnan
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
import msgspec.inspect
from starlette.requests import ClientDisconnect, Request

from hotpath.core.schema import explain
from hotpath.core.storable import MAX_BYTES
from hotpath.web.problem import ProblemError, field_of

T = TypeVar("T")

BODY_BYTES = MAX_BYTES + (64 << 10)
"""Size up to which a JSON body is read: the largest args, and room for what is around them."""
_NO_CHOICE = ": invalid enum value "
"""In what is said of a text that is none of those that a field may be."""
_JSON = ("application/json", "text/json")


def read_asked(request: Request, kind: type[T]) -> T:
    """The parameters of the path and the query string. Raises `ProblemError` that names the one that is
    wrong, unknown, or given twice.
    """
    given: dict[str, Any] = {}
    raw: bytes = request.scope["query_string"]
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except UnicodeError:
        raise ProblemError(400, "The request is not accepted", "the query string is not UTF-8") from None
    except ValueError as error:
        raise ProblemError(400, "The request is not accepted", f"the query string: {error}") from None
    for name, value in pairs:
        if name in given or name in request.path_params:
            detail = f"field `{name}` is given more than once"
            raise ProblemError(400, "The request is not accepted", detail, field=name)
        given[name] = value
    return convert(given | request.path_params, kind)


def convert(given: dict[str, Any], kind: type[T]) -> T:
    """Texts as the values that they stand for. Raises `ProblemError` that names the field."""
    try:
        asked = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(error, kind) from None
    return in_bounds(asked)


async def read_body(request: Request, kind: type[T]) -> T:
    """The JSON body. Raises `ProblemError` that says what is wrong with it, and where."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _JSON and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        shown = f"not {media_type[:60]}" if media_type else "and say so in Content-Type"
        raise ProblemError(
            415, "Unsupported Media Type", f"send application/json, {shown}", type="unsupported-media-type"
        )
    return decode(await read_bytes(request, BODY_BYTES), kind)


async def read_bytes(request: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes. Raises `ProblemError`, or `ClientDisconnect`."""
    chunks, size = [], 0
    while chunk := await next_chunk(request):
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


async def next_chunk(request: Request) -> bytes:
    """Some bytes of the body; nothing at its end. Raises `ClientDisconnect` for one that breaks off."""
    while not request.scope.get("hotpath.read"):
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if not message.get("more_body", False):
            request.scope["hotpath.read"] = True
        if body := message.get("body"):
            return bytes(body)
    return b""


def too_large(limit: int) -> ProblemError:
    """A body, or a line of one, is longer than `limit` bytes."""
    return ProblemError(413, "Content Too Large", f"at most {limit:,} bytes are read", type="too-large")


def decode(raw: bytes, kind: type[T]) -> T:
    """JSON as a value of this type. Raises `ProblemError`."""
    title = "The request is not accepted"
    try:
        if not raw.isascii():
            raw.decode()  # msgspec skips over text that it does not keep
        value = msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise _refusal(error, kind) from None
    except UnicodeDecodeError as error:
        where = f"the body is not UTF-8: byte {error.start} is {raw[error.start]:#04x}"
        raise ProblemError(400, title, where, type="not-json") from None
    except RecursionError:
        raise ProblemError(400, title, "the body is nested too deeply", type="not-json") from None
    except (msgspec.DecodeError, ValueError) as error:
        said = str(error).removeprefix("JSON is malformed: ")
        raise ProblemError(400, title, f"the body is not JSON: {said}", type="not-json") from None
    return in_bounds(value)


def in_bounds(value: T) -> T:
    """The value itself, if its times and numbers are such that can be reckoned with; a `ProblemError` that
    names the field if not.
    """
    for name in getattr(value, "__struct_fields__", ()):
        item = getattr(value, name)
        wrong = None
        if isinstance(item, datetime):
            try:
                item.astimezone(UTC)
            except OverflowError:
                wrong = "is beyond what a time can be"
        elif isinstance(item, float) and isnan(item):
            wrong = "is no number"
        elif isinstance(item, str) and "\0" in item:
            wrong = "holds a NUL character, which cannot be stored"
        if wrong is not None:
            shown = _encoded(type(value), name)
            raise ProblemError(400, "The request is not accepted", f"field `{shown}` {wrong}", field=shown)
    return value


def _encoded(kind: Any, name: str) -> str:
    names: dict[str, str] = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    return names[name]


def _names(kind: Any) -> tuple[str, ...]:
    return getattr(kind, "__struct_encode_fields__", ())


def _refusal(error: msgspec.ValidationError, kind: Any) -> ProblemError:
    detail = explain(error, _names(kind))
    if detail.startswith("args: "):
        detail = f"the body: {detail[6:]}"
    field = field_of(detail)
    if _NO_CHOICE in detail and (choices := _choices(kind, field)):
        detail += f"; one of {', '.join(choices)}"
    return ProblemError(400, "The request is not accepted", detail, field=field)


def _choices(kind: Any, path: str | None) -> list[str]:
    """The texts between which the field at this path of it may choose; none where it is no such field."""
    found = [msgspec.inspect.type_info(kind)]
    for name in (path or "").split("."):
        found = [
            field.type
            for each in _within(found)
            if isinstance(each, msgspec.inspect.StructType)
            for field in each.fields
            if field.encode_name == re.sub(r"\[.*\]", "", name)
        ]
    choices: list[str] = []
    for each in _within(found):
        if isinstance(each, msgspec.inspect.LiteralType):
            choices += map(str, each.values)
        elif isinstance(each, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            choices.append("a number")
    return choices


def _within(kinds: Sequence[msgspec.inspect.Type]) -> Iterator[msgspec.inspect.Type]:
    """What a value of these types may be, or its items."""
    for each in kinds:
        if isinstance(each, msgspec.inspect.UnionType):
            yield from _within(each.types)
        elif isinstance(each, msgspec.inspect.Metadata):
            yield from _within([each.type])
        elif isinstance(each, msgspec.inspect.CollectionType):
            yield from _within([each.item_type])
        else:
            yield each
