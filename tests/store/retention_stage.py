"""Days gone by, with what is stored of them: what tests of retention stand on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from store_stage import ANYTHING, Stage

from hotpath.model import Description, Settings
from hotpath.store import scripts

PARENTS = ("job_attempt", "job_done", "job_log")


def today() -> datetime:
    """The day that partitions begin with: UTC."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def name(parent: str, back: int) -> str:
    """Name of the partition of so many days ago."""
    return f"{parent}_{today() - timedelta(days=back):%Y%m%d}"


async def add_days(stage: Stage, *backs: int) -> None:
    """Partitions of days gone by, as make_partitions left them then."""
    for back in backs:
        day = today() - timedelta(days=back)
        for parent in PARENTS:
            await stage.connection.execute(
                f"create table hotpath.{name(parent, back)} partition of hotpath.{parent} "
                f"for values from ('{day.isoformat()}') to ('{(day + timedelta(days=1)).isoformat()}')"
            )


async def add_script(stage: Stage, path: str, settings: Settings | None = None) -> int:
    """A script that is as old as the world."""
    description = Description(
        path=path, hash="1" * 64, is_async=False, schema=ANYTHING, settings=settings or Settings()
    )
    version = await scripts.register_version(stage.connection, description)
    await age_scripts(stage)
    return version.script


async def age_scripts(stage: Stage) -> None:
    """Scripts that have been there for long."""
    await stage.connection.execute("update hotpath.script set created_at = now() - interval '10 years'")


async def add_jobs(
    stage: Stage, back: int, count: int = 3, *, script: int | None = None, log: str | None = None, **more: Any
) -> list[UUID]:
    """Jobs that ended so many days ago, each tried twice: their ids."""
    ended = today() - timedelta(days=back) + timedelta(hours=12)
    number = stage.script if script is None else script
    ids = []
    for k in range(count):
        fresh = await stage.connection.fetchval("select hotpath.uuid7()")
        milliseconds = int((ended.timestamp() - 5) * 1000)
        job = UUID(int=(milliseconds << 80) | (fresh.int & ((1 << 80) - 1)))
        values = {"args": json.dumps({"x": k}), "result": "[1]", "state": 1, "parent": None} | more
        await stage.connection.execute(
            "insert into hotpath.job_done (id, done_at, started_at, duration_us, scheduled_for, tag, script, "
            "priority, attempt, state, args, result, parent, step) "
            "values ($1, $2, $2, 5, $2, $3, $4, 0, 2, $5, $6, $7, $8, $9)",
            job, ended, stage.tag, number, values["state"], values["args"], values["result"],
            values["parent"], "a" if values["parent"] else None,
        )  # fmt: skip
        await stage.connection.execute(
            "insert into hotpath.job_attempt (id, done_at, attempt, state) values ($1, $2, 1, 2)", job, ended
        )
        if log is not None:
            await stage.connection.execute(
                "insert into hotpath.job_log (id, done_at, attempt, text) values ($1, $2, 2, $3)",
                job, ended, log,
            )  # fmt: skip
        ids.append(job)
    return ids


async def attached(stage: Stage, parent: str) -> list[str]:
    """Names of the partitions of days that are over and are attached."""
    rows = await stage.connection.fetch(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid "
        "where i.inhparent = $1::text::regclass and c.relname < $2 order by 1",
        f"hotpath.{parent}",
        name(parent, 0),
    )
    return [row[0] for row in rows]
