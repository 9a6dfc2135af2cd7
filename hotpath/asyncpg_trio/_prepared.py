"""Prepared statements: the shortest way from arguments to rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import trio
from asyncpg.exceptions import InterfaceError, OutdatedSchemaCacheError
from asyncpg.protocol.protocol import NO_TIMEOUT

from ._cursor import CursorFactory
from ._resource import ConnectionResource

if TYPE_CHECKING:
    from asyncpg.types import Attribute, Type

    from ._connection import Connection
    from ._session import Session


class PreparedStatement(ConnectionResource):
    """A statement that the server keeps parsed and planned; made by ``Connection.prepare``."""

    __slots__ = ("_query", "_state", "_status")

    def __init__(self, connection: Connection, query: str, state: Any) -> None:
        super().__init__(connection)
        self._query = query
        self._state = state
        self._status: bytes | None = None
        state.attach()

    def __del__(self) -> None:
        self._state.detach()
        session = self._connection._session
        if session is not None:
            session.forget(self._state)

    def _live(self) -> Session:
        if self._state.closed:
            raise InterfaceError("the prepared statement is closed")
        return super()._live()

    async def fetch(self, *args: Any) -> list[Any]:
        """Run the statement and return its rows."""
        rows: list[Any] = await self._run(args, 0)
        return rows

    async def fetchrow(self, *args: Any) -> Any | None:
        """Run the statement and return its first row, or None."""
        rows = await self._run(args, 1)
        return rows[0] if rows else None

    async def fetchval(self, *args: Any, column: int | str = 0) -> Any:
        """Run the statement and return one value of its first row, or None when there is no row."""
        rows = await self._run(args, 1)
        return rows[0][column] if rows else None

    async def _run(self, args: Sequence[Any], limit: int) -> Any:
        session = self._live()
        await trio.lowlevel.checkpoint_if_cancelled()
        wire = session.wire
        wire.take()
        try:
            rows, self._status, _ = await session.protocol.bind_execute(
                self._state, args, "", limit, True, NO_TIMEOUT
            )
            return rows
        except OutdatedSchemaCacheError:
            self._outdated(session)
            raise
        finally:
            wire.release()

    async def executemany(self, args: Iterable[Sequence[Any]]) -> None:
        """Run the statement once for each sequence in ``args``: all of them, or none when one fails."""
        await self._run_many(args, return_rows=False)

    async def fetchmany(self, args: Iterable[Sequence[Any]]) -> list[Any]:
        """Run the statement as ``executemany`` does, and return the rows of all runs in one list."""
        rows: list[Any] = await self._run_many(args, return_rows=True)
        return rows

    async def _run_many(self, args: Any, *, return_rows: bool) -> Any:
        session = self._live()
        await trio.lowlevel.checkpoint_if_cancelled()
        session.wire.take()
        try:
            call: Any = session.protocol.bind_execute_many
            return await call(self._state, args, "", NO_TIMEOUT, return_rows)
        except OutdatedSchemaCacheError:
            self._outdated(session)
            raise
        finally:
            session.wire.release()

    def _outdated(self, session: Session) -> None:
        session.reload_schema_state()
        self._state.mark_closed()

    async def explain(self, *args: Any, analyze: bool = False) -> Any:
        """Return the plan, decoded from JSON. With ``analyze`` the statement runs, and is rolled back."""
        self._live()
        options = "FORMAT JSON, VERBOSE, ANALYZE" if analyze else "FORMAT JSON, VERBOSE"
        query = f"EXPLAIN ({options}) {self._query}"
        if not analyze:
            return json.loads(await self._connection.fetchval(query, *args))
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            return json.loads(await self._connection.fetchval(query, *args))
        finally:
            await transaction.end(commit=False)

    def cursor(self, *args: Any, prefetch: int | None = None) -> CursorFactory:
        """Return what can be iterated or awaited, inside a transaction; see ``Connection.cursor``."""
        self._live()
        return CursorFactory(
            self._connection, self._query, self._state, args, prefetch, self._state.record_class
        )

    def get_name(self) -> str:
        """Return the statement's name on the server."""
        name: str = self._state.name
        return name

    def get_query(self) -> str:
        """Return the text that was prepared."""
        return self._query

    def get_statusmsg(self) -> str | None:
        """Return the status of the last run, e.g. ``CREATE TABLE``."""
        return None if self._status is None else self._status.decode()

    def get_parameters(self) -> tuple[Type, ...]:
        """Return the types of the parameters."""
        self._live()
        types: tuple[Type, ...] = self._state._get_parameters()
        return types

    def get_attributes(self) -> tuple[Attribute, ...]:
        """Return the names and types of the columns."""
        self._live()
        attributes: tuple[Attribute, ...] = self._state._get_attributes()
        return attributes
