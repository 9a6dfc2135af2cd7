"""The database of a command or a client: found or started, connected, and fit for this program.

`open_database` is the one way in. What can go wrong with a database becomes a `DatabaseUnavailableError`
of one line here (`translated`), so that nobody above needs to know the driver's exceptions.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.config import Config
from hotpath.errors import DatabaseUnavailableError, HotpathError, SchemaError
from hotpath.store.embedded import EmbeddedPostgres, database_name, default_home
from hotpath.store.migrate import ensure_schema
from hotpath.store.reach import Reached, pool_options, reach

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
    can_listen: bool = True
    """Whether `listen_dsn` leads past any pooler; otherwise there is polling alone."""

    @asynccontextmanager
    async def connection(self, *, within: float | None = None) -> AsyncIterator[asyncpg_trio.Connection]:
        """A connection of the pool; trouble with the database inside becomes `DatabaseUnavailableError`.

        `within`: seconds after which the block is trouble too, for what must not hang on a half-open
        connection.
        """
        deadline = trio.current_time() + within if within is not None else float("inf")
        with translated(self.dsn):
            with trio.CancelScope(deadline=deadline) as scope:
                async with self.pool.acquire() as connection:
                    try:
                        yield connection
                    except asyncpg.exceptions.ReadOnlySQLTransactionError:
                        connection.terminate()  # the next one is to find the primary
                        raise
            if scope.cancelled_caught:
                self.pool.drop_idle()  # they may be as dead as this one, and nobody has noticed yet
                raise DatabaseUnavailableError(
                    f"the database at {place(self.dsn)} did not answer within {within:g} s"
                )

    async def connect(self, *, listen: bool = False) -> asyncpg_trio.Connection:
        """A new connection for the caller to close; `listen` asks for a direct one, past any pooler.

        Raises `DatabaseUnavailableError`.
        """
        return await connect(self.listen_dsn if listen else self.dsn, pooled=self.is_pooled and not listen)


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
        first = await _reach(dsn, application_name, pooled=config.listen_url is not None)
        try:
            with translated(dsn):
                _check_server(first.connection)
                if schema:
                    await ensure_schema(first.connection, may_create=embedded is not None)
        finally:
            await close(first.connection)
        options = pool_options(dsn, application_name, pooled=first.pooled)
        async with asyncpg_trio.create_pool(dsn, min_size=0, max_size=connections, **options) as pool:
            yield Database(
                dsn=dsn,
                listen_dsn=config.listen_url or dsn,
                pool=pool,
                is_embedded=embedded is not None,
                is_pooled=first.pooled,
                can_listen=config.listen_url is not None or not first.pooled,
            )
    finally:
        if embedded is not None:
            embedded.close()


async def connect(dsn: str, *, name: str = "hotpath", pooled: bool = False) -> asyncpg_trio.Connection:
    """Connect within CONNECT_SECONDS, to a server that takes writes. `pooled`: a pooler is known to be
    between; whether one is, is found out.

    Raises `DatabaseUnavailableError` of one line, without the password.
    """
    return (await _reach(dsn, name, pooled=pooled)).connection


async def _reach(dsn: str, name: str, *, pooled: bool) -> Reached:
    with translated(dsn), trio.move_on_after(CONNECT_SECONDS):
        return await reach(dsn, name=name, pooled=pooled)
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
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise DatabaseUnavailableError(_say_role(dsn)) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        # The driver's internal error: it lost step with a server that went away in the middle of an answer.
        gone = isinstance(error, asyncpg.InternalClientError) or "clos" in str(error) or "lost" in str(error)
        if not gone:
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


def _say_role(dsn: str) -> str:
    where = place(dsn)
    if "target_session_attrs" in dsn or os.environ.get("PGTARGETSESSIONATTRS"):
        return (
            f"no server at {where} has the role that target_session_attrs asks for; Hotpath needs read-write"
        )
    return f"the database at {where} is read-only (a standby?): use the primary's address, or name all hosts"


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
