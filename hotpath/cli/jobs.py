"""`hotpath jobs`: a list of jobs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from hotpath.cli.options import Given, JobId, Since, common

STATES = ("queued", "running", "success", "failure", "canceled")


@click.command("jobs")
@click.option("--state", "-s", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--script", metavar="NAME", help="Only jobs of this script.")
@click.option("--tag", "-t", metavar="T", help="Only jobs of this tag.")
@click.option("--since", type=Since(), help="Only jobs made since then: a time, or 90s, 10m, 2h, 7d.")
@click.option("--limit", "-n", type=click.IntRange(1), default=50, metavar="N", help="How many. [50]")
@click.option("--before", type=JobId(), help="The next page: jobs made before this one.")
@click.option("--schedule", metavar="NAME", help="Only what this schedule has put in, its last ticks first.")
@click.option("--steps", is_flag=True, help="Steps of flows' runs too, which are jobs of their own.")
@click.option("--parent", type=JobId(), metavar="RUN", help="Only this run's steps, the last begun first.")
@common
def command(given: Given, *, limit: int, before: UUID | None, **asked: Any) -> int:
    """List jobs, the newest first."""
    others = [name for name, value in (*asked.items(), ("before", before)) if value and name != "schedule"]
    if asked["schedule"] is not None and others:
        raise click.UsageError(f"--schedule goes with --limit alone; leave out --{others[0]}")
    return given.run(_list, given, limit, before, asked)


async def _list(given: Given, limit: int, before: UUID | None, asked: dict[str, Any]) -> int:
    from hotpath.cli.output import print_json, print_table
    from hotpath.client import open_client
    from hotpath.documents import job_document
    from hotpath.words import clock, span

    shows_steps = asked["steps"] or asked["parent"] is not None
    schedule = asked.pop("schedule")
    rows: list[tuple[str, ...]] = []
    async with open_client(config=given.config) as client:
        while limit > 0:
            size = min(limit, 1000)
            if schedule is not None:
                page = await client.schedule_jobs(schedule, limit)
                size = len(page) + 1  # that is all
            else:
                page = await client.jobs(**asked, limit=size, before=before)
            for job in await client.masked(page):
                if given.json:
                    print_json(job_document(job))
                    continue
                said = "" if job.error is None else f"{job.error.get('name')}: {job.error.get('message')}"
                step = (job.step or "",) if shows_steps else ()
                rows.append((
                    str(job.id), job.state.value, *step, job.script, job.tag, str(job.priority),
                    str(job.attempt), clock(job.created_at), span(job.duration_ms), said,
                ))  # fmt: skip
            if len(page) < size:
                break
            limit, before = limit - size, page[-1].id
    if not given.json:
        step = ("STEP",) if shows_steps else ()
        heads = ("ID", "STATE", *step, "SCRIPT", "TAG", "PRIORITY", "ATTEMPT", "CREATED", "DURATION", "ERROR")
        print_table(heads, rows, right=[k + len(step) for k in (4, 5, 7)])
    return 0
