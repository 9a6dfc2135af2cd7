"""Scripts and their versions in the database: registered by whoever resolves one, read by whoever enqueues.

A version is immutable: a script's name and a hash of its source. Registering the same one again writes
nothing, so any number of workers may do it at the same time. Which version is current, and how that changes:
`store/choices.py`; what it consists of: `store/sources.py`.
"""

from __future__ import annotations

import difflib
import functools
import getpass
import os
import socket
from collections.abc import Sequence
from typing import Any, TypeGuard

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.errors import UnknownScriptError
from hotpath.model import Description, ScriptVersion, Settings
from hotpath.store.queries import query
from hotpath.store.sources import put_files, put_steps

_encode = msgspec.json.encode
_settings = msgspec.json.Decoder(Settings)


@attrs.frozen
class Registered:
    """A script as the database has it now: its current version, and the defaults of its jobs."""

    version: ScriptVersion
    tag: int
    """Key of its default tag."""
    priority: int
    deployed: bool = False
    """Whether its version was deployed: then nothing but a deploy changes it."""
    stored: bool = False
    """Whether the version's source is in the database."""

    def is_settled(self, *, deploy: bool) -> bool:
        """Whether nothing is to be written of the current version when it is registered again."""
        return self.stored and (self.deployed or not deploy)


@attrs.frozen
class ListedVersion:
    """A version as `hotpath scripts` lists it."""

    version: ScriptVersion
    tag: str
    current: bool
    """Whether new jobs are checked against it."""


async def register_version(
    connection: asyncpg_trio.Connection,
    description: Description,
    *,
    deploy: bool = False,
    by: str | None = None,
) -> ScriptVersion:
    """Store the version with its source, if it is new, in a short transaction of its own; before it those of
    a flow's steps, likewise. Returns it. `by`: who does so; None: whoever runs this program.

    It becomes the current one of its script if `deploy`, or if nobody has ever deployed that script: what was
    deployed stays until something else is.
    """
    steps = [await register_version(connection, step, deploy=deploy, by=by) for step in description.steps]
    kept = attrs.evolve(description, files=())
    found = await _find(connection, description.path)
    if found is not None and found.version.description == description and found.is_settled(deploy=deploy):
        return attrs.evolve(found.version, description=kept, steps=tuple(steps))
    tag = description.settings.tag or description.path
    schema, settings = _encode(description.schema).decode(), _encode(description.settings).decode()
    priority, who = description.settings.priority, by or whoami()
    async with connection.transaction():
        await connection.execute(query("add_tag"), tag)
        script = await connection.fetchrow(query("put_script"), description.path, tag, priority)
        assert script is not None, "it was made, or is there"
        row = await connection.fetchrow(
            query("add_version"),
            script["id"],
            description.hash,
            description.is_async,
            schema,
            settings,
            description.summary,
            description.kind,
            who,
        )
        assert row is not None, "it was added, or is there"
        await put_files(connection, row["id"], description.files)
        await put_steps(connection, row["id"], steps)
        if deploy or script["version"] is None or not script["deployed"]:
            changed = await connection.fetchval(
                query("choose_version"), script["id"], row["id"], tag, priority, who, deploy, False, None
            )
            if changed:
                await connection.execute(query("config_changed"), f"script:{description.path}")
    return ScriptVersion(row["id"], script["id"], kept, row["created_at"], tuple(steps))


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


async def version_by_id(connection: asyncpg_trio.Connection, script: int) -> ScriptVersion:
    """The current version of the script with this key; of a pin, the version that it means. Raises
    `UnknownScriptError`.
    """
    row = await connection.fetchrow(query("version_of"), script)
    if row is None:
        raise UnknownScriptError(f"no script {script} is registered in this database")
    return version_in(row)


async def current_of(
    connection: asyncpg_trio.Connection, scripts: Sequence[int]
) -> dict[int, tuple[int, ...]]:
    """What the current version of each of these scripts is made of: its id and, of a flow's, those of the
    scripts that it runs now, in order.
    """
    rows = await connection.fetch(query("current_of"), list(scripts))
    return {row["id"]: (row["version"], *row["steps"]) for row in rows}


async def version_steps(connection: asyncpg_trio.Connection, version: ScriptVersion) -> list[ScriptVersion]:
    """The versions of the scripts that a flow's version runs now: of those written in it the very ones, of
    others their current ones.
    """
    found = []
    for row in await connection.fetch(query("version_steps"), version.id):
        step = version_in(row)
        description = attrs.evolve(step.description, inline=row["inline"])
        found.append(attrs.evolve(step, description=description))
    return found


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


@functools.cache
def whoami() -> str:
    """Who registers and deploys here: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


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
    if row is None:
        return None
    return Registered(version_in(row), row["tag"], row["priority"], row["deployed"], row["stored"])


def _listed(row: Any) -> ListedVersion:
    return ListedVersion(version_in(row), row["tag_name"], row["current"])


def version_in(row: Any) -> ScriptVersion:
    """The version that a row tells of."""
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
