"""Jobs put in: one, many, one that is waited for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.store import jobs as store
from hotpath.store.jobs import MAX_TIMEOUT, TAG_BYTES
from hotpath.web import shapes
from hotpath.web.api.jobs import Priority
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.state import state_of

Tag = Annotated[
    str, Meta(min_length=1, max_length=TAG_BYTES, description="Where it waits; by default the script's own.")
]
When = Annotated[datetime, Meta(tz=True, description="Not before then; by default at once.")]
Timeout = Annotated[
    float,
    Meta(
        gt=0, le=MAX_TIMEOUT, description="Seconds that one run of it may take; by default the script's own."
    ),
]


class NewJob(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A job to be put in."""

    script: Annotated[str, Meta(description="Name of the script or flow.", examples=["f/team/score"])]
    args: dict[str, Any] = {}
    """What `main` takes, as the script's schema says."""
    tag: Tag | None = None
    priority: Priority = 0
    scheduled_for: When | None = None
    timeout: Timeout | None = None


async def enqueue(request: Request, body: NewJob) -> Response:
    """Put one job in."""
    state = state_of(request)
    validator = await state.client.validator(body.script)
    raw = validator.encode(body.args)
    async with state.database.connection() as connection:
        job = await store.enqueue(
            connection, body.script, raw, tag=body.tag, priority=body.priority,
            scheduled_for=body.scheduled_for, timeout=body.timeout,
        )  # fmt: skip
    return reply(shapes.Enqueued(job), 201, headers={"location": f"{PREFIX}/jobs/{job}"})


TABLE = [
    Endpoint(
        method="POST", path=f"{PREFIX}/jobs", handler=enqueue, scope="run", group="jobs", problems=(404,),
        answers={201: Answer("It is in.", shapes.Enqueued, headers={"Location": "Path of the job."})},
    ),
]  # fmt: skip
