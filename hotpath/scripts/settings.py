"""What a script says of itself: `hotpath.settings(...)` in its module, or `NAME.script.yaml` beside it.

Where both speak of the same thing the file wins: the code is its author's, the file belongs to whoever
deploys it. The file may be the one that Windmill's `wmill sync` writes; keys of it that mean nothing here are
left alone, any other unknown key is an error.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from hotpath.core.limit_settings import (
    check_pair,
    check_places,
    make_debounce,
    make_expires,
    make_limit,
    make_unique,
)
from hotpath.core.retention import FIELDS, parse_span
from hotpath.errors import ScriptError
from hotpath.model import Debounce, Limit, Retention, Retry, Settings, Unique

PLACE = "__hotpath_settings__"
"""Name of the module's global that holds its `Settings`."""

MAX_TAG_BYTES = 255
MAX_CONCURRENCY = 100_000
BACKOFFS = ("constant", "linear", "exponential")
MAX_SECONDS = 100 * 366 * 86400
"""Of a delay: a hundred years. What is longer is a mistake, and no date."""
MAX_TIMEOUT = 366 * 86400
"""Seconds that a job may run: a year."""
_NAME = re.compile(r"[^\W\d][\w-]*(\.([^\W\d][\w-]*|<locals>))*")  # a script's module may have a dash

# Keys of Windmill's script metadata that have no meaning here and do no harm.
_FOREIGN = frozenset(
    {
        "auto_kind", "cache_ttl", "codebase", "dedicated_worker", "delete_after_use", "description",
        "envs", "has_preprocessor", "is_template", "kind", "labels", "lock", "no_main_func",
        "on_behalf_of_email", "restart_unless_cancelled", "schema", "summary",
        "visible_to_runner_only", "ws_error_handler_muted",
    }
)  # fmt: skip


def settings(
    *,
    tag: str | None = None,
    priority: int | None = None,
    timeout: float | None = None,
    retry: Retry | int | None = None,
    concurrency: int | None = None,
    flow: bool | None = None,
    retention: Retention | str | None = None,
    limit: Limit | int | None = None,
    unique: Unique | str | None = None,
    debounce: Debounce | float | None = None,
    expires: float | None = None,
    on_expire: str | None = None,
) -> None:
    """Say how the jobs of this script are to be run; call it at module level. A later call replaces an
    earlier one.

    - `tag`: the queue its jobs wait in; by default the script's own name. It may be made of a job's args and
      of the workspace's name: `gpu-$args[size]`, `score-$workspace`.
    - `priority`: -32768 to 32767, larger first; by default 0.
    - `timeout`: seconds that a job may run; by default no limit.
    - `retry`: a `hotpath.Retry`, or how many times a job may run in all.
    - `concurrency`: for an async `main`, jobs at the same time in one process.
    - `flow`: whether it is a flow, which calls `hotpath.step` and the like; by default, if its own source
      mentions them.
    - `retention`: a `hotpath.Retention`, or for how long its jobs are kept, such as `"30d"`; by default what
      the database says.
    - `limit`: a `hotpath.Limit`, or how many of its jobs may run at a time, whichever workers have them.
    - `unique`: a `hotpath.Unique`, or its key: no second job with the same key.
    - `debounce`: a `hotpath.Debounce`, or its seconds: jobs that follow each other closely become one.
    - `expires`: seconds from when it is due after which a job that nobody has begun ends; `on_expire` says
      how: `fail` (the default) or `cancel`.

    Raises `ScriptError` that names the setting for a value that makes no sense.
    """
    given = {
        "tag": tag,
        "priority": priority,
        "timeout": timeout,
        "retry": retry,
        "concurrency": concurrency,
        "flow": flow,
        "retention": retention,
        "limit": limit,
        "unique": unique,
        "debounce": debounce,
        "expires": expires,
        "on_expire": on_expire,
    }
    value = make_settings(
        {name: item for name, item in given.items() if item is not None}, "hotpath.settings()"
    )
    sys._getframe(1).f_globals[PLACE] = value  # noqa: SLF001 - the calling module's globals are the one place to be found in


def settings_of(module: Any) -> Settings:
    """What the module said of itself."""
    said = getattr(module, PLACE, None)
    return said if isinstance(said, Settings) else Settings()


