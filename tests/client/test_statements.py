"""The SQL that clients and workers send."""

import re
from contextlib import asynccontextmanager

import pytest

from hotpath import asyncpg_trio
from hotpath.store.queries import names, query

FIRST = "'ffffffff-ffff-ffff-ffff-ffffffffffff', '00000000-0000-0000-0000-000000000000'"
LISTS = {
    "list_done": (f"{FIRST}, '-infinity', null, null, null, 50, false, true", "_pkey"),
    "list_failed": (f"{FIRST}, '-infinity', null, null, 2::int2, 50, false, true", "_id_idx"),
    "list_loose": (f"{FIRST}, null, null, 50, false, true", "job_queue_pkey"),
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
        new = connection.get_server_version().major >= 17
        other = "doctor_checkpoints" if new else "doctor_checkpoints_17"  # what it asks of has another name
        for name in names():
            if name == other:
                continue
            try:
                await connection.prepare(query(name))
            except asyncpg_trio.PostgresError as error:
                pytest.fail(f"{name}.sql: {error}")


async def test_lists_follow_an_index(database_url, subtests):
    """A page of a list is read along a key, the newest first, not by sorting everything there is."""
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
        for name, (arguments, index) in LISTS.items():
            with subtests.test(name):
                await connection.execute(f"prepare {name} as {query(name)}")
                rows = await connection.fetch(f"explain (costs off) execute {name}({arguments})")
                plan = [row[0] for row in rows]
                scans = [line for line in plan if "Index Scan Backward" in line]
                # Of an empty partition any index is as good as the other: the first is today's, which is not
                # empty.
                assert scans, "\n".join(plan)
                assert index in scans[0], "\n".join(plan)


OF_A_RUN = [
    ("list_steps", "$1, null, null, null, null, 50, true"),
    ("steps_named", "$1, 'b', 100"),
    ("run_steps", "$1, 50, null"),
]


async def test_steps_are_found_by_their_run(database_url, subtests):
    """I10: what asks for one run's steps goes by their index, however many other jobs there are."""
    run = "01a219f0-c6e0-726a-acd1-0a86eb128e3c"
    async with connected(database_url) as connection:
        await connection.execute(
            """insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, parent)
            select hotpath.uuid7(), now(), 1, 1, 0, 1, 1, case when k % 3 = 0 then hotpath.uuid7() end
            from generate_series(1, 20000) k"""
        )
        await connection.execute("analyze hotpath.job_done")
        await connection.execute("set plan_cache_mode = force_generic_plan")
        full = await connection.fetchval(
            "select min(tableoid::regclass::text) from hotpath.job_done"  # the others are empty
        )
        for name, arguments in OF_A_RUN:
            with subtests.test(name):
                await connection.execute(f"prepare {name} as {query(name)}")
                execute = f"execute {name}({arguments.replace('$1', repr(run))})"
                plan = [row[0] for row in await connection.fetch(f"explain (costs off) {execute}")]
                table = f" on {full.rpartition('.')[2]} "
                scans = [line for line in plan if "Scan" in line and table in line]
                assert scans, "\n".join(plan)
                bare = [line for line in scans if not re.search("_parent_idx|_pkey", line)]
                assert bare == [], "\n".join(plan)
