"""The overview, as the API and the WebSocket show it."""

from __future__ import annotations

from typing import Any

from hotpath.documents import overview_document
from hotpath.store import looks


async def read_overview(connection: Any) -> dict[str, Any]:
    """Tags, workers and rates as they are now, and the last hour by minute."""
    return overview_document(await looks.read_overview(connection))
