"""One request's application: what it is told, what it says, and how it ends.

Hypercorn's own shell has a queue that only the application empties, also for the word that the client has
gone, and lets it send on after that. So a request whose body nobody reads to its end holds its task and
connection for ever, and a loop that sends and never asks spins, and no other task ever runs. Here the last
word always fits, and to send behind it raises.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import h11
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

log = logging.getLogger("hotpath.web")

Send = Callable[[ASGISendEvent | None], Awaitable[None]]


END_SECONDS = 0.05
"""How long an answer waits for the end of a body that nobody wanted to read."""


class ClientGoneError(OSError):
    """Raised by `send` once the client has gone, or has all of its answer."""


_DEPARTURES = (ClientGoneError, ClientDisconnect, WebSocketDisconnect)


HTTP_GONE: ASGIReceiveEvent = {"type": "http.disconnect"}
WEBSOCKET_GONE: ASGIReceiveEvent = {"type": "websocket.disconnect", "code": 1006}
"""The last messages of connections that were lost."""


class Inbox:
    """What a client sends, on its way to the application; at most `size` messages wait."""

    def __init__(self, size: int, gone: ASGIReceiveEvent) -> None:
        self._in, self._out = trio.open_memory_channel[ASGIReceiveEvent](size)
        self._last = gone
        self.is_whole = trio.Event()
        """Set when all of a request's body has come in."""
        self.has_ended = False
        """Whether the last message, that the client has gone, is there."""

    def end(self, last: ASGIReceiveEvent | None = None) -> None:
        """Nothing more will come; `last` says so, if it is not that the connection was lost."""
        if not self.has_ended:
            self.has_ended = True
            self._last = last or self._last
            self._in.close()

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Wait for room and add a message. The last one does not wait."""
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            self.end(message)
            return
        try:
            await self._in.send(message)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass  # it came to its end meanwhile, and nobody reads what is behind
        if message["type"] == "http.request" and not message["more_body"]:
            self.is_whole.set()

    async def receive(self) -> ASGIReceiveEvent:
        """The next message; the last one again and again."""
        try:
            return await self._out.receive()
        except trio.EndOfChannel:
            return self._last

    def close(self) -> None:
        """Nobody reads any more."""
        self._out.close()


class Requests:
    """Runs the application for each request of a connection: what Hypercorn's protocols call a task group."""

    def __init__(self, nursery: trio.Nursery, abort: Callable[[], None]) -> None:
        self._nursery = nursery
        self._abort = abort
        self._helpers: set[trio.CancelScope] = set()
        self._inboxes: set[Inbox] = set()
        self._has_ended = False

    async def spawn_app(
        self, app: AppWrapper, config: HypercornConfig, scope: Scope, send: Send
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application on a request; what is returned tells it what the client sends."""
        is_socket = scope["type"] == "websocket"
        inbox = Inbox(config.max_app_queue_size, WEBSOCKET_GONE if is_socket else HTTP_GONE)
        self._inboxes.add(inbox)
        self._nursery.start_soon(self._run, app, scope, inbox, send)
        return inbox.put

    def spawn(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run a helper (pings) until it ends, or the connection does."""

        async def helper() -> None:
            with trio.CancelScope() as scope:
                self._helpers.add(scope)
                if self._has_ended:
                    scope.cancel(reason="the connection has ended")
                try:
                    await function(*args)
                finally:
                    self._helpers.discard(scope)

        self._nursery.start_soon(helper)

    def end(self) -> None:
        """The connection has ended: tell the applications, stop the helpers."""
        self._has_ended = True
        for scope in self._helpers:
            scope.cancel(reason="the connection has ended")
        for inbox in self._inboxes:
            inbox.end()

    async def _run(self, app: AppWrapper, scope: Scope, inbox: Inbox, send: Send) -> None:
        async def guarded_send(message: ASGISendEvent) -> None:
            await trio.lowlevel.checkpoint()
            if inbox.has_ended:
                raise ClientGoneError("the client has gone")
            if message["type"] == "http.response.start" and not inbox.is_whole.is_set():
                # An answer to half a request: the rest may be under way, else this was the connection's last.
                with trio.move_on_after(END_SECONDS):
                    await inbox.is_whole.wait()
                if not inbox.is_whole.is_set():
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            try:
                await send(message)
            except h11.LocalProtocolError as error:
                if scope["type"] == "websocket":  # its client spoke too early, and has its answer
                    raise ClientGoneError("the WebSocket was refused") from error
                raise

        threads = trio.to_thread.run_sync, trio.from_thread.run
        try:
            await app(scope, inbox.receive, cast("Any", guarded_send), *threads)
        except BaseException as error:
            rest = _without_departures(error)
            if rest is not None and not isinstance(rest, Exception):
                raise  # cancelled: the server stops
            if rest is not None:
                _complain(scope, rest)
        finally:
            inbox.close()
            self._inboxes.discard(inbox)
        try:
            await send(None)
        except Exception as error:  # noqa: BLE001 - an answer that breaks off is no answer
            _complain(scope, error)
            self._abort()


def _complain(scope: Scope, error: BaseException) -> None:
    log.error("%s %s failed", scope.get("method", "WebSocket"), scope.get("path"), exc_info=error)


def _without_departures(error: BaseException) -> BaseException | None:
    """What is left of an error without those that only say that the client has gone."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(_DEPARTURES)[1]
    return None if isinstance(error, _DEPARTURES) else error
