"""Cursors: rows in portions, from a portal that lives as long as its transaction."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import trio
from asyncpg.exceptions import InterfaceError, NoActiveSQLTransactionError
from asyncpg.protocol.protocol import NO_TIMEOUT

from ._resource import ConnectionResource
from ._session import Session, unique_name

if TYPE_CHECKING:
    from ._connection import Connection

# Rows an iteration asks for at a time, as asyncpg does.
DEFAULT_PREFETCH = 50


class CursorFactory(ConnectionResource):
    """Iterate over it for rows, or await it for a ``Cursor``."""

    __slots__ = ("_args", "_prefetch", "_query", "_record_class", "_state")

    def __init__(
        self,
        connection: Connection,
        query: str,
        state: Any,
        args: Sequence[Any],
        prefetch: int | None,
        record_class: type[Any] | None,
    ) -> None:
        super().__init__(connection)
        if prefetch is not None and prefetch <= 0:
            raise InterfaceError("prefetch argument must be greater than zero")
        self._query = query
        self._state = state
        self._args = args
        self._prefetch = prefetch
        self._record_class = record_class

    def __aiter__(self) -> CursorIterator:
        return CursorIterator(
            _Portal(self._connection, self._query, self._state, self._args, self._record_class),
            self._prefetch or DEFAULT_PREFETCH,
        )

    def __await__(self) -> Generator[Any, None, Cursor]:
        if self._prefetch is not None:
            raise InterfaceError("prefetch argument can only be specified for iterable cursor")
        portal = _Portal(self._connection, self._query, self._state, self._args, self._record_class)
        return Cursor.open(portal).__await__()


class _Portal(ConnectionResource):
    """A portal on the server, opened by the first step."""

    __slots__ = ("_args", "_query", "_record_class", "_state", "exhausted", "name")

    def __init__(
        self,
        connection: Connection,
        query: str,
        state: Any,
        args: Sequence[Any],
        record_class: type[Any] | None,
    ) -> None:
        super().__init__(connection)
        self._query = query
        self._args = args
        self._record_class = record_class
        self.name: str | None = None
        self.exhausted = False
        self._state = state
        if state is not None:
            state.attach()

    def __del__(self) -> None:
        if self._state is not None:
            self._state.detach()
            session = self._connection._session
            if session is not None:
                session.forget(self._state)

    def _ready(self) -> Session:
        session = self._live()
        if not session.protocol.is_in_transaction():
            raise NoActiveSQLTransactionError("cursor cannot be used outside of a transaction")
        if self._state is not None and self._state.closed:
            raise InterfaceError("cursor: the prepared statement is closed")
        return session

    async def _prepare(self, session: Session) -> None:
        if self._state is None:
            self._state = await session.prepare(self._query, name=True, record_class=self._record_class)
            self._state.attach()

    async def bind(self) -> None:
        """Open the portal without fetching."""
        session = self._ready()
        await trio.lowlevel.checkpoint_if_cancelled()
        session.wire.take()
        try:
            await self._prepare(session)
            name = unique_name("portal")
            await session.protocol.bind(self._state, self._args, name, NO_TIMEOUT)
            self.name = name
        finally:
            session.wire.release()

    async def fetch(self, limit: int) -> list[Any]:
        """Return up to ``limit`` more rows; opens the portal if need be, closes it behind the last row."""
        session = self._ready()
        await trio.lowlevel.checkpoint_if_cancelled()
        session.wire.take()
        try:
            protocol: Any = session.protocol
            if self.name is None:
                await self._prepare(session)
                name = unique_name("portal")
                rows, _, done = await protocol.bind_execute(
                    self._state, self._args, name, limit, True, NO_TIMEOUT
                )
                self.name = name
            else:
                rows, _, done = await protocol.execute(self._state, self.name, limit, True, NO_TIMEOUT)
            if done:
                self.exhausted = True
                await protocol.close_portal(self.name, NO_TIMEOUT)
            return list(rows)
        finally:
            session.wire.release()

    async def move(self, count: int) -> int:
        """Skip rows and return how many there were to skip."""
        session = self._ready()
        await trio.lowlevel.checkpoint_if_cancelled()
        session.wire.take()
        try:
            # The name is of our own making and the count is a number: there is nothing to quote.
            status: str = await session.protocol.query(f"MOVE FORWARD {count:d} {self.name}", None)
        finally:
            session.wire.release()
        moved = int(status.split()[1])
        self.exhausted = moved < count
        return moved


class CursorIterator:
    """Iterates over rows, ``prefetch`` of them a round trip."""

    __slots__ = ("_portal", "_prefetch", "_rows")

    def __init__(self, portal: _Portal, prefetch: int) -> None:
        self._portal = portal
        self._prefetch = prefetch
        self._rows: deque[Any] = deque()

    def __aiter__(self) -> CursorIterator:
        return self

    async def __anext__(self) -> Any:
        if self._rows:
            await trio.lowlevel.checkpoint_if_cancelled()
            return self._rows.popleft()
        if not self._portal.exhausted:
            self._rows.extend(await self._portal.fetch(self._prefetch))
        if not self._rows:
            raise StopAsyncIteration
        return self._rows.popleft()


class Cursor:
    """An open portal; its place is kept between calls."""

    __slots__ = ("_portal",)

    def __init__(self, portal: _Portal) -> None:
        self._portal = portal

    @classmethod
    async def open(cls, portal: _Portal) -> Cursor:
        """Open the portal on the server."""
        await portal.bind()
        return cls(portal)

    async def fetch(self, n: int) -> list[Any]:
        """Return the next ``n`` rows, or as many as there are."""
        if n <= 0:
            raise InterfaceError("n must be greater than zero")
        return [] if self._portal.exhausted else await self._portal.fetch(n)

    async def fetchrow(self) -> Any | None:
        """Return the next row, or None behind the last."""
        rows = await self.fetch(1)
        return rows[0] if rows else None

    async def forward(self, n: int) -> int:
        """Skip the next ``n`` rows and return how many there were to skip."""
        if n <= 0:
            raise InterfaceError("n must be greater than zero")
        return 0 if self._portal.exhausted else await self._portal.move(n)
