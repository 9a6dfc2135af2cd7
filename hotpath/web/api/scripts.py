"""Scripts and their versions."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.documents import version_document
from hotpath.errors import UnknownScriptError
from hotpath.store import scripts as store
from hotpath.web import shapes
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.state import state_of


class OneScript(msgspec.Struct, forbid_unknown_fields=True):
    """A script by its name."""

    path: Annotated[str, Meta(description="Name of the script, such as `f/team/score`.")]


async def list_scripts(request: Request) -> Response:
    """The scripts that are registered, each with its current version."""
    async with state_of(request).database.connection() as connection:
        found = await store.current_versions(connection)
    return reply(shapes.ScriptList([shapes.VersionDocument(**version_document(each)) for each in found]))


async def get_script(request: Request, asked: OneScript) -> Response:
    """A script with all its versions."""
    async with state_of(request).database.connection() as connection:
        found = await store.versions_of(connection, asked.path)
        if not found:
            raise UnknownScriptError(await store.unknown_script(connection, asked.path))
    return reply(shapes.ScriptVersions([shapes.VersionDocument(**version_document(each)) for each in found]))


TABLE = [
    Endpoint(
        method="GET", path=f"{PREFIX}/scripts", handler=list_scripts, scope="read", group="scripts",
        answers={200: Answer("The scripts, by name.", shapes.ScriptList)},
    ),
    Endpoint(
        method="GET", path=PREFIX + "/scripts/{path:path}", handler=get_script, scope="read", group="scripts",
        problems=(404,), answers={200: Answer("Its versions.", shapes.ScriptVersions)},
    ),
]  # fmt: skip
