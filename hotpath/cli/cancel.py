"""`hotpath cancel`: take back jobs that wait, end those that run."""

from __future__ import annotations

import sys
from uuid import UUID

import click

from hotpath.cli.options import Given, JobId, common


@click.command("cancel")
@click.argument("ids", type=JobId(), nargs=-1, required=True, metavar="ID...")
@common
def command(given: Given, ids: tuple[UUID, ...]) -> int:
    """Cancel the jobs with these IDs: those that wait at once; whoever runs one is asked to end it now.

    Exits 1 if any was done already, or is unknown.
    """
    return given.run(_cancel, given, ids)


async def _cancel(given: Given, ids: tuple[UUID, ...]) -> int:
    from hotpath.cli.output import print_json
    from hotpath.client import open_client
    from hotpath.errors import UnknownJobError

    refused = 0
    async with open_client(config=given.config) as client:
        for job_id in ids:
            try:
                canceled = await client.cancel(job_id)
                state = (await client.job(job_id)).state.value
            except UnknownJobError:
                canceled, state = False, "unknown"
            refused += not canceled
            if given.json:
                print_json({"id": job_id, "canceled": canceled, "state": state})
            elif canceled:
                print(f"{job_id} {'canceled' if state == 'canceled' else 'asked to stop'}")
            else:
                print(f"hotpath: {job_id} {_why(state)}", file=sys.stderr)
    return 1 if refused else 0


def _why(state: str) -> str:
    if state == "unknown":
        return "is not the id of a job in this database; see `hotpath jobs`"
    if state in ("queued", "running"):
        return "was on its way to or from a worker; try again"
    return f"has ended already ({state})"
