"""The SQL that clients and workers send."""

from contextlib import asynccontextmanager

import pytest

from hotpath import asyncpg_trio
from hotpath.store.queries import names, query

FIRST = "'ffffffff-ffff-ffff-ffff-ffffffffffff', '00000000-0000-0000-0000-000000000000'"
LISTS = {
    "list_done": (f"{FIRST}, '-infinity', null, null, null, 50, false", "_pkey"),
    "list_failed": (f"{FIRST}, '-infinity', null, null, 2::int2, 50, false", "_id_idx"),
    "list_loose": (f"{FIRST}, null, null, 50, false", "job_queue_pkey"),
}


@asynccontextmanager
async def connected(url):
    """A connection that is closed whatever happens."""
    connection = await asyncpg_trio.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_every_statement_can_be_prepared(database_url):
    """Each file of SQL is one statement that the current schema understands."""
    async with connected(database_url) as connection:
        for name in names():
            try:
                await connection.prepare(query(name))
            except asyncpg_trio.PostgresError as error:
                pytest.fail(f"{name}.sql: {error}")


@pytest.mark.parametrize("name", LISTS)
async def test_lists_follow_an_index(database_url, name):
    """A page of a list is read along a key, the newest first, not by sorting everything there is."""
    arguments, index = LISTS[name]
    async with connected(database_url) as connection:
        await connection.execute(
            """insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state)
            select hotpath.uuid7(), now(), 1, 1, 0, 1, 1 + (k % 1000 = 0)::int
            from generate_series(1, 20000) k"""
        )
        await connection.execute("analyze hotpath.job_done")
        await connection.execute(
            "set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off"
        )
        await connection.execute(f"prepare listed as {query(name)}")
        plan = [row[0] for row in await connection.fetch(f"explain (costs off) execute listed({arguments})")]
    scans = [line for line in plan if "Index Scan Backward" in line]
    # Of an empty partition any index is as good as the other: the first is today's, which is not empty.
    assert scans, "\n".join(plan)
    assert index in scans[0], "\n".join(plan)
