"""`hotpath job`: everything about one job."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from hotpath.cli.options import Given, JobId, common


@click.command("job")
@click.argument("id", type=JobId())
@common
def command(given: Given, id: UUID) -> int:
    """Show the job ID: its state, times, args, its result or error, and every attempt."""
    return given.run(_show, given, id)


async def _show(given: Given, job_id: UUID) -> int:
    from hotpath.cli.output import (
        attempt_document,
        clock,
        job_document,
        pretty_json,
        print_json,
        print_table,
        printable,
        span,
    )
    from hotpath.client import open_client

    async with open_client(config=given.config) as client:
        job = await client.job(job_id)
        attempts = await client.attempts(job_id)
    if given.json:
        print_json(job_document(job) | {"attempts": [attempt_document(each) for each in attempts]})
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
        fields.append(("error", _said(job.error)))
    for name, text in fields:
        print(f"{name:<14} {printable(text)}")
    if job.error is not None and job.error.get("traceback"):
        print(f"\n{printable(job.error['traceback']).rstrip()}")
    if [each.attempt for each in attempts] not in ([], [job.attempt]):
        print()
        print_table(
            ("ATTEMPT", "STATE", "STARTED", "DURATION", "WORKER", "ERROR"),
            [
                (
                    *(str(each.attempt), each.state.value, clock(each.started_at), span(each.duration_ms)),
                    *(each.worker or "-", "-" if each.error is None else _said(each.error)),
                )
                for each in attempts
            ],
            right=(0, 3),
        )
    return 0


def _said(error: dict[str, Any]) -> str:
    return f"{error.get('name')}: {error.get('message')} ({error.get('kind')})"
