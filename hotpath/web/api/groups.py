"""Worker groups: their configuration, read, replaced, changed, deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.core.group_document import check_name
from hotpath.core.groups import GroupConfig
from hotpath.groups import changing, replacing
from hotpath.store.groups import Group, group_document
from hotpath.web.access import principal_of
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.group_shapes import ConfiguredGroup, DeletedGroup, GroupFields
from hotpath.web.state import state_of


class OneGroup(msgspec.Struct, forbid_unknown_fields=True):
    """A group by its name."""

    name: Annotated[
        str, Meta(min_length=1, max_length=100, pattern=r"^\w[\w.-]*$", description="Name of the group.")
    ]


class OneGroupToChange(OneGroup, forbid_unknown_fields=True, kw_only=True):
    """A group that is to be another one."""

    revision: Annotated[
        Annotated[int, Meta(ge=0, le=2**53)] | None,
        Meta(description="Refuse if it has another one by now; 0: if it is there."),
    ] = None


class OneGroupToDelete(OneGroup, forbid_unknown_fields=True, kw_only=True):
    """A group that is to go."""

    force: Annotated[bool, Meta(description="Also while live workers belong to it.")] = False


async def get_group(request: Request, asked: OneGroup) -> Response:
    """A group's configuration, the live workers that belong to it, and what there is to remark."""
    return await _shown(request, await state_of(request).client.group(asked.name))


async def replace_group(request: Request, asked: OneGroupToChange, body: GroupFields) -> Response:
    """Give a group this configuration, in the place of any other.

    It is made if it is not there. Its workers heed it within a second.
    """
    return await _put(request, asked, replacing(body.document()))


async def change_group(request: Request, asked: OneGroupToChange, body: GroupFields) -> Response:
    """Change the fields that are given; `env` and `periodic` by name, all else as a whole."""
    return await _put(request, asked, changing(body.document()))


async def delete_group(request: Request, asked: OneGroupToDelete) -> Response:
    """Delete a group.

    While live workers belong to it that is refused, unless forced: then they go on with the configuration
    that they have.
    """
    workers = await state_of(request).client.delete_group(asked.name, force=asked.force)
    return reply(DeletedGroup(name=asked.name, workers=[worker.name for worker in workers]))


async def _put(
    request: Request, asked: OneGroupToChange, change: Callable[[GroupConfig | None], GroupConfig]
) -> Response:
    name = check_name(asked.name)
    revisions = None if asked.revision is None else {name: asked.revision}
    done = await state_of(request).client.put_groups(
        {name: change}, principal_of(request).name, revisions=revisions
    )
    return await _shown(request, done[0].group)


async def _shown(request: Request, group: Group) -> Response:
    client = state_of(request).client
    workers = await client.group_workers(group.name)
    found: dict[str, Any] = group_document(group, workers, await client.group_remarks(group))
    return reply(msgspec.convert(found, ConfiguredGroup))


_GROUP: dict[str, Any] = {"path": PREFIX + "/groups/{name}", "group": "groups", "problems": (404,)}
_CHANGED = _GROUP | {"problems": (404, 409)}
_EXAMPLE = {"tags": ["etl-*:5", "reports"], "processes": 4, "env": {"REGION": "eu"}}
TABLE = [
    Endpoint(
        **_GROUP, method="GET", scope="read", handler=get_group,
        answers={200: Answer("The group.", ConfiguredGroup)},
    ),
    Endpoint(
        **_CHANGED, method="PUT", scope="admin", handler=replace_group, example=_EXAMPLE,
        answers={200: Answer("As it is now.", ConfiguredGroup)},
    ),
    Endpoint(
        **_CHANGED, method="PATCH", scope="admin", handler=change_group, example={"processes": 8},
        answers={200: Answer("As it is now.", ConfiguredGroup)},
    ),
    Endpoint(
        **_CHANGED, method="DELETE", scope="admin", handler=delete_group,
        answers={200: Answer("It is deleted.", DeletedGroup)},
    ),
]  # fmt: skip
