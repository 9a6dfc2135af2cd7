"""`hotpath jobs`: a list of jobs."""

from __future__ import annotations

from datetime import datetime
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
@common
def command(
    given: Given,
    state: str | None,
    script: str | None,
    tag: str | None,
    since: datetime | None,
    limit: int,
    before: UUID | None,
) -> int:
    """List jobs, the newest first."""
    return given.run(_list, given, state, script, tag, since, limit, before)


async def _list(
    given: Given,
    state: str | None,
    script: str | None,
    tag: str | None,
    since: datetime | None,
    limit: int,
    before: UUID | None,
) -> int:
    from hotpath.cli.output import clock, job_document, print_json, print_table, span
    from hotpath.client import open_client

    rows: list[tuple[str, ...]] = []
    async with open_client(config=given.config) as client:
        while limit > 0:
            size = min(limit, 1000)
            page = await client.jobs(
                state=state, script=script, tag=tag, since=since, limit=size, before=before
            )
            for job in page:
                if given.json:
                    print_json(job_document(job))
                    continue
                said = "" if job.error is None else f"{job.error.get('name')}: {job.error.get('message')}"
                rows.append((
                    str(job.id), job.state.value, job.script, job.tag, str(job.priority), str(job.attempt),
                    clock(job.created_at), span(job.duration_ms), said,
                ))  # fmt: skip
            if len(page) < size:
                break
            limit, before = limit - size, page[-1].id
    if not given.json:
        heads = ("ID", "STATE", "SCRIPT", "TAG", "PRIORITY", "ATTEMPT", "CREATED", "DURATION", "ERROR")
        print_table(heads, rows, right=(4, 5, 7))
    return 0
