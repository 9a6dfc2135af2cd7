"""One connection: Hypercorn's HTTP/1.1 and WebSocket protocols between a Trio stream and the application.

Everything a client can do, or not do, ends in bounded time: a TLS handshake and a request's head within
`HEAD_SECONDS`, a pause between requests within `IDLE_SECONDS`, a write to one that does not read within
`WRITE_SECONDS` and what the data take on a slow line. `abort` ends it at once, whatever it does. What a
client sends wrong ends its own connection and nothing else.

HTTP/2 is not offered, so that all limits are those of one request after the other; a proxy may offer it.
"""

from __future__ import annotations

import logging
import socket
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, TaskGroup

from hotpath.web.inbox import Requests

log = logging.getLogger("hotpath.web")

HEAD_SECONDS = 10.0
"""From the connection to the end of the first request's head."""
IDLE_SECONDS = 30.0
"""From one request's end to the end of the next one's head."""
QUIET_SECONDS = 60.0
"""A WebSocket that sends nothing for so long, no answer to a ping either, is gone."""
WRITE_SECONDS = 20.0
"""How long a write may take, and a second more for each `SLOWEST` bytes."""
SLOWEST = 16 << 10
LINGER_SECONDS = 2.0
"""How long what a client still sends is thrown away after its last answer, so that it gets to read that."""
LAST_SECONDS = 0.2
"""The same when the server stops."""
_PIECE = 64 << 10  # bytes read at a time
_BAD = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}  # s, ms
_LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class Connection:
    """Made and run by `Listener`, which it tells whether it waits for a request."""

    def __init__(self, stream: Stream, config: HypercornConfig, context: WorkerContext) -> None:
        self._stream = stream
        self._config = config
        self._context = context
        self._reading = trio.CancelScope()
        self._writing: trio.CancelScope | None = None
        self._write_lock = trio.Lock()
        self._is_broken = self._is_finished = self._has_answered = False
        self.is_idle = True
        """Whether it waits for a request: then it may be closed to make room."""

    async def run(self, app: ASGIWrapper) -> None:
        """Serve requests until either side ends it, and close it."""
        try:
            async with trio.open_nursery() as nursery:
                requests = Requests(nursery, self.abort)
                self._reading.deadline = trio.current_time() + HEAD_SECONDS
                with self._reading:
                    await self._serve(app, requests)
                self._is_broken = True
                requests.end()
        finally:
            await trio.aclose_forcefully(self._stream)

    def abort(self) -> None:
        """End it now: no more is read or written, and its requests are told that the client has gone."""
        self._is_broken = True
        self._reading.cancel(reason="the connection is to end")
        if self._writing is not None:
            self._writing.cancel(reason="the connection is to end")

    async def _serve(self, app: ASGIWrapper, requests: Requests) -> None:
        stream = self._stream
        tls = stream if isinstance(stream, trio.SSLStream) else None
        transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        try:
            _set_options(transport)
            client, server = transport.socket.getpeername(), transport.socket.getsockname()
            if tls is not None:
                await tls.do_handshake()
            state = ConnectionState({})
            protocol = _Protocol(
                app, self._config, self._context, cast("TaskGroup", requests), state,
                tls is not None, _address(client), _address(server), self._send,
            )  # fmt: skip
            await self._read(protocol)
        except _LOST:
            pass  # nobody to tell
        except Exception as error:  # noqa: BLE001 - nothing that a client sends may end the server
            log.warning("a connection is closed for what it sent: %r", error)
            if not self._has_answered:
                await self._write(_BAD)

    async def _read(self, protocol: _Protocol) -> None:
        data = b"-"
        while data:
            data = bytes(await self._stream.receive_some(_PIECE))
            if not self._is_finished:
                await protocol.handle(RawData(data))
                stream = protocol.stream
                if isinstance(stream, WSStream) and not self._is_finished:
                    self._reading.deadline = trio.current_time() + QUIET_SECONDS
                    if protocol.is_over or stream.closed:  # it said too much, or was refused
                        self._finish()

    async def _send(self, event: Event) -> None:
        """What the protocol wants done."""
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Updated):
            self.is_idle = event.idle
            self._has_answered = False
            self._reading.deadline = trio.current_time() + IDLE_SECONDS if event.idle else float("inf")
            if event.idle and self._context.terminated.is_set():
                self.abort()
        elif isinstance(event, Closed) and not self._is_finished:
            self._finish()

    async def _write(self, data: bytes) -> None:
        async with self._write_lock:
            self._has_answered = True
            if self._is_broken:
                return
            # A write is not to be cut by whoever waits for it: half a frame would spoil all that follow.
            limit = trio.current_time() + WRITE_SECONDS + len(data) / SLOWEST
            with trio.CancelScope(shield=True, deadline=limit) as self._writing:
                try:
                    await self._stream.send_all(data)
                except _LOST:
                    self.abort()
            if self._writing.cancelled_caught:
                self.abort()
            self._writing = None

    def _finish(self) -> None:
        """All is said: end our side, and give the client a moment to read it before the connection goes."""
        self._is_finished = True
        self.is_idle = True
        transport = (
            self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
        )
        try:
            transport.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has gone
        linger = LAST_SECONDS if self._context.terminated.is_set() else LINGER_SECONDS
        self._reading.deadline = trio.current_time() + linger


class _Protocol(H11Protocol):
    """HTTP/1.1 without the way to HTTP/2, and WebSockets without compression.

    Compression would cost some 300 KiB of memory for each viewer, and let a small frame become a large one.
    """

    is_over = False
    """Whether a WebSocket message was too large: the client is told, and the connection ends."""

    async def _check_protocol(self, event: Any) -> None:
        """Stay with HTTP/1.1 whatever is asked for."""

    async def _create_stream(self, request: Any) -> None:
        headers = [item for item in request.headers if item[0].lower() != b"sec-websocket-extensions"]
        object.__setattr__(request, "headers", headers)
        await super()._create_stream(request)
        if isinstance(self.stream, WSStream):
            self.stream.buffer = _Buffer(self.config.websocket_max_message_size, self)


class _Buffer(WebsocketBuffer):
    """A message in parts that does not grow beyond its limit; the connection of one that would ends."""

    def __init__(self, max_length: int, protocol: _Protocol) -> None:
        super().__init__(max_length)
        self._protocol = protocol

    def extend(self, event: Any) -> None:
        if self.length + len(event.data) > self.max_length:
            self.clear()
            self._protocol.is_over = True
            raise FrameTooLargeError
        super().extend(event)


def _set_options(stream: trio.SocketStream) -> None:
    """Have the kernel notice clients that vanished without a word."""
    if stream.socket.family not in (socket.AF_INET, socket.AF_INET6):
        return
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _address(name: Any) -> tuple[str, int]:
    """Address and port; IPv4 as such, also where it came through an IPv6 socket."""
    host = str(name[0]).partition("%")[0]
    return host.removeprefix("::ffff:") if "." in host else host, int(name[1])
