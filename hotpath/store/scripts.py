"""Scripts and their versions in the database: registered by whoever resolves one, read by whoever enqueues.

A version is immutable: a script's name and a hash of its source. Registering the same one again writes
nothing, so any number of workers may do it at the same time.
"""

from __future__ import annotations

import difflib
from typing import Any, TypeGuard

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.errors import UnknownScriptError
from hotpath.model import Description, ScriptVersion, Settings
from hotpath.store.queries import query

_encode = msgspec.json.encode
_settings = msgspec.json.Decoder(Settings)


@attrs.frozen
class Registered:
    """A script as the database has it now: its current version, and the defaults of its jobs."""

    version: ScriptVersion
    tag: int
    """Key of its default tag."""
    priority: int


@attrs.frozen
class ListedVersion:
    """A version as `hotpath scripts` lists it."""

    version: ScriptVersion
    tag: str
    current: bool
    """Whether new jobs are checked against it."""


async def register_version(connection: asyncpg_trio.Connection, description: Description) -> ScriptVersion:
    """Store the version, if it is new, and make it the current one of its script, in a short transaction of
    its own; before it those of a flow's steps, likewise.
    """
    steps = [await register_version(connection, step) for step in description.steps]
    found = await _find(connection, description.path)
    if found is not None and found.version.description == description:
        return attrs.evolve(found.version, description=description, steps=tuple(steps))
    tag = description.settings.tag or description.path
    schema, settings = _encode(description.schema).decode(), _encode(description.settings).decode()
    async with connection.transaction():
        await connection.execute(query("add_tag"), tag)
        script = await connection.fetchval(
            query("put_script"), description.path, tag, description.settings.priority
        )
        await connection.execute(
            query("add_version"),
            script,
            description.hash,
            description.is_async,
            schema,
            settings,
            description.summary,
            description.kind,
        )
        row = await connection.fetchrow(query("choose_version"), script, description.hash)
    assert row is not None, "the version was added in this transaction"
    return ScriptVersion(row["id"], script, description, row["created_at"], tuple(steps))


async def find_script(connection: asyncpg_trio.Connection, name: str) -> Registered:
    """The script of that name and its current version. Raises `UnknownScriptError`, with similar names."""
    found = await _find(connection, name)
    if found is None:
        raise UnknownScriptError(await unknown_script(connection, name))
    return found


async def current_version(connection: asyncpg_trio.Connection, name: str) -> ScriptVersion:
    """The version that new jobs of this script are checked against. Raises `UnknownScriptError`, with
    similar names.
    """
    return (await find_script(connection, name)).version


async def versions(connection: asyncpg_trio.Connection) -> list[ListedVersion]:
    """All versions of all scripts: by name, the newest first."""
    return [_listed(row) for row in await connection.fetch(query("versions"))]


async def current_versions(connection: asyncpg_trio.Connection) -> list[ListedVersion]:
    """The current version of each script, by name."""
    return [_listed(row) for row in await connection.fetch(query("versions_current"))]


async def versions_of(connection: asyncpg_trio.Connection, name: str) -> list[ListedVersion]:
    """All versions of one script, the current one first, then the newest; empty for an unknown one."""
    if not is_text(name):
        return []
    return [_listed(row) for row in await connection.fetch(query("versions_of"), name)]


async def unknown_script(connection: asyncpg_trio.Connection, name: str) -> str:
    """What to say of a name that nobody has registered: the similar ones, and how to register it."""
    rows = await connection.fetch(query("script_names"))
    near = difflib.get_close_matches(name, [row["name"] for row in rows], n=3)
    shown = name if len(name) <= 80 else name[:77] + "..."
    if near:
        return (
            f"no script {shown!r} is registered in this database; did you mean "
            f"{' or '.join(map(repr, near))}?"
        )
    return f"no script {shown!r} is registered in this database; run `hotpath deploy` in its workspace first"


def is_text(text: object) -> TypeGuard[str]:
    """Whether it is text that PostgreSQL can hold: without NUL and without lone surrogates."""
    if not isinstance(text, str) or "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


async def _find(connection: asyncpg_trio.Connection, name: str) -> Registered | None:
    if not is_text(name):
        return None
    row = await connection.fetchrow(query("find_script"), name)
    return None if row is None else Registered(_version(row), row["tag"], row["priority"])


def _listed(row: Any) -> ListedVersion:
    return ListedVersion(_version(row), row["tag_name"], row["current"])


def _version(row: Any) -> ScriptVersion:
    description = Description(
        path=row["name"],
        hash=row["hash"],
        is_async=row["is_async"],
        schema=msgspec.json.decode(row["schema"]),
        settings=_settings.decode(row["settings"]),
        summary=row["summary"],
        kind=row["kind"],
    )
    return ScriptVersion(row["id"], row["script"], description, row["created_at"])
