"""The end of a job inside a transaction of its own script's: its writes and its outcome are committed
together or not at all.

The job's lease row is locked and looked at by the statement that writes the outcome, so that neither a flush
nor whoever takes a dead worker's jobs back can come between that look and the commit. When the reply to the
commit is lost, the same row says how it went: it stays locked until the server knows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias
from uuid import UUID

import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.core.logtext import pack
from hotpath.store.queries import query
from hotpath.store.reach import pool_options
from hotpath.store.trouble import Trouble, trouble_of
from hotpath.store.work import WorkerSession, complete

Connection: TypeAlias = asyncpg_trio.Connection
"""What a job writes through."""
CONNECTIONS = 10
"""Connections that the jobs of one worker share; more jobs than that wait for each other."""
COMMIT_DEADLINE = 30.0
"""Seconds that the outcome and the commit may take together; then the connection is given up."""


@attrs.frozen(kw_only=True)
class Ending:
    """What a transaction is to end a job with."""

    lease: int
    place: int
    job: UUID
    attempt: int
    result: bytes
    """JSON."""
    started_us: int
    """Microseconds since the epoch, by the database's clock."""
    duration_us: int
    log: str | None
    marks: str | None = None
    """What there is to know of the log beside its text (`core/logtext.pack`)."""


@attrs.define(eq=False)
class Completer:
    """The connections that one worker's jobs may write through."""

    dsn: str
    worker: int
    pooled: Callable[[], bool]
    """Whether a pooler is before the server, where nothing rests on a session's state."""
    _stack: AsyncExitStack
    _pool: asyncpg_trio.Pool | None = None
    _opening: trio.Lock = attrs.field(factory=trio.Lock)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg_trio.Connection]:
        """Lend a connection. Raises what the driver raises."""
        async with self._opening:
            if self._pool is None:
                name = f"hotpath completion {self.worker}"
                options = pool_options(self.dsn, name, pooled=self.pooled())
                pool = asyncpg_trio.create_pool(self.dsn, min_size=0, max_size=CONNECTIONS, **options)
                self._pool = await self._stack.enter_async_context(pool)
        async with self._pool.acquire() as connection:
            yield connection

    async def commit(
        self, connection: asyncpg_trio.Connection, transaction: asyncpg_trio.Transaction, ending: Ending
    ) -> bool | None:
        """End the job and the transaction. False: the lease is lost, nothing was written. None: nobody
        knows, and the connection is gone; `find_out` tells.

        Raises what the database has against the transaction, which then has not happened. Not to be cancelled
        half-way: the caller shields it.
        """
        with trio.fail_after(COMMIT_DEADLINE):
            await connection.execute(query("hold_briefly"))
            accepted = await complete(
                connection,
                self.worker,
                ending.lease,
                ending.place,
                ending.result,
                started_us=ending.started_us,
                duration_us=ending.duration_us,
                log=ending.log,
                marks=ending.marks,
            )
            if not accepted:
                await transaction.rollback()
                return False
        try:
            with trio.fail_after(COMMIT_DEADLINE):
                await transaction.commit()
        except Exception as error:
            if trouble_of(error) is not Trouble.WEATHER:
                raise
            connection.terminate()
            return None
        return True


@asynccontextmanager
async def open_completer(dsn: str, worker: int, pooled: Callable[[], bool]) -> AsyncIterator[Completer]:
    """Connections for as long as the context lasts; none is made before it is asked for."""
    async with AsyncExitStack() as stack:
        yield Completer(dsn, worker, pooled, stack)


async def find_out(session: WorkerSession, ending: Ending) -> bool:
    """Whether a commit whose reply was lost has happened."""
    row = await session.connection.fetchrow(query("lease_done"), ending.lease, session.worker, ending.place)
    if row is not None:
        return bool(row["done"])
    # The lease has gone meanwhile: whoever ended it has left the job where it was.
    rows = await session.connection.fetch(
        query("settled"), session.worker, [ending.lease], [ending.job], [ending.attempt]
    )
    return bool(rows)


async def add_parked_log(
    session: WorkerSession, job: UUID, attempt: int, text: str, clock_offset_us: int
) -> None:
    """Keep what a job printed before it was parked. After a lost reply it may be there twice."""
    marks = pack(text, clock_offset_us)
    await session.connection.execute(query("parked_log"), job, attempt, text, marks)


async def add_log(session: WorkerSession, job: UUID, attempt: int, text: str, clock_offset_us: int) -> None:
    """Keep what a job printed after its completion."""
    await session.connection.execute(query("more_log"), job, attempt, text, pack(text, clock_offset_us))
