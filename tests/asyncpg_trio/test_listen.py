"""LISTEN as an iterable, beside queries on the same connection."""

from __future__ import annotations

import asyncpg
import pytest
import trio
import trio.testing

from hotpath.asyncpg_trio import Notification


async def test_notifications_arrive(dsn, connect):
    """A notification says its channel, payload and sender, in the order of the commits."""
    connection, sender = await connect(dsn), await connect(dsn)
    async with connection.listen("one", 'T w"o') as notifications:
        await sender.execute("select pg_notify('one', 'a'), pg_notify($1, 'b')", 'T w"o')
        await sender.execute("notify one")
        got = [await notifications.receive() for _ in range(3)]
    pid = sender.get_server_pid()
    assert got == [
        Notification("one", "a", pid),
        Notification('T w"o', "b", pid),
        Notification("one", "", pid),
    ]


async def test_queries_while_listening(connect):
    """One task iterates, another runs queries on the same connection: both get what is theirs."""
    connection = await connect()
    got = []

    async def iterate(task_status):
        async with connection.listen("ch") as notifications:
            task_status.started()
            async for notification in notifications:
                got.append(notification.payload)
                if notification.payload == "last":
                    break

    async with trio.open_nursery() as nursery:
        await nursery.start(iterate)
        for number in range(50):
            assert await connection.fetchval("select $1::int", number) == number
            await connection.execute("select pg_notify('ch', $1)", str(number))
            if number % 10 == 0:
                await trio.sleep(0.002)
        await connection.execute("select pg_notify('ch', 'last')")
    assert got == [*map(str, range(50)), "last"]
    assert await connection.fetchval("select count(*) from pg_listening_channels()") == 0


async def test_several_listeners_of_one_connection(connect):
    """Tasks that listen on the same connection each get what they asked for, whoever does the reading."""
    connection, sender = await connect(), await connect()
    got: dict[str, list[str]] = {"a": [], "b": [], "both": []}

    async def iterate(name, channels, count, task_status):
        async with connection.listen(*channels) as notifications:
            task_status.started()
            for _ in range(count):
                got[name].append((await notifications.receive()).payload)

    async with trio.open_nursery() as nursery:
        for name, channels, count in (("a", ["a"], 2), ("b", ["b"], 2), ("both", ["a", "b"], 4)):
            await nursery.start(iterate, name, channels, count)
            await trio.testing.wait_all_tasks_blocked()
        for payload in ("1", "2"):
            await sender.execute("select pg_notify('a', 'a' || $1), pg_notify('b', 'b' || $1)", payload)
    assert got == {"a": ["a1", "a2"], "b": ["b1", "b2"], "both": ["a1", "b1", "a2", "b2"]}


async def test_overflow_is_told(connect):
    """When the buffer is full the oldest go, and the next one delivered says how many."""
    connection = await connect()
    async with connection.listen("ch", max_buffer=3) as notifications:
        for number in range(10):
            await connection.execute("select pg_notify('ch', $1)", str(number))
        first = await notifications.receive()
        assert (first.payload, first.lost) == ("7", 7)
        second = await notifications.receive()
        assert (second.payload, second.lost) == ("8", 0)
        statistics = notifications.statistics()
        assert (statistics.buffered, statistics.received, statistics.lost) == (1, 10, 7)
        assert notifications.receive_nowait().payload == "9"
        with pytest.raises(trio.WouldBlock):
            notifications.receive_nowait()


async def test_cancelled_receive_loses_nothing(connect):
    """Waiting with a deadline, again and again, loses no notification."""
    connection, sender = await connect(), await connect()
    got = []

    async def send():
        for number in range(100):
            await sender.execute("select pg_notify('ch', $1)", str(number))

    async with connection.listen("ch") as notifications, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with trio.fail_after(30):
            while len(got) < 100:
                with trio.move_on_after(0.0005):
                    got.append((await notifications.receive()).payload)
    assert got == list(map(str, range(100)))


async def test_end_of_the_server_is_told(connect):
    """A listener that only waits notices at once when its backend ends."""
    connection, killer = await connect(), await connect()
    async with trio.open_nursery() as nursery:

        async def iterate(task_status):
            with trio.fail_after(30), pytest.raises(asyncpg.ConnectionDoesNotExistError):
                async with connection.listen("ch") as notifications:
                    task_status.started()
                    async for _ in notifications:
                        pass

        await nursery.start(iterate)
        await trio.testing.wait_all_tasks_blocked()
        await killer.execute("select pg_terminate_backend($1)", connection.get_server_pid())
    assert connection.is_closed()


async def test_end_of_the_context_is_told(connect):
    """What is left of a subscription after its context can be read, and then says that it has ended."""
    connection = await connect()
    async with connection.listen("ch") as notifications:
        await connection.execute("notify ch")
    assert (await notifications.receive()).channel == "ch"
    with pytest.raises(asyncpg.InterfaceError, match="ended"):
        await notifications.receive()


async def test_listen_within_a_transaction(connect):
    """A failed transaction around it does not keep the context from ending."""
    connection = await connect()
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with connection.transaction(), connection.listen("ch"):
            await connection.execute("select 1/0")
    assert await connection.fetchval("select 1") == 1


@pytest.mark.parametrize("channel", ["", "x" * 64, "é" * 32, "nul\0"])
async def test_bad_channel_names(connect, channel):
    """A name that the server would cut or refuse is refused with an error that shows it."""
    connection = await connect()
    with pytest.raises(ValueError, match="channel name"):
        async with connection.listen(channel):
            pass
    with pytest.raises(ValueError, match="at least one"):
        async with connection.listen():
            pass
