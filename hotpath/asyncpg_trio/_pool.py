"""A pool: at most so many sessions, lent in the order they were asked for, reset when they come back."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import attrs
import trio
from asyncpg.exceptions import InterfaceError

from ._connect import open_session
from ._connection import Connection
from ._options import ConnectOptions, read_options
from ._session import Session

# Seconds that resetting a returned connection may take before it is closed instead.
RESET_GRACE = 5.0

Setup = Callable[[Connection], Awaitable[None]]


@attrs.frozen(kw_only=True)
class PoolStatistics:
    """The state of a pool."""

    size: int  # sessions open, or being opened
    idle: int
    waiting: int  # tasks that wait for a connection
    opened: int  # sessions opened so far
    discarded: int  # sessions not taken back because they were broken, or too old
    min_size: int
    max_size: int


class Pool:
    """Made by ``create_pool``."""

    def __init__(
        self,
        options: ConnectOptions,
        *,
        min_size: int,
        max_size: int,
        init: Setup | None,
        setup: Setup | None,
        reset: Setup | None,
        max_idle: float,
        record_class: type[Any],
    ) -> None:
        self._options = options
        self._min_size = min_size
        self._max_size = max_size
        self._init = init
        self._setup = setup
        self._reset = reset
        self._max_idle = max_idle
        self._record_class = record_class
        # The most recently used is lent first, so that those not needed grow old and go.
        self._idle: deque[tuple[Session, float]] = deque()
        self._lent = 0
        self._queue = trio.lowlevel.ParkingLot()
        self._family: weakref.WeakSet[Session] = weakref.WeakSet()
        self._closed = False
        self._opened = 0
        self._discarded = 0

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend a connection for the length of the context; it is refused afterwards.

        Waits while ``max_size`` are lent, first come first served. Raises what ``connect`` raises, and
        asyncpg.InterfaceError when the pool is closed.
        """
        await self._take_turn()
        session: Session | None = None
        try:
            session = await self._session()
            connection = Connection(session)
            try:
                if self._setup is not None:
                    await self._setup(connection)
                yield connection
            finally:
                await self._take_back(connection, session)
        finally:
            self._pass_turn()

    async def _take_turn(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        if self._lent < self._max_size and not self._queue:
            self._lent += 1
            return
        await self._queue.park()  # whoever unparks us has passed us its turn
        try:
            self._check_open()
        except InterfaceError:
            self._pass_turn()
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise InterfaceError("pool is closed")

    def _pass_turn(self) -> None:
        if self._queue:
            self._queue.unpark()
        else:
            self._lent -= 1

    async def _session(self) -> Session:
        """Return an idle session that still works, or a new one."""
        while self._idle:
            session, _ = self._idle.pop()
            # The server may have said goodbye meanwhile: that is readable, and seen without waiting.
            while session.wire.receive():
                pass
            if not session.closed:
                return session
            self._discard(session)
        return await self._open()

    async def _open(self) -> Session:
        session = await open_session(self._options, self._record_class)
        self._opened += 1
        if self._init is not None:
            connection = Connection(session)
            try:
                await self._init(connection)
            except BaseException:
                session.terminate()
                raise
            connection._session = None
        self._family.add(session)
        session.family = self._family
        return session

    def _discard(self, session: Session) -> None:
        self._discarded += 1
        session.terminate()

    async def _take_back(self, connection: Connection, session: Session) -> None:
        """Make the session as good as new, or close it. Not interrupted by cancellation, but bounded."""
        good = False
        try:
            if not session.closed and not session.wire.busy and not self._closed:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + RESET_GRACE):
                    await (connection.reset() if self._reset is None else self._reset(connection))
                    good = session.reusable and not self._closed
        except (asyncpg.PostgresError, asyncpg.InternalClientError, InterfaceError, OSError):
            pass  # it is discarded below, which is all that its state is good for
        finally:
            connection._session = None
            session.log_listeners.clear()
            session.subscribers.clear()
            if good:
                self._idle.append((session, time.monotonic()))
            else:
                self._discard(session)
            self._drop_old()

    def drop_idle(self) -> None:
        """Close the idle sessions now, as the way to the server is suspect; those lent are left alone."""
        idle, self._idle = self._idle, deque()
        for session, _ in idle:
            self._discard(session)

    def _drop_old(self) -> None:
        """Close sessions that nobody has needed for long; the oldest are at the left."""
        while self._max_idle and len(self._idle) > self._min_size:
            session, since = self._idle[0]
            if time.monotonic() - since < self._max_idle:
                return
            self._idle.popleft()
            self._discard(session)

    # The methods of a connection, each on one that is lent for the call.

    async def execute(self, query: str, *args: Any) -> str:
        """As ``Connection.execute``."""
        async with self.acquire() as connection:
            return await connection.execute(query, *args)

    async def executemany(self, command: str, args: Iterable[Sequence[Any]]) -> None:
        """As ``Connection.executemany``."""
        async with self.acquire() as connection:
            await connection.executemany(command, args)

    async def fetch(self, query: str, *args: Any, record_class: type[Any] | None = None) -> list[Any]:
        """As ``Connection.fetch``."""
        async with self.acquire() as connection:
            return await connection.fetch(query, *args, record_class=record_class)

    async def fetchrow(self, query: str, *args: Any, record_class: type[Any] | None = None) -> Any | None:
        """As ``Connection.fetchrow``."""
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *args, record_class=record_class)

    async def fetchval(self, query: str, *args: Any, column: int | str = 0) -> Any:
        """As ``Connection.fetchval``."""
        async with self.acquire() as connection:
            return await connection.fetchval(query, *args, column=column)

    async def copy_records_to_table(self, table_name: str, **arguments: Any) -> str:
        """As ``Connection.copy_records_to_table``."""
        async with self.acquire() as connection:
            return await connection.copy_records_to_table(table_name, **arguments)

    def statistics(self) -> PoolStatistics:
        """Return the state of the pool."""
        return PoolStatistics(
            size=self._lent + len(self._idle),
            idle=len(self._idle),
            waiting=len(self._queue),
            opened=self._opened,
            discarded=self._discarded,
            min_size=self._min_size,
            max_size=self._max_size,
        )

    async def _fill(self) -> None:
        """Open the first ``min_size`` sessions."""
        while len(self._idle) < self._min_size:
            self._idle.append((await self._open(), time.monotonic()))

    async def _close(self, *, politely: bool) -> None:
        self._closed = True
        while self._queue:
            self._lent += 1  # as _pass_turn gives it back
            self._queue.unpark()
        idle, self._idle = self._idle, deque()
        try:
            if politely:
                async with trio.open_nursery() as nursery:
                    for session, _ in idle:
                        nursery.start_soon(session.close)
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            for session, _ in idle:
                session.terminate()


