"""Pipes between a supervisor and its workers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import trio

SIZE = 65_536
"""Bytes that a pipe holds on Linux."""


async def arriving(descriptor: int) -> AsyncIterator[bytes]:
    """What comes through a pipe, until its other end is closed. It waits first and then reads: where messages
    come one by one that is half of the system calls, and turns of Trio, that a stream takes.
    """
    os.set_blocking(descriptor, False)
    while True:
        await trio.lowlevel.wait_readable(descriptor)
        try:
            data = os.read(descriptor, SIZE)
        except BlockingIOError:
            continue
        except OSError:
            return
        if not data:
            return
        yield data
