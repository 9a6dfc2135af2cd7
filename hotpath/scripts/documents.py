"""Read a YAML or JSON file as plain data, with the line of everything in it, from people who may mean harm.

YAML is read as version 1.2 understands it, which is what Windmill writes: `yes`, `on` and dates are text. No
tag makes anything but data. Size, depth and number of parts are bounded, those that aliases repeat counted as
often as they are repeated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import attrs

from hotpath.core.flow.source import Lines

MAX_BYTES = 1024 * 1024
MAX_PARTS = 200_000
"""Mappings, lists and scalars of a document, aliases expanded."""
MAX_DEPTH = 300

_NULL = re.compile(r"null|Null|NULL|~|", re.ASCII)
_TRUE = re.compile(r"true|True|TRUE", re.ASCII)
_FALSE = re.compile(r"false|False|FALSE", re.ASCII)
_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)
_TEXT_TAGS = frozenset({"tag:yaml.org,2002:str", "!"})
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq"))
_JSON_SPACE = re.compile(r"[ \t\r\n]*")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
_JSON = json.JSONDecoder()
_JSON_WORDS = {"true": True, "false": False, "null": None}


class DocumentError(Exception):
    """The text is no such document, or a forbidden one."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def read_document(raw: bytes, *, is_json: bool) -> tuple[Any, Lines]:
    """The data in the file, and its lines. Raises `DocumentError`."""
    if len(raw) > MAX_BYTES:
        raise DocumentError(
            f"is {len(raw) / 2**20:.1f} MiB long; a flow's file may have {MAX_BYTES // 2**20} MiB", 1
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DocumentError(f"is not UTF-8: byte {error.start} is {raw[error.start]:#04x}", line) from None
    return _read_json(text) if is_json else _read_yaml(text)


@attrs.define
class _Open:
    """A mapping or list whose end has not come yet."""

    container: Any
    line: int
    anchor: str | None
    before: int
    """Parts of the document before it."""
    entries: dict[Any, int] = attrs.field(factory=dict)
    key: Any = None
    has_key: bool = False


class _Builder:
    """Puts data together part by part: no recursion, whatever the depth."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.result: Any = None
        self.parts = 0
        self._stack: list[_Open] = []

    @property
    def place(self) -> _Open | None:
        """The mapping or list that we are in."""
        return self._stack[-1] if self._stack else None

    def count(self, parts: int, line: int) -> None:
        """Count what has come."""
        self.parts += parts
        if self.parts > MAX_PARTS:
            raise DocumentError(f"has more than {MAX_PARTS:,} parts, with its aliases expanded", line)

    def open(self, container: Any, line: int, anchor: str | None = None) -> None:
        """A mapping or list begins."""
        self.count(1, line)
        if len(self._stack) >= MAX_DEPTH:
            raise DocumentError(f"is nested more than {MAX_DEPTH} deep", line)
        if self.place is not None and self.place.has_key is False and isinstance(self.place.container, dict):
            raise DocumentError("has a mapping or list as a key; keys are text", line)
        self._stack.append(_Open(container, line, anchor, self.parts - 1))

    def close(self) -> _Open:
        """It ends."""
        done = self._stack.pop()
        self.lines.note(done.container, done.line, done.entries)
        self.put(done.container, done.line)
        return done

    def key(self, name: str, line: int) -> None:
        """The key of what comes next in a mapping."""
        place = self.place
        assert place is not None
        if name in place.container:
            raise DocumentError(f"has the key `{name[:80]}` twice, first on line {place.entries[name]}", line)
        place.key, place.has_key = name, True
        place.entries[name] = line

    def put(self, value: Any, line: int) -> None:
        """A value is complete."""
        place = self.place
        if place is None:
            self.result = value
        elif isinstance(place.container, list):
            place.entries[len(place.container)] = line
            place.container.append(value)
        else:
            place.container[place.key] = value
            place.has_key = False


def _read_yaml(text: str) -> tuple[Any, Lines]:
    import yaml  # here: 15 ms that whoever has no flow need not pay

    builder = _Builder()
    anchors: dict[str, tuple[Any, int] | None] = {}
    documents = 0
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            line = _line(event.start_mark)
            match event:
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        raise DocumentError("has more than one document (`---`)", line)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    if event.tag is not None and event.tag not in _PLAIN_TAGS:
                        raise DocumentError(f"has the tag {event.tag[:60]!r}, which is not supported", line)
                    if event.anchor is not None:
                        anchors[event.anchor] = None
                    builder.open({} if isinstance(event, yaml.MappingStartEvent) else [], line, event.anchor)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    done = builder.close()
                    if done.anchor is not None:
                        anchors[done.anchor] = done.container, builder.parts - done.before
                case yaml.AliasEvent():
                    if event.anchor not in anchors:
                        raise DocumentError(f"has the alias `*{event.anchor}` of nothing", line)
                    found = anchors[event.anchor]
                    if found is None:
                        raise DocumentError(f"has `*{event.anchor}` inside itself", line)
                    _add(builder, found[0], line, found[1])
                case yaml.ScalarEvent():
                    place = builder.place
                    if place is not None and isinstance(place.container, dict) and not place.has_key:
                        if event.value == "<<" and not event.style:
                            raise DocumentError("merges mappings with `<<`, which is not supported", line)
                        builder.count(1, line)
                        builder.key(event.value, line)
                        if event.anchor is not None:
                            anchors[event.anchor] = event.value, 1
                        continue
                    value = _scalar(event, line)
                    if event.anchor is not None:
                        anchors[event.anchor] = value, 1
                    _add(builder, value, line, 1)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise DocumentError(f"is not YAML: {' '.join(str(problem).split())}", _line(mark)) from None
    return builder.result, builder.lines


def _add(builder: _Builder, value: Any, line: int, parts: int) -> None:
    place = builder.place
    if place is not None and isinstance(place.container, dict) and not place.has_key:
        raise DocumentError("has an alias as a key; keys are text", line)
    builder.count(parts, line)
    builder.put(value, line)


def _line(mark: Any) -> int:
    return mark.line + 1 if mark is not None else 1


def _scalar(event: Any, line: int) -> Any:
    """A scalar as YAML 1.2's core schema reads it."""
    text: str = event.value
    if event.tag == "!inline":
        return f"!inline {text}"  # Windmill's own: the same as if it were quoted
    if event.tag in _TEXT_TAGS or (event.tag is None and event.style):
        return text
    if event.tag is not None:
        raise DocumentError(f"has the tag {event.tag[:60]!r}, which is not supported", line)
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return _number(int, text, line)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return _number(float, text, line)
    if _NOT_FINITE.fullmatch(text):
        raise DocumentError(f"has the number {text}, which has no JSON form", line)
    return text


def _number(kind: Callable[[str], Any], text: str, line: int) -> Any:
    try:
        value = kind(text)
    except ValueError:  # too many digits
        raise DocumentError("has a number that is too long", line) from None
    if value in {float("inf"), float("-inf")}:
        raise DocumentError(f"has the number {text[:40]}, which is too large", line)
    return value


def _read_json(text: str) -> tuple[Any, Lines]:
    reader = _JsonReader(text)
    try:
        reader.document()
    except json.JSONDecodeError as error:
        raise DocumentError(f"is not JSON: {error.msg}", error.lineno) from None
    return reader.builder.result, reader.builder.lines


class _JsonReader:
    """Reads JSON with a stack of its own."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0
        self.builder = _Builder()

    def document(self) -> None:
        """The whole text."""
        builder = self.builder
        self._value()
        while (place := builder.place) is not None:
            is_map = isinstance(place.container, dict)
            sign = self._peek()
            if sign == ("}" if is_map else "]"):
                self._at += 1
                builder.close()
                continue
            if place.entries:
                if sign != ",":
                    raise self._wrong("expected a comma or the end")
                self._at += 1
                sign = self._peek()
            if is_map:
                if sign != '"':
                    raise self._wrong("expected a key in double quotes")
                line = self._line
                name = self._string()
                builder.count(1, line)
                builder.key(name, line)
                if self._peek() != ":":
                    raise self._wrong("expected a colon")
                self._at += 1
            self._value()
        if self._peek():
            raise self._wrong("something follows the end")

    def _value(self) -> None:
        sign = self._peek()
        line, text = self._line, self._text
        if sign in {"{", "["}:
            self._at += 1
            self.builder.open({} if sign == "{" else [], line)
            return
        self.builder.count(1, line)
        if sign == '"':
            self.builder.put(self._string(), line)
            return
        for word, value in _JSON_WORDS.items():
            if text.startswith(word, self._at):
                self._at += len(word)
                self.builder.put(value, line)
                return
        number = _JSON_NUMBER.match(text, self._at)
        if number is None:
            raise self._wrong("expected a value")
        self._at = number.end()
        whole = number[1] is None and number[2] is None
        self.builder.put(_number(int if whole else float, number[0], line), line)

    def _string(self) -> str:
        value, self._at = _JSON.raw_decode(self._text, self._at)  # at a quote, so it is a text
        return str(value)

    def _peek(self) -> str:
        space = _JSON_SPACE.match(self._text, self._at)
        assert space is not None
        self._at = space.end()
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._text[self._at : self._at + 1]

    def _wrong(self, message: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(message, self._text, self._at)
