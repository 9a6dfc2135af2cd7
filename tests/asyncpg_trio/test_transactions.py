"""Transactions, savepoints and cursors."""

from __future__ import annotations

import asyncpg
import pytest
import trio


async def count(connection) -> int:
    """How many rows the table holds."""
    return await connection.fetchval("select count(*) from t")


@pytest.fixture
async def table(connection):
    """A connection with an empty temporary table."""
    await connection.execute("create temp table t(a int)")
    return connection


async def test_commit_and_rollback(table):
    """A block commits at its end and rolls back on an exception, which goes on."""
    async with table.transaction():
        assert table.is_in_transaction()
        await table.execute("insert into t values (1)")
    assert not table.is_in_transaction()
    with pytest.raises(LookupError):
        async with table.transaction():
            await table.execute("insert into t values (2)")
            raise LookupError
    assert await count(table) == 1


async def test_savepoints(table):
    """An inner block is a savepoint: it can fail alone."""
    async with table.transaction():
        await table.execute("insert into t values (1)")
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with table.transaction():
                await table.execute("insert into t values (2)")
                await table.execute("select 1/0")
        async with table.transaction():
            await table.execute("insert into t values (3)")
    assert [row["a"] for row in await table.fetch("select a from t order by a")] == [1, 3]


async def test_options(connection):
    """Isolation, read-only and deferrable reach the server; nonsense does not."""
    async with connection.transaction(isolation="serializable", readonly=True, deferrable=True):
        assert await connection.fetchval("show transaction_isolation") == "serializable"
        assert await connection.fetchval("show transaction_read_only") == "on"
        assert await connection.fetchval("show transaction_deferrable") == "on"
        async with connection.transaction(isolation="serializable"):
            pass
        with pytest.raises(asyncpg.InterfaceError, match="isolation"):
            await connection.transaction(isolation="read_committed").start()
    async with connection.transaction():
        with pytest.raises(asyncpg.InterfaceError, match="isolation"):
            await connection.transaction(isolation="serializable").start()
    with pytest.raises(ValueError, match="isolation"):
        connection.transaction(isolation="chaos")


async def test_by_hand(table):
    """start, commit and rollback work by hand, each once, and not within a block."""
    transaction = table.transaction()
    with pytest.raises(asyncpg.InterfaceError, match="not yet started"):
        await transaction.commit()
    await transaction.start()
    await table.execute("insert into t values (1)")
    await transaction.rollback()
    with pytest.raises(asyncpg.InterfaceError, match="already rolled back"):
        await transaction.start()
    async with table.transaction() as managed:
        with pytest.raises(asyncpg.InterfaceError):
            await managed.commit()
    await table.execute("begin")
    with pytest.raises(asyncpg.InterfaceError, match="manually started"):
        await table.transaction().start()
    await table.execute("rollback")
    assert await count(table) == 0


async def test_failed_commit(connection):
    """A commit that the server refuses raises, and leaves no transaction open."""
    await connection.execute("create temp table u(a int unique deferrable initially deferred)")
    with pytest.raises(asyncpg.UniqueViolationError):
        async with connection.transaction():
            await connection.execute("insert into u values (1), (1)")
    assert not connection.is_in_transaction()
    async with connection.transaction():
        assert await connection.fetchval("select count(*) from u") == 0


async def test_cancelled_block_is_rolled_back(table):
    """A cancellation from outside rolls the transaction back before it goes on."""
    with trio.move_on_after(0.05) as scope:
        async with table.transaction():
            await table.execute("insert into t values (1)")
            async with table.transaction():
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not table.is_in_transaction()
    async with table.transaction():
        assert await count(table) == 0


async def test_lost_connection_is_what_comes_up(connect):
    """When the connection ends within a block, its end is the error, not the rollback that cannot be."""
    connection, killer = await connect(), await connect()
    with pytest.raises(asyncpg.ConnectionDoesNotExistError, match="administrator command"):
        async with connection.transaction():
            await killer.execute("select pg_terminate_backend($1)", connection.get_server_pid())
            await connection.fetchval("select pg_sleep(10)")


async def test_cursors(connection):
    """Cursors iterate, fetch, skip, and need a transaction."""
    with pytest.raises(asyncpg.NoActiveSQLTransactionError):
        async for _ in connection.cursor("select 1"):
            pass
    async with connection.transaction():
        rows = [r[0] async for r in connection.cursor("select generate_series(1, $1::int)", 1000, prefetch=7)]
        assert rows == list(range(1, 1001))
        assert [r async for r in connection.cursor("select 1 where false")] == []
        cursor = await connection.cursor("select generate_series(1, 10) as n")
        assert [r["n"] for r in await cursor.fetch(3)] == [1, 2, 3]
        assert await cursor.forward(2) == 2
        assert (await cursor.fetchrow())["n"] == 6
        assert len(await cursor.fetch(100)) == 4
        assert await cursor.fetchrow() is None
        assert await cursor.forward(1) == 0
        statement = await connection.prepare("select generate_series(1, $1::int)")
        assert len([r async for r in statement.cursor(5)]) == 5
        with pytest.raises(asyncpg.InterfaceError):
            connection.cursor("select 1", prefetch=0)
        with pytest.raises(asyncpg.DivisionByZeroError):
            async for _ in connection.cursor("select 1 / (5 - g) from generate_series(1, 9) g", prefetch=2):
                pass
        await connection.execute("rollback")
    assert await connection.fetchval("select count(*) from pg_cursors where name <> ''") == 0
