"""Low priority for a process while it loads beside those that work, by Linux's scheduling groups of sessions.

A process that leads a session has a group of its own, and unlike `nice` it can be taken back without
privileges. Where there are no such groups, or a container's own come first, nothing happens.
"""

from __future__ import annotations

import os
from typing import Protocol

import trio

LOW = 10
"""About a tenth of what one at work gets; all there is where nobody else wants it."""
LOW_FOR = 3.0
"""Seconds that somebody who is waited for has low priority at most: where all processors are taken, a deploy
is to end.
"""
AGAIN = 0.15
"""Seconds until another try: the kernel takes one such change in 0.1 s from those without privileges."""
TRIES = 40


class Leader(Protocol):
    """A process that leads a session."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def returncode(self) -> int | None:
        """How it has ended; None: it has not."""


def lower(process: Leader) -> None:
    """Let others go first."""
    _set(process, LOW)


async def restore(process: Leader) -> None:
    """Treat it as others again."""
    for _ in range(TRIES):
        if process.returncode is not None or _set(process, 0):
            return
        await trio.sleep(AGAIN)


def _set(process: Leader, nice: int) -> bool:
    """False: it may be tried again."""
    try:
        descriptor = os.open(f"/proc/{process.pid}/autogroup", os.O_RDWR)
    except OSError:
        return True  # it has ended, or this system has no such thing
    try:
        if not os.read(descriptor, 64).endswith(b" nice %d\n" % nice):
            os.write(descriptor, b"%d" % nice)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return True
