"""`hotpath job`: everything about one job."""

from __future__ import annotations

from uuid import UUID

import click

from hotpath.cli.options import Given, JobId, common


@click.command("job")
@click.argument("id", type=JobId())
@common
def command(given: Given, id: UUID) -> int:
    """Show the job ID: its state, times, args, and its result or error."""
    return given.run(_show, given, id)


async def _show(given: Given, job_id: UUID) -> int:
    from hotpath.cli.output import clock, job_document, pretty_json, print_json, printable, span
    from hotpath.client import open_client

    async with open_client(config=given.config) as client:
        job = await client.job(job_id)
    if given.json:
        print_json(job_document(job))
        return 0
    fields = [
        ("id", str(job.id)),
        ("script", job.script),
        ("tag", job.tag),
        ("state", job.state.value),
        ("priority", str(job.priority)),
        ("attempt", str(job.attempt)),
        ("scheduled for", clock(job.scheduled_for)),
        ("created", clock(job.created_at)),
        ("started", clock(job.started_at)),
        ("finished", clock(job.finished_at)),
        ("duration", span(job.duration_ms)),
        ("worker", job.worker or "-"),
        ("args", pretty_json(job.args)),
    ]
    if job.state == "success":
        fields.append(("result", pretty_json(job.result)))
    if job.error is not None:
        fields.append(
            ("error", f"{job.error.get('name')}: {job.error.get('message')} ({job.error.get('kind')})")
        )
    for name, text in fields:
        print(f"{name:<14} {printable(text)}")
    if job.error is not None and job.error.get("traceback"):
        print(f"\n{printable(job.error['traceback']).rstrip()}")
    return 0
