"""What jobs said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

import msgspec
import trio
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.store.log_store import SECONDS
from hotpath.store.logs import LogChunk, read_log
from hotpath.web import shapes
from hotpath.web.api.jobs import OneJob
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.problem import NO_STORE, ProblemError
from hotpath.web.state import ServerState, state_of

TEXT = "text/plain"
CHARS = 1 << 20
MOST_CHARS = 4 << 20
"""Characters of a log that one answer has, about."""
TURN_SECONDS = 10.0
"""How long a request for a log waits for its turn."""
_SECONDS = TURN_SECONDS + SECONDS + 5.0
_MOST_AT = (1 << 53) - 1  # what every reader of JSON can hold


class ReadLog(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename={"start": "from"}):
    """Which part of a log."""

    id: Annotated[UUID, Meta(description="Id of the job.")]
    attempt: Annotated[
        Annotated[int, Meta(ge=0, le=32_767)] | None,
        Meta(description="From this attempt on; by default from the first."),
    ] = None
    start: Annotated[
        Annotated[int, Meta(ge=0, le=_MOST_AT)] | None,
        Meta(description="From this position of that attempt on: so many characters came before."),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=MOST_CHARS, description="How many characters, about.")] = CHARS


async def get_log(request: Request, asked: ReadLog) -> Response:
    """A part of a job's log, with times.

    Where somebody is in a log is a pair of an attempt and a position in it, in characters. The next part is
    `attempt` and `from` as `next` gives them. A worker stores what a job says as the job ends, or more often
    if it says much; what it says meanwhile comes by the WebSocket.
    """
    if asked.start is not None and asked.attempt is None:
        detail = "field `from` is a position in an attempt's log: give `attempt` too"
        raise ProblemError(400, "The request is not accepted", detail, field="from")
    state = state_of(request)
    async with _turn(state), state.database.connection() as connection:
        page = await read_log(connection, asked.id, (asked.attempt or 0, asked.start or 0), asked.limit)
    if not page.chunks and not page.complete:
        await state.client.job(asked.id)  # it may be that there is none
    return reply(shapes.LogPage([_chunk(each) for each in page.chunks], page.next, page.complete))


def _chunk(chunk: LogChunk) -> shapes.LogChunk:
    return shapes.LogChunk(
        attempt=chunk.attempt, at=chunk.at, end=chunk.end, text=chunk.text, times=list(chunk.times),
        gap=chunk.is_gap,
    )  # fmt: skip


@asynccontextmanager
async def _turn(state: ServerState) -> AsyncIterator[None]:
    """One of the few requests for logs that are answered at a time. Raises `ProblemError` (503)."""
    with trio.move_on_after(TURN_SECONDS) as turn:
        await state.logs.acquire()
    if turn.cancelled_caught:
        raise ProblemError(
            503, "Too many at once", "others are reading logs, which takes long at the moment: try again",
            type="busy", headers={"retry-after": "5"},
        )  # fmt: skip
    try:
        yield
    finally:
        state.logs.release()


async def get_log_text(request: Request, asked: OneJob) -> Response:
    """The whole log as a file: what the job printed and logged, over all its attempts."""
    state = state_of(request)
    async with _turn(state):
        text = await state.client.log(asked.id)
    headers = {**NO_STORE, "content-disposition": f'attachment; filename="{asked.id}.log.txt"'}
    return Response(text, headers=headers, media_type=TEXT)


TABLE = [
    Endpoint(
        method="GET", path=PREFIX + "/jobs/{id}/log", handler=get_log, scope="read", group="jobs",
        problems=(404,), seconds=_SECONDS, answers={200: Answer("A part of the log.", shapes.LogPage)},
    ),
    Endpoint(
        method="GET", path=PREFIX + "/jobs/{id}/log.txt", handler=get_log_text, scope="read", group="jobs",
        problems=(404,), seconds=_SECONDS, answers={200: Answer("The text, in UTF-8.", media_type=TEXT)},
    ),
]  # fmt: skip
