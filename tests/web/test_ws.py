"""WebSocket /ws against the real server, by trio-websocket: what happens is told, in order, and nobody can
hang it.
"""

import json
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from flow_stage import make_flows, mark, step
from trio_websocket import ConnectionClosed, open_websocket_url

from hotpath import asyncpg_trio
from hotpath.errors import ServerError
from hotpath.remote import open_remote
from hotpath.store.tokens import create_token, revoke_token
from hotpath.web import connection
from hotpath.web.listener import MAX_MESSAGE

NOBODY = "01900000-0000-7000-8000-000000000000"
"""The id of no job."""


class Peer:
    """The other end, event by event."""

    def __init__(self, websocket):
        self.websocket = websocket
        self.events = []

    async def say(self, **message):
        await self.websocket.send_message(json.dumps(message))

    async def next(self, **wanted):
        """The next event that has these values; others are passed over."""
        while True:
            while not self.events:
                self.events = json.loads(await self.websocket.get_message())["events"]
            event = self.events.pop(0)
            if wanted.items() <= event.items():
                return event


@asynccontextmanager
async def connected(served):
    """A peer of that server."""
    async with open_websocket_url(served.url.replace("http", "ws") + "/ws") as websocket:
        try:
            yield Peer(websocket)
        finally:
            await websocket.aclose()
            await websocket._close_stream()  # trio-websocket leaves it open where the server closed first


async def until(condition):
    """Wait until it is so."""
    with trio.fail_after(40):
        while not condition():  # noqa: ASYNC110 - the condition is the server's, which has no event for it
            await trio.sleep(0.01)


async def test_overview(served):
    """Who looks at the overview sees it at once and every second; when nobody looks, nothing is read."""
    job = await served.client.enqueue("add", {"x": 1})
    async with connected(served) as peer:
        await peer.say(op="subscribe", id=7, channel="overview")
        event = await peer.next(type="overview")
        assert event["id"] == 7
        (tag,) = event["data"]["tags"]
        assert (tag["tag"], tag["waiting"]) == ("add", 1)
        await served.client.cancel(job)
        with trio.fail_after(40):
            while True:  # the next one may have been read before
                later = (await peer.next(type="overview"))["data"]
                if sum(tag["waiting"] for tag in later["tags"]) == 0:
                    break
        await peer.say(op="unsubscribe", id=7)
        await peer.say(op="ping")
        await peer.next(type="pong")
        assert served.state.hub.statistics().viewers == 0


async def test_job(served):
    """A job's document comes at once, and again when its state changes; one read serves all viewers."""
    job = await served.client.enqueue("add", {"x": 5})
    async with connected(served) as one, connected(served) as other:
        for peer in (one, other):
            await peer.say(op="subscribe", id=1, channel="job", job=str(job))
            event = await peer.next(type="job")
            assert (event["job"]["state"], event["job"]["args"]) == ("queued", {"x": 5})
        assert served.state.hub.statistics().jobs == 1
        await served.client.cancel(job)
        for peer in (one, other):
            assert (await peer.next(type="job"))["job"]["state"] == "canceled"
    await until(lambda: served.state.hub.statistics().viewers == served.state.hub.statistics().jobs == 0)


async def test_unknown_job(served):
    """A job that nobody knows is an error with the subscription's id, which is free again then."""
    async with connected(served) as peer:
        for channel in ("job", "run", "log"):
            await peer.say(op="subscribe", id=3, channel=channel, job=NOBODY)
            event = await peer.next(type="error")
            assert (event["id"], event["status"]) == (3, 404)
            assert NOBODY in event["detail"]
        assert served.state.hub.statistics().viewers == 0


