"""How the queue is doing: tags, workers, groups of workers, all of it at a glance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hotpath.documents import tag_document, worker_document
from hotpath.store.status import Status, WorkerStatus, read_status
from hotpath.web import status_shapes
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.glance import read_overview
from hotpath.web.state import state_of


async def _status(request: Request) -> Status:
    async with state_of(request).database.connection() as connection:
        return await read_status(connection)


async def list_tags(request: Request) -> Response:
    """Every tag with jobs, or with a worker that listens to it."""
    status = await _status(request)
    now = datetime.now(UTC)
    return reply(
        status_shapes.TagList([status_shapes.TagDocument(**tag_document(tag, now)) for tag in status.tags])
    )


async def list_workers(request: Request) -> Response:
    """Workers by name, those too that have stopped within the last hour."""
    found = await state_of(request).client.workers()
    return reply(
        status_shapes.WorkerList([status_shapes.WorkerDocument(**worker_document(each)) for each in found])
    )


async def list_groups(request: Request) -> Response:
    """The groups that are configured or that workers belong to; workers without one are together."""
    workers = (await _status(request)).workers
    revisions = {group.name: group.revision for group in await state_of(request).client.groups()}
    names = sorted(
        {worker.group for worker in workers} | set(revisions), key=lambda name: (name is None, name)
    )
    return reply(
        status_shapes.GroupList(
            [
                _group(name, revisions.get(name or ""), [each for each in workers if each.group == name])
                for name in names
            ]
        )
    )


def _group(
    name: str | None, revision: int | None, workers: list[WorkerStatus]
) -> status_shapes.GroupDocument:
    return status_shapes.GroupDocument(
        group=name,
        revision=revision,
        workers=len(workers),
        lost=sum(worker.state == "lost" for worker in workers),
        running=sum(worker.running for worker in workers),
        jobs=sum(worker.jobs for worker in workers),
        scripts=sorted({worker.script for worker in workers if worker.script}),
        tags=sorted({tag for worker in workers for tag in worker.tags}),
    )


async def get_overview(request: Request) -> Response:
    """All of it at a glance."""
    async with state_of(request).database.connection() as connection:
        found: dict[str, Any] = await read_overview(connection)
    return reply(msgspec.convert(found, status_shapes.Overview))


_GROUP: dict[str, Any] = {"method": "GET", "scope": "read", "group": "status"}
TABLE = [
    Endpoint(
        **_GROUP, path=f"{PREFIX}/overview", handler=get_overview,
        answers={200: Answer("At a glance.", status_shapes.Overview)},
    ),
    Endpoint(
        **_GROUP, path=f"{PREFIX}/tags", handler=list_tags,
        answers={200: Answer("The tags.", status_shapes.TagList)},
    ),
    Endpoint(
        **_GROUP, path=f"{PREFIX}/workers", handler=list_workers,
        answers={200: Answer("The workers.", status_shapes.WorkerList)},
    ),
    Endpoint(
        **_GROUP, path=f"{PREFIX}/groups", handler=list_groups,
        answers={200: Answer("The groups.", status_shapes.GroupList)},
    ),
]  # fmt: skip
