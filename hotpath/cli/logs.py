"""`hotpath logs`: what a job printed and logged."""

from __future__ import annotations

import sys
from uuid import UUID

import click

from hotpath.cli.options import Given, JobId, common


@click.command("logs")
@click.argument("id", type=JobId())
@common
def command(given: Given, id: UUID) -> int:
    """Print what the job ID printed and logged. With --json: one document an attempt."""
    return given.run(_print, given, id)


async def _print(given: Given, job_id: UUID) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client
    from hotpath.store.jobs import get_log

    async with open_client(config=given.config) as client:
        async with client.database.connection() as connection:
            chunks = await get_log(connection, job_id)
        if not chunks:
            await client.job(job_id)  # an unknown one is an error, a silent one is not
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
