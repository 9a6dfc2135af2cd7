"""For how long things are kept, and what is not kept any more."""

from __future__ import annotations

import os
import socket
from datetime import date
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.core.retention import FIELDS
from hotpath.errors import UsageError
from hotpath.store import retention as store
from hotpath.store.prune import prune, pruned_document
from hotpath.store.prune_plan import estimate, make_plan, plan_document
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.hints import hint
from hotpath.web.problem import ProblemError
from hotpath.web.state import state_of

ROUND = 10.0
"""Seconds for which a request drops what is not kept; whoever keeps house does the rest."""
_SPAN = Meta(max_length=40, description="Such as 12h, 30d, 8w or `forever`.", examples=["30d"])
Span = Annotated[str, _SPAN] | None


class Spans(msgspec.Struct, kw_only=True):
    """For how long each is kept after the day on which a job ended; null: not said."""

    jobs: str | None
    results: str | None
    args: str | None
    logs: str | None


class SpansOfAll(Spans, kw_only=True):
    """What is said for all scripts."""

    disk: int | None
    """Bytes that all tables together may take."""


class ScriptSpans(msgspec.Struct):
    """What is said of a script, and what counts."""

    script: str
    database: Spans | None
    """What the database says of it; it comes first."""
    own: Spans | None
    """What the script says itself."""
    kept: Spans
    """All taken together."""


class RetentionRules(msgspec.Struct):
    """All that is said."""

    default: SpansOfAll
    scripts: list[ScriptSpans]
    kept: Spans
    """What counts for scripts of which nothing is said."""


class NewSpans(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is to be said; what is not given stays as it was."""

    script: Annotated[str, Meta(max_length=255, description="Of this script; by default of all.")] | None = (
        None
    )
    jobs: Annotated[Span, hint("such as 12h, 30d, 8w or forever; nothing of a job is kept for longer")] = None
    results: Annotated[Span, hint("likewise")] = None
    args: Annotated[Span, hint("likewise; without them a job cannot be run again")] = None
    logs: Annotated[Span, hint("likewise")] = None
    disk: Annotated[
        Annotated[str, Meta(max_length=40, examples=["20G"])] | None,
        hint("what all tables may take, such as 20G: the oldest days go first", format="size"),
    ] = None


class WhoseSpans(msgspec.Struct, forbid_unknown_fields=True):
    """Of whom nothing is to be said any more."""

    script: Annotated[str, Meta(max_length=255, description="This script; by default all.")] | None = None


class Cleared(msgspec.Struct):
    """Whether something was said."""

    cleared: bool


class WholeDay(msgspec.Struct):
    """A partition that goes whole."""

    name: str
    day: date
    why: str
    rows: int
    """As the server estimates them."""
    bytes: int
    allowed: bool
    """Whether this server's role may drop it."""


class ThroughDay(msgspec.Struct):
    """A day that is to be gone through."""

    name: str
    day: date
    scripts: dict[str, list[str]]
    """Whose `jobs` (of a day of logs: logs), `results` and `args` go."""
    rows: dict[str, int]
    bytes: dict[str, int]


class DayObjects(msgspec.Struct):
    """Objects of the log store that go whole."""

    store: str
    day: date
    objects: int
    bytes: int


class DiskNow(msgspec.Struct):
    """What the tables take, and may take."""

    bytes: int
    bound: int | None
    after: int
    held: bool
    """Whether the bound holds after that."""


class PrunePlan(msgspec.Struct):
    """What is not kept any more."""

    partitions: list[WholeDay]
    days: list[ThroughDay]
    objects: list[DayObjects]
    disk: DiskNow


class DiskAfter(msgspec.Struct):
    """What the tables take, and may take."""

    bytes: int
    bound: int | None
    held: bool


class PruneDone(msgspec.Struct, kw_only=True):
    """What was dropped."""

    dropped: list[str]
    for_disk: list[str]
    """Those of them that went for the sake of the disk."""
    jobs: int
    results: int
    args: int
    logs: int
    objects: int
    payloads: int
    """Large args of jobs that went with their day."""
    more: bool
    """Whether there is more to do: whoever keeps house goes on."""
    forbidden: bool
    """Whether the right to drop whole days was lacking."""
    disk: DiskAfter | None
    troubles: list[str]


async def get_retention(request: Request) -> Response:
    """For how long things are kept, for all and for each script."""
    async with state_of(request).database.connection() as connection:
        rules = await store.read_rules(connection)
    return reply(msgspec.convert(store.rules_document(rules), RetentionRules))


async def set_retention(request: Request, body: NewSpans) -> Response:
    """Say for how long things are kept, for a script or for all."""
    spans = {field: getattr(body, field) for field in FIELDS}
    try:
        async with state_of(request).database.connection() as connection:
            await store.set_rule(connection, body.script, spans, disk=body.disk)
    except UsageError as error:
        first = str(error).split(maxsplit=1)[0]
        field = first if first in (*FIELDS, "disk", "script") else "script" if body.script else None
        raise ProblemError(400, "The request is not accepted", str(error), field=field) from None
    return await get_retention(request)


async def clear_retention(request: Request, asked: WhoseSpans) -> Response:
    """Say nothing any more for a script, or for all."""
    if asked.script is not None and ("\0" in asked.script or not asked.script):
        raise ProblemError(400, "The request is not accepted", "field `script`: no name", field="script")
    async with state_of(request).database.connection() as connection:
        cleared = await store.clear_rule(connection, asked.script)
    return reply(Cleared(cleared))


async def get_plan(request: Request) -> Response:
    """What is not kept any more and would be dropped now; rows and bytes are estimates."""
    async with state_of(request).database.connection() as connection:
        plan = await make_plan(connection)
        estimates = [await estimate(connection, one) for one in plan.passes]
    document: dict[str, Any] = plan_document(plan, estimates)
    return reply(msgspec.convert(document, PrunePlan))


async def prune_now(request: Request) -> Response:
    """Drop what is not kept any more, for some seconds; whoever keeps house goes on with the rest."""
    holder = f"{socket.gethostname()}:{os.getpid()} (API)"
    async with state_of(request).database.connection() as connection:
        done = await prune(connection, holder, seconds=ROUND, gently=False)
    if done is None:
        raise ProblemError(409, "Somebody else is at it", "it is being done just now", type="busy")
    return reply(msgspec.convert(pruned_document(done), PruneDone))


_RULES = f"{PREFIX}/retention"
TABLE = [
    Endpoint(
        method="GET", path=_RULES, handler=get_retention, scope="read", group="retention",
        answers={200: Answer("What is said, and what counts.", RetentionRules)},
    ),
    Endpoint(
        method="PUT", path=_RULES, handler=set_retention, scope="admin", group="retention",
        example={"jobs": "30d", "logs": "14d"},
        answers={200: Answer("What is said now.", RetentionRules)},
    ),
    Endpoint(
        method="DELETE", path=_RULES, handler=clear_retention, scope="admin", group="retention",
        answers={200: Answer("It is said no more.", Cleared)},
    ),
    Endpoint(
        method="GET", path=f"{PREFIX}/prune", handler=get_plan, scope="read", group="retention",
        answers={200: Answer("What would go.", PrunePlan)},
    ),
    Endpoint(
        method="POST", path=f"{PREFIX}/prune", handler=prune_now, scope="admin", group="retention",
        problems=(409,), seconds=60.0, answers={200: Answer("What went.", PruneDone)},
    ),
]  # fmt: skip
