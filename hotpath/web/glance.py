"""All of it at a glance: the overview, as the API and the WebSocket show it, and what `hotpath top` shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hotpath.documents import overview_document, status_document, utc
from hotpath.model import Job, State
from hotpath.store import looks
from hotpath.store.listing import list_jobs
from hotpath.store.secrets import masked
from hotpath.store.status import read_status

FAILURES = 10
"""Jobs that failed lately: so many are told."""


async def read_overview(connection: Any) -> dict[str, Any]:
    """Tags, workers and rates as they are now, and the last hour by minute."""
    return overview_document(await looks.read_overview(connection))


async def read_top(connection: Any) -> dict[str, Any]:
    """Tags, each worker, and the jobs that failed lately."""
    status = await read_status(connection)
    failed = await list_jobs(connection, state=State.FAILURE, limit=FAILURES, payloads=False)
    now = datetime.now(UTC)
    failures = [_failure(job) for job in await masked(connection, failed, payloads=False)]
    return {"now": now, **status_document(status, now), "failures": failures}


def _failure(job: Job) -> dict[str, Any]:
    error = job.error or {}
    return {
        "id": job.id,
        "script": job.script,
        "tag": job.tag,
        "attempt": job.attempt,
        "finished_at": utc(job.finished_at),
        "worker": job.worker,
        "error": {name: error.get(name) for name in ("name", "message", "kind")},
    }
