"""One table says what there is: routes and the OpenAPI document are both made from it, so that they cannot
differ.

A handler is a coroutine function; what it takes is what its signature says: `asked`, a struct of the
parameters of the path and the query string, and `body`, the type of the JSON body, if it has one.
"""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import attrs
import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hotpath.errors import DatabaseUnavailableError
from hotpath.web.access import principal_of
from hotpath.web.problem import NO_STORE, ProblemError
from hotpath.web.reading import read_asked, read_body
from hotpath.web.state import state_of

Handler = Callable[..., Awaitable[Response]]

PREFIX = "/api/v1"
JSON = "application/json"
ANSWER_SECONDS = 30.0
"""Within which a handler answers, once it has all of the request; if not, the database hangs."""


@attrs.frozen
class Answer:
    """What a request is answered with, when it goes well."""

    description: str
    type: Any = None
    """msgspec type of the body; None: it is of another media type, or there is none."""
    media_type: str = JSON
    headers: Mapping[str, str] = attrs.field(factory=dict)
    """Headers that matter, and what they say."""


@attrs.frozen(kw_only=True)
class Endpoint:
    """One thing that can be asked for."""

    method: str
    path: str
    """As Starlette writes it, from the root."""
    handler: Handler
    scope: str | None
    """What a token must be good for: `read`, `run` or `admin`; None: no credentials are asked for."""
    group: str
    """Under which the document shows it."""
    answers: Mapping[int, Answer]
    problems: tuple[int, ...] = ()
    """Statuses of what may go wrong here, beyond what may anywhere."""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    """Headers of the request that are heeded, and what for."""
    takes: str = JSON
    """Media type of the body, if it has one."""
    has_lines: bool = False
    """Whether the handler reads the body itself, line by line."""
    example: Any = None
    """Of a body."""
    seconds: float | None = None
    """Within which the handler answers; None: `ANSWER_SECONDS`."""
    asked: Any = attrs.field(init=False)
    """Struct of the parameters; None if there are none."""
    body: Any = attrs.field(init=False)
    """Type of the JSON body; None if the handler takes none."""

    @asked.default
    def _asked(self) -> Any:
        return typing.get_type_hints(self.handler, include_extras=True).get("asked")

    @body.default
    def _body(self) -> Any:
        return typing.get_type_hints(self.handler, include_extras=True).get("body")

    @property
    def summary(self) -> str:
        """First line of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().partition("\n")[0]

    @property
    def description(self) -> str:
        """The rest of it."""
        rest = (self.handler.__doc__ or "").strip().partition("\n")[2]
        return "\n".join(line.strip() for line in rest.strip().splitlines())

    async def __call__(self, request: Request) -> Response:
        """Check who asks and what is asked, and have the handler answer. Raises `ProblemError`, and
        `DatabaseUnavailableError` when that takes too long.
        """
        # The guard in front has read the path; that it and the router read it alike is not taken on trust.
        if self.scope is not None and not principal_of(request).may(self.scope):
            detail = f"this needs the scope {self.scope}"
            raise ProblemError(403, "Not allowed", detail, type="not-allowed")
        given: dict[str, Any] = {}
        if self.asked is not None:
            given["asked"] = read_asked(request, self.asked)
        else:
            read_asked(request, _Nothing)
        if self.body is not None:
            given["body"] = await read_body(request, self.body)
        limit = ANSWER_SECONDS if self.seconds is None else self.seconds
        with trio.move_on_after(limit):
            return await self.handler(request, **given)
        state_of(request).database.pool.drop_idle()  # they may hang as well
        raise DatabaseUnavailableError(f"the database did not answer within {limit:g} s")


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No parameters."""


def routes_of(table: Iterable[Endpoint]) -> list[BaseRoute]:
    """A route for each path of the table, in its order, for all methods that it has."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for endpoint in table:
        paths.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return [
        Route(path, _by_method(methods), methods=list(methods), name=path) for path, methods in paths.items()
    ]


def _by_method(methods: Mapping[str, Endpoint]) -> Handler:
    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await methods[method](request)

    return answer


def reply(
    value: Any, status: int = 200, *, headers: Mapping[str, str] | None = None, media_type: str = JSON
) -> Response:
    """A JSON document as a response, not to be kept by any cache."""
    return Response(
        msgspec.json.encode(value), status, {**NO_STORE, **(headers or {})}, media_type=media_type
    )
