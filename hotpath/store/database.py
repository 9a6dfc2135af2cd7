"""The database of a command or a client: found or started, connected, and fit for this program.

`open_database` is the one way in. What can go wrong with a database becomes a `DatabaseUnavailableError`
of one line here (`translated`), so that nobody above needs to know the driver's exceptions.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.config import Config
from hotpath.errors import DatabaseUnavailableError, HotpathError, SchemaError
from hotpath.store.embedded import EmbeddedPostgres, database_name, default_home
from hotpath.store.migrate import ensure_schema

OLDEST_SERVER = 14
CONNECT_SECONDS = 20.0
"""Within this time the server must have answered, whatever `connect_timeout` says."""

_LOST = (
    "08",
    "57P",
)  # SQLSTATEs of connections that are gone: exceptions of connection, operator intervention


@attrs.frozen(kw_only=True)
class Database:
    """An open database: a pool for statements, and the addresses for those who need connections of their
    own.
    """

    dsn: str = attrs.field(repr=False)
    listen_dsn: str = attrs.field(repr=False)
    pool: asyncpg_trio.Pool = attrs.field(repr=False)
    is_embedded: bool
    is_pooled: bool = False
    """Whether a pooler may stand between: then nothing may rest on a session's state."""

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg_trio.Connection]:
        """A connection of the pool; trouble with the database inside becomes `DatabaseUnavailableError`."""
        with translated(self.dsn):
            async with self.pool.acquire() as connection:
                yield connection

    async def connect(self, *, listen: bool = False, **options: Any) -> asyncpg_trio.Connection:
        """A new connection for the caller to close; `listen` asks for a direct one, past any pooler.

        `options` go to the driver. Raises `DatabaseUnavailableError`.
        """
        dsn = self.listen_dsn if listen else self.dsn
        if self.is_pooled and not listen:
            options.setdefault("statement_cache_size", 0)
        return await connect(dsn, **options)


@asynccontextmanager
async def open_database(
    config: Config,
    *,
    application_name: str = "hotpath",
    connections: int = 4,
    schema: bool = True,
) -> AsyncIterator[Database]:
    """Open the database that `config` means; start the embedded one and migrate it, or an empty one, where
    need be.

    `connections`: how many the pool may hold. `schema=False` leaves the schema unseen (for `hotpath
    migrate`). Raises `DatabaseUnavailableError` (`SchemaError` for a schema that this program cannot
    use).
    """
    embedded: EmbeddedPostgres | None = None
    dsn = config.database_url
    try:
        if dsn is None:
            embedded = EmbeddedPostgres(config.home or default_home())
            # Not abandoned when cancelled: a start that goes on unseen would hold the reference for ever.
            dsn = await trio.to_thread.run_sync(embedded.start, database_name(config.workspace))
        options: dict[str, Any] = {"server_settings": {"application_name": application_name}}
        if config.listen_url is not None:
            options["statement_cache_size"] = 0  # a transaction pooler gives each transaction another session
        first = await connect(dsn, **options)
        try:
            with translated(dsn):
                _check_server(first)
                if schema:
                    await ensure_schema(first, may_create=embedded is not None)
        finally:
            await close(first)
        async with asyncpg_trio.create_pool(dsn, min_size=0, max_size=connections, **options) as pool:
            yield Database(
                dsn=dsn,
                listen_dsn=config.listen_url or dsn,
                pool=pool,
                is_embedded=embedded is not None,
                is_pooled=config.listen_url is not None,
            )
    finally:
        if embedded is not None:
            embedded.close()


async def connect(dsn: str, **options: Any) -> asyncpg_trio.Connection:
    """Connect within CONNECT_SECONDS. Raises `DatabaseUnavailableError` of one line, without the password."""
    with translated(dsn), trio.move_on_after(CONNECT_SECONDS):
        return await asyncpg_trio.connect(dsn, **options)
    raise DatabaseUnavailableError(
        f"the database at {place(dsn)} did not answer within {CONNECT_SECONDS:.0f} s: check host, port and "
        "network"
    )


