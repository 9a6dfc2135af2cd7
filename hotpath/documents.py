"""What programs see of jobs, attempts, steps, workers and the like: plain documents, ready to be JSON, the
same from `--json` and from the HTTP API. Times are in UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from hotpath.core.flow.keys import iteration_of
from hotpath.model import Ended

if TYPE_CHECKING:
    from hotpath.model import Attempt, Job
    from hotpath.store.flows import RunStep, Wait
    from hotpath.store.looks import Overview
    from hotpath.store.scripts import ListedVersion
    from hotpath.store.status import Status, TagStatus, WorkerStatus
    from hotpath.store.waiting import Waiting


def job_document(job: Job) -> dict[str, Any]:
    """A job as programs see it: the columns of the view `hotpath.job`."""
    document = attrs.asdict(job, recurse=False)
    document["state"] = job.state.value
    for name in ("scheduled_for", "created_at", "started_at", "finished_at"):
        document[name] = utc(document[name])
    return document


def attempt_document(attempt: Attempt) -> dict[str, Any]:
    """One run of a job as programs see it: the columns of `hotpath.job_attempts`."""
    document = attrs.asdict(attempt, recurse=False)
    document["state"] = attempt.state.value
    for name in ("started_at", "finished_at"):
        document[name] = utc(document[name])
    return document


def step_document(step: RunStep) -> dict[str, Any]:
    """A step of a run as programs see it."""
    return {
        "step": step.key, "iteration": iteration_of(step.key), "id": step.id, "script": step.script,
        "state": step.state.value, "attempt": step.attempt, "started_at": utc(step.started_at),
        "finished_at": utc(step.finished_at), "duration_ms": step.duration_ms, "worker": step.worker,
        "error": step.error,
    }  # fmt: skip


def wait_document(wait: Wait) -> dict[str, Any]:
    """What a run waits for as programs see it."""
    document: dict[str, Any] = {"kind": wait.kind, "step": wait.key}
    if wait.kind == "child":
        return document | {
            "job": wait.job, "script": wait.script, "tag": wait.tag, "state": wait.state and wait.state.value,
        }  # fmt: skip
    document |= {"since": utc(wait.since), "until": utc(wait.until)}
    if wait.kind == "suspend":
        document |= {"required": wait.required, "answers": wait.said, "form": wait.form}
    return document


def version_document(each: ListedVersion) -> dict[str, Any]:
    """A version of a script as programs see it."""
    description = each.version.description
    return {
        "script": description.path,
        "hash": description.hash,
        "current": each.current,
        "kind": description.kind,
        "is_async": description.is_async,
        "tag": each.tag,
        "created_at": utc(each.version.created_at),
        "summary": description.summary,
        "schema": description.schema,
        "settings": attrs.asdict(description.settings),
    }


def status_document(status: Status, now: datetime) -> dict[str, Any]:
    """Tags, workers and rates as programs see them."""
    return {
        "tags": [tag_document(tag, now) for tag in status.tags],
        "workers": [worker_document(worker) for worker in status.workers],
        "jobs_per_second": status.jobs_per_second,
    }


def tag_document(tag: TagStatus, now: datetime) -> dict[str, Any]:
    """A tag as programs see it, with the age of its oldest job that is due."""
    document = attrs.asdict(tag)
    document["oldest_due"] = utc(tag.oldest_due)
    document["oldest_due_age_ms"] = age(tag.oldest_due, now)
    return document


def worker_document(worker: WorkerStatus) -> dict[str, Any]:
    """A worker as programs see it."""
    document = attrs.asdict(worker)
    for name in ("started_at", "last_ping", "stopped_at", "current_since"):
        document[name] = utc(document[name])
    return document


def overview_document(overview: Overview) -> dict[str, Any]:
    """The overview as programs see it."""
    tags = []
    for tag in overview.tags:
        hour = overview.by_tag.get(tag.tag, Ended())
        tags.append(tag_document(tag, overview.now) | {"hour": attrs.asdict(hour)})
    return {
        "now": utc(overview.now),
        "jobs_per_second": overview.jobs_per_second,
        "tags": tags,
        "workers": {"alive": overview.alive, "running": overview.running, "lost": overview.lost},
        "series": {
            "minute": [utc(minute) for minute in overview.minutes],
            "success": [each.success for each in overview.ended],
            "failure": [each.failure for each in overview.ended],
            "canceled": [each.canceled for each in overview.ended],
            "busy_ms": [each.busy_ms for each in overview.ended],
        },
        "occupancy": overview.occupancy,
    }


def waiting_document(waiting: Waiting) -> dict[str, Any]:
    """Why a job waits as programs see it."""
    document = attrs.asdict(waiting)
    document["state"] = waiting.state.value
    for reason in document["reasons"]:
        reason["until"] = utc(reason["until"])
    return document


def age(since: datetime | None, now: datetime) -> float | None:
    """Milliseconds since then."""
    return None if since is None else max((now - since).total_seconds() * 1000, 0.0)


def utc(when: datetime | None) -> datetime | None:
    """The same time, in UTC."""
    return None if when is None else when.astimezone(UTC)
