"""`hotpath job`: everything about one job; of a flow's run, its steps and what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from hotpath.cli.options import Given, JobId, common

if TYPE_CHECKING:
    from hotpath.core.flow.model import Flow
    from hotpath.core.flow.tree import StepRow
    from hotpath.model import Attempt, Job
    from hotpath.store.flows import RunStep, Wait

STEPS = 100_000
"""Steps of a run that are read."""
_SHOWN = 10  # waits that are told one by one
_NOT_KEPT = "not kept any more (see `hotpath retention show`)"
_FAR = timedelta(days=50 * 365)  # a run that waits for somebody is due after the end of everything


@click.command("job")
@click.argument("id", type=JobId())
@common
def command(given: Given, id: UUID) -> int:
    """Show the job ID: its state, times, args, its result or error, and every attempt.

    Of a flow's run, also the tree of its steps, and what it waits for.
    """
    return given.run(_show, given, id)


async def _show(given: Given, job_id: UUID) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client
    from hotpath.documents import (
        attempt_document,
        job_document,
        step_document,
        utc,
        wait_document,
        waiting_document,
    )
    from hotpath.words import wait_text

    steps: list[RunStep] = []
    waits: list[Wait] = []
    async with open_client(config=given.config) as client:
        job = await client.job(job_id)
        attempts = await client.attempts(job_id)
        if job.kind == "flow":
            steps = await client.steps(job_id, limit=STEPS)
            waits = await client.waits(job_id)
            steps = await client.masked_steps(job_id, steps)
        waiting = await client.waiting(job_id) if job.state == "queued" else None
        attempts = await client.masked_attempts(job, attempts)
        schedule = await client.schedule_of(job_id)
        (job,) = await client.masked([job])
    if given.json:
        document = job_document(job) | {"attempts": [attempt_document(each) for each in attempts]}
        if job.kind == "flow":
            document["steps"] = [step_document(each) for each in steps]
            document["waits_for"] = [wait_document(each) for each in waits]
        if waiting is not None:
            document["waiting"] = waiting_document(waiting)
        if schedule is not None:
            document["schedule"] = {"name": schedule[0], "tick": utc(schedule[1])}
        print_json(document)
        return 0
    why = [wait_text(wait) for wait in waits]
    if waiting is not None:
        why = [reason.text for reason in waiting.reasons]
    for name, text in _fields(job, why, schedule):
        print(f"{name:<14} {printable(text)}")
    if job.error is not None and job.error.get("traceback"):
        print(f"\n{printable(job.error['traceback']).rstrip()}")
    if steps or waits:
        print()
        _print_steps(steps, waits, _flow_of(given, job.script))
    if [each.attempt for each in attempts] not in ([], [job.attempt]):
        print()
        _print_attempts(attempts)
    return 0


def _fields(job: Job, why: Sequence[str], schedule: tuple[str, datetime] | None) -> list[tuple[str, str]]:
    from hotpath.cli.output import pretty_json
    from hotpath.words import clock, span

    due = "when it is woken" if job.scheduled_for - datetime.now(UTC) > _FAR else clock(job.scheduled_for)
    fields = [("id", str(job.id)), ("script", job.script)]
    if schedule is not None:
        fields.append(("schedule", f"{schedule[0]}, tick of {clock(schedule[1])}"))
    if job.kind == "step":
        fields += [("run", str(job.parent)), ("step", str(job.step))]
    fields += [
        ("tag", job.tag),
        ("state", job.state.value),
        *((("" if k else "waiting"), text) for k, text in enumerate(why[:_SHOWN])),
    ]
    if len(why) > _SHOWN:
        fields.append(("", f"and {len(why) - _SHOWN} more"))
    fields += [
        ("priority", str(job.priority)),
        ("attempt", str(job.attempt)),
        ("scheduled for", due),
        ("created", clock(job.created_at)),
        ("started", clock(job.started_at)),
        ("finished", clock(job.finished_at)),
        ("duration", span(job.duration_ms)),
        ("worker", job.worker or "-"),
        ("args", _NOT_KEPT if "args" in job.not_kept else pretty_json(job.args)),
    ]
    if job.state == "success":
        fields.append(("result", _NOT_KEPT if "result" in job.not_kept else pretty_json(job.result)))
    if job.error is not None:
        fields.append(("error", _said(job.error)))
    return fields


def _flow_of(given: Given, script: str) -> Flow | None:
    """The flow, if this workspace has its file: it tells branches from iterations."""
    from hotpath.errors import ScriptError
    from hotpath.scripts.flow_file import load_flow
    from hotpath.scripts.locate import locate

    try:
        located = locate(script, given.config.workspace)
        return load_flow(located).flow if located.is_flow else None
    except ScriptError:
        return None


def _print_steps(steps: Sequence[RunStep], waits: Sequence[Wait], flow: Flow | None) -> None:
    """The tree of the run's steps."""
    import shutil
    import sys

    from hotpath.cli.output import safe
    from hotpath.core.flow.tree import ASCII, BOXES, WIDTH, draw
    from hotpath.words import wait_briefly

    boxes = "utf" in (sys.stdout.encoding or "").lower()
    lines = draw(
        [_row(each) for each in steps],
        waits={each.key: wait_briefly(each) for each in waits if each.state != "running"},
        flow=flow,
        drawing=BOXES if boxes else ASCII,
        width=shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH,
    )
    for line in lines:
        print(safe(line.text))
    if len(steps) == STEPS:
        print(f"(the first {STEPS:,} steps; `hotpath jobs --parent RUN` lists them all)")


def _row(step: RunStep) -> StepRow:
    from hotpath.core.flow.tree import StepRow

    error = step.error or {}
    return StepRow(
        key=step.key,
        state=step.state.value,
        started_us=None if step.started_at is None else round(step.started_at.timestamp() * 1_000_000),
        duration_ms=step.duration_ms,
        attempt=step.attempt,
        error=f"{error.get('name')}: {error.get('message')}" if error else "",
    )


def _print_attempts(attempts: Sequence[Attempt]) -> None:
    from hotpath.cli.output import print_table
    from hotpath.words import clock, span

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


def _said(error: dict[str, Any]) -> str:
    where = f" in step {error['step']}" if error.get("step") else ""
    if where and error.get("iteration"):
        where += f", iteration {error['iteration']}"
    return f"{error.get('name')}: {error.get('message')} ({error.get('kind')}){where}"
