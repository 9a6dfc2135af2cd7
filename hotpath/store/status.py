"""How the queue is doing, at a cost that does not grow with it: tags, workers, rates.

Waiting jobs are counted up to 100,000 loose ones a tag (sealed ones by arithmetic); jobs/s come from the
end of `job_done`, which is appended to, so the last blocks of today's partition are the last jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs

from hotpath import asyncpg_trio
from hotpath.core.tags import parse_patterns
from hotpath.store.pauses import Pause, read_pauses
from hotpath.store.prune_said import disk_said
from hotpath.store.queries import query
from hotpath.store.stranded import Stranded, stranded

COUNT_LIMIT = 100_000
"""Up to this many waiting loose jobs of one tag and priority are counted."""
TAGS = 2_000
"""Pairs of tag and priority of loose jobs that are looked at."""
RATE_SECONDS = 10.0
STOPPED_LATELY = 3600.0
"""Seconds for which a worker that has stopped is shown."""
STRETCHES = ("15s", "5m", "30m")
"""Stretches over which occupancy is told, by the names that they have everywhere."""


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
    stranded: str | None = None
    """Why jobs that are due here will not run: `no_worker` listens, or only workers of `other_script`s do."""
    stranded_scripts: tuple[str, ...] = ()
    paused: str | None = None
    """The scripts of those jobs."""


@attrs.frozen
class WorkerStatus:
    """One worker. What it has not said, or its program does not say, is None."""

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
    """`running`, `idle`, `lost`: past its lease, its jobs go to others; or `stopped`."""
    running: int
    """Jobs that it holds."""
    jobs: int
    """Jobs it has run."""
    id: int = 0
    kind: str = "script"
    """Of the script that it is dedicated to: `script` or `flow`."""
    stopped_at: datetime | None = None
    program: str | None = None
    """Version of the program."""
    rss: int | None = None
    """Resident bytes."""
    cpu_seconds: float | None = None
    under_way: int | None = None
    """Of the jobs that it holds, those that run."""
    current_job: UUID | None = None
    """The job whose code runs; of several at a time, one that does."""
    current_since: datetime | None = None
    """When that was first seen, to a tenth of a second."""
    occupancy: dict[str, float] | None = None
    """Share of its time inside `main`, 0 to 1, over `15s`, `5m` and `30m`."""
    jobs_per_second: float | None = None
    """Over the last seconds, all its tags together."""
    deaf: bool | None = None
    """Whether nothing can wake it: it finds jobs by polling."""
    patterns: tuple[str, ...] | None = None
    """Tags that it listens to by pattern; None: those in `tags` alone."""
    version: str | None = None
    """Hash of the version that it runs, if it is dedicated to a script."""
    refused: str | None = None
    """Hash of the version that it was to run and could not."""
    refusal: str | None = None
    """Why; without a version: why it never runs another one."""


@attrs.frozen
class Status:
    """What `hotpath status` shows."""

    tags: list[TagStatus]
    workers: list[WorkerStatus]
    jobs_per_second: float
    stranded: list[Stranded]
    """Jobs that are due and that nobody will run."""
    disk: str | None = None
    """That days went for the disk's sake, or that its bound does not hold, for people."""


async def ping(connection: asyncpg_trio.Connection) -> None:
    """Have the database say something."""
    await connection.fetchval(query("clock"))


async def read_workers(
    connection: asyncpg_trio.Connection, *, stopped: float | None = STOPPED_LATELY
) -> list[WorkerStatus]:
    """Workers by name, those too that stopped no longer than `stopped` seconds ago."""
    return [worker_of(row) for row in await connection.fetch(query("status_workers"), stopped)]


async def read_tags(connection: asyncpg_trio.Connection, *, counted: int | None = None) -> dict[str, Any]:
    """By name, the rows of tags with jobs that wait or run. With `counted`, about so many loose jobs are
    counted in all.
    """
    rows = await connection.fetch(query("status_tags"), COUNT_LIMIT + 1, TAGS, counted)
    return {row["tag"]: row for row in rows}


async def read_status(connection: asyncpg_trio.Connection) -> Status:
    """Look at tags and workers now, in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        workers = await read_workers(connection, stopped=None)
        tags = await read_tags(connection)
        left = await stranded(connection)
        disk = await disk_said(connection)
        pauses = await read_pauses(connection)
        rates = {
            row["tag"]: row["rate"] for row in await connection.fetch(query("status_rates"), RATE_SECONDS)
        }
    return Status(tags_of(tags, rates, workers, left, pauses), workers, sum(rates.values()), left, disk)


def tags_of(
    tags: Mapping[str, Any],
    rates: Mapping[str, float],
    workers: Sequence[WorkerStatus],
    left: Sequence[Stranded],
    pauses: Mapping[str, Pause],
) -> list[TagStatus]:
    """Tags by name, those too that only workers listen to, or that are paused; `left`: what is stranded."""
    listeners: dict[str, int] = {}
    patterns: Counter[tuple[str, ...]] = Counter()
    for worker in workers:
        if worker.patterns is not None:
            patterns[worker.patterns] += worker.state != "lost"
        for tag in worker.tags if worker.patterns is None else ():
            listeners[tag] = listeners.get(tag, 0) + (worker.state != "lost")
    wild = [(parse_patterns(texts), count) for texts, count in patterns.items()]
    named = {text for texts in patterns for text in parse_patterns(texts).names or ()}
    why: dict[str, list[Stranded]] = {}
    for each in left:
        why.setdefault(each.tag, []).append(each)
    found = []
    for tag in sorted({*tags, *rates, *listeners, *named, *why, *pauses}, key=str):
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
                workers=listeners.get(tag, 0) + sum(count for each, count in wild if each.listens(str(tag))),
                stranded=why[tag][0].why if tag in why else None,
                stranded_scripts=tuple(each.script for each in why.get(tag, ())),
                paused=pauses[tag].text if tag in pauses else None,
            )
        )
    return found


def worker_of(row: asyncpg_trio.Record) -> WorkerStatus:
    """A row of `status_workers` as a value."""
    state = "lost" if not row["alive"] else "running" if row["running"] else "idle"
    if row["stopped_at"] is not None:
        state = "stopped"
    alive = state in ("running", "idle")
    occupied = row["occupied"] if alive else None
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
        id=row["id"],
        kind=row["kind"],
        stopped_at=row["stopped_at"],
        program=row["program"],
        rss=row["rss"] if alive else None,
        cpu_seconds=None if row["cpu_us"] is None else row["cpu_us"] / 1e6,
        under_way=row["under_way"] if alive else None,
        current_job=UUID(int=row["job"].int) if alive and row["job"] is not None else None,
        current_since=row["since"] if alive else None,
        occupancy=None if occupied is None else rounded(occupied),
        jobs_per_second=None if row["rates"] is None or not alive else round(sum(row["rates"]), 3),
        deaf=row["deaf"] if alive else None,
        patterns=None if row["patterns"] is None else tuple(row["patterns"]),
        version=row["version"],
        refused=row["refused"] if alive else None,
        refusal=row["refusal"] if alive else None,
    )


def rounded(occupied: Sequence[float]) -> dict[str, float]:
    """Occupancy by the names of its stretches."""
    return {name: round(share, 4) for name, share in zip(STRETCHES, occupied, strict=True)}
