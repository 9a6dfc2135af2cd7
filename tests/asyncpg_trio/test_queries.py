"""Queries, statements, errors, and what happens when two tasks want the same connection."""

from __future__ import annotations

import asyncpg
import pytest
import trio
import trio.testing


async def test_execute(connection):
    """execute runs several commands without arguments, one with, and returns the last status."""
    assert (
        await connection.execute("create temp table t(a int); insert into t values (1), (2)") == "INSERT 0 2"
    )
    assert await connection.execute("insert into t select generate_series(1, $1::int)", 5) == "INSERT 0 5"
    assert await connection.execute("") == ""


async def test_fetching(connection):
    """fetch, fetchrow, fetchval and fetchmany return rows, a row, a value, the rows of many runs."""
    assert [tuple(r) for r in await connection.fetch("select g, g * 2 from generate_series(1, 3) g")] == [
        (1, 2),
        (2, 4),
        (3, 6),
    ]
    assert tuple(await connection.fetchrow("select 1, 'a' union all select 2, 'b'")) == (1, "a")
    assert await connection.fetchrow("select 1 where false") is None
    assert await connection.fetchval("select 1, 2", column=1) == 2
    assert await connection.fetchval("select 1 where false") is None
    rows = await connection.fetchmany("select $1::int + 1 as n", [(1,), (2,)])
    assert [row["n"] for row in rows] == [2, 3]


async def test_big_values_both_ways(connection):
    """A statement and an answer far bigger than the socket's buffers pass at once, without a deadlock."""
    text = "x" * 20_000_000
    assert await connection.fetchval("select $1::text || 'y'", text) == text + "y"


