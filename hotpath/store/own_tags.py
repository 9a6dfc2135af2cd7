"""Where the jobs of a script wait, for a worker that is dedicated to it."""

from __future__ import annotations

from collections.abc import Sequence

from hotpath import asyncpg_trio
from hotpath.core.names import plain_name
from hotpath.core.placeholders import fill, has_places, needs_args
from hotpath.errors import UsageError
from hotpath.model import Description
from hotpath.store.queries import query


async def own_tags(
    connection: asyncpg_trio.Connection, description: Description, given: Sequence[str]
) -> tuple[str, ...]:
    """The tags that a worker of this script listens to: those `given`, else the script's own.

    Raises `UsageError` where nobody can know them: they are made of each job's args.
    """
    if given:
        return tuple(given)
    tag = description.settings.tag or plain_name(description.path)
    if needs_args(tag):
        raise UsageError(
            f"jobs of {description.path} wait in tags made of their args, {tag}: name with --tag those that "
            "this worker is to take"
        )
    if has_places(tag):
        tag = fill(tag, {}, "the tag", workspace=await connection.fetchval(query("workspace")))
    return (tag,)
