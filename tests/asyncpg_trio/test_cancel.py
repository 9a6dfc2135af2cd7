"""Cancelled anywhere, an operation leaves its connection usable or closed: tried wherever it waits."""

from __future__ import annotations

import gc
import os
from functools import partial

import asyncpg
import pytest
import trio
import trio.testing
from asleep import cancelled_asleep

from hotpath import asyncpg_trio
from hotpath.asyncpg_trio import _cancel, create_pool


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when the task in it has been suspended for the k-th time."""

    def __init__(self, scope: trio.CancelScope, k: int) -> None:
        self._scope = scope
        self._task = trio.lowlevel.current_task()
        self._left = k

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            if self._left == 0:
                self._scope.cancel()
            self._left -= 1


async def cancelled_at(k: int, operation) -> bool:
    """Run ``operation``, cancelled at its k-th suspension; whether it got that far."""
    with trio.CancelScope() as scope:
        instrument = CancelAt(scope, k)
        trio.lowlevel.add_instrument(instrument)
        try:
            await operation()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancel_called


async def check_usable_or_closed(connection: asyncpg_trio.Connection) -> bool:
    """The invariant of this file. Returns whether the connection is still usable."""
    if connection.is_closed():
        with pytest.raises(asyncpg.InterfaceError):
            await connection.fetchval("select 1")
        return False
    with trio.fail_after(30):
        for number in range(2):
            assert await connection.fetchval("select $1::int", number) == number
        assert not connection.is_in_transaction()
        assert await connection.execute("select 1; select 2") == "SELECT 1"
    return True


def rows(count: int):
    """`count` records of a number and a hundred letters."""
    return ((i, "x" * 100) for i in range(count))


class Slowly:
    """An async iterable (no generator, which would have to be closed) that waits before each item."""

    def __init__(self, items) -> None:
        self._items = iter(items)

    def __aiter__(self):
        return self

    async def __anext__(self):
        await trio.lowlevel.checkpoint()
        for item in self._items:
            return item
        raise StopAsyncIteration


async def sink(_data: bytes) -> None:
    """Take a chunk of a COPY, waiting once."""
    await trio.lowlevel.checkpoint()


async def transaction(c):
    """A transaction with a savepoint in it."""
    async with c.transaction():
        await c.execute("insert into t values (1)")
        async with c.transaction():
            await c.execute("insert into t values (2)")


async def cursor(c):
    """A cursor, iterated and then moved by hand."""
    async with c.transaction():
        async for _ in c.cursor("select generate_series(1, 20)", prefetch=5):
            pass
        opened = await c.cursor("select generate_series(1, 20)")
        await opened.forward(3)
        await opened.fetch(3)


async def listen(c):
    """One notification received, and a wait for another."""
    async with c.listen("a", "b") as notifications:
        await c.execute("select pg_notify('b', '')")
        await notifications.receive()
        with trio.move_on_after(0.005):
            await notifications.receive()


async def prepared(c):
    """All ways to run a prepared statement."""
    statement = await c.prepare("select $1::int, pg_sleep(0.001)")
    await statement.fetchrow(1)
    await statement.fetchmany([(1,), (2,)])
    await statement.explain(1, analyze=True)


async def new_type(c):
    """A type that is looked up, and a codec set and taken back."""
    await c.execute("drop type if exists pg_temp.pair; create type pg_temp.pair as (a int, b text)")
    await c.fetchval("select $1::pg_temp.pair[]", [(1, "x")])
    await c.set_type_codec("json", schema="pg_catalog", encoder=str, decoder=str)
    await c.reset_type_codec("json", schema="pg_catalog")


OPERATIONS = {
    "execute": lambda c: c.execute("select pg_sleep(0.002); select 1"),
    "fetch": lambda c: c.fetch("select g, repeat('x', 1000) from generate_series(1, 3000) g"),
    "error": lambda c: c.fetchval("select 1/0 from pg_sleep(0.001)"),
    "big argument": lambda c: c.fetchval("select length($1)", "x" * 5_000_000),
    "executemany": lambda c: c.executemany("insert into t values ($1, $2)", rows(8000)),
    "copy records": lambda c: c.copy_records_to_table("t", records=rows(20_000)),
    "copy async records": lambda c: c.copy_records_to_table("t", records=Slowly(rows(20))),
    "copy chunks": lambda c: c.copy_to_table("t", source=Slowly([b"1\tx\n"] * 20)),
    "copy out": lambda c: c.copy_from_query(
        "select repeat('x', 1000) from generate_series(1, 3000)", output=sink
    ),
    "copy out little": lambda c: c.copy_from_query("select 1", output=sink),
    "transaction": transaction,
    "cursor": cursor,
    "listen": listen,
    "prepared": prepared,
    "new type": new_type,
    "reset": lambda c: c.reset(),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_every_suspension(dsn, name):
    """An operation cancelled at its k-th suspension, for every k, leaves the connection usable or closed."""
    connection = await asyncpg_trio.connect(dsn)
    await connection.execute("create temp table t(a int, b text)")
    reached, k, closed = True, 0, 0
    while reached and k < 60:
        await connection.execute("truncate t")
        try:
            reached = await cancelled_at(k, partial(OPERATIONS[name], connection))
        except asyncpg.DivisionByZeroError:
            reached = False
        if reached and name in ("executemany", "copy records", "transaction") and not connection.is_closed():
            # All or nothing; and it may be all, when the server was quicker than the cancellation.
            assert await connection.fetchval("select count(*) from t") in (0, 8000, 20_000, 2)
        if not await check_usable_or_closed(connection):
            closed += 1
            connection = await asyncpg_trio.connect(dsn)
            await connection.execute("create temp table t(a int, b text)")
        k += 1
    assert k > 1
    # Closing is allowed, but with a server that answers it is never needed.
    assert closed == 0
    await connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unix", "scram", "tls", "hosts"])
async def test_connecting(kind, request, cluster):
    """Cancelled at any point, connecting leaves no socket open."""
    dsn = cluster.dsn()
    options = {}
    if kind == "scram":
        dsn, options = cluster.dsn(user="scram_user", host="localhost"), {"password": "right"}
    elif kind == "tls":
        server = request.getfixturevalue("tls_cluster")
        dsn = server.dsn(host="localhost") + "&sslmode=require"
    elif kind == "hosts":
        dsn = f"postgresql://postgres@127.0.0.1:1,127.0.0.1:{cluster.port}/postgres?target_session_attrs=primary"

    async def connect():
        connection = await asyncpg_trio.connect(dsn, **options)
        connection.terminate()

    await connect()
    gc.collect()
    before = open_sockets()
    reached, k = True, 0
    while reached and k < 60:
        reached = await cancelled_at(k, connect)
        k += 1
    assert k > 2
    with trio.fail_after(30):
        while open_sockets() > before:  # noqa: ASYNC110 - a name look-up may still be ending in its thread
            await trio.sleep(0.01)


def open_sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            pass
    return count


async def test_pool_at_every_suspension(cluster):
    """Cancelled while it waits for, opens, uses or gives back a connection, a task takes nothing with it."""

    async def use(pool):
        async with pool.acquire() as connection:
            await connection.execute("select pg_sleep(0.001)")

    reached, k = True, 0
    while reached and k < 40:
        async with create_pool(cluster.dsn(), min_size=0, max_size=1) as pool:
            reached = await cancelled_at(k, lambda pool=pool: use(pool))
            with trio.fail_after(30):
                assert await pool.fetchval("select 1") == 1
            assert pool.statistics().size == 1
        k += 1
    assert k > 3


async def test_closing_at_every_suspension(cluster, connect):
    """Cancelled while it closes, a connection is closed."""
    reached, k = True, 0
    while reached and k < 10:
        connection = await connect()
        reached = await cancelled_at(k, connection.close)
        assert connection.is_closed()
        assert connection._session.wire.sock.fileno() == -1
        k += 1
    assert k > 1


async def test_cancelled_query_has_ended_on_the_server(connect):
    """When the cancellation goes on, the server has stopped the query and the connection is usable."""
    connection, watcher = await connect(), await connect()
    assert await cancelled_asleep(connection, watcher, "select pg_sleep(50)")
    query = "select state from pg_stat_activity where pid = $1"
    assert await watcher.fetchval(query, connection.get_server_pid()) == "idle"
    assert await connection.fetchval("select 1") == 1
    assert connection.statistics().cancels_sent == 1


async def test_the_next_query_is_not_hit(dsn, connect):
    """However a cancellation races with the end of its query, the next query is never the one hit."""
    connection = await connect(dsn)
    statement = await connection.prepare("select pg_sleep($1)")
    for number in range(150):
        with trio.move_on_after(0.0002 + (number % 10) * 0.0001):
            await statement.fetch(0.0005)
        assert await connection.fetchval("select 'not hit' from pg_sleep(0.0005)") == "not hit"


async def test_finished_in_spite_of_the_cancellation(connect):
    """A statement that ignores its cancellation takes effect; Cancelled is raised all the same."""
    connection, watcher = await connect(), await connect()
    await connection.execute("create temp table t(a int)")
    statement = """
        do $$ begin
            insert into t values (1);
            begin perform pg_sleep(50); exception when query_canceled then null; end;
        end $$
    """
    assert await cancelled_asleep(connection, watcher, statement)
    assert await connection.fetchval("select count(*) from t") == 1


async def test_a_server_that_does_not_stop(connect, monkeypatch):
    """When the server does not end the operation in time, the connection is closed."""
    monkeypatch.setattr(_cancel, "CANCEL_GRACE", 0.2)
    connection, watcher = await connect(), await connect()
    stubborn = """
        do $$ declare until timestamptz = clock_timestamp() + interval '20 seconds'; begin
            while clock_timestamp() < until loop
                begin perform pg_sleep(1); exception when query_canceled then null; end;
            end loop;
        end $$
    """
    started = trio.current_time()
    assert await cancelled_asleep(connection, watcher, stubborn)
    assert connection.is_closed()
    assert trio.current_time() - started < 15


async def test_copy_by_sql_text_that_waits_for_data(connect, monkeypatch):
    """COPY FROM STDIN as plain SQL waits for data that never comes; a cancellation gets out of it."""
    monkeypatch.setattr(_cancel, "CANCEL_GRACE", 0.3)
    connection = await connect()
    await connection.execute("create temp table t(a int)")
    with trio.move_on_after(0.02) as scope:
        await connection.execute("copy t from stdin")
    assert scope.cancelled_caught
    await check_usable_or_closed(connection)


async def test_terminated_by_another_task(connect):
    """A connection that another task terminates gives its user a clear error."""
    connection = await connect()
    async with trio.open_nursery() as nursery:

        async def use():
            with pytest.raises(asyncpg.ConnectionDoesNotExistError):
                await connection.execute("select pg_sleep(10)")

        nursery.start_soon(use)
        await trio.testing.wait_all_tasks_blocked(0.01)
        connection.terminate()
    assert connection.is_closed()


async def test_cancelled_within_a_transaction(connect):
    """A query cancelled within a transaction fails the transaction, as any error; a savepoint saves it."""
    connection, watcher = await connect(), await connect()
    await connection.execute("create temp table t(a int)")
    async with connection.transaction():
        await connection.execute("insert into t values (1)")
        with trio.CancelScope() as scope:
            async with connection.transaction():
                await cancelled_asleep(connection, watcher, "select pg_sleep(50)")
                scope.cancel()
                await trio.lowlevel.checkpoint()
        await connection.execute("insert into t values (2)")
    assert await connection.fetchval("select count(*) from t") == 2
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        async with connection.transaction():
            await cancelled_asleep(connection, watcher, "select pg_sleep(50)")
            await connection.execute("select 1")
    assert not connection.is_in_transaction()
