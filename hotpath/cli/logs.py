"""`hotpath logs`: what a job printed and logged."""

from __future__ import annotations

import sys
from uuid import UUID

import click

from hotpath.cli.options import Given, JobId, common


@click.command("logs")
@click.argument("id", type=JobId())
@click.option("--attempt", type=click.IntRange(0), metavar="N", help="Only what its N-th attempt printed.")
@common
def command(given: Given, id: UUID, attempt: int | None) -> int:
    """Print what the job ID printed and logged. With --json: one document an attempt."""
    return given.run(_print, given, id, attempt)


async def _print(given: Given, job_id: UUID, only: int | None) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client
    from hotpath.errors import UsageError
    from hotpath.store.jobs import get_log

    async with open_client(config=given.config) as client:
        async with client.database.connection() as connection:
            chunks = await get_log(connection, job_id)
        # An unknown job is an error, a silent one is not; nor is a silent attempt, if there was one.
        job = await client.job(job_id) if only is not None or not chunks else None
    if only is not None and job is not None:
        if only > job.attempt:
            raise UsageError(f"--attempt: job {job_id} has had {job.attempt} attempts, not {only}")
        chunks = [chunk for chunk in chunks if chunk[0] == only]
    attempts: dict[int, str] = {}
    for attempt, text in chunks:
        attempts[attempt] = attempts.get(attempt, "") + text
    for attempt, text in attempts.items():
        if given.json:
            print_json({"id": job_id, "attempt": attempt, "log": text})
            continue
        if len(attempts) > 1:
            print(f"--- attempt {attempt} ---")
        sys.stdout.write(printable(text))
        if not text.endswith("\n"):
            sys.stdout.write("\n")
    return 0
