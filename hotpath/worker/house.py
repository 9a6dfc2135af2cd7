"""What any worker's keeper does for all workers of the database: take back what the dead have left, have
partitions for tomorrow, forget what ended runs of flows and viewers of logs have left. None is special;
several at once do no harm.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import attrs
import trio

from hotpath.store.complete import Connection
from hotpath.store.database import Database
from hotpath.store.expiry import expire, sweep_unique
from hotpath.store.history import keep_history_small, look_at_queues
from hotpath.store.logs import sweep_live
from hotpath.store.looks import sweep_counts
from hotpath.store.records import end_silent_asides, silent_asides
from hotpath.store.scaling import look_at_all
from hotpath.store.sweep import sweep
from hotpath.store.ticks import sweep_ticks
from hotpath.store.trouble import ANY_TROUBLE, Trouble, trouble_of
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
LOOK_AFTER = (0.5, 3.0)
"""Seconds after a minute has begun in which the queues are looked at."""
ASIDES_EVERY = 10.0
"""Seconds between two looks at what runs beside the work and is not heard of; varied by half."""
ASIDE_SILENT = 20.0
"""Seconds without a word, and by two looks the same last word: after the database was away for so long, those
that run come to word before one is ended."""
GROUPS_EVERY = 15.0
"""Seconds between two looks at groups that are scaled; varied by half."""
WITHIN = 30.0
"""Seconds that one round may take."""


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
    look_at: float = attrs.field(factory=lambda: time.monotonic() + random.uniform(*LOOK_AFTER))
    _groups_at: float = 0.0
    _asides_at: float = attrs.field(
        factory=lambda: time.monotonic() + ASIDES_EVERY * random.uniform(0.5, 1.5)
    )
    _silent: dict[UUID, datetime] = attrs.field(factory=dict)
    """What was not heard of at the last look, and when it had been last."""
    _swept: UUID | None = None
    """The last run that was looked at; None: from the beginning."""

    async def keep(self, connection: Connection) -> None:
        """Do what is due. What the server refuses of one duty keeps none of the others from being done, and
        is raised at the end; weather ends the round.
        """
        refused: BaseException | None = None
        for duty in (
            self._reap, expire, self._partitions, self._live, self._counts, self._look, self._groups,
            self._asides, self._runs,
        ):  # fmt: skip
            try:
                await duty(connection)
            except ANY_TROUBLE as error:
                if trouble_of(error) is Trouble.WEATHER or connection.is_closed():
                    raise
                refused = refused or error
        if refused is not None:
            raise refused

    async def _reap(self, connection: Connection) -> None:
        taken = await reap(connection)
        if taken:
            log.warning("%d jobs of dead workers are back in the queue", taken)

    async def _partitions(self, connection: Connection) -> None:
        if time.monotonic() >= self._partitions_at:
            await make_partitions(connection)
            self._partitions_at = time.monotonic() + PARTITIONS_EVERY

    async def _live(self, connection: Connection) -> None:
        if time.monotonic() >= self._live_at:
            self._live_at = time.monotonic() + LIVE_EVERY * random.uniform(0.5, 1.5)
            await sweep_live(connection)

    async def _counts(self, connection: Connection) -> None:
        if time.monotonic() >= self._counts_at:
            self._counts_at = time.monotonic() + COUNTS_EVERY * random.uniform(0.5, 1.5)
            await sweep_counts(connection)
            await sweep_unique(connection)
            await sweep_ticks(connection)
            await keep_history_small(connection)

    async def _look(self, connection: Connection) -> None:
        if time.monotonic() >= self.look_at:
            self.look_at = time.monotonic() + LIVE_EVERY
            left = await look_at_queues(connection)
            self.look_at = time.monotonic() + left + random.uniform(*LOOK_AFTER)

    async def _groups(self, connection: Connection) -> None:
        if time.monotonic() >= self._groups_at:
            self._groups_at = time.monotonic() + GROUPS_EVERY * random.uniform(0.5, 1.5)
            await look_at_all(connection)

    async def _asides(self, connection: Connection) -> None:
        if time.monotonic() >= self._asides_at:
            self._asides_at = time.monotonic() + ASIDES_EVERY * random.uniform(0.5, 1.5)
            before, self._silent = self._silent, await silent_asides(connection, ASIDE_SILENT)
            lost = {job: at for job, at in self._silent.items() if before.get(job) == at}
            if lost and (ended := await end_silent_asides(connection, lost)):
                log.warning("%d scripts of groups are not heard of any more, and have ended", ended)

    async def _runs(self, connection: Connection) -> None:
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + SWEEP_EVERY * random.uniform(0.5, 1.5)
            self._swept = await sweep(connection, self._swept, SWEEP_RUNS, seconds=SWEEP_SECONDS)
            if self._swept is not None:
                self._sweep_at = time.monotonic() + SWEEP_MORE * random.uniform(0.5, 1.5)


async def keep_house(database: Database, trouble: Callable[[BaseException], object]) -> None:
    """Do what is due again and again, until cancelled; `trouble` hears why it cannot be done now."""
    house = House()
    while True:
        await trio.sleep(reap_pause())
        try:
            async with database.connection(within=WITHIN) as connection:
                await house.keep(connection)
        except ANY_TROUBLE as error:
            trouble(error)
