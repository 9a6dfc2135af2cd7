"""Retention, kept by whoever keeps house: a round an hour, soon after the rules have changed, and within a
minute where the tables take more than they may. None is special: one of them at a time does it.
"""

from __future__ import annotations

import logging
import os
import random
import socket

import attrs
import trio

from hotpath.store.complete import Connection
from hotpath.store.database import Database
from hotpath.store.prune import Pruned, prune
from hotpath.store.queries import query
from hotpath.store.trouble import ANY_TROUBLE, is_weather
from hotpath.worker.changes import Changes

log = logging.getLogger("hotpath.worker")

FIRST = 60.0
"""Seconds until the first round; varied by half, as all that follow."""
EVERY = 3600.0
DISK_EVERY = 60.0
"""Seconds between two looks at what the tables take, where the disk has a bound."""
MORE = 30.0
"""Seconds until the next round while there is more to do."""
BLOCKED = 300.0
"""The same, where it could not be done: somebody's transaction was in the way, or the database away."""
SOON = 2.0
"""Seconds from a change of what is configured to the next round."""
ROUND = 20.0
"""Seconds that a round takes away what is not kept, if there is so much."""
WITHIN = 900.0
"""Seconds after which a round has failed."""


@attrs.define(eq=False)
class Keeping:
    """One keeper's part of it."""

    database: Database
    changes: Changes
    first: float = FIRST
    _said: object = None
    """What was said of retention as it was last read."""
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.changes.heed, self.database, self._read)
            nursery.start_soon(self._rounds)

    async def _read(self, connection: Connection) -> None:
        """See whether it is retention that has changed."""
        said = [tuple(row) for row in await connection.fetch(query("retention_rules"))]
        if self._said is not None and said != self._said:
            self._changed.set()
        self._said = said

    async def _rounds(self) -> None:
        holder = f"{socket.gethostname()}:{os.getpid()}"
        due_at = trio.current_time() + self.first * random.uniform(0.5, 1.5)
        bound_at = due_at
        while True:
            with trio.move_on_at(min(due_at, bound_at)):
                await self._changed.wait()
                await trio.sleep(SOON * random.uniform(0.5, 1.5))
                due_at = -float("inf")
            self._changed = trio.Event()
            now = trio.current_time()
            bound_at = now + DISK_EVERY * random.uniform(0.5, 1.5)
            try:
                async with self.database.connection(within=WITHIN) as connection:
                    if now < due_at and not await connection.fetchval(query("prune_bound")):
                        continue
                    done = await prune(connection, holder, seconds=ROUND)
            except ANY_TROUBLE as error:
                # Of weather others tell; all else is told each time, or a disk fills and nobody knows why.
                level = logging.DEBUG if is_weather(error) else logging.WARNING
                why = str(error) or type(error).__name__
                log.log(level, "what is not kept cannot be dropped just now: %s", why)
                due_at = trio.current_time() + BLOCKED
                continue
            due_at = trio.current_time() + _pause(done) * random.uniform(0.5, 1.5)
            if done is not None and done.disk is not None and not done.disk.held:
                bound_at = due_at  # looking again each minute gives nothing back


def _pause(done: Pruned | None) -> float:
    """Seconds until the next round."""
    if done is None or not done.more:
        return EVERY
    return BLOCKED if done.is_nothing else MORE
