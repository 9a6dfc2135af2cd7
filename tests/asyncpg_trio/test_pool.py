"""The pool lends fairly, takes back clean, and throws away what is broken."""

from __future__ import annotations

import asyncpg
import pytest
import trio
import trio.testing

from hotpath.asyncpg_trio import create_pool


async def test_lends_and_takes_back(dsn):
    """Connections are opened as needed up to the maximum, and used again."""
    async with create_pool(dsn, min_size=1, max_size=3) as pool:
        assert pool.statistics().size == 1
        async with pool.acquire() as one, pool.acquire() as two:
            assert await one.fetchval("select 1") + await two.fetchval("select 2") == 3
            assert pool.statistics().idle == 0
        assert (pool.statistics().size, pool.statistics().idle, pool.statistics().opened) == (2, 2, 2)
        assert await pool.fetchval("select 1") == 1
        assert await pool.execute("select 1") == "SELECT 1"
        assert len(await pool.fetch("select 1")) == 1
        assert tuple(await pool.fetchrow("select 1, 2")) == (1, 2)
        await pool.executemany("select $1::int", [(1,)])
        assert pool.statistics().opened == 2


async def test_first_come_first_served(cluster):
    """Tasks that wait get their connection in the order they came."""
    order = []

    async def use(number):
        async with pool.acquire() as connection:
            order.append(number)
            await connection.execute("select pg_sleep(0.002)")

    # One connection: of two that are lent in the same tick, Trio runs either borrower first.
    async with create_pool(cluster.dsn(), max_size=1) as pool, trio.open_nursery() as nursery, pool.acquire():
        for number in range(10):
            nursery.start_soon(use, number)
            await trio.testing.wait_all_tasks_blocked()
        assert pool.statistics().waiting == 10
    assert order == list(range(10))


async def test_no_more_than_max_size_are_lent(cluster):
    """A pool of two serves ten tasks, two at a time."""
    most = now = 0

    async def use():
        nonlocal most, now
        async with pool.acquire() as connection:
            now += 1
            most = max(most, now)
            await connection.execute("select pg_sleep(0.002)")
            now -= 1

    async with create_pool(cluster.dsn(), max_size=2) as pool, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(use)
    assert most == 2


async def test_cancelled_waiter_gives_up_its_place(cluster):
    """A task cancelled while it waits takes no connection with it."""
    async with create_pool(cluster.dsn(), max_size=1) as pool:
        async with pool.acquire():
            with trio.move_on_after(0.01) as scope:
                async with pool.acquire():
                    pass
            assert scope.cancelled_caught
        with trio.fail_after(20):
            async with pool.acquire() as connection:
                assert await connection.fetchval("select 1") == 1
        assert pool.statistics().waiting == 0


async def test_use_after_release_is_refused(cluster):
    """What was made on a lent connection is refused once the connection has been given back."""
    async with create_pool(cluster.dsn(), max_size=1) as pool:
        async with pool.acquire() as connection:
            statement = await connection.prepare("select 1")
            transaction = connection.transaction()
            async with connection.transaction():
                cursor = await connection.cursor("select 1")
        for use in (
            lambda: connection.fetchval("select 1"),
            statement.fetch,
            transaction.start,
            cursor.fetchrow,
        ):
            with pytest.raises(asyncpg.InterfaceError, match="released"):
                await use()
        assert connection.is_closed()
        connection.terminate()
        assert await pool.fetchval("select 1") == 1
        assert pool.statistics().opened == 1


