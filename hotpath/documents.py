"""What programs see of jobs, attempts, steps, workers and the like: plain documents, ready to be JSON, the
same from `--json` and from the HTTP API. Times are in UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from hotpath.core.flow.keys import iteration_of
from hotpath.errors import ScriptError
from hotpath.model import Ended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hotpath.model import Attempt, Description, Job
    from hotpath.store.alerts import Alert
    from hotpath.store.choices import SeenVersion, VersionWorker
    from hotpath.store.flows import RunStep, Wait
    from hotpath.store.history import History
    from hotpath.store.looks import Overview
    from hotpath.store.schedules import Schedule, Tick
    from hotpath.store.scripts import ListedVersion
    from hotpath.store.status import Status, TagStatus, WorkerStatus
    from hotpath.store.stranded import Stranded
    from hotpath.store.waiting import Waiting


def job_document(job: Job) -> dict[str, Any]:
    """A job as programs see it: the columns of the view `hotpath.job`."""
    document = attrs.asdict(job, recurse=False)
    document["state"] = job.state.value
    for name in ("scheduled_for", "created_at", "started_at", "finished_at"):
        document[name] = utc(document[name])
    document |= dict.fromkeys(job.not_kept)
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


def seen_version_document(script: str, each: SeenVersion, workers: Sequence[VersionWorker]) -> dict[str, Any]:
    """A version and what became of it as programs see it; `workers`: all that are dedicated to its script."""
    document = attrs.asdict(each)
    document |= {name: utc(document[name]) for name in ("created_at", "chosen_at")}
    id = document.pop("id")
    return {"script": script} | document | {
        "workers": [worker.name for worker in workers if worker.version == id],
        "refused_by": [
            {"worker": worker.name, "error": worker.refusal} for worker in workers if worker.refused == id
        ],
    }  # fmt: skip


def changed_between(before: Description, after: Description) -> list[Any]:
    """What of two versions is not the same, of that which jobs are bound to: `args`, `settings`."""
    parts = (("args", before.schema != after.schema), ("settings", before.settings != after.settings))
    return [word for word, differs in parts if differs]


def description_document(description: Description) -> dict[str, Any]:
    """A version as `POST /api/v1/versions` takes it: with its source. Raises `ScriptError` for a flow's file
    and for a source that is not UTF-8.
    """
    texts: list[str] = []
    for path, body in description.files:
        try:
            texts.append(body.decode())
        except UnicodeDecodeError:
            raise ScriptError(f"{path} is not UTF-8: deploy it by `hotpath deploy`") from None
    if not description.files[0][0].endswith(".py"):
        raise ScriptError(f"{description.path} is a flow's file: deploy it by `hotpath deploy`")
    settings = attrs.asdict(description.settings)
    return {
        "script": description.path,
        "source": texts[0],
        "settings_file": "".join(texts[1:]),
        "hash": description.hash,
        "kind": description.kind,
        "is_async": description.is_async,
        "schema": description.schema,
        "settings": {name: value for name, value in settings.items() if value is not None},
        "summary": description.summary,
    }


def status_document(status: Status, now: datetime) -> dict[str, Any]:
    """Tags, workers and rates as programs see them."""
    return {
        "tags": [tag_document(tag, now) for tag in status.tags],
        "workers": [worker_document(worker) for worker in status.workers],
        "jobs_per_second": status.jobs_per_second,
        "stranded": [stranded_document(each) for each in status.stranded],
        "disk": status.disk,
    }


def tag_document(tag: TagStatus, now: datetime) -> dict[str, Any]:
    """A tag as programs see it, with the age of its oldest job that is due."""
    document = attrs.asdict(tag)
    document["oldest_due"] = utc(tag.oldest_due)
    document["oldest_due_age_ms"] = age(tag.oldest_due, now)
    return document


def stranded_document(each: Stranded) -> dict[str, Any]:
    """Jobs that nobody will run as programs see them."""
    return attrs.asdict(each) | {"oldest": utc(each.oldest), "text": each.text}


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
        "stranded": [stranded_document(each) for each in overview.stranded],
    }


def history_document(history: History) -> dict[str, Any]:
    """What queues were like as programs see it."""
    return {
        "since": utc(history.since),
        "until": utc(history.until),
        "step_seconds": history.step_seconds,
        "steps": [utc(step) for step in history.steps],
        "all": attrs.asdict(history.all),
        "tags": [attrs.asdict(series) for series in history.tags],
    }


def alert_document(alert: Alert) -> dict[str, Any]:
    """An alert as programs see it; spans in seconds."""
    document = attrs.asdict(alert)
    document["state"] = document.pop("phase").value
    document["when"] = document.pop("rule")
    document["to"] = document.pop("channels")
    document["for"] = document.pop("hold")
    for name in ("since", "fired_at", "said_at", "silent_until", "set_at"):
        document[name] = utc(document[name])
    return document


def word_document(word: dict[str, Any]) -> dict[str, Any]:
    """What was said of an alert as programs see it."""
    return word | {"said_at": utc(word["said_at"]), "ended_at": utc(word["ended_at"])}


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


def schedule_document(schedule: Schedule, coming: int = 1) -> dict[str, Any]:
    """A schedule as programs see it, with its next ticks, `coming` of them."""
    document = attrs.asdict(schedule, recurse=False)
    del document["id"], document["anchor"], document["kind"], document["expression"]
    for name in ("next_at", "held_at", "last_at", "last_error_at", "created_at", "updated_at"):
        document[name] = utc(document[name])
    document |= {"cron": None, "every": None, "at": None, "state": schedule.state}
    document[schedule.kind] = float(schedule.expression) if schedule.kind == "every" else schedule.expression
    return document | {"next": [utc(at) for at in schedule.coming(coming)]}


def tick_document(tick: Tick) -> dict[str, Any]:
    """A tick that became a job as programs see it."""
    document = attrs.asdict(tick)
    document |= {"at": utc(tick.at), "started_at": utc(tick.started_at)}
    return document | {"state": None if tick.state is None else tick.state.value}
