"""Where a script's args hold secrets, and texts without them.

A schema marks a secret with `writeOnly` (`hotpath.Secret`, a password in a flow's schema). `Places` finds
what is there in a job's args, `Masker` takes it out of whatever else the job leaves behind: as it is, as
JSON, `repr`, URLs, hex and base64 write it, and line by line.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from hotpath.model import MASK

SHORTEST = 4
"""Characters of the shortest secret that is looked for in texts: a shorter one is in every other word."""
ENCODED = 8
"""Characters of the shortest one that is looked for in other forms too, and of the shortest such form."""

_WAITS = 8
"""So many times the longest form may wait to see whether a longer secret comes of it."""
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*')
"""A text or a number of a JSON document."""
_SAID = ("name", "message", "traceback")
_MASKED = msgspec.json.encode(MASK)


class Places:
    """The places in the args of one version that its schema marks as secret."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._defs: Mapping[str, Any] = schema.get("$defs", {})
        self.defaults: tuple[str, ...] = ()
        """Secrets that are there where the args are not, as far as is known."""
        self._names: set[str] = set()
        """Definitions that lead to a secret."""
        while more := {
            name for name, each in self._defs.items() if name not in self._names and self.leads(each)
        }:
            self._names |= more

    def leads(self, schema: Any) -> bool:
        """Whether a part of the schema is a secret, or has one in it."""
        if not isinstance(schema, Mapping):
            return False
        if "$ref" in schema:
            return schema["$ref"].rpartition("/")[2] in self._names
        return (
            schema.get("writeOnly") is True
            or any(map(self.leads, schema.get("properties", {}).values()))
            or any(map(self.leads, (*schema.get("prefixItems", ()), *schema.get("anyOf", ()))))
            or self.leads(schema.get("additionalProperties"))
            or self.leads(schema.get("items"))
        )

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.leads(self._schema)

    def mask(self, args: Any) -> Any:
        """A copy of the args with `MASK` in these places; null stays null."""
        return self._walk([self._schema], args, lambda _: MASK)

    def texts(self, args: Any) -> list[str]:
        """What stands in these places, as text, and the defaults."""
        found = list(self.defaults)
        self._walk([self._schema], args, lambda value: found.extend(_texts(value)))
        return found

    def _walk(self, schemas: list[Any], value: Any, met: Callable[[Any], Any]) -> Any:
        if value is None:
            return None
        options = list(self._options(schemas))
        if not isinstance(value, dict | list):
            return met(value) if any(option.get("writeOnly") for option in options) else value
        kind = "object" if isinstance(value, dict) else "array"
        inside = [option for option in options if option.get("type") == kind and not option.get("writeOnly")]
        if not inside:  # what is there is not what should be
            return met(value) if options else value
        if isinstance(value, dict):
            return {
                key: self._walk([_property(option, key) for option in inside], item, met)
                for key, item in value.items()
            }
        return [
            self._walk([_item(option, index) for option in inside], item, met)
            for index, item in enumerate(value)
        ]

    def _options(self, schemas: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
        """The schemas that the value may be of, as far as they lead to a secret."""
        seen: set[str] = set()
        waiting = list(schemas)
        while waiting:
            schema = waiting.pop()
            if not self.leads(schema):
                continue
            if "$ref" in schema:
                name = schema["$ref"].rpartition("/")[2]
                if name not in seen:
                    seen.add(name)
                    waiting.append(self._defs[name])
            elif "anyOf" in schema:
                waiting.extend(schema["anyOf"])
            else:
                yield schema


def _property(schema: Mapping[str, Any], key: str) -> Any:
    return schema.get("properties", {}).get(key, schema.get("additionalProperties"))


def _item(schema: Mapping[str, Any], index: int) -> Any:
    first = schema.get("prefixItems", ())
    return first[index] if index < len(first) else schema.get("items")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool):
        yield msgspec.json.encode(value).decode()


def places_of(schema: Mapping[str, Any]) -> Places | None:
    """Where a version's args hold secrets; None if nowhere."""
    places = Places(schema)
    return places or None


