"""What `hotpath serve` was told."""

from __future__ import annotations

import functools
import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

import attrs

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PORT = 8765

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen(kw_only=True)
class ServeOptions:
    """Where to serve, whom, and within which limits."""

    host: str = LOOPBACK[0]
    port: int = PORT
    """0: any free one."""
    grace: float = 5.0
    """Seconds that requests get to end once the server is told to stop."""
    certfile: Path | None = None
    """Certificates (PEM) for TLS; with `keyfile`."""
    keyfile: Path | None = None
    public_url: str | None = None
    """Where browsers find this server, if a proxy stands before it: its Origin is accepted."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that it answers to besides those of this machine; empty: any, unless it is open."""
    trust_forwarded: tuple[Network, ...] = ()
    """Proxies whose X-Forwarded-* headers are believed."""
    require_token: bool = False
    """Whether callers need a token on loopback too."""
    access_log: bool = False
    """Whether each request is logged."""
    max_body: int = 32 << 20
    """Bytes of one request's body."""
    max_batch: int = 1 << 30
    """Bytes of a body with many jobs, which is read as a stream."""
    rate: float = 500.0
    """Requests a second that one caller may make for long; 0: any number."""
    burst: int = 1000
    """Requests that one caller may make at once."""
    max_connections: int = 4096
    """Connections open at a time; further ones replace such as wait for a request, or are refused."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @property
    def is_open(self) -> bool:
        """Whether callers need no token: only on loopback, and with nothing that speaks of a proxy."""
        behind_proxy = self.public_url is not None or self.trust_forwarded or self.allowed_hosts
        return self.is_loopback and not behind_proxy and not self.require_token

    @property
    def is_tls(self) -> bool:
        """Whether the server itself speaks TLS."""
        return self.certfile is not None

    @property
    def public_origin(self) -> str | None:
        """The Origin that browsers send when they are at `public_url`."""
        if self.public_url is None:
            return None
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}".lower()


@functools.lru_cache(1000)  # asked for each request
def is_loopback(host: str) -> bool:
    """Whether this name or address (without a port) always means the machine it is used on."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
