"""Which names the server answers to, and which pages may speak to it: Host, Origin and Sec-Fetch-Site.

A server that is open on loopback has no other defence against the pages a browser has open: one of them may
have its own name point to 127.0.0.1 (DNS rebinding: the Host gives it away), another may post to us (its
Origin gives it away). No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from hotpath.web.options import ServeOptions, is_loopback

Headers = Iterable[tuple[bytes, bytes]]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
PROXY_HEADERS = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"})
"""What only a proxy sends."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


def header(headers: Headers, name: bytes) -> str | None:
    """The first value of a header, whose name is given in lower case."""
    return next((value.decode("latin-1").strip() for key, value in headers if key == name), None)


def host_fault(headers: Headers, options: ServeOptions) -> str | None:
    """Why the server does not answer to the name in Host; None when it does."""
    given = header(headers, b"host")
    match = _HOST.fullmatch(given or "")
    if match is None:
        return "the request names no valid Host"
    name = match[1].lower().rstrip(".")
    if name_is_ours(name, options):
        return None
    shown = name[:100]
    return f"this server does not answer to the name {shown}; if it should: --allowed-host {shown}"


def name_is_ours(name: str, options: ServeOptions) -> bool:
    """Whether the server answers to this name (lower case, no port)."""
    if not options.is_open and not options.allowed_hosts:
        return True  # who gets in is for tokens to say, and names differ with every proxy
    public = options.public_origin and urlsplit(options.public_origin).hostname
    return is_loopback(name) or name in options.allowed_hosts or name in (public, options.host)


def origin_fault(kind: str, method: str, scheme: str, headers: Headers, options: ServeOptions) -> str | None:
    """Why a browser's page may not make this request; None when it may, or no browser made it.

    `kind`: `http` or `websocket`, as in ASGI.
    """
    headers = list(headers)
    origin, site = header(headers, b"origin"), header(headers, b"sec-fetch-site")
    guarded = kind == "websocket" or method not in SAFE_METHODS
    if guarded:
        if origin is not None and not _is_same(origin, scheme, header(headers, b"host"), options):
            return (
                f"a page at {origin[:100]} may not speak to this server; if it is this server's own address, "
                f"start it with --public-url {origin[:100]}"
            )
        if origin is None and site not in (None, "same-origin", "none"):
            return "a page of another site may not speak to this server"
    elif site in ("cross-site", "same-site") and header(headers, b"sec-fetch-mode") not in (None, "navigate"):
        return "a page of another site may not read from this server"
    return None


def names_source(headers: Headers) -> bool:
    """Whether a request says from which page it is: then `origin_fault` has seen that it is ours."""
    return any(name in (b"origin", b"sec-fetch-site") for name, _ in headers)


def _is_same(origin: str, scheme: str, host: str | None, options: ServeOptions) -> bool:
    given = _normal(origin)
    if given is None:
        return False
    web = {"ws": "http", "wss": "https"}.get(scheme, scheme)
    ours = [f"{web}://{host or ''}"] + ([options.public_origin] if options.public_origin else [])
    return any(given == _normal(one) for one in ours)


def _normal(origin: str) -> tuple[str, str, str] | None:
    """Scheme, host and port of an origin; None for what is none, such as `null`."""
    scheme, separator, host = origin.lower().partition("://")
    match = _HOST.fullmatch(host)
    if not separator or match is None or scheme not in _PORTS:
        return None
    return scheme, match[1].rstrip("."), match[2] or _PORTS[scheme]
