"""Which version of a script is current, since when and by whose hand; back to an earlier one; pins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import attrs

from hotpath import asyncpg_trio
from hotpath.core.names import plain_name, version_of_name
from hotpath.core.storable import storable
from hotpath.errors import ScriptError, UnknownScriptError
from hotpath.model import ScriptVersion
from hotpath.store.jobs import refusals
from hotpath.store.queries import query
from hotpath.store.scripts import find_script, unknown_script, version_steps, versions_of, whoami


@attrs.frozen
class SeenVersion:
    """A version of a script, with what became of it."""

    id: int
    hash: str
    kind: str
    is_async: bool
    summary: str
    created_at: datetime
    made_by: str | None
    """Who registered it: `user@host`."""
    current: bool
    chosen_at: datetime | None
    """When it last became the current one."""
    chosen_by: str | None
    rolled_back: bool
    """Whether it did so by a roll back."""
    stored: bool
    """Whether its source is in the database."""
    pinned: bool


@attrs.frozen
class VersionWorker:
    """A live worker that is dedicated to a script, or to a pin of it."""

    id: int
    name: str
    is_pinned: bool
    """Whether it is dedicated to a pin, and not to whichever version is current."""
    version: int | None
    hash: str | None
    is_ready: bool
    """Whether it has loaded that; known with the next heartbeat."""
    refused: int | None
    """The version that it was to run and could not."""
    refused_hash: str | None
    refusal: str | None
    """Why; without a version: why it never runs another one."""


@attrs.frozen
class RolledBack:
    """What a roll back changed."""

    before: ScriptVersion
    after: ScriptVersion


async def pin_version(connection: asyncpg_trio.Connection, name: str) -> str:
    """Have a row for the pin that `f/x@1a2b` means, `f/x@1a2b3c4d5e6f`; return that name.

    Raises `UnknownScriptError` for a script or version that is not there, with those that are, and for a hash
    that begins more than one; `ScriptError` for a version whose source is not stored.
    """
    script, version = plain_name(name), version_of_name(name)
    try:
        with refusals(name):
            pinned: str = await connection.fetchval(query("pin"), script, version)
    except UnknownScriptError:
        if not await versions_of(connection, script):
            raise UnknownScriptError(await unknown_script(connection, script)) from None
        raise
    found = await find_script(connection, pinned)
    if not found.stored:
        raise ScriptError(
            f"the source of {pinned} is not in the database: run `hotpath deploy` where it is first"
        )
    return pinned


async def seen_versions(connection: asyncpg_trio.Connection, script: int) -> list[SeenVersion]:
    """All versions of a script, the newest first; of a pin, the one that it means."""
    return [SeenVersion(**dict(row)) for row in await connection.fetch(query("versions_seen"), script)]


async def version_workers(connection: asyncpg_trio.Connection, script: int) -> list[VersionWorker]:
    """Live workers that are dedicated to a script or its pins."""
    return [VersionWorker(**dict(row)) for row in await connection.fetch(query("version_workers"), script)]


async def roll_back(
    connection: asyncpg_trio.Connection, name: str, to: str | None = None, *, by: str | None = None
) -> RolledBack:
    """Make an earlier version the current one: the one that was it before, or the one whose hash begins
    so. Of a flow, the scripts that are written in it go with it. `by`: who does so; None: whoever runs this
    program.

    Raises `UnknownScriptError`, and `ScriptError` where there is no such version, or its source is not
    stored.
    """
    if version_of_name(name) is not None:
        raise ScriptError(f"{name} is a pin, which always means one version")
    before = (await find_script(connection, name)).version
    async with connection.transaction():
        row = await connection.fetchrow(query("lock_script"), name)
        assert row is not None, "it is there, and no pin"
        known = {each.version.id: each.version for each in await versions_of(connection, name)}
        wanted, back_to = await _target(connection, row["id"], name, to, known)
        if wanted.id == row["version"]:
            raise ScriptError(f"version {wanted.description.hash[:12]} of {name} is the current one already")
        stored = {each.id for each in await seen_versions(connection, row["id"]) if each.stored}
        if wanted.id not in stored:
            raise ScriptError(
                f"the source of version {wanted.description.hash[:12]} of {name} is not in the database: "
                "deploy it from a workspace that has it"
            )
        inline = [step for step in await version_steps(connection, wanted) if step.description.inline]
        for version in (*inline, wanted):
            settings = version.description.settings
            await connection.fetchval(
                query("choose_version"),
                version.script,
                version.id,
                settings.tag or version.description.path,
                settings.priority,
                by or whoami(),
                True,
                True,
                back_to if version is wanted else None,
            )
        await connection.execute(query("config_changed"), f"script:{name}")
    return RolledBack(known.get(row["version"], before), wanted)


async def _target(
    connection: asyncpg_trio.Connection,
    script: int,
    name: str,
    to: str | None,
    known: dict[int, ScriptVersion],
) -> tuple[ScriptVersion, int | None]:
    """The version to go back to, and the choice of it that is gone back to; None: it was named."""
    if to is None:
        row = await connection.fetchrow(query("choice_before"), script)
        if row is None:
            raise ScriptError(f"{name} has had no other version: there is nothing to go back to")
        return known[row["version"]], row["n"]
    prefix = version_of_name(f"{name}@{to}") or ""
    found = [each for each in known.values() if each.description.hash.startswith(prefix)]
    if len(found) != 1:
        near = ", ".join(each.description.hash[:12] for each in (found or list(known.values()))[:5])
        which = "no version" if not found else "more than one version"
        raise UnknownScriptError(f"{which} of {name} begins with {to}; there are {near}")
    return found[0], None


async def refuse_version(
    connection: asyncpg_trio.Connection, workers: Sequence[int], version: int | None, why: str | None
) -> None:
    """These workers do not run the version that they should, and why. Without a version: they never change
    theirs or, without a reason, all is well.
    """
    said = None if why is None else storable(why)
    await connection.execute(query("refuse_version"), list(workers), version, said)


async def pins_waiting(
    connection: asyncpg_trio.Connection, script: int, tags: Sequence[int]
) -> dict[int, str]:
    """Pins of a script that have jobs due in these tags: key and name."""
    return {
        row["id"]: row["name"] for row in await connection.fetch(query("pins_waiting"), script, list(tags))
    }
