"""The HTTP API: every endpoint stands in one of the tables here."""

from __future__ import annotations

from starlette.routing import BaseRoute

from hotpath.web import metrics
from hotpath.web.api import (
    alerts,
    doctor,
    enqueue,
    groups,
    history,
    jobs,
    limits,
    logs,
    retention,
    runs,
    scaling,
    schedules,
    scripts,
    server,
    status,
    tokens,
    versions,
    waiting,
)
from hotpath.web.endpoints import Endpoint, routes_of

TABLE: list[Endpoint] = [
    *enqueue.TABLE,
    *jobs.TABLE,
    *limits.TABLE,
    *waiting.TABLE,
    *logs.TABLE,
    *scripts.TABLE,
    *versions.TABLE,
    *runs.TABLE,
    *schedules.TABLE,
    *status.TABLE,
    *history.TABLE,
    *groups.TABLE,
    *scaling.TABLE,
    *retention.TABLE,
    *alerts.TABLE,
    *tokens.TABLE,
    *server.TABLE,
    *doctor.TABLE,
    *metrics.TABLE,
]


def routes() -> list[BaseRoute]:
    """A route for each path of the API."""
    return routes_of(TABLE)
