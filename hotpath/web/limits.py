"""How much one caller may ask for: requests a second, bytes of a body and the time they take.

Answers are 429 with Retry-After, 413 and 408, as problems. A caller is a token, whatever address it comes
from; without one, an address.
"""

from __future__ import annotations

import math

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotpath.web.access import NOBODY, Principal, address_of
from hotpath.web.options import ServeOptions
from hotpath.web.problem import ProblemError, problem
from hotpath.web.rates import RateLimiter

BODY_SECONDS = 20.0
"""How long a body may keep us waiting, and a second more for each `SLOWEST` bytes that have come."""
SLOWEST = 16 << 10
MAX_FORM = 1 << 20
"""Bytes of a form that is sent without a login."""
MAX_LOGIN = 16 << 10
"""The same of one that holds no more than a token."""
_FORMS = {"/login": MAX_LOGIN, "/logout": MAX_LOGIN, "/resume/": MAX_FORM, "/api/v1/resume/": MAX_FORM}
STREAMED = "/api/v1/jobs/batch"
"""The path whose body is read as a stream, and may be as large as `max_batch`."""


class LimitsMiddleware:
    """Holds every request and WebSocket to the limits; stands behind `AccessMiddleware`."""

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app = app
        self._options = options
        self._requests = RateLimiter(options.rate, options.burst) if options.rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        wait = self._requests.take(caller_of(scope), trio.current_time()) if self._requests else 0.0
        if wait > 0:
            response = problem(
                429,
                "Too many requests",
                f"at most {self._options.rate:g} a second; try again in {math.ceil(wait)} s",
                type="too-many-requests",
                headers={"retry-after": str(math.ceil(wait))},
            )
            await response(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._with_body(scope, receive, send)

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = self._options.max_batch if scope["path"] == STREAMED else self._options.max_body
        for start, limit in _FORMS.items():
            if scope["path"].startswith(start):
                most = min(most, limit)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if len(declared) > 18 or int(declared) > most:  # the protocol has seen that it is a number
            await problem(413, *_too_large(most), type="too-large")(scope, receive, send)
            return
        await self._app(scope, _bounded(receive, most), send)


def caller_of(scope: Scope) -> str:
    """Whose bucket a request takes from."""
    principal: Principal = scope.get("hotpath.principal", NOBODY)
    if principal.token_id is not None:
        return f"token {principal.token_id}"
    return f"address {address_of(scope)}"


def _too_large(most: int) -> tuple[str, str]:
    return "The body is too large", f"this path takes at most {most:,} bytes"


def _bounded(receive: Receive, most: int) -> Receive:
    """`receive` that raises a problem for a body that is too large, or comes too slowly."""
    size = 0
    waited = 0.0
    is_whole = False

    async def bounded() -> Message:
        nonlocal size, waited, is_whole
        if is_whole:
            return await receive()  # that the client has gone, whenever that will be
        began = trio.current_time()
        with trio.move_on_at(began + BODY_SECONDS + size / SLOWEST - waited):
            message = await receive()
            waited += trio.current_time() - began
            size += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if size > most:
                raise ProblemError(413, *_too_large(most), type="too-large")
            return message
        raise ProblemError(
            408, "The body came too slowly", f"{size:,} bytes came in {BODY_SECONDS:g} s", type="too-slow"
        )

    return bounded
