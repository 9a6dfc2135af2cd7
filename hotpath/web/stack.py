"""What every request passes on its way to the routes, from the outside in."""

from __future__ import annotations

from starlette.types import ASGIApp

from hotpath.web.access import AccessMiddleware
from hotpath.web.forwarded import ForwardedMiddleware
from hotpath.web.headers import HeadersMiddleware
from hotpath.web.limits import LimitsMiddleware
from hotpath.web.requests import RequestsMiddleware
from hotpath.web.state import ServerState


def guarded(app: ASGIApp, state: ServerState) -> ASGIApp:
    """The application behind all that guards it."""
    app = LimitsMiddleware(app, state.options)
    app = AccessMiddleware(app, state.access)
    app = HeadersMiddleware(app)
    app = RequestsMiddleware(app)
    return ForwardedMiddleware(app, state.options.trust_forwarded)
