"""Clients that misbehave on the wire: slow, silent, greedy, deaf, many. Each ends in bounded time, and nobody
else is held up. The real listener in this process, around applications that are as bad.
"""

import logging
import time
from contextlib import asynccontextmanager

import attrs
import httpx
import pytest
import trio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from hotpath.web import connection, limits
from hotpath.web.limits import LimitsMiddleware
from hotpath.web.listener import Listener, open_sockets
from hotpath.web.options import ServeOptions
from hotpath.web.problem import HANDLERS


@attrs.define
class Server:
    """A listener around an application."""

    url: str
    stopping: trio.Event
    done: trio.Event
    listener: Listener
    app: Starlette
    streams: list = attrs.field(factory=list)

    async def connect(self, data=b""):
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        self.streams.append(stream)
        await stream.send_all(data)
        return stream

    async def get(self, path="/"):
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as http:
            return await http.get(path)


class Seen:
    """What the applications below have seen."""

    sent = 0
    ended = 0


class Pieces:
    """An endless body."""

    def __init__(self, seen):
        self.seen = seen

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.seen.sent += 1
        return b"x" * 65536


async def hello(_request):
    """The simplest."""
    return PlainTextResponse("hello")


async def read(request):
    """Counts a body."""
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return PlainTextResponse(str(size))


async def refuse(_request):
    """Answers without a look at the body."""
    return Response(status_code=403)


async def wait(request):
    """A long poll."""
    try:
        await trio.sleep(3600)
    finally:
        request.app.state.seen.ended += 1


async def pour(request):
    """Sends without end, and never asks whether anybody is there."""
    return StreamingResponse(Pieces(request.app.state.seen))


async def fail(_request):
    """Has a fault."""
    raise ValueError("secret detail")


async def shout(websocket):
    """A WebSocket that sends without end, and never reads."""
    await websocket.accept()
    try:
        while True:
            websocket.app.state.seen.sent += 1
            await websocket.send_text("x" * 1000)
    finally:
        websocket.app.state.seen.ended += 1


async def echo(websocket):
    """Says what it hears."""
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


ROUTES = [
    Route("/", hello),
    Route("/read", read, methods=["POST"]),
    Route("/refuse", refuse, methods=["POST"]),
    Route("/wait", wait),
    Route("/pour", pour),
    Route("/fail", fail),
    WebSocketRoute("/shout", shout),
    WebSocketRoute("/echo", echo),
]


@asynccontextmanager
async def listening(**options):
    """A server of these applications."""
    chosen = ServeOptions(**{"port": 0, "grace": 0.5} | options)
    app = Starlette(routes=ROUTES, exception_handlers=HANDLERS)
    app.state.seen = Seen()
    listener = Listener(LimitsMiddleware(app, chosen), chosen)
    stopping, done = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(task_status):
            sockets = open_sockets(chosen)
            await listener.run(sockets, None, stopping, chosen.grace, task_status=task_status)
            done.set()

        (url,) = await nursery.start(run)
        server = Server(url, stopping, done, listener, app)
        try:
            yield server
            stopping.set()
            with trio.fail_after(chosen.grace + 50):
                await done.wait()
        finally:
            for stream in server.streams:
                stream.socket.close()


async def closed(stream):
    """Read until the other side ends it; what came."""
    data = b""
    try:
        while piece := await stream.receive_some():
            data += piece
    except trio.BrokenResourceError:
        pass
    return data


async def until(condition):
    """Wait until it holds."""
    while not condition():  # noqa: ASYNC110 - nobody tells
        await trio.sleep(0.01)


# ---------------------------------------------------------------- slow and silent ones


