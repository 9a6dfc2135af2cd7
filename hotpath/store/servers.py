"""Servers (`hotpath serve`) that are up, as they say themselves: where, how they listen, how their host's
clock is.
"""

from __future__ import annotations

import os
import secrets
import socket
import time

import attrs

from hotpath import asyncpg_trio
from hotpath.store.clocks import HostClock
from hotpath.store.queries import query
from hotpath.version import __version__

EVERY = 15.0
"""Seconds after which a server says again that it is up."""
GONE = 60.0
"""Seconds after which one that says nothing is not."""


@attrs.define(eq=False)
class Standing:
    """One server's row."""

    address: str
    """That it listens on: `0.0.0.0:8765`."""
    is_loopback: bool
    """Whether only this machine reaches it."""
    is_open: bool
    """Whether callers need no token."""
    is_secure: bool
    """Whether browsers reach it by TLS alone."""
    id: int = attrs.field(factory=lambda: secrets.randbits(63))
    clock: HostClock = attrs.field(factory=HostClock)

    async def say(self, connection: asyncpg_trio.Connection) -> None:
        """It is up."""
        apart = self.clock.apart
        asked = time.time()
        there_us: int = await connection.fetchval(
            query("server_say"), self.id, socket.gethostname(), os.getpid(), __version__, self.address,
            self.is_loopback, self.is_open, self.is_secure, None if apart is None else apart.seconds,
            None if apart is None else apart.unsure,
        )  # fmt: skip
        self.clock.observe(there_us, asked, time.time())

    async def gone(self, connection: asyncpg_trio.Connection) -> None:
        """It ends."""
        await connection.execute(query("server_gone"), self.id)


async def is_any_up(connection: asyncpg_trio.Connection) -> bool:
    """Whether a server has said lately that it is up."""
    return bool(await connection.fetch(query("doctor_servers"), GONE))
