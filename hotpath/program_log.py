"""What Hotpath has to say of itself: to stderr, as text or one JSON object a line.

`HOTPATH_LOG_FORMAT` is `text` or `json`, `HOTPATH_LOG_LEVEL` one of `LEVELS`. Only the logger `hotpath` is
set up, and everything below it: scripts have the others. No line shows a database's password or a token.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import unquote, urlsplit

import attrs
import msgspec

from hotpath.core.secrets import Masker
from hotpath.core.storable import storable
from hotpath.errors import UsageError

if TYPE_CHECKING:
    from hotpath.runtime.context import RunningJob

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
FIELDS = ("worker", "job", "tag", "script", "status", "address", "exit_code")
"""What a line of JSON says besides, where it is known: `extra={...}` of a call, or for all of a process."""

_URLS = ("HOTPATH_DATABASE_URL", "HOTPATH_LISTEN_URL", "DATABASE_URL")
_IN_URL = re.compile(r"(\w+://[^\s:/@]*):[^\s@/]+@")
_IN_QUERY = re.compile(r"(?i)\b(\w*password)=([^\s&]+)")
_TOKEN = re.compile(r"\b(hp_[a-z2-7]+_)[0-9a-f]{16,}")
_RESUME = re.compile(r"(/resume/)[\w-]+(?:/[\w-]+)?")


@attrs.frozen
class LogSettings:
    """How the program's own log is written."""

    format: str = "text"
    level: str = "warning"


def read_settings(environ: Mapping[str, str] = os.environ) -> LogSettings:
    """What the environment says. Raises `UsageError` that names the variable."""
    found = {}
    for field, name, choices in (
        ("format", "HOTPATH_LOG_FORMAT", FORMATS),
        ("level", "HOTPATH_LOG_LEVEL", LEVELS),
    ):
        value = environ.get(name)
        if not value:
            continue
        if value.lower() not in choices:
            raise UsageError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}")
        found[field] = value.lower()
    return LogSettings(**found)


def set_up(
    environ: Mapping[str, str] = os.environ,
    *,
    stream: TextIO | None = None,
    urls: tuple[str, ...] = (),
    **said: str,
) -> LogSettings:
    """Have the program's log written to stderr (or `stream`), once or anew. `urls` are databases' addresses
    besides those of the environment, whose passwords are not to be shown; `said` is in every line of JSON.

    Raises `UsageError` that names the variable.
    """
    settings = read_settings(environ)
    hide = _Hide(environ, urls)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(hide, said) if settings.format == "json" else TextFormatter(hide))
    ours = logging.getLogger("hotpath")
    for old in [old for old in ours.handlers if isinstance(old.formatter, JsonFormatter | TextFormatter)]:
        ours.removeHandler(old)
    ours.addHandler(handler)
    ours.setLevel(settings.level.upper())
    ours.propagate = False
    return settings


class _Hide:
    """Takes passwords and tokens out of a text."""

    def __init__(self, environ: Mapping[str, str], urls: tuple[str, ...]) -> None:
        secrets = {environ.get("PGPASSWORD", ""), environ.get("HOTPATH_TOKEN", "")}
        for url in (*urls, *(environ.get(name, "") for name in _URLS)):
            secrets |= _passwords(url)
        self._masker = Masker(secrets)

    def __call__(self, text: str) -> str:
        text = self._masker.text(text)
        text = _IN_QUERY.sub(r"\1=***", _IN_URL.sub(r"\1:***@", text))
        return _RESUME.sub(r"\1***", _TOKEN.sub(r"\1***", text))


def _passwords(url: str) -> set[str]:
    try:
        password = urlsplit(url).password
    except ValueError:
        return set()
    found = {match[2] for match in _IN_QUERY.finditer(url)} | ({password} if password else set())
    return found | {unquote(each) for each in found}


class TextFormatter(logging.Formatter):
    """`hotpath: MESSAGE`, for people."""

    def __init__(self, hide: _Hide) -> None:
        super().__init__("hotpath: %(message)s")
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback behind it."""
        return self._hide(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, what is known besides, `exception`."""

    def __init__(self, hide: _Hide, said: Mapping[str, str]) -> None:
        super().__init__()
        self._hide = hide
        self._said = dict(said)

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        when = dt.datetime.fromtimestamp(record.created, dt.UTC)
        document: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._hide(storable(record.getMessage())),
            **self._said,
            **_running(),
        }
        for name in FIELDS:
            value = record.__dict__.get(name)
            if value is not None:
                document[name] = value if isinstance(value, int | float) else self._hide(storable(str(value)))
        trace = self.formatException(record.exc_info) if record.exc_info else record.__dict__.get("trace")
        if trace:
            document["exception"] = self._hide(storable(str(trace)))
        return msgspec.json.encode(document).decode()


def _running() -> dict[str, Any]:
    """The job that says it, if one runs here."""
    context = sys.modules.get("hotpath.runtime.context")
    job: RunningJob | None = None if context is None else context.current.get()
    if job is None:
        return {}
    batch = job.of.batch
    return {"job": str(batch.ids[job.index]), "tag": batch.tag}
