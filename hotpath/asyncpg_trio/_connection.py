"""The public connection: asyncpg's names and meanings, with Trio's scopes for its time-outs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import trio
from asyncpg import introspection
from asyncpg.exceptions import InterfaceError, PostgresLogMessage, UnsupportedClientFeatureError
from asyncpg.protocol.protocol import NO_TIMEOUT

from ._copy import CopyMethods
from ._cursor import CursorFactory
from ._listen import DEFAULT_BUFFER, Notifications, open_subscription
from ._prepared import PreparedStatement
from ._session import ConnectionStatistics, Session
from ._transaction import Transaction

if TYPE_CHECKING:
    from asyncpg.protocol.protocol import ConnectionSettings
    from asyncpg.types import ServerVersion

_RESET_QUERY = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"


class Connection(CopyMethods):
    """A database session, made by ``connect`` or lent by a ``Pool``.

    One task at a time: a second operation while one is under way raises asyncpg.InterfaceError and harms
    nothing. A cancelled operation ends on the server before ``Cancelled`` goes on, or the connection is
    closed; see ``is_closed``. A statement that was cancelled may have taken effect: the server may have
    finished it first.
    """

    __slots__ = ("__weakref__", "_session", "_top_transaction")

    def __init__(self, session: Session) -> None:
        self._session: Session | None = session
        self._top_transaction: Transaction | None = None

    def __repr__(self) -> str:
        session = self._session
        if session is None:
            return "<asyncpg_trio.Connection released>"
        state = "closed" if session.closed else f"pid {session.backend_pid}"
        return f"<asyncpg_trio.Connection {state}>"

    def _live(self) -> Session:
        """Return the session, idle and ours. Raises InterfaceError when it is not."""
        session = self._session
        if session is None:
            raise InterfaceError(
                "cannot perform operation: the connection has been released back to the pool"
            )
        session.check_idle()
        return session

    # Queries.

    async def execute(self, query: str, *args: Any) -> str:
        """Run SQL and return the status of its last command, e.g. ``INSERT 0 2``.

        Without ``args`` the text may hold several commands. Raises asyncpg.PostgresError as the server says.
        """
        session = self._live()
        await trio.lowlevel.checkpoint_if_cancelled()
        wire = session.wire
        wire.take()
        try:
            if args:
                _, status, _ = await session.execute(query, args, 0, extra=True)
                return str(status, "utf-8")
            try:
                text: str = await session.protocol.query(query, None)
            except AttributeError:
                return ""  # an empty query has no status, which the protocol does not expect
            return text
        finally:
            wire.release()

    async def executemany(self, command: str, args: Iterable[Sequence[Any]]) -> None:
        """Run ``command`` once for each sequence in ``args``: all of them, or none when one fails."""
        await self._execute_many(command, args, return_rows=False, record_class=None)

    async def fetchmany(
        self, query: str, args: Iterable[Sequence[Any]], *, record_class: type[Any] | None = None
    ) -> list[Any]:
        """Run ``query`` as ``executemany`` does, and return the rows of all runs in one list."""
        rows: list[Any] = await self._execute_many(query, args, return_rows=True, record_class=record_class)
        return rows

    async def _execute_many(self, query: str, args: Any, *, return_rows: bool, record_class: Any) -> Any:
        session = self._live()
        await trio.lowlevel.checkpoint_if_cancelled()
        wire = session.wire
        wire.take()
        try:
            call = session.protocol.bind_execute_many
            return await session.run_cached(query, call, (args, "", NO_TIMEOUT, return_rows), record_class)
        finally:
            wire.release()

    async def fetch(self, query: str, *args: Any, record_class: type[Any] | None = None) -> list[Any]:
        """Run a query and return its rows, a list of asyncpg.Record."""
        rows: list[Any] = await self._fetch(query, args, 0, record_class)
        return rows

    async def fetchrow(self, query: str, *args: Any, record_class: type[Any] | None = None) -> Any | None:
        """Run a query and return its first row, or None."""
        rows = await self._fetch(query, args, 1, record_class)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *args: Any, column: int | str = 0) -> Any:
        """Run a query and return one value of its first row, or None when there is no row."""
        rows = await self._fetch(query, args, 1, None)
        return rows[0][column] if rows else None

    async def _fetch(
        self, query: str, args: Sequence[Any], limit: int, record_class: type[Any] | None
    ) -> Any:
        session = self._live()
        await trio.lowlevel.checkpoint_if_cancelled()
        wire = session.wire
        wire.take()
        try:
            return await session.execute(query, args, limit, record_class=record_class)
        finally:
            wire.release()

    async def prepare(
        self, query: str, *, name: str | None = None, record_class: type[Any] | None = None
    ) -> PreparedStatement:
        """Prepare a statement; it is closed on the server some time after the last reference to it goes."""
        session = self._live()
        await trio.lowlevel.checkpoint_if_cancelled()
        named: str | bool = session.options.config.statement_cache_size > 0 if name is None else name
        session.wire.take()
        try:
            state = await session.prepare(query, name=named, record_class=record_class, use_cache=False)
            await session.end_parsing()
            if not state.name:
                state.mark_unprepared()  # the unnamed one ends with that: it is parsed again where it is used
        finally:
            session.wire.release()
        return PreparedStatement(self, query, state)

    def cursor(
        self, query: str, *args: Any, prefetch: int | None = None, record_class: type[Any] | None = None
    ) -> CursorFactory:
        """Return what can be iterated (``async for``) or awaited (for a ``Cursor``), inside a transaction."""
        self._live()
        return CursorFactory(self, query, None, args, prefetch, record_class)

    # Transactions.

    def transaction(
        self,
        *,
        isolation: Literal["serializable", "repeatable_read", "read_committed", "read_uncommitted"]
        | None = None,
        readonly: bool = False,
        deferrable: bool = False,
    ) -> Transaction:
        """Return a transaction to be entered with ``async with``; inside another one it is a savepoint."""
        if self._session is None or self._session.closed:
            self._live()
        return Transaction(self, isolation, readonly=readonly, deferrable=deferrable)

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open on the server, failed ones included."""
        session = self._session
        return session is not None and not session.wire.lost and bool(session.protocol.is_in_transaction())

    # Notifications.

    def listen(
        self, *channels: str, max_buffer: int = DEFAULT_BUFFER
    ) -> AbstractAsyncContextManager[Notifications]:
        """LISTEN to ``channels`` while the context lasts; the value iterates over ``Notification``s.

        The connection may run queries meanwhile, also from another task. Bytes are read while somebody
        iterates or a query runs; up to ``max_buffer`` notifications wait for the iterator, then the oldest
        go, and the next one delivered says how many (``Notification.lost``). The iteration raises
        asyncpg.ConnectionDoesNotExistError when the server goes away.
        """
        return open_subscription(self, channels, max_buffer)

    def add_log_listener(
        self, callback: Callable[[Connection, PostgresLogMessage], None]
    ) -> Callable[[], None]:
        """Have ``callback`` called with each NOTICE, WARNING and the like; returns what undoes it.

        The callback runs amid the reading of messages: it must not await and should be quick.
        """
        session = self._live()

        def listener(message: PostgresLogMessage) -> None:
            callback(self, message)

        session.log_listeners.append(listener)

        def remove() -> None:
            if listener in session.log_listeners:
                session.log_listeners.remove(listener)

        return remove

    # Types.

    async def set_type_codec(
        self,
        typename: str,
        *,
        schema: str = "public",
        encoder: Callable[[Any], Any],
        decoder: Callable[[Any], Any],
        format: Literal["text", "binary", "tuple"] = "text",
    ) -> None:
        """Convert values of a scalar or composite type by functions, as asyncpg's method."""
        async with self._operation() as session:
            info = await session.introspect_type(typename, schema)
            composite: list[Any] = []
            if introspection.is_scalar_type(info):
                kind = "scalar"
            elif introspection.is_composite_type(info):
                if format != "tuple":
                    raise UnsupportedClientFeatureError(
                        "only tuple-format codecs can be used on composite types"
                    )
                kind = "composite"
                composite, _ = await session.introspect_types((info["oid"],))
            else:
                raise InterfaceError(f"{schema}.{typename} is neither a scalar nor a composite type")
            if introspection.is_domain_type(info):
                raise UnsupportedClientFeatureError(
                    "custom codecs on domain types are not supported", hint="Set the codec on the base type."
                )
            settings = session.protocol.get_settings()
            settings.add_python_codec(
                info["oid"], typename, schema, composite, kind, encoder, decoder, format
            )
            session.statements.clear()

    async def reset_type_codec(self, typename: str, *, schema: str = "public") -> None:
        """Undo ``set_type_codec``."""
        async with self._operation() as session:
            info = await session.introspect_type(typename, schema)
            session.protocol.get_settings().remove_python_codec(info["oid"], typename, schema)
            session.statements.clear()

    async def set_builtin_type_codec(
        self,
        typename: str,
        *,
        schema: str = "public",
        codec_name: str,
        format: Literal["text", "binary"] | None = None,
    ) -> None:
        """Treat a type as a built-in one (``"int"``, ``"pg_contrib.hstore"``); as asyncpg's method."""
        async with self._operation() as session:
            info = await session.introspect_type(typename, schema)
            if not introspection.is_scalar_type(info):
                raise InterfaceError(f"cannot alias non-scalar type {schema}.{typename}")
            settings = session.protocol.get_settings()
            settings.set_builtin_type_codec(info["oid"], typename, schema, "scalar", codec_name, format)
            session.statements.clear()

    async def reload_schema_state(self) -> None:
        """Forget what is known of types and statements, here and in the rest of the pool."""
        session = self._live()
        await trio.lowlevel.checkpoint()
        session.reload_schema_state()

    # State.

    def get_server_pid(self) -> int:
        """Return the process id of the server's backend."""
        return self._known().backend_pid

    def get_server_version(self) -> ServerVersion:
        """Return the server's version, a named tuple."""
        return self._known().server_version

    def get_settings(self) -> ConnectionSettings:
        """Return the settings that the server has reported, as attributes."""
        return self._known().protocol.get_settings()

    def statistics(self) -> ConnectionStatistics:
        """Return what this session has done so far."""
        session = self._known()
        return ConnectionStatistics(
            queries=session.protocol.queries_count,
            cached_statements=len(session.statements),
            bytes_sent=session.wire.bytes_sent,
            bytes_received=session.wire.bytes_received,
            notifications=session.notifications_received,
            cancels_sent=session.cancels_sent,
        )

    def is_closed(self) -> bool:
        """Whether the session is known to have ended, or this handle was released to its pool."""
        return self._session is None or self._session.closed

    def _known(self) -> Session:
        if self._session is None:
            raise InterfaceError("the connection has been released back to the pool")
        return self._session

    # Ends.

    async def reset(self) -> None:
        """Roll back, and undo what a session keeps: locks, cursors, LISTEN, settings."""
        session = self._live()
        session.log_listeners.clear()
        if session.protocol.is_in_transaction():
            self._top_transaction = None
            await self.execute("ROLLBACK")
        await self.execute(_RESET_QUERY)

    async def close(self) -> None:
        """End the session, politely but within CLOSE_GRACE seconds; at once when it is busy."""
        if self._session is not None:
            await self._session.close()

    def terminate(self) -> None:
        """Close the socket now. Whoever waits on this connection gets ConnectionDoesNotExistError."""
        if self._session is not None:
            self._session.terminate()

    @asynccontextmanager
    async def _operation(self) -> AsyncIterator[Session]:
        """Hold the session for several steps; for what is not on the hot path."""
        session = self._live()
        await trio.lowlevel.checkpoint_if_cancelled()
        session.wire.take()
        try:
            yield session
        finally:
            session.wire.release()