class Masker:
    """Takes certain secrets out of texts. May be shared between threads."""

    __slots__ = ("_first", "_letters", "_longest", "forms", "secrets")

    def __init__(self, secrets: Iterable[str]) -> None:
        self.secrets = frozenset(text for text in secrets if len(text) >= SHORTEST and text not in MASK)
        self.forms = tuple(sorted({form for text in self.secrets for form in _forms(text)}, key=_by_length))
        """What is looked for, the longest first."""
        first = {form[0] for form in self.forms}
        self._first = re.compile(f"[{re.escape(''.join(sorted(first)))}]") if first else None
        self._letters = frozenset("".join(self.forms))
        self._longest = len(self.forms[0]) if self.forms else 0

    def __bool__(self) -> bool:
        return bool(self.forms)

    def text(self, text: str) -> str:
        """The text with `MASK` for each secret in it."""
        for form in self.forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def json(self, raw: bytes) -> bytes:
        """A JSON document whose texts, keys included, are masked, and numbers that are a secret; all else is
        as it was.
        """
        if b"\\" not in raw:
            shown = raw.decode("utf-8", "replace")
            if not any(form in shown for form in self.forms):
                return raw
        return _TOKEN.sub(self._token, raw)

    def value(self, value: Any) -> Any:
        """A copy of a JSON value, masked likewise."""
        return value if not self.forms else msgspec.json.decode(self.json(msgspec.json.encode(value)))

    def error(self, error: dict[str, Any] | None) -> dict[str, Any] | None:
        """A stored error object, masked in what others have worded of it."""
        if error is None or not self.forms:
            return error
        return {
            key: self.text(value) if key in _SAID and isinstance(value, str) else value
            for key, value in error.items()
        }

    def _token(self, match: re.Match[bytes]) -> bytes:
        token = match.group()
        if not token.startswith(b'"'):
            return _MASKED if token.decode() in self.secrets else token
        text: str = msgspec.json.decode(token)
        masked = self.text(text)
        return token if masked == text else msgspec.json.encode(masked)

    def begun(self, text: str) -> int:
        """How many of the last characters may be the beginning of a secret."""
        if self._first is None or text[-1:] not in self._letters:
            return 0  # as a rule: a line has ended
        start = max(0, len(text) - self._longest + 1)
        for match in self._first.finditer(text, start):
            rest = text[match.start() :]
            if any(len(form) > len(rest) and form.startswith(rest) for form in self.forms):
                return len(rest)
        return 0

    def settled(self, text: str) -> int:
        """Up to where the text can be masked without what follows: not a secret that is the beginning of a
        longer one, nor one that such a cut would part.
        """
        cut = len(text) - self.begun(text)
        if not any(form in text[cut:] for form in self.forms):
            return len(text)
        least = max(0, len(text) - _WAITS * self._longest)
        while cut > least:
            start = min((at for form in self.forms if (at := _parted(text, form, cut)) >= 0), default=cut)
            if start == cut:
                return cut
            cut = start
        return len(text) if cut else 0


class MaskedStream:
    """Masks a text that comes in pieces: what may be the beginning of a secret waits for the next one."""

    __slots__ = ("_held", "_masker")

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be shown now that this has come."""
        text = self._held + text
        cut = self._masker.settled(text)
        masked = self._masker.text(text[:cut])
        if cut < len(text):
            self._held = text[cut:]
            return masked
        held = self._masker.begun(masked)
        self._held = masked[len(masked) - held :]
        return masked[: len(masked) - held]

    def rest(self) -> str:
        """What has been waiting, now that nothing more comes."""
        held, self._held = self._held, ""
        return self._masker.text(held)


@functools.lru_cache(maxsize=256)
def masker_of(secrets: tuple[str, ...]) -> Masker:
    """The masker of these secrets: as a rule the same ones come with job after job."""
    return Masker(secrets)


def _parted(text: str, form: str, cut: int) -> int:
    """Where the form begins that a cut there would part; -1 if it parts none."""
    return text.find(form, max(0, cut - len(form) + 1), cut + len(form) - 1)


def _by_length(form: str) -> tuple[int, str]:
    return -len(form), form


def _forms(secret: str) -> Iterator[str]:
    """How a secret may be written."""
    lines = (line.strip() for line in secret.splitlines())
    for text in {secret, secret.strip(), *(line for line in lines if len(line) >= ENCODED)}:
        if len(text) < SHORTEST:
            continue
        yield text
        yield msgspec.json.encode(text).decode()[1:-1]
        yield json.dumps(text)[1:-1]
        yield repr(text)[1:-1]
        if len(text) >= ENCODED:
            yield from _encoded(text)


def _encoded(text: str) -> Iterator[str]:
    yield urllib.parse.quote(text)
    yield urllib.parse.quote(text, safe="")
    yield urllib.parse.quote_plus(text)
    raw = text.encode("utf-8", "surrogatepass")
    yield raw.hex()
    yield raw.hex().upper()
    # Within a longer text, base64 depends on where the secret begins: of each way, what is always the same.
    for before in range(3):
        form = base64.b64encode(b"\0" * before + raw)
        stable = form[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]
        if len(stable) >= ENCODED:
            yield stable.decode()
            yield stable.decode().translate(_URL_SAFE)


_URL_SAFE = str.maketrans("+/", "-_")