async def close(connection: asyncpg_trio.Connection) -> None:
    """Close a connection, also while being cancelled; the driver bounds how long that takes."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
        await connection.close()


def _check_server(connection: asyncpg_trio.Connection) -> None:
    version = connection.get_server_version()
    if version.major < OLDEST_SERVER:
        raise DatabaseUnavailableError(
            f"the server is PostgreSQL {version.major}; Hotpath needs {OLDEST_SERVER} or newer: upgrade it, "
            "or unset "
            "HOTPATH_DATABASE_URL to use the embedded one"
        )


def place(dsn: str) -> str:
    """Where a DSN points, for people: `host:port, database "name"`, no user and no password."""
    try:
        parts = urlsplit(dsn)
        query = parse_qs(parts.query)
        hosts = parts.netloc.rpartition("@")[2] or ",".join(query.get("host", ["localhost"]))
        hosts = unquote(hosts)
        if not hosts.startswith("/") and ":" not in hosts:
            hosts = f"{hosts}:{query.get('port', ['5432'])[0]}"
        name = unquote(parts.path[1:]) or query.get("dbname", query.get("database", [""]))[0]
    except ValueError:
        return "the given address"
    return f'{hosts}, database "{name}"' if name else hosts


@contextmanager
def translated(dsn: str) -> Iterator[None]:
    """Make the driver's and the system's errors about the database itself into `DatabaseUnavailableError`.

    Errors about a statement or its values pass as they are.
    """
    try:
        yield
    except HotpathError:
        raise
    except asyncpg.PostgresError as error:
        message = _say(error, dsn)
        if message is None:
            raise
        kind = (
            SchemaError
            if error.sqlstate in ("3F000", "42P01", "42883", "42703")
            else DatabaseUnavailableError
        )
        raise kind(message) from error
    except (asyncpg.ClientConfigurationError, asyncpg.UnsupportedClientFeatureError) as error:
        raise DatabaseUnavailableError(f"the database URL cannot be used: {_first_line(error)}") from error
    except asyncpg.InterfaceError as error:
        if "clos" not in str(error) and "lost" not in str(error):
            raise
        raise DatabaseUnavailableError(
            f"the connection to the database at {place(dsn)} was lost; try again"
        ) from error
    except ConnectionError as error:
        raise DatabaseUnavailableError(_say_system(error, dsn)) from error
    except OSError as error:
        # Not every OSError is the database's: a user's generator may read files inside.
        if isinstance(error, socket.gaierror) or getattr(error, "filename", None) is None:
            raise DatabaseUnavailableError(_say_system(error, dsn)) from error
        raise


def _say(error: asyncpg.PostgresError, dsn: str) -> str | None:
    """One line about an error that is the database's fault or the set-up's; None for other errors."""
    state = error.sqlstate or ""
    where = place(dsn)
    said = _first_line(error)
    match state:
        case "28P01" | "28000":
            return (
                f"the database at {where} refuses this user: {said}; check user and password in the "
                "database URL"
            )
        case "3D000":
            return f"the database at {where} does not exist: create it, or correct the database URL"
        case "53300":
            return (
                f"the database at {where} has no connection free: {said}; raise max_connections or run "
                "fewer workers"
            )
        case "53100" | "53200":
            return f"the database at {where} has run out of disk or memory: {said}"
        case "25006":
            return f"the database at {where} is read-only (a standby?): use the primary's address"
        case "42501":
            return (
                f"the database at {where} does not let this user in: {said}; grant it the role hotpath_worker"
            )
        case "3F000" | "42P01" | "42883" | "42703" if "hotpath" in said:
            return (
                f"the schema in the database at {where} is not as this program needs it ({said}); run: "
                "hotpath migrate"
            )
        case "57P03":
            return f"the database at {where} is not ready: {said}; try again in a moment"
    if state.startswith(_LOST):
        return f"the connection to the database at {where} was lost: {said}; try again"
    return None


def _say_system(error: OSError, dsn: str) -> str:
    where = place(dsn)
    if isinstance(error, socket.gaierror):
        return (
            f"the host of the database at {where} cannot be found: {error.strerror or error}; check the "
            "database URL"
        )
    if isinstance(error, ssl.SSLError) or "TLS" in str(error):
        said = _first_line(error)
        return (
            f"the database at {where} cannot be reached by TLS as asked ({said}); check sslmode in the "
            "database URL"
        )
    return (
        f"no database at {where} ({_first_line(error)}): start it, correct HOTPATH_DATABASE_URL, "
        "or unset it to use the embedded one"
    )


def _first_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0].rstrip(".")
