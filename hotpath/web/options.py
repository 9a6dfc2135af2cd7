"""What `hotpath serve` was told."""

from __future__ import annotations

import attrs

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PORT = 8765


@attrs.frozen(kw_only=True)
class ServeOptions:
    """Where to serve, and how."""

    host: str = LOOPBACK[0]
    port: int = PORT
    """0: any free one."""
    grace: float = 5.0
    """Seconds that requests get to end once the server is told to stop."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK
