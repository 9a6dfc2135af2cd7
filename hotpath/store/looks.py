"""What a page, a program or Prometheus wants to know at once, at a cost that does not grow with the history.

Nothing here counts rows of `job_done`: what ended is counted by the workers, and said with their heartbeat
(`worker/facts.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import attrs

from hotpath import asyncpg_trio
from hotpath.model import Ended
from hotpath.store.pauses import read_pauses
from hotpath.store.queries import query
from hotpath.store.scaling import GroupGauge, read_group_gauges
from hotpath.store.status import (
    STRETCHES,
    TagStatus,
    WorkerStatus,
    read_tags,
    read_workers,
    tags_of,
    worker_of,
)
from hotpath.store.stranded import Stranded, stranded

MINUTES = 60
"""Minutes of the series."""
PAIRS = 1_000
"""Pairs of script and tag that are told, those that were counted last."""
COUNTED = 100_000
"""Waiting loose jobs that are counted, of all tags together; of a tag and priority at least a thousand."""
KEEP_DAYS, KEEP_ROWS = 14, 1_000_000
"""Of counts by minute, what is kept: so many days, and no more rows than that."""


@attrs.frozen(kw_only=True)
class Overview:
    """How the queue is doing."""

    now: datetime
    """By the database's clock."""
    jobs_per_second: float
    """Over the last seconds, as the live workers told it."""
    tags: list[TagStatus]
    workers: list[WorkerStatus]
    """Those that have not stopped."""
    minutes: list[datetime]
    """When each minute of the last hour began; the last one is under way."""
    ended: list[Ended]
    """How jobs ended in each of them."""
    by_tag: dict[str, Ended]
    """How they ended in all of them, by tag."""
    occupancy: dict[str, float | None]
    """Share of the live workers' time inside `main`, 0 to 1, over `15s`, `5m` and `30m`; None: nobody says.
    """
    stranded: list[Stranded]
    """Jobs that are due and that nobody will run."""

    @property
    def alive(self) -> int:
        """Workers that live."""
        return sum(worker.state != "lost" for worker in self.workers)

    @property
    def lost(self) -> int:
        """Workers that are past their lease, and were not told to have ended."""
        return len(self.workers) - self.alive

    @property
    def running(self) -> int:
        """Jobs that workers hold."""
        return sum(worker.running for worker in self.workers)


async def read_overview(connection: asyncpg_trio.Connection) -> Overview:
    """Look at everything now, in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = await connection.fetch(query("status_workers"), None)
        tags = await read_tags(connection, counted=COUNTED)
        left = await stranded(connection)
        pauses = await read_pauses(connection)
        sums = await connection.fetch(query("overview_minutes"), MINUTES - 1)
        now = await _now(connection)
    workers = [worker_of(row) for row in rows]
    rates: dict[str, float] = {}
    for row in rows:
        if row["alive"] and row["rates"] is not None:
            for tag, rate in zip(row["tags"], row["rates"], strict=False):
                rates[tag] = rates.get(tag, 0.0) + rate
    rates = {tag: round(rate, 3) for tag, rate in rates.items() if tag}
    last = now.replace(second=0, microsecond=0)
    minutes = [last - timedelta(minutes=ago) for ago in range(MINUTES - 1, -1, -1)]
    found = {row["minute"]: _ended(row) for row in sums if row["minute"] is not None}
    return Overview(
        now=now,
        jobs_per_second=round(sum(rates.values()), 3),
        tags=tags_of(tags, rates, workers, left, pauses),
        stranded=left,
        workers=workers,
        minutes=minutes,
        ended=[found.get(minute, Ended()) for minute in minutes],
        by_tag={row["tag"]: _ended(row) for row in sums if row["minute"] is None},
        occupancy=occupancy_of(workers),
    )


def occupancy_of(workers: Sequence[WorkerStatus]) -> dict[str, float | None]:
    """The mean over workers, of those that say it."""
    said = [worker.occupancy for worker in workers if worker.occupancy is not None]
    if not said:
        return dict.fromkeys(STRETCHES)
    return {name: round(sum(each[name] for each in said) / len(said), 4) for name in STRETCHES}


async def _now(connection: asyncpg_trio.Connection) -> datetime:
    microseconds: int = await connection.fetchval(query("clock"))
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def _ended(row: asyncpg_trio.Record) -> Ended:
    return Ended(row["success"], row["failure"], row["canceled"], row["busy_us"] / 1000)


@attrs.frozen
class Total:
    """What was counted of one script in one tag from the beginning."""

    script: str
    tag: str
    counts: list[int]
    """As in `core/tally.py`; of an older program's, the last ones may be missing."""


@attrs.frozen
class Gauges:
    """What a scrape tells."""

    now: datetime
    """By the database's clock."""
    tags: list[TagStatus]
    workers: list[WorkerStatus]
    totals: list[Total]
    groups: list[GroupGauge]


async def read_gauges(connection: asyncpg_trio.Connection) -> Gauges:
    """Tags, workers and totals now, in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        workers = await read_workers(connection, stopped=None)
        tags = await read_tags(connection, counted=COUNTED)
        left = await stranded(connection)
        pauses = await read_pauses(connection)
        rows = await connection.fetch(query("totals"), PAIRS)
        groups = await read_group_gauges(connection)
        now = await _now(connection)
    totals = [Total(row["script"], row["tag"] or "", list(row["counts"])) for row in rows]
    return Gauges(now, tags_of(tags, {}, workers, left, pauses), workers, totals, groups)


async def sweep_counts(connection: asyncpg_trio.Connection) -> int:
    """Drop counts that are too old or too many, some thousands at a time; return how many rows."""
    gone: int = await connection.fetchval(query("sweep_counts"), KEEP_DAYS, KEEP_ROWS)
    return gone
