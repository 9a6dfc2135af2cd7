"""The server itself: does it live, can it work, what can it do."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hotpath.errors import DatabaseUnavailableError
from hotpath.store.status import ping
from hotpath.store.tokens import SCOPES
from hotpath.web import openapi
from hotpath.web.access import principal_of
from hotpath.web.endpoints import JSON, PREFIX, Answer, Endpoint, reply
from hotpath.web.problem import NO_STORE
from hotpath.web.state import state_of

READY_SECONDS = 2.0
"""Within this time the database must have answered."""
TEXT = "text/plain"


async def is_alive(_request: Request) -> Response:
    """The process answers."""
    return Response("ok\n", headers=NO_STORE, media_type=TEXT)


async def is_ready(request: Request) -> Response:
    """The process answers, and so does the database."""
    state = state_of(request)
    if state.stopping.is_set():
        raise DatabaseUnavailableError("the server is stopping")
    async with state.database.connection(within=READY_SECONDS) as connection:
        await ping(connection)
    return Response("ok\n", headers=NO_STORE, media_type=TEXT)


class Caller(msgspec.Struct):
    """Who asks."""

    name: str
    """The token's; `local` on an open server."""
    scopes: list[str]
    """What it may: each includes those before it in `read`, `run`, `admin`."""


async def get_caller(request: Request) -> Response:
    """Who asks, and what it may."""
    principal = principal_of(request)
    return reply(Caller(principal.name, [scope for scope in SCOPES if principal.may(scope)]))


async def get_openapi(_request: Request) -> Response:
    """This document."""
    return Response(openapi.encoded(), headers=NO_STORE, media_type=JSON)


TABLE = [
    Endpoint(
        method="GET", path="/healthz", handler=is_alive, scope=None, group="server",
        answers={200: Answer("`ok`", media_type=TEXT)},
    ),
    Endpoint(
        method="GET", path="/readyz", handler=is_ready, scope=None, group="server",
        answers={200: Answer("`ok`", media_type=TEXT)},
    ),
    Endpoint(
        method="GET", path=f"{PREFIX}/me", handler=get_caller, scope="read", group="server",
        answers={200: Answer("Who asks.", Caller)},
    ),
    Endpoint(
        method="GET", path="/openapi.json", handler=get_openapi, scope="read", group="server",
        answers={200: Answer("The document.", dict)},
    ),
]  # fmt: skip
