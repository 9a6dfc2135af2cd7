"""Checks of what a script says of limits: `limit`, `unique`, `debounce`, `expires`, and tags made of args."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from hotpath.core.placeholders import broken_place, has_places, unknown_field
from hotpath.errors import ScriptError
from hotpath.model import Debounce, Limit, Settings, Unique

MOST = 1_000_000
"""Jobs that a limit may allow: what is more is no limit."""
MAX_SECONDS = 366 * 86400
SHORTEST_RATE = 0.1
"""Seconds of a rate: what is shorter is below what clocks of workers agree on."""
KEY_BYTES = 1024
CONFLICTS = ("reject", "existing", "replace")
WHILE = ("queued", "unfinished")
ON_EXPIRE = ("fail", "cancel")


def make_limit(value: Any, where: str, name: str = "limit") -> Limit | None:
    """A limit, given as a `Limit`, as a mapping, or as a number of jobs at a time."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"concurrency": value}
    given = _fields(value, Limit, name, where, "a hotpath.Limit or a number of jobs at a time")
    concurrency, rate, key = given["concurrency"], given["rate"], given["key"]
    if concurrency is None and rate is None:
        raise ScriptError(f"{where}: `{name}` must say `concurrency` or `rate`, or both")
    if concurrency is not None:
        concurrency = _whole(concurrency, f"{name}.concurrency", where)
    if rate is not None:
        if not isinstance(rate, list | tuple) or len(rate) != 2:
            raise ScriptError(
                f"{where}: `{name}.rate` must be [jobs, seconds], such as [10, 60], not {rate!r}"
            )
        rate = (
            _whole(rate[0], f"{name}.rate", where, "jobs"),
            _seconds(rate[1], f"{name}.rate", where, low=SHORTEST_RATE),
        )
    if key is not None:
        _key(key, f"{name}.key", where)
        if not has_places(key):
            raise ScriptError(
                f"{where}: `{name}.key` must name a field, such as $args[customer], not {key!r}: one key for "
                "all jobs is a limit without a key"
            )
    return Limit(concurrency=concurrency, rate=rate, key=key)


def make_unique(value: Any, where: str, name: str = "unique") -> Unique | None:
    """A `Unique`, or as a mapping (in which `while` is `while_`), or the key alone."""
    if value is None:
        return None
    if isinstance(value, str):
        value = {"key": value}
    if isinstance(value, dict) and "while" in value:
        value = {"while_" if field == "while" else field: item for field, item in value.items()}
    given = _fields(value, Unique, name, where, "a hotpath.Unique or a key")
    lasts, conflict = given["while_"], given["on_conflict"]
    _key(given["key"], f"{name}.key", where)
    if isinstance(lasts, str):
        if lasts not in WHILE:
            raise ScriptError(
                f"{where}: `{name}.while` must be queued, unfinished or a number of seconds, not {lasts!r}"
            )
    else:
        lasts = _seconds(lasts, f"{name}.while", where)
    _one_of(conflict, f"{name}.on_conflict", CONFLICTS, where)
    return Unique(key=given["key"], while_=lasts, on_conflict=conflict)


def make_debounce(value: Any, where: str, name: str = "debounce") -> Debounce | None:
    """A `Debounce`, or as a mapping, or its seconds alone."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = {"seconds": value}
    given = _fields(value, Debounce, name, where, "a hotpath.Debounce or a number of seconds")
    seconds, longest, key = given["seconds"], given["longest"], given["key"]
    seconds = _seconds(seconds, f"{name}.seconds", where)
    if longest is not None:
        longest = _seconds(longest, f"{name}.longest", where)
        if longest < seconds:
            raise ScriptError(
                f"{where}: `{name}.longest` must be at least `{name}.seconds` ({seconds:g}), not {longest:g}"
            )
    if key is not None:
        _key(key, f"{name}.key", where)
    return Debounce(seconds=seconds, key=key, longest=longest)


def make_expires(value: Any, on_expire: Any, where: str) -> tuple[float | None, str | None]:
    """How long a job may wait, and what becomes of it then."""
    if on_expire is not None:
        _one_of(on_expire, "on_expire", ON_EXPIRE, where)
        if value is None:
            raise ScriptError(f"{where}: `on_expire` says what happens after `expires`, which is not given")
    if value is None:
        return None, None
    return _seconds(value, "expires", where), on_expire


def check_pair(unique: Unique | None, debounce: Debounce | None, where: str) -> None:
    """Refuse what contradicts itself."""
    if unique is not None and debounce is not None:
        raise ScriptError(
            f"{where}: `unique` and `debounce` both say what becomes of a second job with the same key: "
            "leave one of them out"
        )


def check_places(text: str, name: str, where: str) -> None:
    """Refuse a text with something that looks like a placeholder and is none."""
    if (broken := broken_place(text)) is not None:
        raise ScriptError(f"{where}: `{name}` has {broken!r}: fields are written $args[name] or $args[a.b]")


def keys_of(settings: Settings) -> dict[str, str | None]:
    """The texts that keys of a script's jobs are made of, by setting; None: it has no such key."""
    limit, unique, debounce = settings.limit, settings.unique, settings.debounce
    return {
        "limit.key": None if limit is None else limit.key,
        "unique.key": None if unique is None else unique.key,
        "debounce.key": None if debounce is None else debounce.key,
    }


def check_fields(settings: Settings, schema: Mapping[str, Any], where: str) -> None:
    """Refuse texts that are made of fields which the script's args cannot have. Raises `ScriptError`."""
    for name, text in {"tag": settings.tag, **keys_of(settings)}.items():
        if text and (wrong := unknown_field(text, schema)) is not None:
            raise ScriptError(f"{where}: `{name}`: {wrong}")


def _fields(value: Any, kind: type[Any], name: str, where: str, wanted: str) -> dict[str, Any]:
    if isinstance(value, kind):
        value = attrs.asdict(value, recurse=False)
    if not isinstance(value, dict):
        raise ScriptError(f"{where}: `{name}` must be {wanted}, not {value!r}")
    known = {field.name: field.default for field in attrs.fields(kind)}
    for field in value:
        if field not in known:
            shown = ", ".join(one.rstrip("_") for one in known)
            raise ScriptError(f"{where}: unknown setting `{name}.{field}`; known are {shown}")
    for field, default in known.items():
        if default is attrs.NOTHING and field not in value:
            raise ScriptError(f"{where}: `{name}.{field}` is missing")
    return known | value


def _whole(value: Any, name: str, where: str, of: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        of = f"{of} of " if of else ""
        raise ScriptError(f"{where}: {of}`{name}` must be a whole number from 1 to {MOST}, not {value!r}")
    return value


def _seconds(value: Any, name: str, where: str, *, low: float = 0.0) -> float:
    fits = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    if not fits or value <= 0 or value < low or value > MAX_SECONDS:
        least = f"of at least {low:g}" if low else "above 0"
        raise ScriptError(
            f"{where}: seconds of `{name}` must be a number {least} and at most {MAX_SECONDS}, not {value!r}"
        )
    return float(value)


def _key(value: Any, name: str, where: str) -> None:
    if (
        not isinstance(value, str)
        or not value
        or "\0" in value
        or len(value.encode("utf-8", "replace")) > KEY_BYTES
    ):
        raise ScriptError(f"{where}: `{name}` must be text of 1 to {KEY_BYTES} bytes, not {value!r}")
    check_places(value, name, where)


def _one_of(value: Any, name: str, known: tuple[str, ...], where: str) -> None:
    if value not in known:
        raise ScriptError(f"{where}: `{name}` must be one of {', '.join(known)}, not {value!r}")
