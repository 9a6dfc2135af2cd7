"""Limits of scripts, and tags that are paused."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.core.limit_settings import KEY_BYTES, MAX_SECONDS, MOST
from hotpath.errors import UsageError
from hotpath.store import limits as store
from hotpath.store import pauses
from hotpath.store.jobs import TAG_BYTES
from hotpath.web.access import principal_of
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.hints import hint
from hotpath.web.problem import ProblemError
from hotpath.web.state import state_of

_FIELD = re.compile(r"`limit\.(\w+)`")
Name = Annotated[str, Meta(min_length=1, max_length=255, description="Name of the script.")]
Tag = Annotated[str, Meta(min_length=1, max_length=TAG_BYTES, description="Name of the tag.")]
Jobs = Annotated[int, Meta(ge=1, le=MOST)]
Seconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS)]


class LimitDocument(msgspec.Struct, kw_only=True):
    """A limit: at least one of `concurrency` and `rate` is not null."""

    concurrency: int | None
    """Jobs at a time."""
    rate: tuple[int, float] | None
    """Starts, in so many seconds."""
    key: str | None
    """For each value of this text; null: for all jobs together."""


class ScriptLimitDocument(msgspec.Struct, kw_only=True):
    """A script's limit."""

    script: str
    limit: LimitDocument | None
    """What holds now."""
    said: LimitDocument | None
    """What its version says."""
    is_set: bool
    """Whether something was set in its place."""
    set_by: str | None
    set_at: datetime | None
    running: int
    """Jobs that take a place now."""
    started: int | None
    """Of a rate: starts that count now."""
    remarks: list[str] = []
    """What somebody who has just changed it may not have meant."""


class LimitList(msgspec.Struct):
    """Scripts with a limit, by name."""

    limits: list[ScriptLimitDocument]


class NewLimit(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A limit to be set; without `concurrency` and `rate`: that there is none."""

    script: Name
    concurrency: Annotated[Jobs | None, hint("jobs at a time")] = None
    rate: Annotated[tuple[Jobs, Seconds] | None, hint("starts, in so many seconds", format="rate")] = None
    key: Annotated[
        Annotated[str, Meta(min_length=1, max_length=KEY_BYTES, examples=["$args[customer]"])] | None,
        hint("for each value of this text, such as $args[customer]; left out: for all jobs together"),
    ] = None


class WhoseLimit(msgspec.Struct, forbid_unknown_fields=True):
    """Whose limit is to be what its version says."""

    script: Name


class PauseDocument(msgspec.Struct, kw_only=True):
    """A tag that is paused."""

    tag: str
    until: datetime | None
    """Null: until it is resumed."""
    reason: str
    paused_by: str
    paused_at: datetime


class PauseList(msgspec.Struct):
    """Tags that are paused, by name."""

    paused: list[PauseDocument]


class NewPause(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A tag to be paused."""

    tag: Tag
    until: Annotated[
        Annotated[datetime, Meta(tz=True)] | None, hint("by default until it is resumed", format="local")
    ] = None
    reason: Annotated[
        str, Meta(max_length=250, description="which everybody sees who asks why jobs wait")
    ] = ""


class WhichTag(msgspec.Struct, forbid_unknown_fields=True):
    """The tag that is to be resumed."""

    tag: Tag


class Resumed(msgspec.Struct):
    """Whether the tag was paused."""

    resumed: bool


async def list_limits(request: Request) -> Response:
    """The limits of all scripts that have one, or one set in its place."""
    async with state_of(request).database.connection() as connection:
        found = await store.read_limits(connection)
    return reply(LimitList([_limit(one) for one in found]))


async def set_limit(request: Request, body: NewLimit) -> Response:
    """Have a script's limit be this one from now on, whatever its version says.

    Workers that run heed it within a second; jobs under way go on.
    """
    fields = {"concurrency": body.concurrency, "rate": body.rate, "key": body.key}
    given = {name: value for name, value in fields.items() if value is not None}
    if body.key is not None and len(given) == 1:
        detail = "field `key`: a limit for each key needs `concurrency` or `rate`"
        raise ProblemError(400, "The request is not accepted", detail, field="key")
    async with state_of(request).database.connection() as connection:
        try:
            found = await store.set_limit(connection, body.script, given or None, by=_who(request))
        except UsageError as error:
            named = _FIELD.search(str(error))
            field = named[1] if named else None
            raise ProblemError(400, "The request is not accepted", str(error), field=field) from None
    return reply(_limit(found))


async def clear_limit(request: Request, asked: WhoseLimit) -> Response:
    """Have what the script's version says hold again."""
    async with state_of(request).database.connection() as connection:
        found, _ = await store.clear_limit(connection, asked.script)
    return reply(_limit(found))


async def list_pauses(request: Request) -> Response:
    """The tags that are paused now."""
    async with state_of(request).database.connection() as connection:
        found = await pauses.read_pauses(connection)
    return reply(PauseList([_pause(one) for one in found.values()]))


async def pause_tag(request: Request, body: NewPause) -> Response:
    """Have no worker claim jobs that wait in this tag, from within a second on. What runs goes on."""
    async with state_of(request).database.connection() as connection:
        found = await pauses.pause_tag(
            connection, body.tag, until=body.until, reason=body.reason, by=_who(request)
        )
    return reply(_pause(found))


async def resume_tag(request: Request, asked: WhichTag) -> Response:
    """Have workers claim jobs of this tag again, at once."""
    async with state_of(request).database.connection() as connection:
        return reply(Resumed(await pauses.resume_tag(connection, asked.tag)))


def _who(request: Request) -> str:
    return principal_of(request).name[:200]


def _limit(found: store.ScriptLimit) -> ScriptLimitDocument:
    return msgspec.convert(store.script_limit_document(found), ScriptLimitDocument)


def _pause(found: pauses.Pause) -> PauseDocument:
    return msgspec.convert(pauses.pause_document(found), PauseDocument)


_LIMITS = f"{PREFIX}/limits"
_PAUSES = f"{PREFIX}/tags/pauses"
TABLE = [
    Endpoint(
        method="GET", path=_LIMITS, handler=list_limits, scope="read", group="limits",
        answers={200: Answer("The limits.", LimitList)},
    ),
    Endpoint(
        method="PUT", path=_LIMITS, handler=set_limit, scope="admin", group="limits", problems=(404,),
        example={"script": "f/team/score", "concurrency": 4, "key": "$args[customer]"},
        answers={200: Answer("The limit as it is now.", ScriptLimitDocument)},
    ),
    Endpoint(
        method="DELETE", path=_LIMITS, handler=clear_limit, scope="admin", group="limits", problems=(404,),
        answers={200: Answer("The limit as it is now.", ScriptLimitDocument)},
    ),
    Endpoint(
        method="GET", path=_PAUSES, handler=list_pauses, scope="read", group="limits",
        answers={200: Answer("The tags.", PauseList)},
    ),
    Endpoint(
        method="PUT", path=_PAUSES, handler=pause_tag, scope="admin", group="limits",
        example={"tag": "f/team/score", "reason": "the API is down"},
        answers={200: Answer("It is paused.", PauseDocument)},
    ),
    Endpoint(
        method="DELETE", path=_PAUSES, handler=resume_tag, scope="admin", group="limits",
        answers={200: Answer("Workers claim from it.", Resumed)},
    ),
]  # fmt: skip
