"""Headers that tell browsers what a page of ours may do: nothing but with this server."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
_HSTS = (b"strict-transport-security", b"max-age=31536000")  # a year; not for sub-domains, which are not ours
_ALWAYS = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
_SECURE = [*_ALWAYS, _HSTS]


class HeadersMiddleware:
    """Adds the headers to every response that does not set its own; what nobody calls cacheable is not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        secure = scope.get("scheme") in ("https", "wss")

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = message.get("headers", [])
                given = {name.lower() for name, _ in headers}
                ours = [item for item in (_SECURE if secure else _ALWAYS) if item[0] not in given]
                message = {**message, "headers": [*headers, *ours]}
            await send(message)

        await self._app(scope, receive, send_with_headers)
