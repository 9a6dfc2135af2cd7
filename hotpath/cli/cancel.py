"""`hotpath cancel`: take back jobs that wait, end those that run."""

from __future__ import annotations

from uuid import UUID

import click

from hotpath.cli.each import each
from hotpath.cli.options import Given, JobId, common


@click.command("cancel")
@click.argument("ids", type=JobId(), nargs=-1, required=True, metavar="ID...")
@common
def command(given: Given, ids: tuple[UUID, ...]) -> int:
    """Cancel the jobs with these IDs: those that wait at once; whoever runs one is asked to end it now.
    Of a flow's run, the jobs below it too.

    Exits 1 if any was done already, or is unknown.
    """
    return given.run(_cancel, given, ids)


async def _cancel(given: Given, ids: tuple[UUID, ...]) -> int:
    return await each(
        given,
        ids,
        lambda client, job_id: client.cancel(job_id),
        key="canceled",
        done=lambda state: "canceled" if state == "canceled" else "asked to stop",
        refused=_why,
    )


def _why(state: str) -> str:
    if state in ("queued", "running"):
        return "was on its way to or from a worker; try again"
    return f"has ended already ({state})"
