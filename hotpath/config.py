"""What a command or a client was told: the environment and the flags, read once and checked.

`HOTPATH_DATABASE_URL`, else `DATABASE_URL`, else an embedded PostgreSQL (`embedded` asks for that one by
name); `HOTPATH_LISTEN_URL` for LISTEN when the database URL goes through a pooler; `HOTPATH_HOME` for the
embedded server; `HOTPATH_WORKSPACE` for the scripts; `HOTPATH_LOG_STORE` for logs that leave the database, so
many seconds (`HOTPATH_LOG_STORE_AFTER`) after they were written; `HOTPATH_PROBE_DIR` for signs of life;
`HOTPATH_LOAD_TIMEOUT` for how long a script may load. No message and no `repr` shows a password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from hotpath.errors import UsageError

EMBEDDED = "embedded"
"""The value of a database URL that means the embedded PostgreSQL."""

LOAD_WITHIN = 60.0
"""Seconds that a script may take to load, unless somebody says otherwise."""
LOG_STORES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "file")
"""What the address of a log store may begin with; anything else is a directory."""

_PASSWORD_IN_QUERY = re.compile(r"(?i)\b(\w*password)=[^&]*")


def redact(url: str | None) -> str:
    """`url` without its password, fit for a log."""
    if url is None:
        return EMBEDDED
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    place = parts.netloc
    if "@" in place:
        login, _, host = place.rpartition("@")
        place = f"{login.partition(':')[0]}@{host}"
    return parts._replace(netloc=place, query=_PASSWORD_IN_QUERY.sub(r"\1=***", parts.query)).geturl()


@attrs.frozen(kw_only=True)
class Config:
    """Which database, which scripts, and how to speak of errors."""

    workspace: Path
    """Directory that scripts are found in: absolute, and it exists."""
    database_url: str | None = attrs.field(default=None, repr=redact)
    """Address of the database; None means the embedded PostgreSQL."""
    listen_url: str | None = attrs.field(default=None, repr=lambda url: redact(url) if url else "None")
    """Direct address for LISTEN, where `database_url` goes through a pooler."""
    home: Path | None = None
    """Directory of the embedded PostgreSQL; None means the usual one."""
    log_store: str | None = None
    """Where logs go that leave the database, such as `s3://bucket/prefix` or a directory; None: they stay."""
    log_store_after: float = 60.0
    """Seconds after which a log of a job that has ended goes there."""
    probe_dir: Path | None = None
    """Where a supervisor leaves signs of life for probes; None: nowhere."""
    load_within: float = LOAD_WITHIN
    """Seconds that a script may take to load in a worker process that others wait for."""
    debug: bool = False
    """Whether errors show their traceback."""


def read_config(
    workspace: str | Path | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    database_url: str | None = None,
    debug: bool = False,
) -> Config:
    """The configuration that flags (the arguments) and `environ` add up to; flags win.

    Raises `UsageError` that names the flag or variable for a URL that is none or a workspace that is not
    there.
    """
    url: str | None = None
    for source, value in (
        ("--database-url", database_url),
        ("HOTPATH_DATABASE_URL", environ.get("HOTPATH_DATABASE_URL")),
        ("DATABASE_URL", environ.get("DATABASE_URL")),
    ):
        if value:
            url = None if value == EMBEDDED else _check_url(source, value)
            break
    listen_url = environ.get("HOTPATH_LISTEN_URL") or None
    home = environ.get("HOTPATH_HOME") or None
    probes = environ.get("HOTPATH_PROBE_DIR") or None
    return Config(
        workspace=_find_workspace(workspace, environ),
        database_url=url,
        listen_url=_check_url("HOTPATH_LISTEN_URL", listen_url) if listen_url else None,
        home=Path(home).absolute() if home else None,
        log_store=_check_store(environ.get("HOTPATH_LOG_STORE")),
        log_store_after=_seconds(environ, "HOTPATH_LOG_STORE_AFTER", 60.0),
        probe_dir=Path(probes).absolute() if probes else None,
        load_within=_seconds(environ, "HOTPATH_LOAD_TIMEOUT", LOAD_WITHIN),
        debug=debug,
    )


def _check_url(source: str, url: str) -> str:
    """`url` if it can be the address of a PostgreSQL."""
    shape = "expected postgresql://user:password@host:port/database"
    try:
        parts = urlsplit(url)
        if "," not in parts.netloc:  # several hosts: the driver reads them
            _ = parts.port
    except ValueError as error:
        reason = "the port is not a number" if "ort" in str(error) else "it cannot be read"
        raise UsageError(f"{source} is not a database URL: {reason}; {shape}") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise UsageError(f"{source} is not a PostgreSQL URL; {shape}, or `{EMBEDDED}`")
    if "\0" in url or "%00" in url:
        raise UsageError(f"{source} is not a database URL: it holds a NUL; {shape}")
    return url


def _check_store(location: str | None) -> str | None:
    """`location` if it can be the address of a store; a directory is made absolute."""
    if not location:
        return None
    name = "HOTPATH_LOG_STORE"
    scheme, found, rest = location.partition("://")
    if not found:
        if location.startswith(("/", ".", "~")):
            return str(Path(location).expanduser().absolute())
        raise UsageError(
            f"{name} {location!r} is neither an address such as s3://bucket/prefix nor a directory that "
            "begins with / or ."
        )
    if scheme.lower() not in LOG_STORES:
        raise UsageError(f"{name} has the scheme {scheme!r}; give one of {', '.join(LOG_STORES)}")
    place = rest.partition("/")[0]
    if "@" in place and not scheme.lower().startswith("abfs"):
        raise UsageError(f"{name} holds credentials; give them by the cloud's own variables instead")
    if not place and scheme.lower() != "file":
        raise UsageError(f"{name} {location!r} names no bucket; expected s3://bucket/prefix")
    return location


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    """A number of seconds, 0 or more."""
    value = environ.get(name)
    if not value:
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{name} must be a number of seconds, 0 or more, not {value!r}")
    return seconds


def _find_workspace(given: str | Path | None, environ: Mapping[str, str]) -> Path:
    source, name = "--workspace", given
    if not name:
        source, name = "HOTPATH_WORKSPACE", environ.get("HOTPATH_WORKSPACE")
    try:
        path = Path(name).absolute() if name else Path.cwd()
        is_directory = path.is_dir()
    except (OSError, ValueError) as error:
        where = f"{source} {str(name)!r}" if name else "the current directory"
        raise UsageError(f"{where} cannot be used as workspace: {error}") from None
    if not is_directory:
        raise UsageError(f"{source} {str(name)!r} is not a directory; name the directory your scripts are in")
    return path
