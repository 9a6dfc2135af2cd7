"""How many workers a group needs, and why; and what is wanted of it."""

from __future__ import annotations

import re
from typing import Any

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hotpath.errors import UsageError
from hotpath.store.scaling import scaling_document
from hotpath.web.api.groups import OneGroup
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.problem import ProblemError
from hotpath.web.scaling_shapes import GroupScaling, SaidScale
from hotpath.web.state import state_of

# What the options of the command are called here.
_FIELDS = {
    "min": "min_workers", "max": "max_workers", "target": "target_seconds", "cooldown": "cooldown_seconds",
    "utilisation": "utilisation", "processes": "processes", "tags": "tags",
}  # fmt: skip
_OPTION = re.compile(rf"--({'|'.join(_FIELDS)})\b")


async def get_scaling(request: Request, asked: OneGroup) -> Response:
    """How many workers a group has, how many it needs, and everything that went into the number.

    A group that nobody knows has the default scale and no workers.
    """
    client = state_of(request).client
    said = await client.scale(asked.name)
    found = scaling_document(await client.scaling(asked.name))
    found["said"] = None if said is None else attrs.asdict(said)
    return reply(msgspec.convert(found, GroupScaling))


async def set_scaling(request: Request, asked: OneGroup, body: SaidScale) -> Response:
    """Say what is wanted of a group, in the place of all that was said. Who scales it hears at once."""
    changes: dict[str, Any] = msgspec.structs.asdict(body)
    changes["tags"] = None if body.tags is None else tuple(body.tags)
    try:
        await state_of(request).client.set_scale(asked.name, **changes)
    except UsageError as error:
        named = _OPTION.search(str(error))
        detail = _OPTION.sub(lambda option: _FIELDS[option[1]], str(error))
        field = None if named is None else _FIELDS[named[1]]
        raise ProblemError(400, "The request is not accepted", detail, field=field) from None
    return await get_scaling(request, asked)


async def unset_scaling(request: Request, asked: OneGroup) -> Response:
    """Have a group use the defaults again."""
    client = state_of(request).client
    if await client.scale(asked.name) is not None:
        await client.unset_scale(asked.name)
    return await get_scaling(request, asked)


_SCALING: dict[str, Any] = {"path": PREFIX + "/groups/{name}/scaling", "group": "groups"}
TABLE = [
    Endpoint(
        **_SCALING, method="GET", scope="read", handler=get_scaling,
        answers={200: Answer("The numbers.", GroupScaling)},
    ),
    Endpoint(
        **_SCALING, method="PUT", scope="admin", handler=set_scaling,
        example={"min_workers": 0, "max_workers": 8, "cooldown_seconds": 300},
        answers={200: Answer("The numbers, as they are now.", GroupScaling)},
    ),
    Endpoint(
        **_SCALING, method="DELETE", scope="admin", handler=unset_scaling,
        answers={200: Answer("The numbers, as they are now.", GroupScaling)},
    ),
]  # fmt: skip
