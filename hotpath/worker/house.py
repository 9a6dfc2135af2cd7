"""What any worker's keeper does for all workers of the database: take back what the dead have left, have
partitions for tomorrow, forget what ended runs of flows and viewers of logs have left. None is special;
several at once do no harm.
"""

from __future__ import annotations

import logging
import random
import time
from uuid import UUID

import attrs

from hotpath.store.complete import Connection
from hotpath.store.logs import sweep_live
from hotpath.store.looks import sweep_counts
from hotpath.store.sweep import sweep
from hotpath.store.workers import make_partitions, reap

log = logging.getLogger("hotpath.worker")

REAP_EVERY = 0.8
"""Seconds between two looks for dead workers' leases; varied by half, lest all keepers look at once."""
PARTITIONS_EVERY = 3600.0
LIVE_EVERY = 30.0
"""Seconds between two looks at what was said live of logs and is old; varied by half."""
COUNTS_EVERY = 600.0
"""Seconds between two sweeps of old counts; varied by half."""
SWEEP_EVERY = 30.0
"""Seconds between two looks at what runs of flows have left; varied by half."""
SWEEP_MORE = 2.0
"""Seconds until the next one while there are more; varied likewise."""
SWEEP_RUNS = 1_000
"""Runs of one look, most of which cost a probe or two."""
SWEEP_SECONDS = 1.0
"""Seconds that one look may take: there is other work to be done."""


def reap_pause() -> float:
    """Seconds until the next look."""
    return REAP_EVERY * random.uniform(0.5, 1.5)


@attrs.define(eq=False)
class House:
    """One keeper's part of it."""

    _partitions_at: float = attrs.field(factory=lambda: time.monotonic() + PARTITIONS_EVERY)
    """Opening the database has just made them."""
    _counts_at: float = attrs.field(
        factory=lambda: time.monotonic() + COUNTS_EVERY * random.uniform(0.1, 1.0)
    )
    _sweep_at: float = attrs.field(factory=lambda: time.monotonic() + SWEEP_EVERY * random.uniform(0.5, 1.5))
    _live_at: float = attrs.field(factory=lambda: time.monotonic() + LIVE_EVERY * random.uniform(0.5, 1.5))
    _swept: UUID | None = None
    """The last run that was looked at; None: from the beginning."""

    async def keep(self, connection: Connection) -> None:
        """Do what is due."""
        taken = await reap(connection)
        if taken:
            log.warning("%d jobs of dead workers are back in the queue", taken)
        if time.monotonic() >= self._partitions_at:
            await make_partitions(connection)
            self._partitions_at = time.monotonic() + PARTITIONS_EVERY
        if time.monotonic() >= self._live_at:
            self._live_at = time.monotonic() + LIVE_EVERY * random.uniform(0.5, 1.5)
            await sweep_live(connection)
        if time.monotonic() >= self._counts_at:
            self._counts_at = time.monotonic() + COUNTS_EVERY * random.uniform(0.5, 1.5)
            await sweep_counts(connection)
        if time.monotonic() >= self._sweep_at:
            # Whatever comes of it: one that fails is not in front of the reaping each time.
            self._sweep_at = time.monotonic() + SWEEP_EVERY * random.uniform(0.5, 1.5)
            self._swept = await sweep(connection, self._swept, SWEEP_RUNS, seconds=SWEEP_SECONDS)
            if self._swept is not None:
                self._sweep_at = time.monotonic() + SWEEP_MORE * random.uniform(0.5, 1.5)
