"""A worker's listening connection: notifications in, the note of its sleep out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.store.queries import query


@attrs.frozen(eq=False)
class Listener:
    """A connection that listens; statements on it are for one task."""

    connection: asyncpg_trio.Connection
    notifications: asyncpg_trio.Notifications

    async def doze(self, worker: int, tags: Sequence[int], seconds: float) -> None:
        """Say that the worker sleeps on these tags, and for how long to believe it."""
        await self.connection.execute(query("doze"), worker, list(tags), seconds)

    async def awake(self, worker: int) -> None:
        """Take that back."""
        await self.connection.execute(query("awake"), worker)


@asynccontextmanager
async def open_listener(dsn: str, channel: str) -> AsyncIterator[Listener]:
    """Listen to one channel; iteration over the notifications raises when the connection is lost."""
    # Notes of sleep are hints: they need not wait for the disk.
    connection = await asyncpg_trio.connect(
        dsn, server_settings={"synchronous_commit": "off", "application_name": "hotpath listen"}
    )
    try:
        async with connection.listen(channel) as notifications:
            yield Listener(connection, notifications)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await connection.close()
