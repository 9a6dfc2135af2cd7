"""Alerts from end to end: several processes' keepers, a real database, real receivers that come and go."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from receivers import http_receiver
from worker_stage import Stage

from hotpath import asyncpg_trio
from hotpath.config import Config
from hotpath.core import alerting
from hotpath.core.alert_channels import Channel, parse_channel
from hotpath.core.alert_rules import parse_rule
from hotpath.core.alert_words import Said
from hotpath.core.alerting import Timing
from hotpath.store import alerts
from hotpath.store.database import open_database
from hotpath.worker.alert_delivery import Delivery, DeliveryError
from hotpath.worker.alerts import AlertKeeper
from hotpath.worker.changes import Changes

ONE_WORKER = "workers under 1"


@asynccontextmanager
async def keeping(url: str, count: int, **environ: str) -> AsyncIterator[None]:
    """So many keepers, each with a pool of its own as processes have."""
    config = Config(workspace=".", database_url=url)  # type: ignore[arg-type] - not used here
    async with trio.open_nursery() as nursery:

        async def keep(task_status: trio.TaskStatus[None]) -> None:
            async with open_database(config) as database, trio.open_nursery() as inner:
                changes = Changes()
                inner.start_soon(changes.follow, database)
                keeper = AlertKeeper(database, Delivery(environ, 5.0), every=0.1)
                inner.start_soon(keeper.run, changes)
                task_status.started()

        for _ in range(count):
            await nursery.start(keep)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg_trio.Connection]:
    """To the database that alerts are in."""
    opened = await asyncpg_trio.connect(database_url)
    yield opened
    await opened.close()


async def make(connection: asyncpg_trio.Connection, *to: str, **timing: float) -> None:
    """An alert that fires for want of a worker."""
    patience = Timing(**{"hold": 0, "clear": 0, "cooldown": 3600} | timing)
    channels = [parse_channel(each) for each in to]
    await alerts.set_alert(connection, "nobody", parse_rule(ONE_WORKER), channels, patience)


async def problem(connection: asyncpg_trio.Connection) -> str:
    """Why its last word is not delivered yet."""
    return (await alerts.get_alert(connection, "nobody")).problem or ""


async def tried(connection: asyncpg_trio.Connection) -> bool:
    """Whether somebody has a word in hand."""
    return await connection.fetchval("select coalesce(bool_or(tries > 0), false) from hotpath.alert_word")


async def delivered(connection: asyncpg_trio.Connection) -> bool:
    """Whether all words are."""
    return await connection.fetchval("select coalesce(bool_and(delivered), false) from hotpath.alert_word")


async def arrive(connection: asyncpg_trio.Connection) -> None:
    """A worker comes."""
    await connection.execute(
        "insert into hotpath.worker (name, tags, host, pid, concurrency, lease_until) "
        "values ('w', '{1}', 'h', 1, 1, now() + interval '1 hour')"
    )


async def until(holds: Callable[[], Any]) -> None:
    """Wait until it does; the test's own minute bounds it."""
    while True:
        said = holds()
        if await said if isinstance(said, Awaitable) else said:
            return
        await trio.sleep(0.02)


async def until_got(receiver, count: int) -> list[dict]:
    """What it got, once it is so much; and a while later it still is."""
    await until(lambda: len(receiver.got) >= count)
    await trio.sleep(0.3)
    assert len(receiver.got) == count
    return [json.loads(body) for _, _, body in receiver.got]


async def test_each_word_is_told_once(database_url, connection):
    """By one of several, within moments: that it fires, and that it is over."""
    with http_receiver() as receiver:
        async with keeping(database_url, 3):
            await make(connection, f"webhook:{receiver.url}")
            (word,) = await until_got(receiver, 1)
            assert (word["alert"], word["state"], word["rule"]) == ("nobody", "firing", ONE_WORKER)
            assert word["finding"] == "0 live workers, 1 wanted"
            await arrive(connection)
            _, word = await until_got(receiver, 2)
            assert word["state"] == "resolved"


