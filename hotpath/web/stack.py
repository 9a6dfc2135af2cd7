"""What every request passes on its way to the routes, from the outside in."""

from __future__ import annotations

from starlette.types import ASGIApp

from hotpath.web.access import AccessMiddleware
from hotpath.web.headers import HeadersMiddleware
from hotpath.web.linger import LingerMiddleware
from hotpath.web.state import ServerState


def guarded(app: ASGIApp, state: ServerState) -> ASGIApp:
    """The application behind all that guards it."""
    app = AccessMiddleware(app, state.access)
    return LingerMiddleware(HeadersMiddleware(app))
