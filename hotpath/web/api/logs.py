"""What jobs said."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from hotpath.web.api.jobs import OneJob
from hotpath.web.endpoints import PREFIX, Answer, Endpoint
from hotpath.web.problem import NO_STORE
from hotpath.web.state import state_of

TEXT = "text/plain"


async def get_log_text(request: Request, asked: OneJob) -> Response:
    """The whole log as a file: what the job printed and logged, over all its attempts."""
    text = await state_of(request).client.log(asked.id)
    headers = {**NO_STORE, "content-disposition": f'attachment; filename="{asked.id}.log.txt"'}
    return Response(text, headers=headers, media_type=TEXT)


TABLE = [
    Endpoint(
        method="GET", path=PREFIX + "/jobs/{id}/log.txt", handler=get_log_text, scope="read", group="jobs",
        problems=(404,), answers={200: Answer("The text, in UTF-8.", media_type=TEXT)},
    ),
]  # fmt: skip
