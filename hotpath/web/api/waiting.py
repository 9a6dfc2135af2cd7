"""Why a job waits."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from hotpath.documents import waiting_document
from hotpath.web import status_shapes
from hotpath.web.api.jobs import OneJob
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.state import state_of


async def get_waiting(request: Request, asked: OneJob) -> Response:
    """Why a job waits.

    What it waits for itself, who could run it, how many jobs are before it and for about how long. One that
    does not wait has no reasons.
    """
    document = waiting_document(await state_of(request).client.waiting(asked.id))
    document["reasons"] = [status_shapes.WaitingReason(**reason) for reason in document["reasons"]]
    return reply(status_shapes.WaitingDocument(**document))


TABLE = [
    Endpoint(
        method="GET", path=PREFIX + "/jobs/{id}/waiting", handler=get_waiting, scope="read", group="jobs",
        problems=(404,), answers={200: Answer("The reasons.", status_shapes.WaitingDocument)},
    ),
]  # fmt: skip
