"""Errors as a client of the API sees them: `application/problem+json` (RFC 9457), one line each, the field
named where one is wrong, nothing of the program's inside.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hotpath.core.flow.tokens import ExpiredTokenError, TokenError
from hotpath.errors import (
    BadArgsError,
    DatabaseUnavailableError,
    GroupChangedError,
    GroupInUseError,
    HotpathError,
    NotKeptError,
    NotSuspendedError,
    NotUniqueError,
    ScriptError,
    UnknownGroupError,
    UnknownJobError,
    UnknownScriptError,
    UsageError,
)
from hotpath.store.alerts import UnknownAlertError
from hotpath.store.idempotency import KeyReusedError
from hotpath.store.log_store import LogStoreError
from hotpath.store.schedules import UnknownScheduleError
from hotpath.store.tokens import UnknownTokenError

log = logging.getLogger("hotpath.web")

MEDIA_TYPE = "application/problem+json"
NO_STORE = {"cache-control": "no-store"}
RETRY_SECONDS = 2
"""What a client is told to wait when the database is away."""

_FIELD = re.compile(r"\bfield `([^`]*)`")
_LINE = re.compile(r"line (\d+): ")
# How errors about what a job is asked for begin: with the name of the field.
_FIRST = re.compile(
    r"(script|tag|priority|scheduled_for|timeout|since|until|limit|state|before|parent|step|expires|reason"
    r"|name|cron|every|timezone|catch_up_within|catch_up|overlap|(?:at|when|to|for|clear|cooldown)(?=:))\b"
)

# What an error of ours is to a client; the first that fits counts.
_ERRORS: tuple[tuple[type[HotpathError], int, str, str], ...] = (
    (UnknownJobError, 404, "unknown-job", "No such job"),
    (UnknownScriptError, 404, "unknown-script", "No such script"),
    (UnknownGroupError, 404, "unknown-group", "No such group"),
    (GroupChangedError, 409, "group-changed", "The group is another one by now"),
    (GroupInUseError, 409, "group-in-use", "The group has live workers"),
    (BadArgsError, 400, "bad-args", "The args are not accepted"),
    (KeyReusedError, 422, "key-reused", "The key was used for another request"),
    (NotUniqueError, 409, "not-unique", "Another job has the unique key"),
    (NotSuspendedError, 409, "not-suspended", "The run does not wait for this"),
    (NotKeptError, 410, "not-kept", "It is not kept any more"),
    (ExpiredTokenError, 410, "expired-token", "The token has expired"),
    (TokenError, 403, "bad-token", "The token opens nothing"),
    (ScriptError, 422, "bad-script", "The script cannot be used"),
    (UsageError, 400, "bad-request", "The request is not accepted"),
    (UnknownScheduleError, 404, "unknown-schedule", "No such schedule"),
    (UnknownAlertError, 404, "unknown-alert", "No such alert"),
    (UnknownTokenError, 404, "unknown-token", "No such token"),
    (DatabaseUnavailableError, 503, "no-database", "The database is away"),
    (LogStoreError, 503, "no-log-store", "The log store is away"),
)


class Problem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What went wrong."""

    type: str
    """A name of this kind of problem that does not change, as a URN."""
    title: str
    status: int
    detail: str = ""
    field: str | msgspec.UnsetType = msgspec.UNSET
    """The field of the request that is wrong."""
    line: int | msgspec.UnsetType = msgspec.UNSET
    """The line of the body that is wrong, from 1."""


class ProblemError(Exception):
    """For a handler to raise: answer with this problem."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        *,
        type: str = "bad-request",
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail or title)
        self.status, self.title, self.detail, self.type = status, title, detail, type
        self.headers, self.extra = headers, extra


def problem(
    status: int,
    title: str,
    detail: str = "",
    *,
    type: str = "bad-request",
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> Response:
    """A problem as a response. `type`: its name behind `urn:hotpath:`; `extra`: members of its own, such as
    `field`; those that are None are left out.
    """
    document = {"type": f"urn:hotpath:{type}", "title": title, "status": status, "detail": detail}
    document |= {name: value for name, value in extra.items() if value is not None}
    return Response(
        msgspec.json.encode(document), status, {**NO_STORE, **(headers or {})}, media_type=MEDIA_TYPE
    )


def field_of(message: str) -> str | None:
    """The field that a message of ours names, if it names one."""
    found = _FIELD.search(message) or _FIRST.match(message)
    return found.group(1) if found else None


async def on_own(_request: Request, error: Exception) -> Response:
    """An error that the handler raised on purpose."""
    assert isinstance(error, ProblemError)
    return problem(
        error.status, error.title, error.detail, type=error.type, headers=error.headers, **error.extra
    )


async def on_hotpath(request: Request, error: Exception) -> Response:
    """One of Hotpath's errors."""
    assert isinstance(error, HotpathError)
    found = next((each for each in _ERRORS if isinstance(error, each[0])), None)
    if found is None:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _fault()
    kind, status, name, title = found
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        log.warning("%s %s: %s", request.method, request.url.path, error)  # which names hosts
        what = "log store" if kind is LogStoreError else "database"
        detail = f"the {what} does not answer at the moment: try again"
        return problem(status, title, detail, type=name, headers={"retry-after": str(RETRY_SECONDS)})
    field = "script" if kind is UnknownScriptError else field_of(str(error))
    line = _LINE.match(str(error))
    return problem(status, title, str(error), type=name, line=int(line[1]) if line else None, field=field)


async def on_http(request: Request, error: Exception) -> Response:
    """What the router refuses: no such path, not this method."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = "" if error.detail == status.phrase else error.detail
    if status == HTTPStatus.NOT_FOUND:
        detail = "there is nothing at this path; /openapi.json lists all there is"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = dict(error.headers or {}).get("Allow", "")
        detail = f"{request.method} is not for this path; {allowed} is"
    name = status.phrase.lower().replace(" ", "-")
    return problem(status, status.phrase, detail, type=name, headers=error.headers)


async def on_unexpected(_request: Request, _error: Exception) -> Response:
    """A fault of our own, which the server logs and the client does not get to see."""
    return _fault()


async def on_gone(_request: Request, _error: Exception) -> Response:
    """The client went away while it sent: there is nobody to answer."""
    return Response(status_code=400)


def _fault() -> Response:
    return problem(
        500, "The server failed", "the fault is the server's; its log says more", type="server-error"
    )


HANDLERS: dict[Any, Any] = {
    ProblemError: on_own,
    HotpathError: on_hotpath,
    HTTPException: on_http,
    ClientDisconnect: on_gone,
    Exception: on_unexpected,
}
"""For `Starlette(exception_handlers=...)`; coroutines all, or Starlette would call them in a thread."""