async def test_a_receiver_that_is_down_gets_it_later(database_url, connection, monkeypatch):
    """In order and once, also after answers of 500; the other channel does not wait for it."""
    monkeypatch.setattr(alerting, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(alerting, "LONGEST_PAUSE", 0.2)
    with socket.socket() as held, http_receiver() as other:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # both may have it then
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        async with keeping(database_url, 2):
            await make(connection, f"webhook:http://127.0.0.1:{port}", f"webhook:{other.url}")
            await until_got(other, 1)
            await arrive(connection)
            await until_got(other, 2)
            await until(lambda: problem(connection))
            assert (await alerts.get_alert(connection, "nobody")).undelivered == 2
            with http_receiver(port) as receiver:
                receiver.statuses = [500, 503]
                states = [word["state"] for word in await until_got(receiver, 2)]
            assert states == ["firing", "resolved"]
            assert receiver.refused == 2
            assert (await alerts.get_alert(connection, "nobody")).undelivered == 0


async def test_who_dies_while_he_tells_it_is_followed_by_another(database_url, connection):
    """It may be told twice then, by the same id, and is never lost."""
    with http_receiver() as receiver:
        receiver.slow = 0.5
        async with keeping(database_url, 1):
            await make(connection, f"webhook:{receiver.url}")
            await until(lambda: tried(connection))
        # That keeper is gone, and had it taken for a minute.
        receiver.slow = 0.0
        async with keeping(database_url, 1):
            await connection.execute("update hotpath.alert_word set next_at = now()")
            await until(lambda: delivered(connection))
        await until(lambda: receiver.got)
    assert len({headers["idempotency-key"] for _, headers, _ in receiver.got}) == 1


async def test_it_is_said_again_after_the_cool_down(database_url, connection):
    """As long as it fires."""
    with http_receiver() as receiver:
        async with keeping(database_url, 2):
            await make(connection, f"webhook:{receiver.url}", cooldown=1)
            await until(lambda: len(receiver.got) >= 3)
    states = [json.loads(body)["state"] for _, _, body in receiver.got[:3]]
    assert states == ["firing", "still firing", "still firing"]


async def test_who_lacks_the_secret_leaves_it_to_another(database_url, connection):
    """A keeper without the variable is passed over, and what is wrong is shown meanwhile."""
    with http_receiver() as receiver:
        async with keeping(database_url, 1):
            await make(connection, "slack:$SLACK")
            await until(lambda: problem(connection))
            assert (await problem(connection)).startswith("$SLACK is not set on ")
            async with keeping(database_url, 1, SLACK=receiver.url):
                await connection.execute("update hotpath.alert_word set next_at = now()")
                await until(lambda: receiver.got)
    assert "0 live workers" in json.loads(receiver.got[0][2])["text"]


async def test_without_rules_nothing_is_asked(database_url, connection):
    """No look is taken, and no statement is sent, until there is a rule."""
    async with keeping(database_url, 2):
        await trio.sleep(0.5)
        assert await connection.fetchval("select looked_at = '-infinity' from hotpath.alert_turn")
        with http_receiver() as receiver:
            await make(connection, f"webhook:{receiver.url}")
            await until_got(receiver, 1)
            await alerts.delete_alert(connection, "nobody")
            await until_got(receiver, 2)  # that it is over
            await trio.sleep(0.3)
            looked = await connection.fetchval("select looked_at from hotpath.alert_turn")
            await trio.sleep(0.5)
            assert await connection.fetchval("select looked_at from hotpath.alert_turn") == looked


async def test_a_supervisor_keeps_them(stage: Stage):
    """`hotpath dedicate` does, without being told."""
    async with stage.client.database.connection() as connection:
        with http_receiver() as receiver:
            rule = parse_rule("workers under 5")
            channel = parse_channel(f"webhook:{receiver.url}")
            await alerts.set_alert(connection, "few", rule, [channel], Timing())
            command = await stage.dedicate("double")
            await command.ready()
            await until(lambda: receiver.got)
    assert json.loads(receiver.got[0][2])["alert"] == "few"


async def test_a_problem_may_be_anything(database_url, connection):
    """What a receiver makes of it is stored as text, NUL or not; nothing else waits for that."""

    class Odd(Delivery):
        async def deliver(self, channel: Channel, said: Said) -> None:
            raise DeliveryError("its\0answer\udc80")

    await make(connection, "slack:$X")
    async with open_database(Config(workspace=".", database_url=database_url)) as database:  # type: ignore[arg-type]
        keeper = AlertKeeper(database, Odd({}), every=0.1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.run, Changes())
            await until(lambda: problem(connection))
            nursery.cancel_scope.cancel()
    assert await problem(connection) == "its?answer?"


async def test_that_nobody_can_look_is_said(database_url, connection, caplog):
    """What is no weather is told: as long as it is so, nobody hears of anything."""
    await make(connection, "slack:$X")
    await connection.execute("alter table hotpath.alert_turn rename to gone")
    async with keeping(database_url, 1):
        await until(lambda: "alerts cannot be looked at" in caplog.text)
        await trio.sleep(0.3)
    assert caplog.text.count("alerts cannot be looked at") == 1


@pytest.mark.slow
async def test_what_nobody_can_send_costs_little(database_url, connection):
    """Who lacks something for a channel leaves it to others for a while, however much there is to be said."""
    await make(connection, "slack:$X")
    await connection.execute(
        "insert into hotpath.alert_word (alert, channel, word, rule, finding) "
        "select 'a' || g, 'slack:$X', 'firing', 'x', 'y' from generate_series(1, 50) g"
    )
    with http_receiver() as receiver:
        async with keeping(database_url, 1):
            await make(connection, f"webhook:{receiver.url}")
            await until_got(receiver, 1)
            assert (
                await connection.fetchval("select sum(tries) from hotpath.alert_word where not delivered")
                <= 8
            )
        async with keeping(database_url, 2, X=receiver.url):
            await until(lambda: delivered(connection))
