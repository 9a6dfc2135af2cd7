"""The server, or the way to it, goes away at bad moments: a clear error, in bounded time."""

from __future__ import annotations

import asyncpg
import pytest
import trio
import trio.testing

from hotpath import asyncpg_trio
from hotpath.asyncpg_trio import _cancel, create_pool
from hotpath.asyncpg_trio._farewell import has_more, read_farewell


class Proxy:
    """A TCP proxy on the way to the server that can stop forwarding, or cut its connections."""

    def __init__(self, cluster) -> None:
        self._cluster = cluster
        self._streams: list[trio.SocketStream] = []
        self._gate = trio.Event()
        self._gate.set()
        self.hides_end = False  # whether the end of a connection is kept from the other side
        self.ended = trio.Event()  # set when all was forwarded that came before an end which is kept back
        self.port = 0

    async def run(self, task_status) -> None:
        """Forward until cancelled."""
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, self._serve, listeners)
            task_status.started()

    async def _serve(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self._cluster.port)
        self._streams += [client, server]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._forward, client, server, nursery.cancel_scope)
                nursery.start_soon(self._forward, server, client, nursery.cancel_scope)
        finally:
            client.socket.close()
            server.socket.close()

    async def _forward(self, source, target, scope) -> None:
        try:
            while data := await source.receive_some(65536):
                await self._gate.wait()
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if self.hides_end:
            self.ended.set()
            await trio.sleep_forever()
        scope.cancel()

    def freeze(self) -> None:
        """Stop forwarding, without closing anything: what a lost network looks like."""
        self._gate = trio.Event()

    def cut(self) -> None:
        """Close all connections, rudely."""
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.socket.close()

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres?sslmode=disable"


@pytest.fixture
async def proxy(cluster, nursery):
    """A running proxy."""
    made = Proxy(cluster)
    await nursery.start(made.run)
    yield made
    nursery.cancel_scope.cancel()


@pytest.fixture
async def proxied(proxy):
    """A connection through the proxy."""
    connection = await asyncpg_trio.connect(proxy.dsn)
    yield connection
    connection.terminate()


async def cut_when_blocked(proxy) -> None:
    """Cut, once the operation is well under way."""
    await trio.sleep(0.05)
    proxy.cut()


class EndlessRows:
    """An async iterable of rows, slowly."""

    def __aiter__(self):
        return self

    async def __anext__(self):
        await trio.sleep(0.0005)
        return (1,)


async def read_forever(connection):
    """Copy out more than anybody waits for."""

    async def sink(_data):
        await trio.sleep(0.0005)

    await connection.copy_from_query("select repeat('x', 1000) from generate_series(1, 1000000)", output=sink)


async def iterate(connection):
    """Iterate over a cursor that has no end in sight."""
    async with connection.transaction():
        async for _ in connection.cursor("select g, pg_sleep(0.0005) from generate_series(1, 1000000) g"):
            pass


async def wait_for_notification(connection):
    """Wait for a notification that nobody sends."""
    async with connection.listen("ch") as notifications:
        await notifications.receive()


OPERATIONS = {
    "query": lambda c: c.fetchval("select pg_sleep(50)"),
    "big result": lambda c: c.fetch(
        "select repeat('x', 100), pg_sleep(0.0005) from generate_series(1, 1000000)"
    ),
    "executemany": lambda c: c.executemany(
        "select pg_sleep(0.001), $1", (("x" * 1000,) for _ in range(100_000))
    ),
    "copy in": lambda c: c.copy_records_to_table("t", records=EndlessRows()),
    "copy in fast": lambda c: c.copy_records_to_table("t", records=((i,) for i in range(10**9))),
    "copy out": read_forever,
    "cursor": iterate,
    "listen": wait_for_notification,
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_cut(proxy, proxied, name):
    """When the connection is cut in the middle of anything, the error says that it has gone."""
    await proxied.execute("create temp table t(a int)")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_when_blocked, proxy)
        with trio.fail_after(30), pytest.raises(asyncpg.ConnectionDoesNotExistError):
            await OPERATIONS[name](proxied)
    assert proxied.is_closed()
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await proxied.fetchval("select 1")


@pytest.mark.parametrize("name", OPERATIONS)
async def test_half_open(proxy, proxied, name, monkeypatch):
    """When nothing comes any more, a Trio deadline ends the wait and closes the connection in good time."""
    monkeypatch.setattr(_cancel, "CANCEL_GRACE", 0.2)
    monkeypatch.setattr(asyncpg_trio._transaction, "ROLLBACK_GRACE", 0.2)
    monkeypatch.setattr(asyncpg_trio._listen, "UNLISTEN_GRACE", 0.2)
    await proxied.execute("create temp table t(a int)")
    started = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def freeze():
            await trio.sleep(0.05)
            proxy.freeze()
            await trio.sleep(0.15)
            scope.cancel()

        with trio.CancelScope() as scope:
            nursery.start_soon(freeze)
            await OPERATIONS[name](proxied)
    assert scope.cancelled_caught
    assert proxied.is_closed()
    assert trio.current_time() - started < 20


