"""Jobs put in: one, many, one that is waited for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from math import inf
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import trio
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hotpath.core.limit_settings import MAX_SECONDS
from hotpath.core.traceparent import checked
from hotpath.documents import job_document
from hotpath.errors import HotpathError
from hotpath.model import Job
from hotpath.store import jobs as store
from hotpath.store.idempotency import HOURS, Once, enqueue_once
from hotpath.store.jobs import MAX_TIMEOUT, TAG_BYTES
from hotpath.web import shapes
from hotpath.web.access import principal_of
from hotpath.web.api.jobs import Priority
from hotpath.web.endpoints import ANSWER_SECONDS, JSON, PREFIX, Answer, Endpoint, reply
from hotpath.web.lines import TYPES, Lines, check_type
from hotpath.web.problem import NO_STORE, ProblemError
from hotpath.web.state import ServerState, state_of

MOST_SECONDS = 60.0
"""How long a request may wait for its job."""
LOAD_SECONDS = 10.0
"""How long a request of many jobs waits for its turn."""
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_IDS_AT_ONCE = 2000

Args = Annotated[
    msgspec.Raw,  # checked as it is, by the script's own schema
    Meta(description="What `main` takes, as the script's schema says.", extra_json_schema={"type": "object"}),
]
Script = Annotated[str, Meta(description="Name of the script or flow.", examples=["f/team/score"])]
Tag = Annotated[
    str, Meta(min_length=1, max_length=TAG_BYTES, description="Where it waits; by default the script's own.")
]
When = Annotated[datetime, Meta(tz=True, description="Not before then; by default at once.")]
Timeout = Annotated[
    float,
    Meta(gt=0, le=MAX_TIMEOUT, description="Seconds that one run may take; by default the script's own."),
]


class UniqueKey(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename={"while_": "while"}):
    """A key that one job at a time may have."""

    key: Annotated[str, Meta(min_length=1, max_length=1024, description="May hold `$args[field]`.")]
    while_: Literal["queued", "unfinished"] | Annotated[float, Meta(gt=0, le=MAX_SECONDS)] = "unfinished"
    """How long a job has it: while it is that, or so many seconds from when it was put in."""
    on_conflict: Literal["reject", "existing", "replace"] = "existing"
    """What becomes of a second job: an error, the earlier one in its place, or that is canceled."""


class NewJob(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A job to be put in."""

    script: Script
    args: Args = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    tag: Tag | None = None
    priority: Priority = 0
    scheduled_for: When | None = None
    timeout: Timeout | None = None
    unique: UniqueKey | Annotated[str, Meta(min_length=1, max_length=1024, description="The key.")] | None = (
        None
    )


class NewJobs(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What many jobs have in common."""

    script: Script
    tag: Tag | None = None
    priority: Priority = 0
    scheduled_for: When | None = None
    timeout: Timeout | None = None
    ids: Annotated[bool, Meta(description="Whether to answer with the id of each.")] = False


class Patience(msgspec.Struct, forbid_unknown_fields=True):
    """How long to wait."""

    wait: Annotated[
        float,
        Meta(ge=0, le=MOST_SECONDS, description="Seconds after which to answer, whatever the job does."),
    ] = 30.0


async def enqueue(request: Request, body: NewJob) -> Response:
    """Put one job in.

    If another job has its `unique` key, the answer may be that job.

    With a header Idempotency-Key, sending the same again within 24 hours, after a lost reply say, gives the
    same job and does not put in another; the same key with another request is refused.
    """
    once = await _put_in(request, body)
    headers = {"location": f"{PREFIX}/jobs/{once.job}"}
    if once.replayed:
        return reply(shapes.Enqueued(once.job), 200, headers=headers | {"idempotent-replayed": "true"})
    return reply(shapes.Enqueued(once.job), 201, headers=headers)


async def _put_in(request: Request, body: NewJob) -> Once:
    state = state_of(request)
    key = _key_of(request)
    validator = await state.client.validator(body.script)
    script = await state.client.name_of(body.script)
    raw = validator.check_json(bytes(body.args))
    traceparent = checked(request.headers.get("traceparent"))
    options: dict[str, Any] = {
        "tag": body.tag, "priority": body.priority, "scheduled_for": body.scheduled_for,
        "timeout": body.timeout,
    }  # fmt: skip
    if body.unique is not None:
        unique = body.unique if isinstance(body.unique, str) else msgspec.to_builtins(body.unique)
        options |= {"unique": unique}
    async with state.database.connection() as connection:
        if key is None:
            job = await store.enqueue(connection, script, raw, **options, traceparent=traceparent)
            return Once(job, replayed=False)
        asked = msgspec.json.encode([request.url.path, body.script, options, msgspec.Raw(raw)])
        caller = principal_of(request)
        owner = caller.token_id or caller.name
        return await enqueue_once(
            connection, key, asked, script, raw, owner=owner, **options, traceparent=traceparent
        )


def _key_of(request: Request) -> str | None:
    """The caller's key for this request, if there is one. Raises `ProblemError` for one that cannot be."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        detail = "field `Idempotency-Key` must be one header of 1 to 255 visible ASCII characters"
        raise ProblemError(400, "The request is not accepted", detail, field="Idempotency-Key")
    return given[0]


async def enqueue_lines(request: Request, asked: NewJobs) -> Response:
    """Put many jobs in: one for each line of the body, a JSON object with its args; all of them or none.

    The body is read as it is stored, in constant memory, so it may have ten million lines. Blank lines are
    skipped. A bad line is named by its number, from 1, and its field.
    """
    check_type(request)
    state = state_of(request)
    validator = await state.client.validator(asked.script)
    with trio.move_on_after(LOAD_SECONDS) as turn:
        await state.loads.acquire()
    if turn.cancelled_caught:
        raise ProblemError(
            503, "Too many at once", "others are putting in many jobs: try again", type="busy",
            headers={"retry-after": "5"},
        )  # fmt: skip
    lines = Lines(request, validator.check_json)
    try:
        ids = await state.client.enqueue_json(
            asked.script, lines, tag=asked.tag, priority=asked.priority,
            scheduled_for=asked.scheduled_for, timeout=asked.timeout,
            traceparent=checked(request.headers.get("traceparent")),
        )  # fmt: skip
    except HotpathError as error:
        lines.numbers.name(error)
        raise
    finally:
        state.loads.release()
    return _Ids(ids) if asked.ids else reply(shapes.EnqueuedMany(len(ids)), 201)


class _Ids(Response):
    """`EnqueuedMany` with ids, sent in parts: they may be ten million."""

    def __init__(self, ids: Sequence[UUID]) -> None:
        super().__init__(status_code=201, headers=NO_STORE, media_type=JSON)
        del self.headers["content-length"]
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 201, "headers": self.raw_headers})
        for part in self._parts():
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await trio.lowlevel.checkpoint()
        await send({"type": "http.response.body", "body": b"]}", "more_body": False})

    def _parts(self) -> Iterator[bytes]:
        yield b'{"enqueued":%d,"ids":[' % len(self._ids)
        every, before = iter(self._ids), b""
        while some := list(islice(every, _IDS_AT_ONCE)):
            yield before + msgspec.json.encode(some)[1:-1]
            before = b","


