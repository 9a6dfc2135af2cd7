"""How every connection of Hotpath is made: to a server that can write, by a socket that notices when the
other end is gone, and with the knowledge whether a pooler is between.

**Half-open connections.** Where packets are dropped the kernel finds out: bytes of ours that stay
unacknowledged for 8 s (`tcp_user_timeout`), or silence while an answer is awaited (keepalive: 5 s + 3 × 2 s).
Both are below the lease of 15 s. A proxy that stays connected and forwards nothing is found by deadlines
(`worker.link`) only.

**Several hosts** are tried in turn until one takes writes, 5 s each. What the URL or the environment says of
any of this stands.

**Poolers.** A transaction pooler gives each transaction another session: settings, prepared statements and
LISTEN are lost or, worse, somebody else's. It is known by its refusal of settings at start-up, or by the
process number it makes up. Then nothing is asked for at start-up and nothing is prepared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.store.queries import query

SOCKET: Mapping[str, int] = {
    "keepalives_idle": 5,  # seconds
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,  # milliseconds
    "connect_timeout": 5,  # seconds for each host
}
SERVER: Mapping[str, str] = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "8s",
    "client_connection_check_interval": "2s",
}
"""The same seen from the server, so that a dead client's backend does not sit on a row. Not every system
that a server runs on has all of it."""
CANCEL_GRACE = 2.0
"""Seconds that a cancelled statement may take to end."""


@attrs.frozen(eq=False)
class Reached:
    """A new connection, and what stands before the server."""

    connection: asyncpg_trio.Connection
    pooled: bool
    """Whether a pooler is between: then nothing may rest on a session's state."""


def options_for(dsn: str) -> dict[str, object]:
    """What to give the driver besides the URL: nothing that the URL or the environment says itself."""
    said = {name.lower() for name in parse_qs(urlsplit(dsn).query, keep_blank_values=True)}
    options: dict[str, object] = {name: value for name, value in SOCKET.items() if name not in said}
    if "target_session_attrs" not in said and not os.environ.get("PGTARGETSESSIONATTRS"):
        options["target_session_attrs"] = "read-write"  # to a standby there is nothing to say
    return options


def pool_options(dsn: str, name: str, *, pooled: bool) -> dict[str, Any]:
    """What to give `create_pool` besides the URL."""
    options: dict[str, Any] = {
        **options_for(dsn),
        "server_settings": {"application_name": name},
        "cancel_grace": CANCEL_GRACE,
    }
    if pooled:
        options["statement_cache_size"] = 0  # each transaction gets another session
        options["reset"] = _leave_transaction  # and has none of its own to be reset
    return options


async def _leave_transaction(connection: asyncpg_trio.Connection) -> None:
    if connection.is_in_transaction():
        await connection.execute("rollback")


async def reach(
    dsn: str, *, name: str, settings: Mapping[str, str] | None = None, pooled: bool = False
) -> Reached:
    """Connect; `name` is what the server's list of sessions shows. `settings` are asked for at start-up,
    unless a pooler is between or, with `pooled`, is known to be.

    Raises what the driver raises.
    """
    asked = dict(settings or {})
    if asked and not pooled:
        asked |= SERVER
    while not pooled:
        try:
            connection = await _connect(dsn, name, asked, pooled=False)
        except asyncpg.exceptions.ProtocolViolationError as error:
            if not asked or "startup parameter" not in str(error):
                raise
            pooled = True
        except (asyncpg.InvalidParameterValueError, asyncpg.UndefinedObjectError):
            if not asked.keys() & SERVER.keys():
                raise
            asked = {key: value for key, value in asked.items() if key not in SERVER}
        else:
            try:
                if not await _is_pooled(connection):
                    return Reached(connection, pooled=False)
            except BaseException:
                connection.terminate()
                raise
            pooled = True
            await _close(connection)
    return Reached(await _connect(dsn, name, {}, pooled=True), pooled=True)


async def _connect(
    dsn: str, name: str, settings: Mapping[str, str], *, pooled: bool
) -> asyncpg_trio.Connection:
    options = options_for(dsn)
    if pooled:
        options["statement_cache_size"] = 0
    return await asyncpg_trio.connect(
        dsn,
        server_settings={**settings, "application_name": name},
        cancel_grace=CANCEL_GRACE,
        **options,  # type: ignore[arg-type]  # of types that belong together by name
    )


async def _is_pooled(connection: asyncpg_trio.Connection) -> bool:
    """Whether whoever shook hands is not the process that runs our statements."""
    # Unnamed, since a pooler may be there: a named statement would stay behind in somebody's session.
    statement = await connection.prepare(query("backend"), name="")
    return bool(await statement.fetchval() != connection.get_server_pid())


async def _close(connection: asyncpg_trio.Connection) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
        await connection.close()
