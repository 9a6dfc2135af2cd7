"""What ``connect`` was asked for, by asyncpg's own rules, and libpq's socket options besides."""

from __future__ import annotations

import inspect
import urllib.parse
from collections.abc import Mapping
from typing import Any

import attrs
from asyncpg import connect_utils
from asyncpg.exceptions import ClientConfigurationError, InterfaceError

# libpq's names for what is set on a TCP socket, and what each must be.
_SOCKET_OPTIONS = (
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
# libpq options that make no difference here, or none that this package offers: in a URL they are let pass.
_IGNORED_OPTIONS = ("gssencmode", "channel_binding", "sslcompression", "sslsni", "requirepeer")


@attrs.frozen(kw_only=True)
class SocketOptions:
    """Options of a TCP socket, named and measured as libpq does; zero or None leaves the system's choice."""

    keepalives: bool = True
    keepalives_idle: int | None = None  # seconds
    keepalives_interval: int | None = None  # seconds
    keepalives_count: int | None = None
    tcp_user_timeout: int | None = None  # milliseconds that sent bytes may stay unacknowledged


@attrs.frozen(kw_only=True)
class ConnectOptions:
    """Everything a connection is made from; may be used again. Its text never shows the password."""

    addresses: tuple[str | tuple[str, int], ...]
    params: Any = attrs.field(repr=False)  # asyncpg's _ConnectionParameters: user, password, TLS, target
    config: Any = attrs.field(repr=False)  # asyncpg's _ClientConfiguration: the statement cache
    sockets: SocketOptions
    connect_timeout: float | None  # seconds for each address
    cancel_grace: float | None = None  # seconds for a cancelled operation to end; None: CANCEL_GRACE


def read_options(dsn: str | None, arguments: Mapping[str, Any]) -> ConnectOptions:
    """Return the options that ``dsn``, ``arguments`` and the PG* environment variables add up to.

    Raises asyncpg.ClientConfigurationError (a ValueError) when they do not make sense.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    cancel_grace = given.pop("cancel_grace", None)
    sockets: dict[str, Any] = {name: given.pop(name) for name in _SOCKET_OPTIONS if name in given}
    connect_timeout: float | None = given.pop("connect_timeout", None)
    if dsn is not None:
        dsn, extra = _split_dsn(dsn)
        in_url = _number("connect_timeout", extra.pop("connect_timeout", "0"))
        connect_timeout = (in_url if connect_timeout is None else connect_timeout) or None
        for name, text in extra.items():
            sockets.setdefault(name, _number(name, text))
    for name, value in sockets.items():
        sockets[name] = bool(value) if name == "keepalives" else (value or None)
    parse: Any = vars(connect_utils)["_parse_connect_arguments"]
    accepted = inspect.signature(parse).parameters
    wanted: dict[str, Any] = dict.fromkeys(accepted)
    wanted.update(
        statement_cache_size=100, max_cached_statement_lifetime=300, max_cacheable_statement_size=15360
    )
    wanted.update(given)
    wanted["dsn"] = dsn
    try:
        addresses, params, config = parse(**wanted)
    except InterfaceError:
        raise
    except (ValueError, IndexError) as error:
        if dsn is None:
            raise
        # What is not a number may be a piece of a password: a "/" or "@" in it that is not percent-encoded.
        kind = type(error).__name__
        raise ClientConfigurationError(
            f"the connection URL cannot be read ({kind})",
            hint="Percent-encode special characters in user name and password.",
        ) from None
    return ConnectOptions(
        addresses=tuple(addresses),
        params=params,
        config=config,
        sockets=SocketOptions(**sockets),
        connect_timeout=connect_timeout,
        cancel_grace=cancel_grace,
    )


def _split_dsn(dsn: str) -> tuple[str, dict[str, str]]:
    """Take out of a URL's query what asyncpg would send to the server as settings."""
    parts = urllib.parse.urlsplit(dsn)
    extra: dict[str, str] = {}
    kept: list[tuple[str, str]] = []
    for name, value in urllib.parse.parse_qsl(parts.query, keep_blank_values=True):
        if name in _SOCKET_OPTIONS or name == "connect_timeout":
            extra[name] = value
        elif name not in _IGNORED_OPTIONS:
            kept.append((name, value))
    if len(kept) == len(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)):
        return dsn, extra
    return urllib.parse.urlunsplit(parts._replace(query=urllib.parse.urlencode(kept))), extra


def _number(name: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ClientConfigurationError(f"{name} is expected to be a whole number, got {text!r}") from None
    return max(value, 0)
