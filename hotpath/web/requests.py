"""The log of requests (`--access-log`): one line each, without queries, cookies and tokens."""

from __future__ import annotations

import logging
import re
from urllib.parse import quote

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotpath.web.access import NOBODY, Principal

log = logging.getLogger("hotpath.web.requests")

_SECRET = re.compile(r"^(/resume/|/api/v1/resume/).+")
_MAX_PATH = 500


class RequestsMiddleware:
    """Logs `ADDRESS NAME METHOD PATH STATUS BYTES MILLISECONDS` when a request or WebSocket has ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket") or not log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        began = trio.current_time()
        status = size = 0

        async def counted_send(message: Message) -> None:
            nonlocal status, size
            match message["type"]:
                case "http.response.start" | "websocket.http.response.start":
                    status = message["status"]
                case "websocket.accept":
                    status = 101
                case "http.response.body" | "websocket.http.response.body":
                    size += len(message.get("body", b""))
                case "websocket.send":
                    size += len(message.get("text") or message.get("bytes") or "")
            await send(message)

        try:
            await self._app(scope, receive, counted_send)
        finally:
            took = (trio.current_time() - began) * 1000
            address = scope["client"][0] if scope.get("client") else "-"
            principal: Principal = scope.get("hotpath.principal", NOBODY)
            method = scope.get("method", "WEBSOCKET")
            path = shown_path(scope["path"])
            name = quote(principal.name, safe="") or "-"
            known = {"address": address, "status": status or None}
            what = (address, name, method, path, status or "-", size, took)
            log.info("%s %s %s %s %s %d %.1f", *what, extra=known)


def shown_path(path: str) -> str:
    """A path for the log: no tokens, and nothing that could break a line or a terminal."""
    return quote(_SECRET.sub(r"\1***", path)[:_MAX_PATH], safe="/:@!$&'()*+,;=~")
