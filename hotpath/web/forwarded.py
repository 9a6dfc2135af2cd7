"""What proxies say of the clients they speak for: X-Forwarded-For, -Proto and -Host, if they are trusted."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from hotpath.web.options import Network

FOR, PROTO, HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"


class ForwardedMiddleware:
    """Believes trusted proxies: client's address, scheme and Host become what they say. Nobody else is
    believed; what others send by these names stays for `Access` to see, as a sign of a proxy.
    """

    def __init__(self, app: ASGIApp, trusted: Iterable[Network]) -> None:
        self._app = app
        self._trusted = tuple(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        client = scope.get("client")
        if self._trusted and client and scope["type"] in ("http", "websocket") and self.trusts(client[0]):
            scope = self._behind_proxy(scope)
        await self._app(scope, receive, send)

    def trusts(self, address: str) -> bool:
        """Whether this is the address of a trusted proxy."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._trusted)

    def _behind_proxy(self, scope: Scope) -> Scope:
        headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        changed = dict(scope)
        if address := self._client_of(_values(headers, FOR)):
            changed["client"] = (address, 0)
        proto = _last(_values(headers, PROTO))
        if proto in ("http", "https"):
            schemes = {"http": "ws", "https": "wss"} if scope["type"] == "websocket" else {}
            changed["scheme"] = schemes.get(proto, proto)
        if host := _last(_values(headers, HOST)):
            headers = [item for item in headers if item[0] != b"host"] + [(b"host", host.encode("latin-1"))]
            changed["headers"] = headers
        return changed

    def _client_of(self, chain: list[str]) -> str | None:
        """The last address that is not one of our proxies: what stands before it, anybody can say."""
        for text in reversed(chain):
            address = _address(text)
            if address is None:
                return None
            if not self.trusts(address):
                return address
        return _address(chain[0]) if chain else None


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    joined = b",".join(value for key, value in headers if key == name).decode("latin-1")
    return [part.strip() for part in joined.split(",") if part.strip()]


def _last(values: list[str]) -> str | None:
    return values[-1] if values else None


def _address(text: str) -> str | None:
    """The address in `1.2.3.4`, `1.2.3.4:80`, `::1` or `[::1]:80`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