async def test_taken_back_clean(cluster):
    """Open transactions, settings, locks and LISTEN do not reach the next borrower."""
    async with create_pool(cluster.dsn(), max_size=1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("set work_mem = '7MB'; select pg_advisory_lock(1); listen ch")
            await connection.execute("begin; create temp table t(a int)")
        async with pool.acquire() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("show work_mem") != "7MB"
            assert await connection.fetchval("select to_regclass('pg_temp.t')") is None
            assert await connection.fetchval("select count(*) from pg_listening_channels()") == 0
            assert await connection.fetchval("select count(*) from pg_locks where locktype = 'advisory'") == 0
        assert pool.statistics().opened == 1


async def test_broken_connections_are_replaced(cluster):
    """A connection that breaks, lent or idle, is not lent again."""
    async with create_pool(cluster.dsn(), max_size=1) as pool:
        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            async with pool.acquire() as connection:
                await connection.execute("select pg_terminate_backend(pg_backend_pid())")
        assert await pool.fetchval("select 1") == 1
        assert pool.statistics().discarded == 1
        async with pool.acquire() as connection:
            pid = connection.get_server_pid()
        async with create_pool(cluster.dsn(), max_size=1) as other:
            await other.execute("select pg_terminate_backend($1, 5000)", pid)
        assert await pool.fetchval("select 1") == 1


async def test_given_back_busy(cluster):
    """A connection given back while another task still uses it is thrown away, and that task told."""
    async with create_pool(cluster.dsn(), max_size=1) as pool:
        async with trio.open_nursery() as nursery, pool.acquire() as connection:

            async def use():
                with pytest.raises(asyncpg.ConnectionDoesNotExistError):
                    await connection.execute("select pg_sleep(10)")

            nursery.start_soon(use)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await pool.fetchval("select 1") == 1


async def test_init_setup_and_reset(cluster):
    """init runs once a connection, setup with each lending, reset instead of the usual one."""
    calls = []

    async def note(name, connection):
        calls.append(name)
        assert await connection.fetchval("select 1") == 1

    async with create_pool(
        cluster.dsn(),
        max_size=1,
        init=lambda c: note("init", c),
        setup=lambda c: note("setup", c),
        reset=lambda c: note("reset", c),
    ) as pool:
        await pool.fetchval("select 1")
        await pool.fetchval("select 1")
    assert calls == ["init", "setup", "reset", "setup", "reset"]

    async def fail(_connection):
        raise LookupError("setup")

    async with create_pool(cluster.dsn(), max_size=1, setup=fail) as pool:
        for _ in range(3):
            with pytest.raises(LookupError):
                await pool.fetchval("select 1")
        assert pool.statistics().idle == 1
    with pytest.raises(LookupError):
        async with create_pool(cluster.dsn(), init=fail):
            pass


async def test_end_of_the_pool(cluster, connect):
    """At its end the pool closes its connections, refuses who waits, and takes back what is still lent."""
    watcher = await connect()
    refused = []

    async with trio.open_nursery() as nursery:
        pool_done = trio.Event()

        async def hold(task_status):
            async with pool.acquire() as connection:
                task_status.started()
                await pool_done.wait()
                assert await connection.fetchval("select 1") == 1

        async def wait():
            with pytest.raises(asyncpg.InterfaceError, match="closed"):
                async with pool.acquire():
                    pass
            refused.append(True)

        async with create_pool(cluster.dsn() + "&application_name=pooled", min_size=0, max_size=1) as pool:
            await nursery.start(hold)
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.01)
        pool_done.set()
    assert refused == [True]
    assert pool.statistics().size == 0
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        async with pool.acquire():
            pass
    with trio.fail_after(30):
        while await watcher.fetchval(  # noqa: ASYNC110 - another process ends them
            "select count(*) from pg_stat_activity where application_name = 'pooled'"
        ):
            await trio.sleep(0.01)


async def test_idle_connections_go(cluster):
    """Connections that nobody has needed for long are closed, down to min_size."""
    async with create_pool(
        cluster.dsn(), min_size=1, max_size=3, max_inactive_connection_lifetime=0.001
    ) as pool:
        async with pool.acquire(), pool.acquire(), pool.acquire():
            pass
        await trio.sleep(0.01)
        await pool.fetchval("select 1")
        assert pool.statistics().size == 1


async def test_one_schema_change_concerns_all(cluster):
    """A change of schema that one connection notices is known to all in the pool."""
    async with create_pool(cluster.dsn(), max_size=2) as pool:
        await pool.execute("create table shared(a int)")
        try:
            async with pool.acquire() as one, pool.acquire() as two:
                await one.fetch("select * from shared")
                await two.fetch("select * from shared")
                await one.execute("alter table shared add b int")
                await one.fetch("select * from shared")
                async with two.transaction():
                    await two.fetch("select * from shared")
        finally:
            await pool.execute("drop table shared")


@pytest.mark.parametrize("sizes", [(2, 1), (0, 0), (-1, 1)])
def test_sizes_must_make_sense(sizes):
    """Sizes that no pool can have are refused at once."""
    with pytest.raises(ValueError, match="min_size"):
        create_pool("postgresql://x", min_size=sizes[0], max_size=sizes[1])


async def test_drop_idle(cluster):
    """drop_idle() closes what is idle and nothing that is lent; the pool goes on with new connections."""
    async with create_pool(cluster.dsn(), min_size=2, max_size=3) as pool:
        async with pool.acquire() as lent:
            pid = await lent.fetchval("select pg_backend_pid()")
            pool.drop_idle()
            assert pool.statistics().idle == 0
            assert await lent.fetchval("select pg_backend_pid()") == pid
            assert await pool.fetchval("select 1") == 1
        assert pool.statistics().discarded == 1