def read_settings_file(file: Path) -> dict[str, Any]:
    """The settings in a `NAME.script.yaml`, as it names them; empty if there is no such file.

    Raises `ScriptError` for a file that is no YAML mapping.
    """
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{file.name} cannot be read: {error}") from None
    import yaml  # here: 15 ms that a script without such a file need not pay

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ScriptError(f"{file.name}{where}: not YAML: {getattr(error, 'problem', error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ScriptError(f"{file.name}: expected `key: value` lines, got {type(content).__name__}")
    return {str(key): value for key, value in content.items() if key not in _FOREIGN}


def merge(said: Settings, file: Mapping[str, Any], where: str) -> Settings:
    """The module's settings with those of the file over them. `ScriptError` that names a key that is unknown
    or wrong.
    """
    return make_settings(attrs.asdict(said, recurse=False) | dict(file), where)


def make_settings(given: Mapping[str, Any], where: str) -> Settings:
    """Check every value; `where` begins the `ScriptError` that names the one that is wrong."""
    known = [field.name for field in attrs.fields(Settings)]
    for name in given:
        if name not in known:
            raise ScriptError(f"{where}: unknown setting `{name}`; known are {', '.join(known)}")
    priority = given.get("priority")
    unique, debounce = make_unique(given.get("unique"), where), make_debounce(given.get("debounce"), where)
    check_pair(unique, debounce, where)
    expires, on_expire = make_expires(given.get("expires"), given.get("on_expire"), where)
    return Settings(
        tag=_tag(given.get("tag"), where),
        priority=0 if priority is None else _integer(priority, "priority", -32768, 32767, where),
        timeout=_number(given.get("timeout"), "timeout", where, high=MAX_TIMEOUT),
        retry=_retry(given.get("retry"), where),
        concurrency=_optional_integer(given.get("concurrency"), "concurrency", 1, MAX_CONCURRENCY, where),
        flow=_flag(given.get("flow"), "flow", where),
        retention=_retention(given.get("retention"), where),
        limit=make_limit(given.get("limit"), where),
        unique=unique,
        debounce=debounce,
        expires=expires,
        on_expire=on_expire,
    )


def _tag(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ScriptError(f"{where}: `tag` must be text, not {value!r}")
    if not value or not value.isprintable() or len(value.encode("utf-8", "replace")) > MAX_TAG_BYTES:
        raise ScriptError(
            f"{where}: `tag` must be 1 to {MAX_TAG_BYTES} printable characters, not {value[:80]!r}"
        )
    check_places(value, "tag", where)
    return value


def _flag(value: Any, name: str, where: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ScriptError(f"{where}: `{name}` must be true or false, not {value!r}")
    return value


def _integer(value: Any, name: str, low: int, high: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ScriptError(f"{where}: `{name}` must be a whole number from {low} to {high}, not {value!r}")
    return value


def _optional_integer(value: Any, name: str, low: int, high: int, where: str) -> int | None:
    return None if value is None else _integer(value, name, low, high, where)


def _number(
    value: Any, name: str, where: str, *, low: float = 0.0, high: float = math.inf, strict: bool = True
) -> float | None:
    """A number of seconds or the like: above `low` (or at it, unless `strict`), finite, at most `high`."""
    if value is None:
        return None
    fits = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    if not fits or value > high or value < low or (strict and value == low):
        bound = f"above {low:g}" if strict else f"of at least {low:g}"
        most = f" and at most {high:g}" if high < math.inf else ""
        raise ScriptError(f"{where}: `{name}` must be a number {bound}{most}, not {value!r}")
    return float(value)


def _retry(value: Any, where: str) -> Retry | None:
    if value is None:
        return None
    if isinstance(value, int):
        value = {"attempts": value}
    elif isinstance(value, Retry):
        value = attrs.asdict(value)
    if not isinstance(value, dict):
        raise ScriptError(f"{where}: `retry` must be a hotpath.Retry or a number of attempts, not {value!r}")
    known = {field.name: field.default for field in attrs.fields(Retry)}
    for name in value:
        if name not in known:
            raise ScriptError(f"{where}: unknown setting `retry.{name}`; known are {', '.join(known)}")
    merged: dict[str, Any] = known | value
    if merged["backoff"] not in BACKOFFS:
        raise ScriptError(
            f"{where}: `retry.backoff` must be one of {', '.join(BACKOFFS)}, not {merged['backoff']!r}"
        )
    delay = _seconds(merged["delay"], "retry.delay", where, high=MAX_SECONDS)
    max_delay = _seconds(merged["max_delay"], "retry.max_delay", where, high=MAX_SECONDS)
    if max_delay < delay:
        raise ScriptError(
            f"{where}: `retry.max_delay` must be at least `retry.delay` ({delay:g}), not {max_delay:g}"
        )
    return Retry(
        attempts=_integer(merged["attempts"], "retry.attempts", 1, 32767, where),
        delay=delay,
        backoff=merged["backoff"],
        factor=_seconds(merged["factor"], "retry.factor", where, low=1.0),
        max_delay=max_delay,
        jitter=_seconds(merged["jitter"], "retry.jitter", where, high=1.0),
        on=_exceptions(merged["on"], where),
    )


def _retention(value: Any, where: str) -> Retention | None:
    if value is None:
        return None
    if isinstance(value, Retention):
        value = attrs.asdict(value)
    if not isinstance(value, dict):
        value = {"jobs": value}
    for name in value:
        if name not in FIELDS:
            raise ScriptError(f"{where}: unknown setting `retention.{name}`; known are {', '.join(FIELDS)}")
    spans: dict[str, float] = {}
    for name, span in value.items():
        if span is not None:
            try:
                spans[name] = parse_span(span)
            except ValueError as error:
                raise ScriptError(f"{where}: `retention.{name}` must be {error}") from None
    return Retention(**spans)


def _exceptions(value: Any, where: str) -> tuple[str, ...]:
    """Names of exception classes, as `Retry` made them of what was given."""
    names: tuple[Any, ...] = Retry(on=() if value is None else value).on
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ScriptError(
                f"{where}: `retry.on` must be exception classes or their names, such as ConnectionError, not "
                f"{name!r}"
            )
    return names


def _seconds(value: Any, name: str, where: str, *, low: float = 0.0, high: float = math.inf) -> float:
    number = _number(value, name, where, low=low, high=high, strict=False)
    if number is None:
        raise ScriptError(f"{where}: `{name}` must be a number, not null")
    return number
