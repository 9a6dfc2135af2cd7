"""A statement that is cancelled when the server is known to be in the middle of it."""

from __future__ import annotations

import trio

from hotpath import asyncpg_trio


async def cancelled_asleep(connection: asyncpg_trio.Connection, watcher, statement: str) -> bool:
    """Run a statement, cancelled once the server sleeps in it; whether it was told so."""

    async def cancel_when_asleep() -> None:
        asleep = "select wait_event = 'PgSleep' from pg_stat_activity where pid = $1"
        while not await watcher.fetchval(asleep, connection.get_server_pid()):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_asleep)
            await connection.execute(statement)
    return scope.cancelled_caught
