"""`hotpath retry`: run jobs that have ended once more."""

from __future__ import annotations

from uuid import UUID

import click

from hotpath.cli.each import each
from hotpath.cli.options import Given, JobId, common


@click.command("retry")
@click.argument("ids", type=JobId(), nargs=-1, required=True, metavar="ID...")
@click.option(
    "--from",
    "from_step",
    metavar="STEP",
    help="Of one run of a flow: from this step on, such as c or l[3]/b; what ended before counts as it is.",
)
@common
def command(given: Given, ids: tuple[UUID, ...], from_step: str | None) -> int:
    """Run the jobs with these IDs once more, under the same ids and with the same args.

    How a job ended before stays as an earlier attempt: see `hotpath job ID`. A flow's run begins anew, or
    from a step. Exits 1 if any has not ended, or is unknown; the others are retried all the same.
    """
    if from_step is not None and len(ids) > 1:
        raise click.UsageError(f"--from takes one run, not {len(ids)}")
    return given.run(_retry, given, ids, from_step)


async def _retry(given: Given, ids: tuple[UUID, ...], from_step: str | None) -> int:
    return await each(
        given,
        ids,
        lambda client, job_id: client.retry(job_id, from_step=from_step),
        key="retried",
        done=lambda _state: "queued again" if from_step is None else f"queued again from step {from_step}",
        refused=_why,
    )


def _why(state: str) -> str:
    if state in ("queued", "running"):
        return f"has not ended ({state}): there is nothing to retry yet"
    return f"ended just now ({state}); try again"
