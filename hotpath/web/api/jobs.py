"""Jobs: found, looked at, canceled, run again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from hotpath.documents import attempt_document, job_document
from hotpath.model import State
from hotpath.web import shapes
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.problem import ProblemError
from hotpath.web.state import state_of

PAGE = 100
MOST = 1000
"""Jobs that a page may hold."""
PAGE_BYTES = 8 << 20
"""A page of jobs with args and results ends when it has so many bytes."""
FEW = 4
"""Jobs with args and results that are read at a time, as long as nobody knows how large they are."""
FIELDS = shapes.JobDocument.__struct_fields__
LARGE = ("args", "result")
"""Fields that a list leaves out unless they are asked for: each may have 16 MiB."""

Limit = Annotated[int, Meta(ge=1, le=MOST, description="How many, at most.")]
Priority = Annotated[int, Meta(ge=-32768, le=32767, description="Larger first; 0: the script's own.")]


class OneJob(msgspec.Struct, forbid_unknown_fields=True):
    """A job by its id."""

    id: Annotated[UUID, Meta(description="Id of the job.")]


class ListJobs(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which jobs."""

    state: Annotated[State | None, Meta(description="Only jobs in this state.")] = None
    script: Annotated[str | None, Meta(description="Only jobs of this script.")] = None
    tag: Annotated[str | None, Meta(description="Only jobs of this tag.")] = None
    since: Annotated[
        Annotated[datetime, Meta(tz=True)] | None, Meta(description="Only jobs made since then.")
    ] = None
    before: Annotated[UUID | None, Meta(description="The next page: jobs from before this one.")] = None
    limit: Limit = PAGE
    steps: Annotated[bool, Meta(description="Steps of runs too, which are jobs of their own.")] = False
    parent: Annotated[UUID | None, Meta(description="Only the steps of this run, the last begun first.")] = (
        None
    )
    fields: Annotated[
        str | None,
        Meta(
            description="Fields of the job document, with commas between; by default all but `args` and "
            "`result`, which may be large.",
            examples=["id,state,args"],
        ),
    ] = None


class Again(msgspec.Struct, forbid_unknown_fields=True):
    """How to run a job again."""

    from_step: Annotated[
        str | UnsetType,
        Meta(description="Of a flow's run: from this step on; what ended before counts as it is."),
    ] = UNSET


async def list_jobs(request: Request, asked: ListJobs) -> Response:
    """Jobs, the newest first, a page at a time.

    The next page is `before` the id that `next` gives. Its cost follows the page, not the millions behind it.
    With `args` or `result` among the fields a page may have fewer jobs than `limit`, if they are large.
    """
    fields = _fields(asked.fields)
    payloads = any(name in LARGE for name in fields)
    client = state_of(request).client
    found: list[msgspec.Raw] = []
    size, before, at_once = 0, asked.before, FEW if payloads else asked.limit
    while True:
        want = min(at_once, asked.limit - len(found))
        page = await client.page(
            state=asked.state, script=asked.script, tag=asked.tag, since=asked.since, limit=want,
            before=before, steps=asked.steps, parent=asked.parent, payloads=payloads,
        )  # fmt: skip
        for document in map(job_document, await client.masked(page.jobs, payloads=payloads)):
            raw = msgspec.json.encode(shapes.ListedJob(**{name: document[name] for name in fields}))
            size += len(raw)
            found.append(msgspec.Raw(raw))
        before = page.next
        if before is None or page.partial or len(found) == asked.limit or size > PAGE_BYTES:
            return reply({"jobs": found, "next": before, "partial": page.partial})
        at_once = at_once * 2 if size < PAGE_BYTES // 8 else FEW


def _fields(text: str | None) -> tuple[str, ...]:
    if text is None:
        return tuple(name for name in FIELDS if name not in LARGE)
    wanted = tuple(dict.fromkeys(text.split(",")))
    for name in wanted:
        if name not in FIELDS:
            detail = f"field `fields`: {name[:60]!r} is no field of a job; there are {', '.join(FIELDS)}"
            raise ProblemError(400, "The request is not accepted", detail, field="fields")
    return wanted


async def get_job(request: Request, asked: OneJob) -> Response:
    """One job, wherever it is: its state, times, args, result or error."""
    client = state_of(request).client
    (job,) = await client.masked([await client.job(asked.id)])
    return reply(shapes.JobDocument(**job_document(job)))


async def get_attempts(request: Request, asked: OneJob) -> Response:
    """Every run of a job: those that ended, with their errors, and the one under way."""
    client = state_of(request).client
    found = await client.masked_attempts(await client.job(asked.id), await client.attempts(asked.id))
    return reply(shapes.Attempts([shapes.AttemptDocument(**attempt_document(each)) for each in found]))


async def cancel_job(request: Request, asked: OneJob) -> Response:
    """Cancel a job.

    One that waits is canceled at once; the worker of one that runs is asked to end it, which it does within
    a second, unless the job is done first. `canceled` is false when the job had ended.
    """
    return reply(shapes.Canceled(await state_of(request).client.cancel(asked.id)))


async def retry_job(request: Request, asked: OneJob, body: Again) -> Response:
    """Run a job that has ended once more, under the same id.

    How it ended becomes an earlier attempt. A flow's run begins anew, or from a step. `retried` is false when
    the job has not ended.
    """
    from_step = None if body.from_step is UNSET else body.from_step
    return reply(shapes.Retried(await state_of(request).client.retry(asked.id, from_step=from_step)))


_JOBS = f"{PREFIX}/jobs"
TABLE = [
    Endpoint(
        method="GET", path=_JOBS, handler=list_jobs, scope="read", group="jobs", problems=(404,),
        answers={200: Answer("A page of jobs.", shapes.JobList)},
    ),
    Endpoint(
        method="GET", path=_JOBS + "/{id}", handler=get_job, scope="read", group="jobs", problems=(404,),
        answers={200: Answer("The job.", shapes.JobDocument)},
    ),
    Endpoint(
        method="GET", path=_JOBS + "/{id}/attempts", handler=get_attempts, scope="read", group="jobs",
        problems=(404,), answers={200: Answer("Its runs, in order.", shapes.Attempts)},
    ),
    Endpoint(
        method="POST", path=_JOBS + "/{id}/cancel", handler=cancel_job, scope="run", group="jobs",
        problems=(404,), answers={200: Answer("Whether it was canceled.", shapes.Canceled)},
    ),
    Endpoint(
        method="POST", path=_JOBS + "/{id}/retry", handler=retry_job, scope="run", group="jobs",
        problems=(404,), answers={200: Answer("Whether it runs again.", shapes.Retried)},
    ),
]  # fmt: skip