async def test_run(served, stage):
    """A run comes whole at first, then what changes of it; who comes back with a number gets what came after
    it, or all of it, if the server does not know.
    """
    flowing = await make_flows(stage)
    session, hand = await flowing.in_hand()
    run = hand.ids[0]
    await flowing.note(session, (hand, 0, step(run, "a")))
    async with connected(served) as peer:
        await peer.say(op="subscribe", id=1, channel="run", job=str(run))
        first = await peer.next(type="run")
        assert (first["full"], first["state"], [each["step"] for each in first["steps"]]) == (
            True, "running", ["a"],
        )  # fmt: skip
        await flowing.note(session, (hand, 0, step(run, "l[0]/b")), (hand, 0, step(run, "l[1]/b")))
        later = await peer.next(type="run", full=False)
        while not later["steps"]:
            later = await peer.next(type="run", full=False)
        assert sorted(each["step"] for each in later["steps"]) == ["l[0]/b", "l[1]/b"]
        assert later["seq"] > first["seq"]
        await peer.say(op="subscribe", id=2, channel="run", job=str(run), after=later["seq"])
        again = await peer.next(id=2)
        assert (again["full"], again["steps"]) == (False, [])
        await peer.say(op="subscribe", id=3, channel="run", job=str(run), after=12345)
        anew = await peer.next(id=3)
        assert (anew["full"], len(anew["steps"])) == (True, 3)
        await flowing.note(
            session, (hand, 0, mark("suspend:a", {"required": 1, "until": None, "form": None}))
        )
        await flowing.park(session, hand, events={"a": 0})
        while not later["waits"]:
            later = await peer.next(id=1)
        assert later["waits"][0]["step"] == "a"


@pytest.mark.slow
async def test_large_run(served, stage):
    """A run with thousands of steps comes in parts, none of them lost; then only what is new is read."""
    flowing = await make_flows(stage)
    session, hand = await flowing.in_hand()
    run = hand.ids[0]
    count = 3000
    for k in range(0, count, 500):
        noted = [(hand, 0, step(run, f"l[{n}]/b")) for n in range(k, k + 500)]
        assert await flowing.note(session, *noted) == [True]
    async with connected(served) as peer:
        await peer.say(op="subscribe", id=1, channel="run", job=str(run))
        keys = []
        while len(keys) < count:
            event = await peer.next(type="run")
            assert event["full"] == (not keys)
            keys += [each["step"] for each in event["steps"]]
        assert sorted(keys) == sorted(f"l[{n}]/b" for n in range(count))
        await flowing.note(session, (hand, 0, step(run, "c")))
        event = await peer.next(type="run")
        while not event["steps"]:
            event = await peer.next(type="run")
        assert [each["step"] for each in event["steps"]] == ["c"]


async def test_revoked(serve_fixture, database_url):
    """Who has no token is not let in where one is needed; one whose token is revoked is sent away."""
    connection = await asyncpg_trio.connect(database_url)
    token, _ = await create_token(connection, "viewer", ["read"], None)
    async with serve_fixture(host="0.0.0.0") as served:
        url = served.url.replace("0.0.0.0", "127.0.0.1")
        for given in (None, "hp_forged"):
            with pytest.raises(ServerError, match="wants a token"):
                async with open_remote(url, given):
                    pass
        headers = [(b"authorization", b"Bearer " + token.encode())]
        async with open_websocket_url(url.replace("http", "ws") + "/ws", extra_headers=headers) as websocket:
            peer = Peer(websocket)
            await peer.say(op="subscribe", id=1, channel="overview")
            await peer.next(type="overview")
            await revoke_token(connection, "viewer")
            with trio.fail_after(30), pytest.raises(ConnectionClosed) as closed:
                while True:
                    await peer.next()
            assert closed.value.reason.code == 1008
            await websocket._close_stream()
        await until(lambda: served.state.hub.statistics().viewers == 0)
    await connection.close()


MALFORMED = [
    ("{", "truncated"),
    ("[]", "object"),
    ('{"op":"subscribe","id":1}', "channel"),
    ('{"op":"subscribe","id":-1,"channel":"overview"}', "id"),
    ('{"op":"subscribe","id":"x","channel":"overview"}', "id"),
    ('{"op":"subscribe","id":1,"channel":"everything"}', "channel"),
    ('{"op":"subscribe","id":1,"channel":"job"}', "job"),
    ('{"op":"subscribe","id":1,"channel":"job","job":"../etc"}', "job"),
    ('{"op":"subscribe","id":1,"channel":"overview","more":1}', "more"),
    ('{"op":"subscribe","id":1,"channel":"overview","after":1}', "after"),
    (f'{{"op":"subscribe","id":1,"channel":"log","job":"{NOBODY}","after":7}}', "[attempt, position]"),
    (f'{{"op":"subscribe","id":1,"channel":"run","job":"{NOBODY}","after":[1,7]}}', "seq"),
    (f'{{"op":"subscribe","id":1,"channel":"log","job":"{NOBODY}","after":[1]}}', "after"),
    (f'{{"op":"subscribe","id":1,"channel":"log","job":"{NOBODY}","after":[1,-1]}}', "after"),
    (f'{{"op":"subscribe","id":1,"channel":"log","job":"{NOBODY}","after":[1,1e40]}}', "after"),
    ('{"op":"unsubscribe","id":99999999999999999999}', "id"),
    ('{"op":"drop"}', "drop"),
    ("[" * 10_000, ""),
    ('"\ud800"'.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), ""),
    (b"\x00\xff", "text frames"),
]


