"""Has the schedules tick: any supervisor does, and `hotpath serve`. None is special; however many there are,
each tick becomes one job (`hotpath.store.ticks`).

It sleeps until the next tick of all, and is woken by a change of any schedule. Where there are none it looks
when it starts, when something is configured, and twice a minute.
"""

from __future__ import annotations

import logging
import random

import attrs
import trio

from hotpath.store.complete import Connection
from hotpath.store.database import Database
from hotpath.store.ticks import set_back, tick, until_next
from hotpath.store.trouble import ANY_TROUBLE, Trouble, trouble_of
from hotpath.words import span
from hotpath.worker.changes import Changes

log = logging.getLogger("hotpath.worker")

POLL = 30.0
"""Seconds after which it looks in any case."""
HELD = 1.0
"""The same while a tick waits for a job to end."""
APART = 0.02
"""Seconds by which those who wake for the same tick are spread: the first does it, the others find it
done.
"""
TAKEN, LONGEST_TAKEN = 0.05, 2.0
"""Seconds until the next look when what is due is in other hands; twice as many each time."""
WITHIN = 10.0
"""Seconds that one look may take."""
AGAIN, LONGEST_AGAIN = 0.5, 10.0
"""Seconds until the next try when the database is out of reach, or has a fault; varied by half."""


@attrs.define(eq=False)
class Ticker:
    """One keeper's part of it."""

    database: Database
    changes: Changes
    _news: trio.Event = attrs.field(factory=trio.Event)
    _taken: float = TAKEN
    _clock_at: float = 0.0
    """`trio.current_time()` from which on it is due to be seen whether the database's clock was set back."""

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.changes.heed, self.database, self._heard)
            while True:
                self._news = trio.Event()
                try:
                    wait = await self._look()
                except ANY_TROUBLE as error:
                    wait = self._trouble(error)
                with trio.move_on_after(wait):
                    await self._news.wait()

    def _trouble(self, error: BaseException) -> float:
        """Seconds until the next try. Of weather others tell; a fault of ours is told each time."""
        self._clock_at = 0.0  # another server may lead, with another clock
        if trouble_of(error) is Trouble.BUG:
            log.warning("the schedules cannot tick: %s", error)
            return LONGEST_AGAIN * random.uniform(0.5, 1.5)
        log.debug("the schedules cannot tick just now: %s", error)
        return AGAIN * random.uniform(0.5, 1.5)

    async def _heard(self, _connection: Connection) -> None:
        self._news.set()

    async def _look(self) -> float:
        """Do what is due; returns the seconds until something may be due again."""
        async with self.database.connection(within=WITHIN) as connection:
            if trio.current_time() >= self._clock_at:
                await self._see_clock(connection)
            seconds, holds = await until_next(connection)
            if holds or (seconds is not None and seconds <= 0):
                ticked = await tick(connection)
                if ticked.done:
                    self._taken = TAKEN
                    return 0.0
                if ticked.seen:
                    self._taken = min(self._taken * 2, LONGEST_TAKEN)
                    return self._taken * random.uniform(0.5, 1.0)
        wait = POLL if seconds is None else min(max(seconds, 0.001), POLL) + random.uniform(0, APART)
        return min(wait, HELD) if holds else wait

    async def _see_clock(self, connection: Connection) -> None:
        """Have schedules go on that a clock has moved on that was ahead: they would wait for its time."""
        found = await set_back(connection)
        self._clock_at = trio.current_time() + POLL
        if found.done:
            log.warning(
                "the database's clock was ahead by %s and has been set back, or another server leads: %d "
                "schedules go on from now; what they made ahead is not made again",
                span(found.ahead * 1000),
                found.done,
            )