async def test_slow_head_is_cut_off(monkeypatch):
    """Who dribbles a request's head, or sends none, is closed in time; more bytes do not put it off."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.6)
    async with listening() as server, trio.open_nursery() as nursery:
        started = time.monotonic()
        silent = await server.connect()
        slow = await server.connect(b"GET / HTTP/1.1\r\nHost: localhost\r\n")

        async def dribble():
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await slow.send_all(b"x: y\r\n")
                    await trio.sleep(0.05)

        nursery.start_soon(dribble)
        assert await closed(silent) == b""
        await closed(slow)
        assert 0.4 < time.monotonic() - started < 20


async def test_pause_between_requests_is_bounded(monkeypatch):
    """A connection is kept for the next request for a while, in which that one's head has to come."""
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(connection, "HEAD_SECONDS", 60.0)
    async with listening() as server:
        started = time.monotonic()
        stream = await server.connect(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await closed(stream)
        assert answer.endswith(b"hello")
        assert 0.3 < time.monotonic() - started < 25
        assert b"server:" not in answer.lower()


async def test_slow_body_is_408(monkeypatch):
    """A body that dribbles gets its 408 when it has kept us waiting for too long."""
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.5)
    async with listening() as server, trio.open_nursery() as nursery:
        head = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
        stream = await server.connect(head)

        async def dribble():
            try:
                while True:
                    await stream.send_all(b"x")
                    await trio.sleep(0.05)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        nursery.start_soon(dribble)
        started = time.monotonic()
        answer = await closed(stream)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in answer
        assert time.monotonic() - started < 15
        await stream.aclose()


async def test_steady_body_may_take_its_time(monkeypatch):
    """A slow line is no attack: a body that comes at a decent pace is read to its end."""
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.3)
    async with listening() as server:
        head = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 160000\r\n\r\n"
        stream = await server.connect(head + b"x" * 50_000)  # what has come is worth a pause of this machine
        for _ in range(11):
            await stream.send_all(b"x" * 10_000)
            await trio.sleep(0.05)
        with trio.fail_after(30):
            assert b"160000" in await stream.receive_some()
        await stream.aclose()


