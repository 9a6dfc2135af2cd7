"""What versions consist of: their files, and the versions of the scripts that flows run.

A file's content is stored once, by its hash. Whoever reads it back checks it against that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import attrs

from hotpath import asyncpg_trio
from hotpath.model import ScriptVersion
from hotpath.store.queries import query


@attrs.frozen
class StoredFile:
    """A file of a version."""

    path: str
    """From the workspace."""
    hash: str
    """Hex SHA-256 of its content."""
    main: bool
    """Whether it is the script's source, or the flow's own file."""


async def put_files(
    connection: asyncpg_trio.Connection, version: int, files: Sequence[tuple[str, bytes]]
) -> None:
    """Store what a version consists of, the main file first, unless that is there."""
    if not files:
        return
    await connection.execute(
        query("put_files"),
        version,
        [path for path, _ in files],
        [hashlib.sha256(body).hexdigest() for _, body in files],
        [body for _, body in files],
        files[0][0],
    )


async def put_steps(
    connection: asyncpg_trio.Connection, version: int, steps: Sequence[ScriptVersion]
) -> None:
    """Note which scripts a flow's version runs."""
    if steps:
        inline = [step.id if step.description.inline else None for step in steps]
        await connection.execute(query("put_steps"), version, [step.script for step in steps], inline)


async def files_of(
    connection: asyncpg_trio.Connection, versions: Iterable[int]
) -> dict[int, list[StoredFile]]:
    """What each of these versions consists of; one whose source is not stored is left out."""
    found: dict[int, list[StoredFile]] = {}
    for row in await connection.fetch(query("version_files"), list(versions)):
        found.setdefault(row["version"], []).append(StoredFile(row["path"], row["content"], row["main"]))
    return found


async def contents(connection: asyncpg_trio.Connection, hashes: Iterable[str]) -> dict[str, bytes]:
    """Contents by their hashes; one that is not there, or is not what its hash says, is left out."""
    rows = await connection.fetch(query("contents"), sorted(set(hashes)))
    return {
        row["hash"]: row["body"] for row in rows if hashlib.sha256(row["body"]).hexdigest() == row["hash"]
    }
