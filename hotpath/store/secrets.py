"""What the database knows of the secrets in jobs' args: the schemas that mark them, and the runs that steps
have theirs from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.store.queries import query


@attrs.frozen
class Parent:
    """A run, as far as its steps' secrets are its own."""

    script: str
    args: Any
    parent: UUID | None
    """Of a run that is a step: the run that it is one of."""


async def secret_schemas(
    connection: asyncpg_trio.Connection, scripts: Iterable[str]
) -> list[tuple[str, dict[str, Any]]]:
    """Name and schema of each version of these scripts that takes secrets, older versions included."""
    rows = await connection.fetch(query("secret_schemas"), sorted(set(scripts)))
    return [(row["name"], msgspec.json.decode(row["schema"])) for row in rows]


async def parents(connection: asyncpg_trio.Connection, runs: Iterable[UUID]) -> dict[UUID, Parent]:
    """These runs; without those that nobody knows any more."""
    rows = await connection.fetch(query("parents"), sorted(set(runs)))
    return {
        UUID(int=row["id"].int): Parent(
            row["script"],
            None if row["args"] is None else msgspec.json.decode(row["args"]),
            None if row["parent"] is None else UUID(int=row["parent"].int),
        )
        for row in rows
    }