async def test_malformed(served, subtests):
    """What is no message of the protocol is answered by an error that says what is wrong; the connection
    stays.
    """
    for message, said in MALFORMED:
        with subtests.test(ascii(message)[:60]):
            async with connected(served) as peer:
                await peer.websocket.send_message(message)
                assert said.lower() in (await peer.next(type="error"))["detail"].lower()
                await peer.say(op="ping")
                await peer.next(type="pong")


async def test_too_many_subscriptions(served):
    """The 257th subscription is refused, and an id in use is no second subscription."""
    async with connected(served) as peer:
        for k in range(257):
            await peer.say(op="subscribe", id=k, channel="overview")
        assert (await peer.next(type="error"))["id"] == 256
        await peer.say(op="subscribe", id=0, channel="overview")
        assert "in use" in (await peer.next(type="error"))["detail"]
        assert served.state.hub.statistics().viewers == 256


async def test_too_large(served):
    """A message that is too large ends the connection with 1009, in one frame or in many."""
    async with connected(served) as peer:
        with pytest.raises(ConnectionClosed) as closed:
            await peer.websocket.send_message(" " * (MAX_MESSAGE + 1))
            await peer.next()
        assert closed.value.reason.code == 1009


async def test_flood(served):
    """Who sends without end is shown the door."""
    async with connected(served) as peer, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def talk():
            with suppress(ConnectionClosed):
                while True:
                    await peer.say(op="ping")

        with trio.fail_after(40), suppress(ConnectionClosed):
            while True:
                await peer.next()
        assert peer.websocket.closed.code == 1008


class Steps(trio.abc.Instrument):
    """Counts how often a task goes on."""

    count = 0

    def before_task_step(self, task):
        self.count += 1


async def test_gone(served):
    """When a peer vanishes while much is said, his session ends, and nothing spins (a send to one who is
    gone may succeed for ever).
    """
    async with connected(served) as peer:
        await peer.say(op="subscribe", id=1, channel="overview")
        await peer.next(type="overview")
        await peer.websocket._stream.aclose()
    await until(lambda: served.state.hub.statistics().viewers == 0)
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    await trio.sleep(0.5)
    trio.lowlevel.remove_instrument(steps)
    assert steps.count < 200, "how fast they are is the machine's affair, and how many are not"


async def test_stop_tells_viewers(serve_fixture):
    """A server that stops says so, and is gone long before its grace."""
    async with serve_fixture(grace=30) as served, connected(served) as peer:
        await peer.say(op="ping")
        await peer.next(type="pong")
        begun = trio.current_time()
        served.state.stopping.set()
        with pytest.raises(ConnectionClosed) as closed:
            await peer.next()
        assert closed.value.reason.code == 1001
        await served.done.wait()
        assert trio.current_time() - begun < 10


@pytest.mark.slow
async def test_deaf_peer_does_not_hold_the_stop(serve_fixture):
    """A peer that stops reading, with its socket full, holds the server's end for no longer than the
    grace.
    """
    async with serve_fixture() as served:
        job = await served.client.enqueue("f/team/echo", {"text": "x" * 200_000})
        stream = await trio.open_tcp_stream("127.0.0.1", int(served.url.rpartition(":")[2]))
        await stream.send_all(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b"101" in await stream.receive_some()
        for k in range(200):  # 40 MB, of which the sockets take a few
            await stream.send_all(
                _frame(json.dumps({"op": "subscribe", "id": k, "channel": "job", "job": str(job)}))
            )
        await until(lambda: served.state.hub.statistics().viewers == 200)
        await trio.sleep(0.5)
        served.state.stopping.set()
        with trio.move_on_after(connection.WRITE_SECONDS / 2):
            await served.done.wait()
        assert served.done.is_set()
        await stream.aclose()


def _frame(text):
    """A masked text frame, as clients send them, with a mask of zeros."""
    data = text.encode()
    assert len(data) < 65536
    head = bytes([0x81, 0x80 | len(data)]) if len(data) < 126 else b"\x81\xfe" + len(data).to_bytes(2, "big")
    return head + bytes(4) + data