@pytest.mark.slow
async def test_tcp_user_timeout(proxy):
    """With tcp_user_timeout, bytes that the peer does not take end the connection, without a scope."""
    connection = await asyncpg_trio.connect(proxy.dsn, tcp_user_timeout=500)
    statement = await connection.prepare("select length($1)")
    proxy.freeze()
    with trio.fail_after(50), pytest.raises(asyncpg.ConnectionDoesNotExistError) as caught:
        await statement.fetchval("x" * 50_000_000)
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_close_of_a_half_open_connection(proxy, proxied, monkeypatch):
    """close() does not wait for ever for a server that does not answer."""
    monkeypatch.setattr(asyncpg_trio._session, "CLOSE_GRACE", 0.1)
    proxy.freeze()
    with trio.fail_after(20):
        await proxied.close()
    assert proxied.is_closed()


async def test_pool_survives_a_cut(proxy):
    """After a cut the pool opens new connections, whether its own were lent or idle."""
    async with create_pool(proxy.dsn, min_size=2, max_size=2) as pool:
        proxy.cut()
        await trio.testing.wait_all_tasks_blocked(0.05)
        for _ in range(3):
            assert await pool.fetchval("select 1") == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut_when_blocked, proxy)
            with pytest.raises(asyncpg.ConnectionDoesNotExistError):
                await pool.fetchval("select pg_sleep(10)")
        assert await pool.fetchval("select 1") == 1


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"R\0\0\0\x08\0\0\0\x63", b"E\0\0\0\x05\0"]
)
async def test_not_a_server(nursery, answer):
    """Whatever else may answer on that port, connecting to it ends in an error."""

    async def serve(stream):
        await stream.receive_some(1000)
        await stream.send_all(answer)
        await stream.aclose()

    listeners = await nursery.start(trio.serve_tcp, serve, 0)
    port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(30), pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await asyncpg_trio.connect(f"postgresql://x@127.0.0.1:{port}/x?sslmode=disable")
    nursery.cancel_scope.cancel()


async def test_mute_server_and_a_deadline(nursery):
    """A server that accepts and says nothing is given up by the scope around connect."""

    async def say_nothing(stream):
        await trio.sleep_forever()

    listeners = await nursery.start(trio.serve_tcp, say_nothing, 0)
    port = listeners[0].socket.getsockname()[1]
    for mode in ("disable", "require"):
        with trio.move_on_after(0.05) as scope:
            await asyncpg_trio.connect(f"postgresql://x@127.0.0.1:{port}/x?sslmode={mode}")
        assert scope.cancelled_caught
    nursery.cancel_scope.cancel()


async def test_farewell(proxy, proxied, cluster, connect):
    """A session that the server has ended is closed by its farewell, before the end of file comes."""
    admin = await connect()
    proxy.hides_end = True
    async with trio.open_nursery() as nursery:

        async def listen(task_status):
            with trio.fail_after(30), pytest.raises(asyncpg.ConnectionDoesNotExistError) as raised:
                async with proxied.listen("ch") as notifications:
                    task_status.started()
                    await notifications.receive()
            assert isinstance(raised.value.__cause__, asyncpg.AdminShutdownError)

        await nursery.start(listen)
        await trio.testing.wait_all_tasks_blocked()
        await admin.execute("select pg_terminate_backend($1)", proxied.get_server_pid())
    assert proxied.is_closed()
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await proxied.fetchval("select 1")


async def test_farewell_in_a_pool(proxy, connect):
    """A pool does not lend a session that the server has ended while it was idle."""
    admin = await connect()
    proxy.hides_end = True
    async with create_pool(proxy.dsn, max_size=1) as pool:
        await admin.execute("select pg_terminate_backend($1)", await pool.fetchval("select pg_backend_pid()"))
        with trio.fail_after(30):
            await proxy.ended.wait()
            assert await pool.fetchval("select 1") == 1
        assert pool.statistics().opened == 2


def test_what_a_farewell_is():
    """Only an error of the server's own, outside of any answer, is taken for one."""
    fatal = b"E\x00\x00\x00\x2fSFATAL\x00VFATAL\x00C57P01\x00Mso long\x00\x00"
    row, ready = b"D\x00\x00\x00\x40", b"Z\x00\x00\x00\x05I"
    for data in (fatal, ready + fatal, row + fatal + ready + fatal):
        farewell = read_farewell(data, idle=data is fatal)
        assert isinstance(farewell, asyncpg.AdminShutdownError)
        assert str(farewell) == "so long"
        assert data is fatal or has_more(data)
    assert read_farewell(row + fatal + ready, idle=False) is None
    assert not has_more(row + fatal + ready)
    forged = b"A\x00\x00\x00\x1d\x00\x00\x00\x01VFATAL\x00C57P01 M\x00"
    assert read_farewell(forged, idle=True) is None
