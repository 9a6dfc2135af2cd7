"""`hotpath status`: how the queue is doing."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from hotpath.cli.options import Given, common

ALARMS = 20
"""Lines of what is stranded: there may be thousands of such tags."""


@click.command("status")
@common
def command(given: Given) -> int:
    """Show each tag (jobs that wait and run, the oldest that is due, jobs/s) and each worker.

    What is due in a tag and nobody will run is STRANDED: that comes first, with what to do.
    """
    return given.run(_show, given)


async def _show(given: Given) -> int:
    from hotpath.cli.output import print_alarm, print_json, print_table
    from hotpath.client import open_client
    from hotpath.documents import age, status_document
    from hotpath.words import clock, span

    async with open_client(config=given.config) as client:
        status = await client.status()
    now = datetime.now(UTC)
    if given.json:
        print_json(status_document(status, now))
        return 0
    for each in status.stranded[:ALARMS]:
        print_alarm(f"STRANDED for {span(age(each.oldest, now))}: {each.text}")
    if more := status.stranded[ALARMS:]:
        print_alarm(f"STRANDED: and {len(more):,} more; `hotpath status --json` has all that were looked at")
    if status.disk is not None:
        print_alarm(f"DISK: {status.disk}")
    paused = [f"{tag.tag}: {tag.paused}" for tag in status.tags if tag.paused]
    for text in paused:
        print_alarm(text)
    if status.stranded or status.disk is not None or paused:
        print()
    print_table(
        ("TAG", "WAITING", "RUNNING", "OLDEST DUE", "JOBS/S", "WORKERS", ""),
        [
            (
                tag.tag,
                f"{tag.waiting:,}{'+' if tag.more_waiting else ''}",
                f"{tag.running:,}",
                span(age(tag.oldest_due, now)),
                f"{tag.jobs_per_second:,.1f}",
                str(tag.workers),
                "PAUSED" if tag.paused else "STRANDED" if tag.stranded else "",
            )
            for tag in status.tags
        ],
        right=(1, 2, 3, 4, 5),
    )
    print()
    print_table(
        (
            "WORKER",
            "GROUP",
            "SCRIPT",
            "STATE",
            "RUNNING",
            "JOBS",
            "BUSY",
            "PID",
            "STARTED",
            "LAST PING",
            "PROGRAM",
            "VERSION",
        ),
        [
            (
                worker.name,
                worker.group or "-",
                worker.script or "-",
                worker.state,
                str(worker.running),
                f"{worker.jobs:,}",
                "-" if worker.occupancy is None else f"{worker.occupancy['15s']:.0%}",
                str(worker.pid),
                clock(worker.started_at),
                f"{span(age(worker.last_ping, now))} ago",
                worker.program or "-",
                (worker.version or "-")[:12],
            )
            for worker in status.workers
        ],
        right=(4, 5, 6, 7, 9),
    )
    refused = [worker for worker in status.workers if worker.refused is not None]
    if refused:
        print()
    for worker in refused:
        print_alarm(
            f"worker {worker.name} keeps version {(worker.version or '-')[:12]} of {worker.script}: version "
            f"{(worker.refused or '')[:12]} cannot be run: {worker.refusal}"
        )
    return 0
