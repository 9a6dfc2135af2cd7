"""How the queue is doing, at a cost that does not grow with it: tags, workers, rates.

Waiting jobs are counted up to 100,000 loose ones a tag (sealed ones by arithmetic); jobs/s come from the
end of `job_done`, which is appended to, so the last blocks of today's partition are the last jobs.
"""

from __future__ import annotations

from datetime import datetime

import attrs

from hotpath import asyncpg_trio
from hotpath.store.queries import query

COUNT_LIMIT = 100_000
"""Up to this many waiting loose jobs of one tag and priority are counted."""
RATE_SECONDS = 10.0


@attrs.frozen
class TagStatus:
    """One tag with jobs, or with a worker that listens to it."""

    tag: str
    waiting: int
    """Jobs that wait, later ones included."""
    more_waiting: bool
    """Whether the count stopped before the end."""
    running: int
    oldest_due: datetime | None
    """Time since when the oldest job that may run now has been due."""
    jobs_per_second: float
    workers: int
    """Live workers that listen to it."""


@attrs.frozen
class WorkerStatus:
    """One worker that has not stopped."""

    name: str
    group: str | None
    script: str | None
    tags: list[str]
    host: str
    pid: int
    concurrency: int
    started_at: datetime
    last_ping: datetime
    state: str
    """`running`, `idle`, or `lost`: past its lease, its jobs go to others."""
    running: int
    jobs: int


@attrs.frozen
class Status:
    """What `hotpath status` shows."""

    tags: list[TagStatus]
    workers: list[WorkerStatus]
    jobs_per_second: float


async def ping(connection: asyncpg_trio.Connection) -> None:
    """Have the database say something."""
    await connection.fetchval(query("clock"))


async def read_status(connection: asyncpg_trio.Connection) -> Status:
    """Look at tags and workers now, in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        workers = [_worker(row) for row in await connection.fetch(query("status_workers"))]
        tags = {row["tag"]: row for row in await connection.fetch(query("status_tags"), COUNT_LIMIT + 1)}
        rates = {
            row["tag"]: row["rate"] for row in await connection.fetch(query("status_rates"), RATE_SECONDS)
        }
    listeners: dict[str, int] = {}
    for worker in workers:
        for tag in worker.tags:
            listeners[tag] = listeners.get(tag, 0) + (worker.state != "lost")
    found = []
    for tag in sorted({*tags, *rates, *listeners}, key=str):
        row = tags.get(tag)
        waiting = row["waiting"] if row else 0
        found.append(
            TagStatus(
                tag=tag,
                waiting=waiting,
                more_waiting=bool(row and row["cut"]),
                running=row["running"] if row else 0,
                oldest_due=row["oldest"] if row else None,
                jobs_per_second=rates.get(tag, 0.0),
                workers=listeners.get(tag, 0),
            )
        )
    return Status(found, workers, sum(rates.values()))


def _worker(row: asyncpg_trio.Record) -> WorkerStatus:
    state = "lost" if not row["alive"] else "running" if row["running"] else "idle"
    return WorkerStatus(
        name=row["name"],
        group=row["worker_group"],
        script=row["script"],
        tags=[tag for tag in row["tags"] if tag],
        host=row["host"],
        pid=row["pid"],
        concurrency=row["concurrency"],
        started_at=row["started_at"],
        last_ping=row["last_ping"],
        state=state,
        running=row["running"],
        jobs=row["jobs"],
    )
