"""What is configured in the database is read again soon after it has changed."""

from __future__ import annotations

import trio

from hotpath import asyncpg_trio
from hotpath.config import Config
from hotpath.store.database import open_database
from hotpath.worker.changes import Changes


async def test_each_change_is_heeded(database_url: str) -> None:
    """By who follows them, also when no notification comes: one look at the revision finds it."""
    told, read = trio.open_memory_channel[int](100)
    config = Config(workspace=".", database_url=database_url)  # type: ignore[arg-type] - not used here

    async def note(connection: asyncpg_trio.Connection) -> None:
        told.send_nowait(await connection.fetchval("select n from hotpath.config_revision"))

    async def until(number: int) -> None:
        while await read.receive() < number:
            pass

    with trio.fail_after(20):
        async with open_database(config) as database, trio.open_nursery() as nursery:
            changes = Changes()
            nursery.start_soon(changes.follow, database)
            nursery.start_soon(changes.heed, database, note)
            await until(0)
            async with database.connection() as connection:
                await connection.execute("select hotpath.config_changed('group:a')")
                await until(1)
                # Nobody is told of this one.
                await connection.execute("update hotpath.config_revision set n = n + 1")
                await until(2)
            nursery.cancel_scope.cancel()


async def test_trouble_is_tried_again(database_url: str) -> None:
    """Whoever could not read is called again, without a further change."""
    tries = 0
    done = trio.Event()
    config = Config(workspace=".", database_url=database_url)  # type: ignore[arg-type] - not used here

    async def fail_once(connection: asyncpg_trio.Connection) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await connection.execute("select pg_terminate_backend(pg_backend_pid())")
        done.set()

    with trio.fail_after(20):
        async with open_database(config) as database, trio.open_nursery() as nursery:
            changes = Changes()
            nursery.start_soon(changes.heed, database, fail_once)
            await done.wait()
            nursery.cancel_scope.cancel()
    assert tries == 2
