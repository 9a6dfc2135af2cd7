"""Jobs: found, looked at, canceled, run again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from hotpath.documents import attempt_document, job_document
from hotpath.model import Job, State
from hotpath.store.database import Database
from hotpath.store.jobs import get_job as get_one
from hotpath.store.listing import Page
from hotpath.web import shapes
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.problem import ProblemError
from hotpath.web.state import state_of

PAGE = 100
MOST = 1000
"""Jobs that a page may hold."""
PAGE_BYTES = 8 << 20
"""A page of jobs with args and results ends when these are so many bytes of JSON."""
FIELDS = shapes.JobDocument.__struct_fields__
LARGE = ("args", "result", "not_kept")
"""Fields that a list leaves out unless they are asked for: they take reading what may have 16 MiB."""

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
            "`result`, which may be large, and `not_kept`.",
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

    The next page is `before` the id that `next` gives. A filter that finds few among many looks at a few
    hundred thousand of the newest; `partial` then says that there may be more for this page further down.
    With `args` or `result` among the fields a page ends where they add up to 8 MiB.
    """
    fields = _fields(asked.fields)
    state = state_of(request)
    page = await state.client.page(
        state=asked.state, script=asked.script, tag=asked.tag, since=asked.since, limit=asked.limit,
        before=asked.before, steps=asked.steps, parent=asked.parent, payloads=False,
    )  # fmt: skip
    payloads = any(name in LARGE for name in fields)
    if payloads:
        page = await _with_payloads(state.database, page)
    documents = map(job_document, await state.client.masked(page.jobs, payloads=payloads))
    jobs = [shapes.ListedJob(**{name: document[name] for name in fields}) for document in documents]
    return reply(shapes.JobList(jobs, page.next, page.partial))


async def _with_payloads(database: Database, page: Page) -> Page:
    """The page with args and results, as far as they are not too many bytes together."""
    found: list[Job] = []
    size = 0
    async with database.connection() as connection:
        for listed in page.jobs:
            job = await get_one(connection, listed.id)
            if job is None:
                continue  # it went while we looked
            found.append(job)
            size += len(msgspec.json.encode((job.args, job.result)))
            if size > PAGE_BYTES and listed is not page.jobs[-1]:
                return attrs.evolve(page, jobs=found, next=listed.id, partial=True)
    return attrs.evolve(page, jobs=found)


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
