"""The application: every route, and what stands before them all."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from hotpath.web import api, approval, login, pages, ws
from hotpath.web.problem import HANDLERS
from hotpath.web.stack import guarded
from hotpath.web.state import ServerState


def routes() -> list[BaseRoute]:
    """All of them."""
    return [*login.routes(), *approval.routes(), *api.routes(), *pages.routes(), *ws.routes()]


def make_app(state: ServerState) -> ASGIApp:
    """The application for a server that has started, behind what guards it."""
    app = Starlette(routes=routes(), exception_handlers=HANDLERS)
    app.router.redirect_slashes = False  # it redirects to where the Host header says
    app.state.server = state
    return guarded(app, state)
