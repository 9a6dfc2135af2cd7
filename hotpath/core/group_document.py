"""A group's configuration as a document, read and changed: every field is checked where it is set.

The same document everywhere: in the database, in YAML files, in the API; what is not set is not in it. Every
error begins with the field that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hotpath.core.groups import (
    FIELDS,
    PYTHON,
    SHELL,
    GroupConfig,
    GroupTag,
    Periodic,
    ScriptText,
    language_of,
)
from hotpath.core.tags import EXCLUDES, parse_patterns, refuse_unheard
from hotpath.errors import UsageError
from hotpath.model import MASK

MAX_NAME = 100
MAX_ITEMS = 200
"""Entries of one field."""
MAX_TEXT = 256 * 1024
"""Characters of a script's text."""
MAX_ENV = 64 * 1024
"""Characters of a value of the environment."""
SHORTEST_PERIOD = 10.0
LONGEST = 86_400.0
"""Seconds of a period or a time-out: a day."""
OURS = ("HOTPATH_DATABASE_URL", "HOTPATH_LISTEN_URL", "DATABASE_URL", "PGPASSWORD")
"""What user code does not get to see."""

_PRIORITY = re.compile(r"(.+):(-?\d{1,5})")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME = re.compile(r"[\w][\w.-]*")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, None: 1.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def check_name(name: object) -> str:
    """The name of a group. Raises `UsageError`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise UsageError(
            f"field `name` of a group must be up to {MAX_NAME} letters, digits, dots and dashes, "
            f"not {str(name)[:80]!r}"
        )
    return name


def read_config(document: Mapping[str, Any], before: GroupConfig | None = None) -> GroupConfig:
    """The configuration that a document describes. Raises `UsageError` that names the field.

    Where a value of `env` is the mask, it is the one of `before`.
    """
    given: dict[str, Any] = {}
    for name, value in document.items():
        if name not in _READERS:
            raise UsageError(f"field `{str(name)[:80]}` is unknown; a group has {', '.join(FIELDS)}")
        if value is not None:
            given[name] = _READERS[name](f"field `{name}`", value)
    known = before.env if before is not None else {}
    for name, value in given.get("env", {}).items():
        if value == MASK:
            if name not in known:
                raise UsageError(
                    f"field `env.{name}` is {MASK}, which stands for a value that is not known here"
                )
            given["env"][name] = known[name]
    config = GroupConfig(**given)
    _check_together(config)
    return config


def _check_together(config: GroupConfig) -> None:
    """What contradicts itself."""
    if config.tags:
        patterns = {tag.pattern for tag in config.tags}
        for pattern in sorted(patterns):
            if EXCLUDES + pattern in patterns:
                raise UsageError(f"field `tags` has both {pattern!r} and {EXCLUDES + pattern!r}")
        for tag in config.tags:
            if tag.pattern.startswith(EXCLUDES) and tag.priority:
                raise UsageError(f"field `tags`: {tag.pattern!r} excludes: it can have no priority")
        assert config.patterns is not None, "there are tags"  # which checks them
        refuse_unheard(config.patterns, "field `tags`")
    if twice := sorted(set(config.env) & set(config.env_from_host)):
        raise UsageError(f"field `env_from_host`: {twice[0]} is in `env` as well; leave it in one of them")
    if config.init_timeout is not None and config.init is None:
        raise UsageError("field `init_timeout` is set, and there is no `init` script")
    if config.slots is not None and config.warm is not None and config.warm < config.slots:
        raise UsageError(f"field `warm` is {config.warm}, less than `slots` ({config.slots})")
    names = [each.name for each in config.periodic]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"field `periodic` has two scripts named {double!r}")


# ------------------------------------------------------------ readers: of a field's name and its value


def _text(where: str, value: Any, most: int = 1000) -> str:
    if not isinstance(value, str) or not value or len(value) > most:
        raise UsageError(f"{where} must be text of 1 to {most} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where} holds half of a surrogate pair, which cannot be stored") from None
    if "\0" in value:
        raise UsageError(f"{where} holds a NUL character, which cannot be stored")
    return value


def _items(where: str, value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise UsageError(f"{where} must be a list")
    if len(value) > MAX_ITEMS:
        raise UsageError(f"{where} has {len(value)} entries; {MAX_ITEMS} is the most")
    return value


def _texts(where: str, value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_text(where, each) for each in _items(where, value)))


def _tags(where: str, value: Any) -> tuple[GroupTag, ...]:
    found: dict[str, GroupTag] = {}
    for each in _items(where, value):
        tag = _tag(where, each)
        if tag.pattern in found and found[tag.pattern] != tag:
            raise UsageError(f"{where} has {tag.pattern!r} with two priorities")
        found[tag.pattern] = tag
    if found:
        parse_patterns(found, where)
    return tuple(found.values())


def _tag(where: str, value: Any) -> GroupTag:
    if isinstance(value, Mapping):
        if unknown := next((key for key in value if key not in ("tag", "priority")), None):
            raise UsageError(f"{where}: unknown key {str(unknown)[:80]!r}; an entry has tag and priority")
        pattern, priority = _text(where, value.get("tag")), value.get("priority", 0)
    else:
        pattern, priority = _text(where, value), 0
        if match := _PRIORITY.fullmatch(pattern):
            pattern, priority = match[1], int(match[2])
    return GroupTag(
        pattern.strip(), _integer(f"{where}: the priority of {pattern[:80]!r}", priority, -32768, 32767)
    )


def _integer(where: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{where} must be a whole number from {low} to {high}, not {str(value)[:80]}")
    return value


def _whole(low: int, high: int) -> Callable[[str, Any], int]:
    return lambda where, value: _integer(where, value, low, high)


def seconds_of(where: str, value: Any, low: float, high: float) -> float:
    """A number of seconds, or text such as 90s, 10m or 2h."""
    if isinstance(value, str):
        match = _SPAN.fullmatch(value.strip()[:40])
        if match is None:
            raise UsageError(f"{where} must be a time such as 30s, 10m or 2h, not {value[:80]!r}")
        value = float(match[1]) * _UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UsageError(f"{where} must be from {low:g} to {high:g} seconds, not {str(value)[:80]}")
    return float(value)


def _span(low: float, high: float) -> Callable[[str, Any], float]:
    return lambda where, value: seconds_of(where, value, low, high)


def _size(where: str, value: Any) -> int:
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip()[:40])
        if match is None:
            raise UsageError(f"{where} must be a size such as 512M or 2G, not {value[:80]!r}")
        value = int(float(match[1]) * 2.0 ** (10 * _POWERS[match[2].upper()]))
    return _integer(where, value, 16 << 20, 1 << 50)


def _variable(where: str, name: Any) -> str:
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name) or len(name) > MAX_NAME:
        raise UsageError(f"{where}: {str(name)[:80]!r} is no name of a variable")
    if name in OURS:
        raise UsageError(f"{where}: {name} is the worker's own, and user code does not get to see it")
    return name


def _env(where: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} must be names with their values")
    if len(value) > MAX_ITEMS:
        raise UsageError(f"{where} has {len(value)} entries; {MAX_ITEMS} is the most")
    found = {}
    for name, text in value.items():
        name = _variable(where, name)
        if isinstance(text, bool | int | float):
            raise UsageError(f"{where[:-1]}.{name}` must be text: put it in quotes")
        found[name] = text if text == "" else _text(f"{where[:-1]}.{name}`", text, MAX_ENV)
    return found


def _names(where: str, value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_variable(where, each) for each in _items(where, value)))


def _script(where: str, value: Any) -> ScriptText:
    if isinstance(value, Mapping):
        if unknown := next((key for key in value if key not in ("text", "language")), None):
            raise UsageError(f"{where}: unknown key {str(unknown)[:80]!r}; a script has text and language")
        text = _text(where, value.get("text"), MAX_TEXT)
        language = value.get("language") or language_of(text)
    else:
        text = _text(where, value, MAX_TEXT)
        language = language_of(text)
    if language not in (SHELL, PYTHON):
        raise UsageError(f"{where}: language must be {SHELL} or {PYTHON}, not {str(language)[:80]!r}")
    return ScriptText(text, language)


def _periodics(where: str, value: Any) -> tuple[Periodic, ...]:
    if isinstance(value, str):
        raise UsageError(f"{where} must be a list")
    return tuple(_periodic(where, each) for each in _items(where, value))


def _periodic(where: str, value: Any) -> Periodic:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} must be a list of name, every and text")
    allowed = ("name", "every", "text", "language", "timeout")
    if unknown := next((key for key in value if key not in allowed), None):
        raise UsageError(
            f"{where}: unknown key {str(unknown)[:80]!r}; a periodic script has {', '.join(allowed)}"
        )
    name = value.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise UsageError(
            f"{where}: name must be up to {MAX_NAME} letters, digits, dots and dashes, not {str(name)[:80]!r}"
        )
    within = f"{where}: {name}:"
    if value.get("every") is None:
        raise UsageError(f"{within} `every` is missing: seconds from one start to the next")
    script = {key: value[key] for key in ("text", "language") if value.get(key) is not None}
    limit = value.get("timeout")
    return Periodic(
        name=name,
        every=seconds_of(f"{within} `every`", value["every"], SHORTEST_PERIOD, LONGEST),
        script=_script(within, script),
        timeout=None if limit is None else seconds_of(f"{within} `timeout`", limit, 0.1, LONGEST),
    )


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "tags": _tags,
    "dedicated": _texts,
    "processes": _whole(1, 1000),
    "concurrency": _whole(1, 100_000),
    "env": _env,
    "env_from_host": _names,
    "path": _texts,
    "init": _script,
    "init_timeout": _span(0.1, LONGEST),
    "periodic": _periodics,
    "grace": _span(0, LONGEST),
    "lease": _span(1, LONGEST),
    "max_jobs": _whole(1, 2**31 - 1),
    "max_rss": _size,
    "slots": _whole(1, 1000),
    "warm": _whole(1, 1000),
    "alert_min_workers": _whole(1, 100_000),
}


def merged(config: GroupConfig, changes: Mapping[str, Any], unset: Iterable[str] = ()) -> GroupConfig:
    """The configuration with these fields changed, and those taken out. `env` and `periodic` are changed by
    name, all else as a whole; `env.NAME` and `periodic.NAME` take out one entry.
    """
    document = config.document()
    for field in unset:
        name, _, entry = field.partition(".")
        if name not in FIELDS or (entry and name not in ("env", "periodic")):
            raise UsageError(f"--unset: there is no field {field[:80]!r}; a group has {', '.join(FIELDS)}")
        if not entry:
            document.pop(name, None)
        elif name == "env":
            document["env"] = {key: value for key, value in document.get("env", {}).items() if key != entry}
        else:
            document["periodic"] = [each for each in document.get("periodic", ()) if each["name"] != entry]
    for name, value in changes.items():
        if name == "env" and isinstance(value, Mapping):
            document["env"] = document.get("env", {}) | dict(value)
        elif name == "periodic" and isinstance(value, list | tuple):
            given = {each.get("name") for each in value if isinstance(each, Mapping)}
            kept = [each for each in document.get("periodic", ()) if each["name"] not in given]
            document["periodic"] = [*kept, *value]
        else:
            document[name] = value
    if "init" not in document and "init_timeout" not in changes:
        document.pop("init_timeout", None)
    return read_config(document, config)
