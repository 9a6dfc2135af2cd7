"""``connect``: one function, all of libpq's ways to say where and how."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Awaitable, Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import asyncpg

from ._connect import open_session
from ._connection import Connection
from ._options import read_options


async def connect(
    dsn: str | None = None,
    *,
    host: str | Sequence[str] | None = None,
    port: int | Sequence[int] | None = None,
    user: str | None = None,
    password: str | Callable[[], str | Awaitable[str]] | None = None,
    passfile: str | PathLike[str] | None = None,
    service: str | None = None,
    servicefile: str | PathLike[str] | None = None,
    database: str | None = None,
    ssl: str | bool | ssl_module.SSLContext | None = None,
    direct_tls: bool | None = None,
    server_settings: Mapping[str, str] | None = None,
    target_session_attrs: str | None = None,
    statement_cache_size: int = 100,
    max_cached_statement_lifetime: float = 300,
    max_cacheable_statement_size: int = 15 * 1024,
    keepalives: bool | None = None,
    keepalives_idle: int | None = None,
    keepalives_interval: int | None = None,
    keepalives_count: int | None = None,
    tcp_user_timeout: int | None = None,
    connect_timeout: float | None = None,
    cancel_grace: float | None = None,
    record_class: type[Any] = asyncpg.Record,
) -> Connection:
    """Open a connection to PostgreSQL; arguments win over the URL, the URL over PG* environment variables.

    ``ssl`` is an ``sslmode`` (``"verify-full"``), True, or a context. Several hosts are tried in turn until
    one has the role that ``target_session_attrs`` names. ``keepalives*`` (seconds) and ``tcp_user_timeout``
    (milliseconds) are libpq's. There is no time-out for the call: put a Trio scope around it;
    ``connect_timeout`` (seconds) counts for each address, as in libpq. ``cancel_grace``: seconds that a
    cancelled operation may take to end before the connection is closed instead.

    Raises OSError when no host can be reached (with a note for each that was tried), ssl.SSLError (an
    OSError) when a certificate is refused, asyncpg.PostgresError when the server refuses
    (asyncpg.InvalidPasswordError, InvalidCatalogNameError, ...), asyncpg.TargetServerAttributeNotMatched,
    and asyncpg.ClientConfigurationError (a ValueError) for arguments that make no sense. If cancelled,
    nothing is left open.
    """
    options = read_options(
        dsn,
        {
            "host": host if host is None or isinstance(host, str) else list(host),
            "port": port if port is None or isinstance(port, int) else list(port),
            "user": user,
            "password": password,
            "passfile": passfile,
            "service": service,
            "servicefile": servicefile,
            "database": database,
            "ssl": ssl,
            "direct_tls": direct_tls,
            "server_settings": None if server_settings is None else dict(server_settings),
            "target_session_attrs": target_session_attrs,
            "statement_cache_size": statement_cache_size,
            "max_cached_statement_lifetime": max_cached_statement_lifetime,
            "max_cacheable_statement_size": max_cacheable_statement_size,
            "keepalives": keepalives,
            "keepalives_idle": keepalives_idle,
            "keepalives_interval": keepalives_interval,
            "keepalives_count": keepalives_count,
            "tcp_user_timeout": tcp_user_timeout,
            "connect_timeout": connect_timeout,
            "cancel_grace": cancel_grace,
        },
    )
    return Connection(await open_session(options, record_class))