async def test_a_thousand_silent_connections_hold_up_nobody(monkeypatch):
    """More connections than there may be, none of which says anything: the oldest make room for who does."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 60.0)
    async with listening(max_connections=400) as server:
        silent = [await server.connect() for _ in range(1000)]
        started = time.monotonic()
        for _ in range(5):
            assert (await server.get()).text == "hello"
        assert time.monotonic() - started < 25
        assert len(server.listener._connections) <= 400
        for stream in silent:
            await trio.aclose_forcefully(stream)


async def test_busy_server_refuses():
    """Where every connection has a request under way, one more is told to come again."""
    async with listening(max_connections=2) as server:
        busy = [await server.connect(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(2)]
        await until(lambda: sum(not each.is_idle for each in server.listener._connections) == 2)
        answer = await closed(await server.connect())
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after" in answer
        await busy[0].aclose()
        await until(lambda: server.app.state.seen.ended == 0 and len(server.listener._connections) == 2)


async def test_refused_gets_to_read_it():
    """Who has sent its request before it is refused gets the answer, and no reset."""
    async with listening(max_connections=1) as server:
        await server.connect(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: sum(not each.is_idle for each in server.listener._connections) == 1)
        for _ in range(5):
            said = await closed(await server.connect(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
            assert said.startswith(b"HTTP/1.1 503 ")
            assert said.endswith(b"too many connections.\n")


async def test_one_address_keeps_nobody_out():
    """Who holds all connections by requests that do not end loses the oldest to somebody else, who is served;
    he himself gets no more, and where many share them, nobody loses any.
    """
    async with listening(max_connections=4) as server:
        head = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"
        greedy = [await server.connect(head) for _ in range(4)]
        await until(lambda: sum(not each.is_idle for each in server.listener._connections) == 4)
        assert (await closed(await server.connect())).startswith(b"HTTP/1.1 503 ")
        port = int(server.url.rpartition(":")[2])
        others = []
        for _ in range(2):
            other = await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.2")
            server.streams.append(other)
            await other.send_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            others.append(other)
            await until(lambda: server.listener._held["127.0.0.2"] == len(others))
        assert await closed(greedy[0]) == await closed(greedy[1]) == b""
        await until(lambda: sum(not each.is_idle for each in server.listener._connections) == 4)
        last = await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.3")
        server.streams.append(last)
        assert (await closed(last)).startswith(b"HTTP/1.1 503 ")
        assert dict(server.listener._held) == {"127.0.0.1": 2, "127.0.0.2": 2}


# ---------------------------------------------------------------- greedy ones


async def test_oversize_is_413():
    """A body that is too large is refused, by what it says or by what comes; the client gets to read that."""
    async with listening(max_body=100_000) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
            said = await http.post("/read", content=b"x" * 100_001)
            assert (said.status_code, said.json()["title"]) == (413, "The body is too large")
            assert "100,000" in said.json()["detail"]

            async def pieces():
                for _ in range(100):
                    yield b"x" * 10_000

            assert (await http.post("/read", content=pieces())).status_code == 413
            assert (await http.post("/read", content=b"x" * 100_000)).text == "100000"
        for length in (b"9" * 30, b"9" * 19):
            head = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n"
            answer = await closed(await server.connect(head))
            assert answer[:12] in (b"HTTP/1.1 413", b"HTTP/1.1 400")


async def test_answer_without_reading_ends_the_connection():
    """An answer to a large body that nobody reads comes through; nothing is left behind."""
    async with listening() as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
            reply = await http.post("/refuse", content=b"x" * 5_000_000)
            assert (reply.status_code, reply.headers["connection"]) == (403, "close")
            small = await http.post("/refuse", content=b"x")
            assert "connection" not in small.headers
        with trio.fail_after(30):
            await until(lambda: not server.listener._connections)


async def test_large_head_is_refused():
    """A head without end is cut off after 32 KiB: 431 or 400."""
    async with listening() as server:
        stream = await server.connect(b"GET / HTTP/1.1\r\nHost: x\r\n")
        try:
            for _ in range(100):
                await stream.send_all(b"x-y: " + b"z" * 2000 + b"\r\n")
        except trio.BrokenResourceError:
            pass
        answer = await closed(stream)
        assert answer[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 400", b"")


async def test_rate_limit_is_429():
    """Who asks too often is told when to come again, and can then."""
    async with (
        listening(rate=4, burst=3) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as http,
    ):
        assert [(await http.get("/")).status_code for _ in range(3)] == [200, 200, 200]
        while (refused := await http.get("/")).status_code == 200:
            pass  # a moment has passed, which is worth one more
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["title"] == "Too many requests"
        with trio.fail_after(30):
            while (await http.get("/")).status_code != 200:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.02)


# ---------------------------------------------------------------- malformed ones

HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)


MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nx",
    b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nx",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    HANDSHAKE + b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
    HANDSHAKE + b"\r\n" + b"\xff" * 40,
    HANDSHAKE + b"\r\n" + b"\x81\x05hello",
    HANDSHAKE + b"\r\n" + b"\x88\x80\x00\x00\x00\x00" + b"\x81\x80\x00\x00\x00\x00" * 3,
    HANDSHAKE.replace(b"Version: 13", b"Version: 7") + b"\r\n",
    b"\x00" * 70_000,
]


async def test_malformed_ends_its_own_connection(caplog, subtests, monkeypatch):
    """What is no HTTP or WebSocket is answered or cut off, and the server goes on without a complaint."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 60.0)  # it is not that which ends it
    for data in MALFORMED:
        with subtests.test(ascii(data)[:60]):
            async with listening() as server:
                with trio.fail_after(30):
                    stream = await server.connect(data)
                    answer = await closed(stream)
                assert not answer or answer[:9] == b"HTTP/1.1 "
                assert (await server.get()).text == "hello"
            assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_upgrade_to_http2_is_declined():
    """A client that offers HTTP/2 in the clear is answered by HTTP/1.1."""
    async with listening() as server:
        ask = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        stream = await server.connect(b"GET / HTTP/1.1\r\nHost: x\r\n" + ask)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        await stream.aclose()


async def test_fault_of_ours_tells_nothing(caplog):
    """An exception in a handler is a 500 that tells nothing of it; the log has it all."""
    async with listening() as server:
        reply = await server.get("/fail")
        assert (reply.status_code, "secret" in reply.text) == (500, False)
    assert "secret detail" in caplog.text


# ---------------------------------------------------------------- WebSockets


