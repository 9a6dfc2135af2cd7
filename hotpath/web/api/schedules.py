"""Schedules: set, looked at, paused, run by hand."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.documents import schedule_document, tick_document
from hotpath.store.jobs import MAX_TIMEOUT, TAG_BYTES
from hotpath.store.schedules import MOST_NEXT, PAGE, Schedule
from hotpath.web import shapes
from hotpath.web.api.enqueue import Script
from hotpath.web.api.jobs import Priority
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.hints import hint
from hotpath.web.schedule_shapes import Deleted, ScheduleDocument, ScheduleList, TickDocument, TickList
from hotpath.web.state import state_of

MOST_TICKS = 1000
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=_NAME, description="Name of the schedule.")]
Coming = Annotated[int, Meta(ge=0, le=MOST_NEXT, description="How many ticks ahead to answer with.")]


class ListSchedules(msgspec.Struct, forbid_unknown_fields=True):
    """Which schedules."""

    script: Annotated[str, Meta(description="Only those of this script.")] | None = None
    after: Annotated[str, Meta(description="The next page: from behind this name on.")] = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE, description="How many, at most.")] = 100


class OneSchedule(msgspec.Struct, forbid_unknown_fields=True):
    """A schedule by its name."""

    name: Name


class LookAtSchedule(msgspec.Struct, forbid_unknown_fields=True):
    """A schedule, and how much of it."""

    name: Name
    next: Coming = 5


class LookAtTicks(msgspec.Struct, forbid_unknown_fields=True):
    """A schedule, and how many of its ticks."""

    name: Name
    limit: Annotated[int, Meta(ge=1, le=MOST_TICKS, description="How many, at most.")] = 20


class NewSchedule(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """All that a schedule is; one of `cron`, `every` and `at` has to be given."""

    script: Script
    args: Annotated[dict[str, Any], Meta(description="What `main` takes.")] = msgspec.field(
        default_factory=dict
    )
    cron: Annotated[str, Meta(description="five fields, or six with seconds first")] | None = None
    every: Annotated[float | None, hint("between two ticks, from now on: 30s, 10m, 2h", format="span")] = None
    at: Annotated[str, Meta(description="a time, once; in the time zone unless it says another")] | None = (
        None
    )
    timezone: Annotated[str, Meta(description="that cron and at mean", examples=["UTC"])] | None = None
    catch_up: (
        Annotated[
            Literal["none", "last", "all"],
            Meta(description="of the ticks that nobody was there for; by default last"),
        ]
        | None
    ) = None  # `last` that was said has an `at` that is over run now
    catch_up_within: Annotated[float | None, hint("none that is older; by default 1d", format="span")] = None
    overlap: Annotated[
        Literal["allow", "skip", "queue_one"], Meta(description="while the job before has not ended")
    ] = "allow"
    tag: (
        Annotated[str, Meta(max_length=TAG_BYTES, description="of its jobs; by default the script's own")]
        | None
    ) = None
    priority: Priority = 0
    timeout: Annotated[float, Meta(gt=0, le=MAX_TIMEOUT, description="of one run, in seconds")] | None = None


async def list_schedules(request: Request, asked: ListSchedules) -> Response:
    """Schedules by name."""
    client = state_of(request).client
    found = await client.schedules(script=asked.script, after=asked.after, limit=asked.limit)
    shown = [ScheduleDocument(**schedule_document(each)) for each in await client.masked_schedules(found)]
    return reply(ScheduleList(shown, found[-1].name if len(found) == asked.limit else None))


async def get_schedule(request: Request, asked: LookAtSchedule) -> Response:
    """A schedule, and its next ticks."""
    return await _reply(request, await state_of(request).client.schedule(asked.name), asked.next)


async def put_schedule(request: Request, asked: OneSchedule, body: NewSchedule) -> Response:
    """Make a schedule, or replace all that one is.

    In force at once. If it is due at other times than before, these are counted from now on; if not, its next
    tick stays where it is. What was paused stays paused.
    """
    given = msgspec.structs.asdict(body)
    schedule = await state_of(request).client.set_schedule(asked.name, **given, replace=True)
    return await _reply(request, schedule)


async def delete_schedule(request: Request, asked: OneSchedule) -> Response:
    """Forget a schedule; the jobs that it has put in stay."""
    await state_of(request).client.delete_schedule(asked.name)
    return reply(Deleted(asked.name))


async def pause_schedule(request: Request, asked: OneSchedule) -> Response:
    """Let a schedule not tick until it is resumed."""
    return await _reply(request, await state_of(request).client.pause_schedule(asked.name))


async def resume_schedule(request: Request, asked: OneSchedule) -> Response:
    """Have a schedule tick again, from now on: what came meanwhile is not caught up."""
    return await _reply(request, await state_of(request).client.resume_schedule(asked.name))


async def run_schedule(request: Request, asked: OneSchedule) -> Response:
    """Put in a job of a schedule now, whatever its times say, and whether or not it is paused."""
    job = await state_of(request).client.run_schedule(asked.name)
    return reply(shapes.Enqueued(job), 201, headers={"location": f"{PREFIX}/jobs/{job}"})


async def list_ticks(request: Request, asked: LookAtTicks) -> Response:
    """The last ticks of a schedule that became jobs, the newest first."""
    client = state_of(request).client
    found = await client.ticks(await client.schedule(asked.name), asked.limit)
    return reply(TickList([TickDocument(**tick_document(each)) for each in found]))


async def _reply(request: Request, schedule: Schedule, coming: int = 5) -> Response:
    (shown,) = await state_of(request).client.masked_schedules([schedule])
    return reply(ScheduleDocument(**schedule_document(shown, coming)))


_ONE = PREFIX + "/schedules/{name}"
_EXAMPLE = {
    "script": "f/team/score",
    "args": {"x": 1},
    "cron": "30 2 * * MON-FRI",
    "timezone": "Europe/Berlin",
}
TABLE = [
    Endpoint(
        method="GET", path=f"{PREFIX}/schedules", handler=list_schedules, scope="read", group="schedules",
        answers={200: Answer("A page of them.", ScheduleList)},
    ),
    Endpoint(
        method="GET", path=_ONE, handler=get_schedule, scope="read", group="schedules", problems=(404,),
        answers={200: Answer("The schedule.", ScheduleDocument)},
    ),
    Endpoint(
        method="PUT", path=_ONE, handler=put_schedule, scope="run", group="schedules", problems=(404,),
        example=_EXAMPLE, answers={200: Answer("It is set.", ScheduleDocument)},
    ),
    Endpoint(
        method="DELETE", path=_ONE, handler=delete_schedule, scope="run", group="schedules",
        problems=(404,), answers={200: Answer("It is gone.", Deleted)},
    ),
    Endpoint(
        method="POST", path=_ONE + "/pause", handler=pause_schedule, scope="run", group="schedules",
        problems=(404,), answers={200: Answer("It is paused.", ScheduleDocument)},
    ),
    Endpoint(
        method="POST", path=_ONE + "/resume", handler=resume_schedule, scope="run", group="schedules",
        problems=(404,), answers={200: Answer("It ticks.", ScheduleDocument)},
    ),
    Endpoint(
        method="POST", path=_ONE + "/run", handler=run_schedule, scope="run", group="schedules",
        problems=(404,), answers={201: Answer("The job.", shapes.Enqueued)},
    ),
    Endpoint(
        method="GET", path=_ONE + "/ticks", handler=list_ticks, scope="read", group="schedules",
        problems=(404,), answers={200: Answer("Its last ticks.", TickList)},
    ),
]  # fmt: skip
