"""What queues were like over the last 14 days."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.core.tags import MAX_BYTES
from hotpath.documents import history_document
from hotpath.store.history import MOST_TAGS
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.state import state_of


class AskHistory(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of what, and when."""

    tag: Annotated[
        Annotated[str, Meta(min_length=1, max_length=4 * MAX_BYTES)] | None,
        Meta(
            description="Tags with commas between: names, patterns such as `etl-*`, exclusions `!etl-slow`."
        ),
    ] = None
    since: Annotated[datetime | None, Meta(description="By default 6 hours before `until`.")] = None
    until: Annotated[datetime | None, Meta(description="By default now.")] = None
    step: Annotated[
        Annotated[int, Meta(ge=60, le=86400)] | None,
        Meta(description="Seconds: 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400. [what suits]"),
    ] = None
    limit: Annotated[
        int, Meta(ge=1, le=MOST_TAGS, description="Tags that are told one by one, those with the most jobs.")
    ] = 20  # fmt: skip


class SeriesDocument(msgspec.Struct, kw_only=True):
    """One tag step by step, or all together."""

    tag: str | None
    """Null: all together; `*`: those that were not among the fullest."""
    waiting: list[int | None]
    """The most that waited at a full minute of the step; null: nobody looked."""
    running: list[int | None]
    oldest_ms: list[float | None]
    """The longest that a job which was due had waited; null: none was due, or nobody looked."""
    success: list[int]
    failure: list[int]
    canceled: list[int]
    retried: list[int]
    """Attempts that failed and run again."""
    busy_ms: list[float]
    """Time inside `main`."""


class HistoryDocument(msgspec.Struct, kw_only=True):
    """What queues were like."""

    since: datetime
    until: datetime
    step_seconds: int
    """An hour at least, where it was long ago and only hours are known any more."""
    steps: list[datetime]
    """When each step began; the last one may be under way."""
    all: SeriesDocument
    tags: list[SeriesDocument]


async def get_history(request: Request, asked: AskHistory) -> Response:
    """What queues were like: how many waited and ran, for how long, and how jobs ended.

    Each series has one value for each of `steps`. Kept for 14 days, to the minute as far as there is room.
    """
    found = await state_of(request).client.history(
        tags=None if asked.tag is None else asked.tag.split(","),
        since=asked.since,
        until=asked.until,
        step=asked.step,
        limit=asked.limit,
    )
    return reply(msgspec.convert(history_document(found), HistoryDocument))


TABLE = [
    Endpoint(
        method="GET", path=f"{PREFIX}/history", handler=get_history, scope="read", group="status",
        answers={200: Answer("The series.", HistoryDocument)},
    ),
]  # fmt: skip
