"""The overview, as the WebSocket shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hotpath.documents import status_document
from hotpath.store.status import read_status


async def read_overview(connection: Any) -> dict[str, Any]:
    """Tags, workers and rates as they are now."""
    status = await read_status(connection)
    now = datetime.now(UTC)
    document = status_document(status, now)
    workers = status.workers
    return {
        "now": now,
        "jobs_per_second": status.jobs_per_second,
        "tags": document["tags"],
        "workers": {
            "alive": sum(worker.state != "lost" for worker in workers),
            "running": sum(worker.running for worker in workers),
            "lost": sum(worker.state == "lost" for worker in workers),
        },
    }