def frame(data, first=0x81):
    """A frame as clients send it, masked by zeros."""
    length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + len(data).to_bytes(2)
    return bytes([first]) + length + bytes(4) + data


async def test_send_after_the_client_has_gone_ends():
    """An application that only ever sends is ended when its client goes: it does not spin."""
    async with listening() as server:
        seen = server.app.state.seen
        for path in ("/shout", "/pour"):
            request = HANDSHAKE.replace(b"/echo", path.encode()) + b"\r\n"
            if path == "/pour":
                request = b"GET /pour HTTP/1.1\r\nHost: x\r\n\r\n"
            stream = await server.connect(request)
            await stream.receive_some()
            await trio.aclose_forcefully(stream)
            with trio.fail_after(30):
                await until(lambda: not server.listener._connections)
            sent = seen.sent
            for _ in range(20):
                await trio.sleep(0.01)
            assert seen.sent == sent
        assert (await server.get()).text == "hello"


async def test_large_message_and_no_compression():
    """A WebSocket message that is too large ends it with 1009; compression is not agreed to."""
    async with listening() as server:
        stream = await server.connect(HANDSHAKE + b"\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
        await stream.send_all(frame(b"hello"))
        while not (heard := await stream.receive_some()).endswith(b"\x81\x05hello"):
            assert heard == b"\x89\x00"  # a ping
        await stream.send_all(frame(b"x" * 10_000, first=0x01))
        await stream.send_all(frame(b"x" * 10_000, first=0x80))
        assert (await closed(stream)).endswith(b"\x88\x02\x03\xf1")
        offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        stream = await server.connect(HANDSHAKE + offer)
        assert b"permessage" not in await stream.receive_some()
        await stream.aclose()


async def test_rejected_socket_is_an_answer():
    """A WebSocket at no such path is refused by status, before it is one."""
    async with listening() as server:
        stream = await server.connect(HANDSHAKE.replace(b"/echo", b"/nowhere") + b"\r\n")
        assert (await closed(stream)).startswith(b"HTTP/1.1 403 ")


# ---------------------------------------------------------------- stopping


async def test_stop_is_bounded_whatever_clients_do(monkeypatch):
    """With deaf readers, a WebSocket, a long poll, half a head and half a body, the end comes in time."""
    for name in ("HEAD_SECONDS", "WRITE_SECONDS", "LINGER_SECONDS"):  # none of these is what ends it
        monkeypatch.setattr(connection, name, 60.0)
    async with listening(grace=0.5) as server:
        await server.connect(b"GET /pour HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.connect(HANDSHAKE.replace(b"/echo", b"/shout") + b"\r\n")
        await server.connect(HANDSHAKE + b"\r\n")
        await server.connect(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.connect(b"GET / HT")
        await server.connect(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
        with trio.fail_after(40):
            await until(lambda: len(server.listener._connections) == 6)
            sent = -1
            while sent != server.app.state.seen.sent:  # until both senders are stuck
                sent = server.app.state.seen.sent
                await trio.sleep(0.2)
        started = time.monotonic()
        server.stopping.set()
        await server.done.wait()
        assert time.monotonic() - started < 25  # the grace and a moment, of a machine that may be busy


async def test_stop_waits_for_nothing_when_nothing_runs():
    """Connections that only wait for a request do not hold up the end."""
    async with listening(grace=60) as server, httpx.AsyncClient(base_url=server.url) as http:
        await http.get("/")
        await server.connect()
        started = time.monotonic()
        server.stopping.set()
        await server.done.wait()
        assert time.monotonic() - started < 25


async def test_deaf_client_is_given_up(monkeypatch):
    """A client that takes nothing for too long loses its connection, and the application hears of it."""
    monkeypatch.setattr(connection, "WRITE_SECONDS", 0.3)
    monkeypatch.setattr(connection, "SLOWEST", 1 << 20)
    async with listening() as server:
        stream = await server.connect(HANDSHAKE.replace(b"/echo", b"/shout") + b"\r\n")
        with trio.fail_after(40):
            await until(lambda: server.app.state.seen.ended == 1)
            await until(lambda: not server.listener._connections)
        await trio.aclose_forcefully(stream)