def create_pool(
    dsn: str | None = None,
    *,
    min_size: int = 1,
    max_size: int = 10,
    init: Setup | None = None,
    setup: Setup | None = None,
    reset: Setup | None = None,
    max_inactive_connection_lifetime: float = 300.0,
    record_class: type[Any] = asyncpg.Record,
    **connect_arguments: Any,
) -> AbstractAsyncContextManager[Pool]:
    """Open a pool for the length of an ``async with``.

    ``init`` is awaited with each new connection, ``setup`` with each one that is lent, ``reset`` with each
    one that comes back, instead of ``Connection.reset``. Connections beyond ``min_size`` that were idle for
    ``max_inactive_connection_lifetime`` seconds (0: never) are closed when another comes back. The other
    arguments are those of ``connect``. At the end of the context idle connections are closed; one that a
    task still holds is closed when that task gives it back.

    Raises ValueError for sizes that make no sense, and on entry what ``connect`` raises.
    """
    if max_size < 1 or not 0 <= min_size <= max_size:
        raise ValueError(
            f"0 <= min_size <= max_size and max_size >= 1 are needed, got {min_size} and {max_size}"
        )
    pool = Pool(
        read_options(dsn, connect_arguments),
        min_size=min_size,
        max_size=max_size,
        init=init,
        setup=setup,
        reset=reset,
        max_idle=max_inactive_connection_lifetime,
        record_class=record_class,
    )
    return _running(pool)


@asynccontextmanager
async def _running(pool: Pool) -> AsyncIterator[Pool]:
    politely = False
    try:
        await pool._fill()
        yield pool
        politely = True
    finally:
        await pool._close(politely=politely)
