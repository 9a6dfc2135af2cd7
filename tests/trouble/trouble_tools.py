"""What the tests of database trouble share besides their servers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from servers import Server
from worker_stage import Stage

from hotpath import asyncpg_trio
from hotpath.store.migrate import migrate

_serial = itertools.count(1)


@asynccontextmanager
async def administrator(server: Server, database: str = "postgres") -> AsyncIterator[asyncpg_trio.Connection]:
    """A direct connection, for a moment."""
    connection = await asyncpg_trio.connect(server.url(database))
    try:
        yield connection
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await connection.close()


async def make_database(server: Server, *, one_of_many: bool = False) -> str:
    """A new database with the schema; its name. `one_of_many`: a copy of one that is made for the first, as
    to migrate takes long.
    """
    name = f"trouble_{next(_serial)}"
    if not one_of_many:
        await _migrate_new(server, name)
        return name
    template = "trouble_template"
    async with administrator(server) as connection:
        known = "select exists (select from pg_database where datname = $1)"
        if not await connection.fetchval(known, template):
            await _migrate_new(server, template)
        await connection.execute(f"create database {name} template {template}")
    return name


async def _migrate_new(server: Server, name: str) -> None:
    async with administrator(server) as connection:
        await connection.execute(f"create database {name}")
    async with administrator(server, name) as connection:
        await migrate(connection)


async def reconnect(stage: Stage, server: Server, database: str) -> None:
    """Give the stage a connection to look through, as the old one broke."""
    stage.connection.terminate()
    stage.connection = await asyncpg_trio.connect(server.url(database))


async def enqueue_marks(stage: Stage, count: int, seconds: float) -> Path:
    """Jobs that leave a mark each time they run; the file of marks."""
    marks = stage.workspace / "marks"
    await stage.client.enqueue_many(
        "mark", ({"x": x, "file": str(marks), "seconds": seconds} for x in range(count))
    )
    return marks


async def check_once(stage: Stage, marks: Path, count: int) -> None:
    """Each job has one row, in success, and has run once; nothing is left over."""
    assert await stage.states() == {"success": count}
    assert {row["attempt"] for row in await stage.rows()} == {1}
    await stage.check_empty()
    runs = Counter((await trio.Path(marks).read_text()).split())
    assert set(runs) == {str(x) for x in range(count)}
    assert runs.total() == count, f"run twice: {[x for x, n in runs.items() if n > 1]}"
