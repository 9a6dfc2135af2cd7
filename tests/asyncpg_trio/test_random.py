"""Many tasks do many things over one pool, cancelled and failing at random: no answer goes astray."""

from __future__ import annotations

import random

import asyncpg
import pytest
import trio

from hotpath import asyncpg_trio


class Oops(Exception):
    """Raised by the tests' own code amid an operation."""


class Rows:
    """An async iterable of rows that waits between them, and may fail at one."""

    def __init__(self, value: int, count: int, fails_at: int | None) -> None:
        self._value, self._count, self._fails_at, self._at = value, count, fails_at, 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        self._at += 1
        if self._at > self._count:
            raise StopAsyncIteration
        if self._at == self._fails_at:
            raise Oops
        if self._at % 7 == 0:
            await trio.lowlevel.checkpoint()
        return self._value, "x" * 50


class Play:
    """What the tasks do; each operation checks its own answer against a number that no other has."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.number = 0
        self.done = 0

    async def one(self, c: asyncpg_trio.Connection) -> None:
        """Do one thing at random."""
        self.number += 1
        operation = self.random.choice(
            [
                self.fetch,
                self.transact,
                self.prepare,
                self.copy_in,
                self.copy_out,
                self.listen,
                self.iterate,
                self.many,
            ]
        )
        try:
            await operation(c, self.number)
        except (Oops, asyncpg.DivisionByZeroError):
            pass
        self.done += 1

    async def fetch(self, c, n):
        """Rows, few or many."""
        rows = await c.fetch(
            "select g, $1::int from generate_series(1, $2::int) g", n, self.random.choice([1, 50, 3000])
        )
        assert {row[1] for row in rows} == {n}

    async def transact(self, c, n):
        """A transaction, perhaps with an error in a savepoint, or in itself."""
        async with c.transaction():
            await c.execute("insert into sums values ($1)", n)
            if self.random.random() < 0.5:
                with pytest.raises(asyncpg.DivisionByZeroError):
                    async with c.transaction():
                        await c.execute("select 1/0")
            if self.random.random() < 0.3:
                await c.execute("select 1/0")
            assert await c.fetchval("select count(*) from sums where a = $1", n) == 1

    async def prepare(self, c, n):
        """A prepared statement, once and many times."""
        plus = self.random.randrange(50)
        statement = await c.prepare(f"select $1::int + {plus}")
        assert await statement.fetchval(n) == n + plus
        assert [row[0] for row in await statement.fetchmany([(n,), (n + 1,)])] == [n + plus, n + plus + 1]

    async def copy_in(self, c, n):
        """COPY in, of all records or of none."""
        count = self.random.choice([1, 10, 1000])
        fails_at = self.random.choice([None, 1, count])
        source = Rows(n, count, fails_at)
        if fails_at is None and self.random.random() < 0.5:
            source = [(n, "y")] * count
        await c.copy_records_to_table("records", records=source)
        assert await c.fetchval("select count(*) from records where a = $1", n) == count

    async def copy_out(self, c, n):
        """COPY out to a sink that is slow, and may fail."""
        chunks = []

        async def sink(data):
            chunks.append(data)
            await trio.sleep(self.random.random() * 0.0003)
            if self.random.random() < 0.1:
                raise Oops

        await c.copy_from_query(
            f"select {n} from generate_series(1, {self.random.choice([3, 3000])})", output=sink
        )
        assert set(b"".join(chunks).split()) == {str(n).encode()}

    async def listen(self, c, n):
        """A notification that one sends to oneself, among others'."""
        async with c.listen(f"channel{n % 3}") as notifications:
            await c.execute("select pg_notify($1, $2)", f"channel{n % 3}", str(n))
            while (await notifications.receive()).payload != str(n):
                pass

    async def iterate(self, c, n):
        """A cursor."""
        async with c.transaction():
            seen = [
                row[0]
                async for row in c.cursor(
                    "select g + $1::int from generate_series(1, 200) g",
                    n,
                    prefetch=self.random.randrange(1, 60),
                )
            ]
        assert seen == list(range(n + 1, n + 201))

    async def many(self, c, n):
        """executemany, of all or none."""
        count = self.random.choice([1, 300])
        await c.executemany(
            "insert into records values ($1, $2)", [(n, "q" * self.random.choice([1, 3000]))] * count
        )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), [("unix", 1), ("tcp", 2), ("tls", 3)])
async def test_random_cancellation(connect, cluster, request, kind, seed):
    """Whatever is cancelled whenever, no answer goes astray and no connection has to be thrown away."""
    if kind == "tls":
        dsn = request.getfixturevalue("tls_cluster").dsn(host="localhost") + "&sslmode=require"
    else:
        dsn = cluster.dsn(host=None if kind == "unix" else "127.0.0.1")
    admin = await connect(dsn)
    await admin.execute(
        "drop table if exists sums, records;"
        "create unlogged table sums(a int); create unlogged table records(a int, b text)"
    )
    play = Play(seed)

    async def work():
        for _ in range(60 if kind == "tls" else 200):
            limit = play.random.choice([1.0, play.random.random() * 0.02, play.random.random() * 0.002, 0.0])
            with trio.move_on_after(limit):
                async with pool.acquire() as connection:
                    for _ in range(play.random.randrange(1, 4)):
                        await play.one(connection)

    async with asyncpg_trio.create_pool(dsn, min_size=0, max_size=3) as pool:
        with trio.fail_after(50):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(work)
        assert pool.statistics().discarded == 0
        assert pool.statistics().idle == pool.statistics().opened
    assert play.done > 50
    assert (
        await admin.fetchval("select coalesce(max(count), 1) from (select count(*) from sums group by a) s")
        == 1
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_listener_beside_cancelled_queries(connect, seed):
    """A listener misses nothing while queries of its connection are cancelled at random."""
    connection, sender = await connect(), await connect()
    await connection.execute("create temp table records(a int, b text); create temp table sums(a int)")
    play = Play(seed)
    got = []
    heard = trio.Event()

    async def listen(task_status):
        async with connection.listen("numbers", max_buffer=10_000) as notifications:
            task_status.started()
            async for notification in notifications:
                got.append(int(notification.payload))
                heard.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(listen)
        for number in range(300):
            heard = trio.Event()
            await sender.execute("select pg_notify('numbers', $1)", str(number))
            with trio.move_on_after(play.random.choice([1.0, play.random.random() * 0.002, 0.0])):
                await play.one(connection)
            with trio.fail_after(50):
                while len(got) <= number:
                    heard = trio.Event()
                    await heard.wait()
        nursery.cancel_scope.cancel()
    assert got == list(range(300))
    assert not connection.is_closed()
