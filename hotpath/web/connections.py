"""Connections that end: Hypercorn's Trio worker, with a bound on every send and a stop that keeps its word.

Hypercorn shields each send from being cancelled, so that no half of a frame is ever followed by something
else. But a peer that stops reading then holds the task, its memory and the end of the server for as long as
it likes. Here a send that the peer takes nothing of for SEND_SECONDS, or that still goes on when the grace is
over, breaks its connection.

The same for what a peer sends: Hypercorn answers a WebSocket message that is too large with 1009, and goes on
to gather what follows; here that is the end of the connection.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import attrs
import trio
from h11 import ProtocolError
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ConnectionState, Scope
from hypercorn.utils import repr_socket_addr
from starlette.types import ASGIApp

SEND_SECONDS = 20.0
"""Within this time a peer must have taken what one send gives it: a response's chunk, a frame."""
QUIET_SECONDS = 60.0
"""A WebSocket that sends nothing for so long, no answer to a ping either, is gone."""
PING_SECONDS = 20.0
"""Seconds between two pings of a WebSocket."""
MAX_MESSAGE = 16 * 1024
"""Characters of one message of a WebSocket."""
_LINGER = 0.25  # seconds to let a peer read why its connection ends

Stream = trio.SSLStream[trio.SocketStream]
_log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Sends:
    """The sends that go on, of all connections of a server."""

    _scopes: set[trio.CancelScope] = attrs.field(factory=set)
    _over: bool = False

    async def send(self, stream: Stream, data: bytes) -> bool:
        """Send all of it, whoever is cancelled meanwhile; False when the peer did not take it in time."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + SEND_SECONDS) as scope:
            if self._over:
                scope.cancel(reason="the server has stopped")
            self._scopes.add(scope)
            try:
                await stream.send_all(data)
            finally:
                self._scopes.discard(scope)
        return not scope.cancelled_caught

    def end(self) -> None:
        """Break off those that go on, and any that begins."""
        self._over = True
        for scope in self._scopes:
            scope.cancel(reason="the server has stopped")


class Connection(TCPServer):
    """One connection."""

    def __init__(
        self,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        sends: Sends,
        stream: Stream,
    ) -> None:
        super().__init__(app, config, context, ConnectionState({}), stream)
        self._sends = sends
        self._reader: trio.lowlevel.Task | None = None
        self._read_over = trio.Event()

    async def protocol_send(self, event: Event) -> None:
        """Send what the protocol gives, or break the connection."""
        if isinstance(event, Closed):
            await self._linger()
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                if await self._sends.send(self.stream, event.data):
                    return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            else:
                await trio.aclose_forcefully(self.stream)
        await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        self._reader = trio.lowlevel.current_task()
        try:
            while await self._read_some():
                pass
        finally:
            self._read_over.set()
        await self.protocol.handle(Closed())

    async def _read_some(self) -> bool:
        """Read once; False when there is no more."""
        patience = QUIET_SECONDS if self._socket() else self.config.read_timeout or float("inf")
        try:
            with trio.fail_after(patience):
                data = await self.stream.receive_some(MAX_RECV)
        except (trio.ClosedResourceError, trio.BrokenResourceError, trio.TooSlowError):
            return False
        await self.protocol.handle(RawData(bytes(data)))
        found = self._socket()
        if found is not None and found.buffer.length > self.config.websocket_max_message_size:
            await self._send_eof()
            with trio.move_on_after(_LINGER):
                try:
                    while await self.stream.receive_some(MAX_RECV):
                        pass
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    pass
            return False
        return bool(data)

    def _socket(self) -> WSStream | None:
        """What speaks WebSocket here, if that is what this connection has become."""
        protocol = self.protocol.protocol
        found = protocol.stream if isinstance(protocol, H11Protocol) else None
        return found if isinstance(found, WSStream) else None

    async def _linger(self) -> None:
        """Let the peer read why the connection ends: closed with something unread, it would be reset, and
        what was sent last might be lost.
        """
        if self._reader is not None and self._reader is not trio.lowlevel.current_task():
            await self._send_eof()
            with trio.move_on_after(_LINGER):
                await self._read_over.wait()

    async def _send_eof(self) -> None:
        send_eof = getattr(self.stream, "send_eof", None)  # TLS has none
        if send_eof is not None:
            try:
                await send_eof()
            except (trio.ClosedResourceError, trio.BrokenResourceError, trio.BusyResourceError):
                pass

    async def _close(self) -> None:
        with trio.move_on_after(_LINGER):
            await super()._close()

    async def _initiate_server_close(self) -> None:
        with trio.move_on_after(_LINGER):
            await super()._initiate_server_close()


class _App(ASGIWrapper):
    """The application, and what has to be done when it is through with a WebSocket."""

    async def __call__(
        self,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: Any,
        sync_spawn: Callable[..., Any],
        call_soon: Callable[..., Any],
    ) -> None:
        """Serve one request or WebSocket."""
        try:
            await self.app(scope, receive, send)
        except Exception:  # noqa: BLE001 - the application's, told here and answered by the protocol
            _log.exception("the application failed")
        if scope["type"] != "websocket":
            return
        # What the peer still sends has to go somewhere, or the one who puts it there waits for ever.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_forget, receive)
            await send(None)  # as Hypercorn does when this has returned: the end of the stream
            nursery.cancel_scope.cancel(reason="the stream has ended")


async def _forget(receive: ASGIReceiveCallable) -> None:
    while True:
        await receive()


async def serve_app(
    app: ASGIApp,
    config: Config,
    stop: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` where `config` says until `stop` returns, and then for at most `config.graceful_timeout`
    seconds what has begun. Starts with the URLs that it is bound to. Raises OSError when it cannot bind.
    """
    wrapped = _App(cast("ASGIFramework", app))
    context = WorkerContext(None)
    sends = Sends()
    made = config.create_sockets()
    listeners: list[Any] = []
    urls = []
    for sock in [*made.secure_sockets, *made.insecure_sockets]:
        sock.listen(config.backlog)
        listener: Any = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        secure = sock in made.secure_sockets
        if secure:
            context_of_tls = config.create_ssl_context()
            assert context_of_tls is not None, "there are secure sockets only with a certificate"
            listener = trio.SSLListener(listener, context_of_tls, https_compatible=True)
        listeners.append(listener)
        urls.append(f"{'https' if secure else 'http'}://{_address(sock)}")

    async def connected(stream: Stream) -> None:
        try:
            await Connection(wrapped, config, context, sends, stream)
        except* ProtocolError:
            pass  # the peer did what neither HTTP nor WebSocket has, and Hypercorn no answer for
        except* Exception:  # noqa: BLE001 - whatever it is, it is that connection's alone
            _log.exception("a connection ended by an error of the server's own")

    grace = trio.CancelScope()

    async def bound_sends() -> None:
        try:
            with grace:
                await trio.sleep_forever()
        finally:
            sends.end()

    async with trio.open_nursery() as guard:
        guard.start_soon(bound_sends)
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(
                    partial(trio.serve_listeners, connected, listeners, handler_nursery=connections)
                )
                task_status.started(urls)
                await stop()
                accepting.cancel_scope.cancel(reason="the server stops")
            await context.terminated.set()  # idle connections close, busy ones are the last on theirs
            grace.deadline = connections.cancel_scope.deadline = trio.current_time() + config.graceful_timeout
        guard.cancel_scope.cancel(reason="no connection is left")


def _address(sock: socket.socket) -> str:
    return repr_socket_addr(sock.family, sock.getsockname())
