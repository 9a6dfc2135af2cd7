"""`hotpath retry`: run jobs that have ended once more."""

from __future__ import annotations

import sys
from uuid import UUID

import click

from hotpath.cli.options import Given, JobId, common


@click.command("retry")
@click.argument("ids", type=JobId(), nargs=-1, required=True, metavar="ID...")
@common
def command(given: Given, ids: tuple[UUID, ...]) -> int:
    """Run the jobs with these IDs once more, under the same ids and with the same args.

    How a job ended before stays as an earlier attempt: see `hotpath job ID`. Exits 1 if any has not ended, or
    is unknown; the others are retried all the same.
    """
    return given.run(_retry, given, ids)


async def _retry(given: Given, ids: tuple[UUID, ...]) -> int:
    from hotpath.cli.output import print_json
    from hotpath.client import open_client
    from hotpath.errors import UnknownJobError

    refused = 0
    async with open_client(config=given.config) as client:
        for job_id in ids:
            try:
                retried = await client.retry(job_id)
                state = (await client.job(job_id)).state.value
            except UnknownJobError:
                retried, state = False, "unknown"
            refused += not retried
            if given.json:
                print_json({"id": job_id, "retried": retried, "state": state})
            elif retried:
                print(f"{job_id} queued again")
            else:
                print(f"hotpath: {job_id} {_why(state)}", file=sys.stderr)
    return 1 if refused else 0


def _why(state: str) -> str:
    if state == "unknown":
        return "is not the id of a job in this database; see `hotpath jobs`"
    if state in ("queued", "running"):
        return f"has not ended ({state}): there is nothing to retry yet"
    return f"ended just now ({state}); try again"
