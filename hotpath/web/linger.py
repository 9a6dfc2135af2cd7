"""What is left of a request's body when the answer is there already is read away, for a while.

Else two things happen (Hypercorn 0.18): the client, which is still sending, never comes to read the answer;
and the connection's reader and the request's task wait for one another, for ever, once the queue between them
is full.
"""

from __future__ import annotations

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = 5.0
"""How long the rest of a body is read; then the connection is closed."""


class LingerMiddleware:
    """Around everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        rest = _Rest(receive, send)
        await self._app(scope, rest.receive, rest.send)


class _Rest:
    """One request."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_read = False

    async def receive(self) -> Message:
        """Pass on, and note the end of the body."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._is_read = True
        return message

    async def send(self, message: Message) -> None:
        """Pass on; before the end of the answer comes the end of the body."""
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not is_last or self._is_read:
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        with trio.move_on_after(SECONDS):
            while not self._is_read:
                await self.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_on)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            nursery.cancel_scope.cancel(reason="the answer is sent")

    async def _read_on(self) -> None:
        """Keep the queue empty, so that nobody waits to put something in."""
        while True:
            await self._receive()
