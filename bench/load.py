"""Fill the queue: loose jobs and backlogs made on the server, sealed batches through the library."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import hotpath
from bench.context import WORKSPACE, connect

LOOSE = """
insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args)
select hotpath.uuid7(), now() + $4::interval, s.tag, s.id, s.priority, json_build_object('n', g)
from generate_series($2::int, $2::int + $3::int - 1) g
cross join (select * from hotpath.script where name = $1) s
"""
# History as a drain leaves it: ids in order, every column set. `done_at` is now: one partition, the hot one.
DONE = """
insert into hotpath.job_done (id, started_at, duration_us, scheduled_for, tag, script, worker, priority,
    attempt, state, args, result)
select hotpath.uuid7(), now(), 1, now(), s.tag, s.id, 0, s.priority,
    1, 1, json_build_object('n', g), to_json(g)
from generate_series(1, $2::int) g cross join (select * from hotpath.script where name = $1) s
"""
_TABLES = ("job_queue", "batch", "job_done", "lease")


async def load_loose(url: str, script: str, jobs: int, *, first: int = 0, later: float = 0.0) -> None:
    """Insert `jobs` loose jobs with `n` from `first` on, due `later` seconds from now (may be negative)."""
    async with connect(url) as connection:
        await connection.execute(LOOSE, script, first, jobs, timedelta(seconds=later))
    await settle(url)


async def load_done(url: str, script: str, jobs: int) -> None:
    """Insert `jobs` rows of history."""
    async with connect(url) as connection:
        await connection.execute(DONE, script, jobs)
    await settle(url)


async def load_sealed(url: str, script: str, jobs: int, **args: Any) -> None:
    """Enqueue `jobs` jobs in sealed batches, as a user would."""
    async with hotpath.open_client(url, workspace=WORKSPACE) as client:
        await client.enqueue_many(script, ({"n": n, **args} for n in range(jobs)))
    await settle(url)


async def settle(url: str) -> None:
    """Leave nothing to be done from the load: statistics, visibility, dirty pages, full-page images."""
    async with connect(url) as connection:
        for table in _TABLES:
            await connection.execute(f"vacuum (analyze) hotpath.{table}")
        await connection.execute("checkpoint")
