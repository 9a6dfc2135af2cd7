"""Migrations: made once, by one of many, never on somebody else's database, never by a program that is too
old.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest
import trio

from hotpath import asyncpg_trio
from hotpath.errors import SchemaError
from hotpath.store.migrate import PROGRAM, ensure_schema, installed_version, migrate, migrations
from hotpath.store.queries import query


@asynccontextmanager
async def connected(url):
    """A connection that ends with the test."""
    connection = await asyncpg_trio.connect(url)
    try:
        yield connection
    finally:
        connection.terminate()


async def test_migrate_twice_is_fine(empty_database_url):
    """I13: the first call applies all migrations in order, the second none."""
    async with connected(empty_database_url) as connection:
        assert await installed_version(connection) is None
        assert await migrate(connection) == [name for _, name, _ in migrations()]
        assert await migrate(connection) == []
        assert await installed_version(connection) == migrations()[-1][0]


def test_migrations_are_numbered_without_gaps():
    """I13: migrations are numbered from 1 on, so that the version in the database says all."""
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))


async def test_programs_that_start_together(empty_database_url):
    """I13: of programs that find an empty database at the same time one migrates it and all can use it."""

    async def start():
        async with connected(empty_database_url) as connection:
            await ensure_schema(connection, may_create=False)
            assert await installed_version(connection) == migrations()[-1][0]

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(start)


async def test_schema_too_new_is_refused(database_url):
    """I13: a database that no longer serves programs as old as this one is refused, by every way in, and
    says what to do.
    """
    async with connected(database_url) as connection:
        await connection.execute("update hotpath.meta set version = 99, oldest_program = $1", PROGRAM + 1)
        for way in (installed_version, migrate, lambda it: ensure_schema(it, may_create=True)):
            with pytest.raises(SchemaError, match=r"too new.*upgrade hotpath-runtime"):
                await way(connection)


async def test_newer_schema_that_serves_us_is_used(database_url):
    """I13: a newer schema goes on serving this program until it says otherwise, and is left as it is."""
    async with connected(database_url) as connection:
        await connection.execute("update hotpath.meta set version = 99")
        await ensure_schema(connection, may_create=True)
        assert await migrate(connection) == []
        assert await installed_version(connection) == 99


async def test_jobs_of_an_older_schema_go_on(empty_database_url, monkeypatch):
    """I1: jobs that wait, run and are done under the schema before this one do so after it, with all their
    rights: who waits can be canceled, who runs be asked to stop, who is done be retried.
    """
    from hotpath.store import migrate as module

    newest = migrations()
    monkeypatch.setattr(module, "migrations", lambda: newest[:3])
    async with connected(empty_database_url) as connection:
        await migrate(connection)
        await connection.execute(
            """
            insert into hotpath.script (name, tag) values ('s', hotpath.tag_id('s'));
            insert into hotpath.script_version (script, hash, is_async, schema, settings)
                values (1, 'h', false, '{}', '{}');
            update hotpath.script set version = 1;
            insert into hotpath.worker (name, tags, host, pid, concurrency, lease_until)
                values ('w', '{}', 'here', 1, 1, now() + interval '1 hour');
            """
        )
        loose = [await connection.fetchval("select hotpath.enqueue('s')") for _ in range(2)]
        base = await connection.fetchval(
            """insert into hotpath.batch (base, scheduled_for, tag, script, priority, n, open, next, args)
            select hotpath.batch_of(hotpath.uuid7()), now(), tag, id, 0, 3, 2, 2,
                array_fill('{}'::json, '{3}') from hotpath.script returning base"""
        )
        await connection.execute(
            "insert into hotpath.lease (id, batch, worker, lo, hi, done) values (7, $1, 1, 0, 2, '\\x01')",
            base,
        )
        sealed = [await connection.fetchval("select hotpath.job_id($1, $2)", base, k) for k in range(3)]
        await connection.execute(
            """insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args)
            values ($1, now(), hotpath.tag_id('s'), 1, 0, 1, 2, '{}')""",
            sealed[0],
        )
        monkeypatch.setattr(module, "migrations", lambda: newest)
        assert await migrate(connection) == [name for _, name, _ in newest[3:]]
        cancels = [await connection.fetchval("select hotpath.cancel($1)", job) for job in (*loose, *sealed)]
        assert cancels == [True, True, False, True, True]
        assert await connection.fetchval("select cancels from hotpath.lease") == b"\x02"
        assert await connection.fetchval("select hotpath.retry($1)", sealed[0])
        states = await connection.fetch("select state, count(*) from hotpath.job group by 1 order by 1")
        assert [tuple(row) for row in states] == [("canceled", 3), ("queued", 1), ("running", 1)]


async def test_rare_jobs_of_an_older_schema_go_on(empty_database_url, monkeypatch):
    """Jobs that have run before, that expire or have a limit's key, put in under other indexes (before 0022):
    a drain waits for the first, the second ends, the third keeps its key.
    """
    from hotpath.store import migrate as module

    newest = migrations()
    monkeypatch.setattr(module, "migrations", lambda: newest[:21])
    async with connected(empty_database_url) as connection:
        await migrate(connection)
        await connection.execute(
            """
            insert into hotpath.script (name, tag) values ('s', hotpath.tag_id('s'));
            insert into hotpath.script_version (script, hash, is_async, schema, settings)
                values (1, 'h', false, '{}', '{"expires": 60, "limit": {"concurrency": 1, "key": "k"}}');
            update hotpath.script set version = 1;
            """
        )
        put = "select hotpath.enqueue('s', scheduled_for => now() + $1::interval)"
        late, again, keyed = [await connection.fetchval(put, timedelta(hours=hours)) for hours in (-1, 1, 1)]
        await connection.execute(
            "update hotpath.job_queue set attempt = 1, expires_at = null where id = $1", again
        )
        row = "select limit_key, expires_at from hotpath.job_queue where id = $1"
        was = await connection.fetchrow(row, keyed)
        assert None not in was
        monkeypatch.setattr(module, "migrations", lambda: newest)
        await migrate(connection)
        assert await connection.fetchval("select hotpath.expire_loose(10)") == 1
        assert await connection.fetchval("select state from hotpath.job_get($1)", late) == "failure"
        assert await connection.fetchrow(row, keyed) == was
        tags = [await connection.fetchval("select hotpath.tag_id('s')")]
        assert not await connection.fetchval(query("drained"), tags, 1)
        assert not await connection.fetchval(query("drained_any"), tags)
        assert await connection.fetchval("select hotpath.cancel($1)", again)
        assert await connection.fetchval(query("drained"), tags, 1)
        assert await connection.fetchval(query("drained_any"), tags)
        assert await connection.fetchrow(row, await connection.fetchval(put, timedelta(hours=1)))


async def test_foreign_database_is_not_touched(empty_database_url):
    """I13: a database with tables of somebody else's is refused, and nothing is created; `migrate`, asked
    for, does it.
    """
    async with connected(empty_database_url) as connection:
        await connection.execute("create table theirs (id int)")
        with pytest.raises(SchemaError, match="hotpath migrate"):
            await ensure_schema(connection, may_create=False)
        assert await connection.fetchval("select to_regnamespace('hotpath')") is None
        await migrate(connection)
        await ensure_schema(connection, may_create=False)


async def test_failed_migration_leaves_nothing(empty_database_url, monkeypatch):
    """I13: a migration that fails takes everything back with it."""
    from hotpath.store import migrate as module

    broken = [
        *migrations(),
        (len(migrations()) + 1, "9999_broken.sql", "create table hotpath.half (); select 1 / 0"),
    ]
    monkeypatch.setattr(module, "migrations", lambda: broken)
    async with connected(empty_database_url) as connection:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(connection)
        assert await connection.fetchval("select to_regnamespace('hotpath')") is None


async def test_ids_are_ordered_and_tell_their_time(database_url):
    """I4: ids made one after the other sort so, are valid UUIDv7, and say when they were made."""
    async with connected(database_url) as connection:
        rows = await connection.fetch(
            "select hotpath.uuid7() as id, clock_timestamp() as at from generate_series(1, 300)"
        )
        ids = [row["id"] for row in rows]
        assert [one.version for one in ids[:3]] == [7, 7, 7]
        assert {str(one)[19] for one in ids} <= set("89ab")
        times = [await connection.fetchval("select hotpath.uuid_time($1)", one) for one in ids[:5]]
        assert all(abs(at - row["at"]) < timedelta(seconds=5) for at, row in zip(times, rows, strict=False))
        # Within one microsecond the random part decides: equal heads are rare, out of order never.
        heads = [one.int >> 64 for one in ids]
        assert heads == sorted(heads)
        base = await connection.fetchval("select hotpath.batch_of($1)", ids[0])
        for k in (0, 1, 255, 256, 499):
            row = await connection.fetchrow(
                "select hotpath.batch_of(j) as batch, hotpath.ordinal_of(j) as k "
                "from hotpath.job_id($1, $2) j",
                base,
                k,
            )
            assert (row["batch"], row["k"]) == (base, k)
