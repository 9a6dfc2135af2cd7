"""`hotpath retry`: run jobs that have ended once more."""

from __future__ import annotations

from uuid import UUID

import click

from hotpath.cli.each import each
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
    return await each(
        given,
        ids,
        lambda client, job_id: client.retry(job_id),
        key="retried",
        done=lambda _state: "queued again",
        refused=_why,
    )


def _why(state: str) -> str:
    if state in ("queued", "running"):
        return f"has not ended ({state}): there is nothing to retry yet"
    return f"ended just now ({state}); try again"
