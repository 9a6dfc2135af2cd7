"""How the hub reads: few reads at a time, each with an end, and a database that is away is weather."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
import trio

from hotpath.store.database import Database
from hotpath.store.trouble import ANY_TROUBLE

AT_ONCE = 2
"""Connections of the server's pool that one `Reads` takes at a time; a hub has two of them."""
READ_SECONDS = 10.0
"""Seconds that one read may take."""
FIRST_PAUSE = 0.25
LAST_PAUSE = 5.0
"""Seconds between two tries while the database is away: the first, and the longest."""
_log = logging.getLogger(__name__)

T = TypeVar("T")


@attrs.frozen
class ReadStatistics:
    """What was read so far."""

    reads: int
    failed: int
    """Reads that met trouble and were tried again."""

    def __add__(self, other: ReadStatistics) -> ReadStatistics:
        return ReadStatistics(self.reads + other.reads, self.failed + other.failed)


class Reads:
    """Reads of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._limit = trio.CapacityLimiter(AT_ONCE)
        self._reads = 0
        self._failed = 0
        self._trouble = ""

    async def read(self, function: Callable[..., Awaitable[T]], *values: Any) -> T:
        """What `function(connection, *values)` returns: tried until it does, whatever becomes of the
        database.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._limit, self._database.connection(within=READ_SECONDS) as connection:
                    self._reads += 1
                    result = await function(connection, *values)
            except ANY_TROUBLE as error:
                self._failed += 1
                self._say(f"{type(error).__name__}: {error}")
                await trio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE)
            else:
                self._trouble = ""
                return result

    async def once(self, function: Callable[..., Awaitable[Any]], *values: Any) -> None:
        """The same, tried once: for what is good to do and need not be done."""
        try:
            async with self._database.connection(within=READ_SECONDS) as connection:
                await function(connection, *values)
        except ANY_TROUBLE as error:
            self._say(f"{type(error).__name__}: {error}")

    def statistics(self) -> ReadStatistics:
        """What was read so far."""
        return ReadStatistics(self._reads, self._failed)

    def _say(self, trouble: str) -> None:
        """Log trouble when it begins, or becomes another."""
        if trouble != self._trouble:
            _log.warning("viewers wait, the database cannot be read: %s", trouble)
        self._trouble = trouble


class Pause:
    """A sleep that somebody may end."""

    def __init__(self) -> None:
        self._wake = trio.Event()

    def wake(self) -> None:
        """End the sleep, or the next one if nobody sleeps."""
        self._wake.set()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds, none if it should have been over before, or when woken."""
        with trio.move_on_after(max(seconds, 0.0)):
            await self._wake.wait()
        if self._wake.is_set():
            self._wake = trio.Event()