async def test_executemany(connection):
    """A hundred thousand rows go through executemany, all or none."""
    await connection.execute("create temp table t(a int primary key, b text)")
    await connection.executemany("insert into t values ($1, $2)", ((i, "x" * 20) for i in range(100_000)))
    assert await connection.fetchval("select count(*) from t") == 100_000
    await connection.executemany("insert into t values ($1, $2)", [])
    rows = [(i, "y") for i in range(200_000, 230_000)] + [(5, "duplicate")]
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.executemany("insert into t values ($1, $2)", rows)
    with pytest.raises(asyncpg.DataError):
        await connection.executemany("insert into t values ($1, $2)", [*rows[:-1], ("no number", "z")])
    with pytest.raises(ZeroDivisionError):
        await connection.executemany(
            "insert into t values ($1, $2)", ((i // (i - 9), "z") for i in range(20))
        )
    assert await connection.fetchval("select count(*) from t") == 100_000


async def test_executemany_waits_for_a_slow_server(connect):
    """What executemany has not been able to send yet stays small, however much there is to send."""
    connection = await connect()
    await connection.execute("create temp table t(a text)")
    wire = connection._session.wire
    most = 0

    def rows():
        nonlocal most
        for _ in range(30_000):
            most = max(most, len(wire.unsent))
            yield ("x" * 1000,)

    await connection.executemany("insert into t values ($1)", rows())
    assert 0 < most < 1_000_000


async def test_prepared_statement(connection):
    """A prepared statement runs, describes itself, explains itself, and is refused when its time is over."""
    statement = await connection.prepare("select $1::int as n, $2::text as t")
    assert tuple(await statement.fetchrow(1, "x")) == (1, "x")
    assert await statement.fetchval(1, "x", column="t") == "x"
    assert len(await statement.fetch(1, "x")) == 1
    assert [row["n"] for row in await statement.fetchmany([(1, "a"), (2, "b")])] == [1, 2]
    assert [p.name for p in statement.get_parameters()] == ["int4", "text"]
    assert [(a.name, a.type.name) for a in statement.get_attributes()] == [("n", "int4"), ("t", "text")]
    assert statement.get_statusmsg() == "SELECT 1"
    assert statement.get_query().startswith("select")
    assert (await statement.explain(1, "x"))[0]["Plan"]["Node Type"] == "Result"
    assert "Actual Rows" in (await statement.explain(1, "x", analyze=True))[0]["Plan"]
    named = await connection.prepare("select 1", name="my_statement")
    assert named.get_name() == "my_statement"
    assert await connection.fetchval(
        "select count(*) from pg_prepared_statements where name = 'my_statement'"
    )
    await connection.close()
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await named.fetchval()


async def test_prepared_executemany(connection):
    """A prepared statement has executemany too."""
    await connection.execute("create temp table t(a int)")
    statement = await connection.prepare("insert into t values ($1)")
    await statement.executemany([(i,) for i in range(1000)])
    assert await connection.fetchval("select count(*) from t") == 1000


async def test_statements_are_cached_and_closed(connect):
    """The cache keeps the most recent statements on the server and closes the others."""
    connection = await connect(statement_cache_size=3)
    count = "select count(*) from pg_prepared_statements"
    for number in range(10):
        await connection.fetchval(f"select {number}")
    assert await connection.fetchval(count) <= 4
    assert connection.statistics().cached_statements == 3
    uncached = await connect(statement_cache_size=0)
    await uncached.fetchval("select 1")
    assert await uncached.fetchval(count) == 0


async def test_dropped_statement_is_closed_on_the_server(connect):
    """A prepared statement that nobody refers to is closed when the next one is made."""
    connection = await connect()
    statement = await connection.prepare("select 'dropped'")
    assert await statement.fetchval() == "dropped"
    del statement
    await connection.fetchval("select 'next'")
    assert (
        await connection.fetchval("select count(*) from pg_prepared_statements where statement ~ 'dropped'")
        <= 1
    )


async def test_ddl_outdates_cached_statements(connect):
    """A statement whose result changed by DDL is prepared again; inside a transaction that is an error."""
    connection = await connect()
    await connection.execute("create temp table t(a int); insert into t values (1)")
    assert len(await connection.fetchrow("select * from t")) == 1
    await connection.execute("alter table t add b text default 'new'")
    assert dict(await connection.fetchrow("select * from t")) == {"a": 1, "b": "new"}
    async with connection.transaction():
        await connection.execute("alter table t add c int")
        with pytest.raises(asyncpg.InvalidCachedStatementError):
            async with connection.transaction():
                await connection.fetchrow("select * from t")
        assert await connection.fetchval("select 1") == 1
    assert len(await connection.fetchrow("select * from t")) == 3


async def test_changed_composite_is_learnt_anew(connect):
    """When a composite's layout changes, one query fails and says so; the next one knows the new layout."""
    connection = await connect()
    await connection.execute("create type pg_temp.pair as (a int, b int)")
    await connection.execute("create temp table t(p pg_temp.pair)")
    await connection.execute("insert into t values ((1, 2))")
    assert len((await connection.fetchrow("select p from t"))["p"]) == 2
    other = await connect()
    await connection.execute("alter type pg_temp.pair drop attribute b")
    with pytest.raises(asyncpg.OutdatedSchemaCacheError):
        await connection.fetchrow("select p from t")
    assert len((await connection.fetchrow("select p from t"))["p"]) == 1
    await other.reload_schema_state()
    assert await other.fetchval("select 1") == 1


async def test_errors_carry_what_the_server_said(connection):
    """An error is asyncpg's class for its SQLSTATE, with detail, hint and constraint; nothing is broken."""
    await connection.execute("create temp table t(a int constraint positive check (a > 0))")
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await connection.execute("insert into t values ($1)", -1)
    assert caught.value.constraint_name == "positive"
    assert caught.value.sqlstate == "23514"
    with pytest.raises(asyncpg.PostgresSyntaxError) as caught:
        await connection.fetch("select from where")
    assert caught.value.position
    with pytest.raises(asyncpg.RaiseError, match="message") as caught:
        await connection.execute(
            "do $$ begin raise exception 'message' using detail = 'the detail', hint = 'the hint'; end $$"
        )
    assert (caught.value.detail, caught.value.hint) == ("the detail", "the hint")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.fetch("select 1 / (g - 500) from generate_series(1, 1000) g")
    assert await connection.fetchval("select 1") == 1


async def test_notices(connect):
    """NOTICEs reach those who asked for them, and a listener that fails does no harm."""
    connection = await connect()
    heard = []

    def fail(_connection, _message):
        raise RuntimeError("listener")

    remove = connection.add_log_listener(lambda _, message: heard.append(message.message))
    remove_failing = connection.add_log_listener(fail)
    await connection.execute("do $$ begin raise notice 'first'; raise warning 'second'; end $$")
    assert heard == ["first", "second"]
    remove()
    remove()
    remove_failing()
    await connection.execute("do $$ begin raise notice 'third'; end $$")
    assert heard == ["first", "second"]


LOCK = 4711
"""The key of an advisory lock, for which a statement waits as long as a test wants it to."""
OPERATIONS = {
    "execute": lambda c: c.execute("select 1"),
    "execute with arguments": lambda c: c.execute("select $1::int", 1),
    "fetch": lambda c: c.fetch("select 1"),
    "executemany": lambda c: c.executemany("select $1::int", [(1,)]),
    "prepare": lambda c: c.prepare("select 2"),
    "copy": lambda c: c.copy_to_table("pg_class", source=b""),
    "codec": lambda c: c.reset_type_codec("json", schema="pg_catalog"),
    "reload": lambda c: c.reload_schema_state(),
    "transaction": lambda c: c.transaction().start(),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_two_tasks_at_once(connect, name):
    """A second operation on a busy connection is refused with a clear error; the first is not harmed."""
    connection, holder = await connect(), await connect()
    result = []

    async def first():
        result.append(await connection.fetchval(f"select 'first' from pg_advisory_xact_lock({LOCK})"))

    await holder.execute(f"select pg_advisory_lock({LOCK})")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(asyncpg.InterfaceError, match="another operation is in progress"):
            await OPERATIONS[name](connection)
        await holder.execute(f"select pg_advisory_unlock({LOCK})")
    assert result == ["first"]
    assert await connection.fetchval("select 1") == 1


async def test_a_statement_of_a_busy_connection(connect):
    """Statements and cursors share their connection's turn."""
    connection, holder = await connect(), await connect()
    statement = await connection.prepare("select 1")
    await holder.execute(f"select pg_advisory_lock({LOCK})")
    async with connection.transaction():
        cursor = await connection.cursor("select generate_series(1, 5)")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.execute, f"select pg_advisory_xact_lock({LOCK})")
            await trio.testing.wait_all_tasks_blocked(0.01)
            for call in (
                statement.fetch,
                statement.fetchrow,
                lambda: cursor.fetch(1),
                lambda: cursor.forward(1),
            ):
                with pytest.raises(asyncpg.InterfaceError, match="another operation is in progress"):
                    await call()
            await holder.execute(f"select pg_advisory_unlock({LOCK})")
        assert len(await cursor.fetch(2)) == 2


async def test_nothing_is_sent_for_a_cancelled_task(connect):
    """A task that is cancelled already sends nothing: its statement cannot take effect."""
    connection = await connect()
    await connection.execute("create temp table t(a int)")
    sent = connection.statistics().bytes_sent
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.execute("insert into t values (1)")
    assert scope.cancelled_caught
    assert connection.statistics().bytes_sent == sent
    assert await connection.fetchval("select count(*) from t") == 0


async def test_parsing_keeps_no_locks(connect):
    """A statement that was prepared and not run, or refused for its arguments, leaves no transaction open."""
    connection, other = await connect(), await connect()
    await other.execute(
        "drop table if exists once, twice; create table once(a int); create table twice(a int)"
    )
    statement = await connection.prepare("select * from once")
    with pytest.raises(asyncpg.DataError):
        await connection.fetch("select * from twice where a = $1", "no number")
    with trio.fail_after(30):
        await other.execute("drop table once, twice")
    assert not connection.is_in_transaction()
    del statement


@pytest.mark.parametrize("cache", [0, 100])
async def test_unnamed_statement(connect, cache):
    """A statement without a name works as often as one likes, whatever runs in between."""
    connection = await connect(statement_cache_size=cache)
    statement = await connection.prepare("select $1::int", name="")
    for number in range(3):
        assert await statement.fetchval(number) == number
        assert await connection.fetchval("select $1::text", "other") == "other"
