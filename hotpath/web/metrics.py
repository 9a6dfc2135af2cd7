"""GET /metrics, for Prometheus."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from hotpath.web.endpoints import Answer, Endpoint
from hotpath.web.exposition import OPENMETRICS, PROMETHEUS, wants_openmetrics
from hotpath.web.problem import NO_STORE
from hotpath.web.state import state_of


async def get_metrics(request: Request) -> Response:
    """Metrics in the text format of Prometheus, or as OpenMetrics if `Accept` asks for it.

    Read from the database at most once a second, whoever asks.
    """
    openmetrics = wants_openmetrics(request.headers.get("accept", ""))
    text = await state_of(request).scrapes.text(openmetrics=openmetrics)
    kind = OPENMETRICS if openmetrics else PROMETHEUS
    return Response(text, headers={**NO_STORE, "content-type": kind, "vary": "accept"})


TABLE = [
    Endpoint(
        method="GET", path="/metrics", handler=get_metrics, scope="read", group="server",
        answers={200: Answer("The metrics.", media_type="text/plain")},
    ),
]  # fmt: skip
