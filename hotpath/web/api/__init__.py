"""The HTTP API: every endpoint stands in one of the tables here."""

from __future__ import annotations

from starlette.routing import BaseRoute

from hotpath.web import metrics
from hotpath.web.api import enqueue, jobs, logs, runs, scripts, server, status, tokens, waiting
from hotpath.web.endpoints import Endpoint, routes_of

TABLE: list[Endpoint] = [
    *enqueue.TABLE,
    *jobs.TABLE,
    *waiting.TABLE,
    *logs.TABLE,
    *scripts.TABLE,
    *runs.TABLE,
    *status.TABLE,
    *tokens.TABLE,
    *server.TABLE,
    *metrics.TABLE,
]


def routes() -> list[BaseRoute]:
    """A route for each path of the API."""
    return routes_of(TABLE)