async def run(request: Request, asked: Patience, body: NewJob) -> Response:
    """Put one job in and wait for it.

    Answers with the job once it has ended, however it did; of a flow's run that has an early result, once it
    has that. After `wait` seconds, when the server stops, or when the client goes away, the waiting ends and
    the job goes on.
    """
    once = await _put_in(request, body)
    state = state_of(request)
    client = state.client
    ended: Job | None = None
    failed: HotpathError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_when_gone, request, nursery.cancel_scope)
        nursery.start_soon(_stop_when_stopping, state, nursery.cancel_scope)
        try:
            with trio.move_on_after(asked.wait):
                ended = await client.wait(once.job, early=True)
        except HotpathError as error:
            failed = error  # raised below, as itself and not in a group
        nursery.cancel_scope.cancel(reason="no more waiting")
    if failed is not None:
        raise failed
    (job,) = await client.masked([ended or await client.job(once.job)])
    headers = {"location": f"{PREFIX}/jobs/{once.job}"}
    if once.replayed:
        headers["idempotent-replayed"] = "true"
    return reply(shapes.JobDocument(**job_document(job)), 202 if ended is None else 200, headers=headers)


async def _stop_when_gone(request: Request, waiting: trio.CancelScope) -> None:
    """End the waiting when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    waiting.cancel(reason="the client has gone")


async def _stop_when_stopping(state: ServerState, waiting: trio.CancelScope) -> None:
    """End the waiting when the server is told to stop: there is time left to answer."""
    await state.stopping.wait()
    waiting.cancel(reason="the server stops")


_TRACE_HEADER = {"traceparent": "The trace that the job is to belong to (W3C trace context)."}
_KEY_HEADER = _TRACE_HEADER | {
    "Idempotency-Key": f"The caller's name for this request, 1 to 255 characters; kept for {HOURS} hours."
}
_LOCATION = {"Location": "Path of the job."}
_REPLAYED = _LOCATION | {"Idempotent-Replayed": "`true`."}
_EXAMPLE = {"script": "f/team/score", "args": {"x": 1}}
TABLE = [
    Endpoint(
        method="POST", path=f"{PREFIX}/jobs", handler=enqueue, scope="run", group="jobs",
        problems=(404, 409, 422), headers=_KEY_HEADER, example=_EXAMPLE,
        answers={
            201: Answer("It is in.", shapes.Enqueued, headers=_LOCATION),
            200: Answer("It was in before, by the same key.", shapes.Enqueued, headers=_REPLAYED),
        },
    ),
    Endpoint(
        method="POST", path=f"{PREFIX}/jobs/batch", handler=enqueue_lines, scope="run", group="jobs",
        problems=(404, 408, 409), takes=TYPES[0], has_lines=True, seconds=inf, headers=_TRACE_HEADER,
        example='{"x": 1}\n{"x": 2}\n',
        answers={201: Answer("They are in.", shapes.EnqueuedMany)},
    ),
    Endpoint(
        method="POST", path=f"{PREFIX}/run", handler=run, scope="run", group="jobs",
        seconds=MOST_SECONDS + ANSWER_SECONDS,
        problems=(404, 409, 422), headers=_KEY_HEADER, example=_EXAMPLE,
        answers={
            200: Answer("It has ended.", shapes.JobDocument, headers=_LOCATION),
            202: Answer("It goes on.", shapes.JobDocument, headers=_LOCATION),
        },
    ),
]  # fmt: skip
