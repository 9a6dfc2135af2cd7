"""Limits of scripts: what their versions say, and what was set by command in its place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.core.limit_settings import keys_of, make_limit
from hotpath.core.placeholders import unknown_field
from hotpath.errors import ScriptError, UnknownScriptError, UsageError
from hotpath.model import Description, Limit
from hotpath.store.jobs import refusals
from hotpath.store.queries import query
from hotpath.store.scripts import current_version, is_text, unknown_script

_decode, _encode = msgspec.json.decode, msgspec.json.encode


@attrs.frozen(kw_only=True)
class ScriptLimit:
    """A script's limit."""

    script: str
    limit: Limit | None
    """What holds now; None: no limit."""
    said: Limit | None
    """What its version says."""
    is_set: bool
    """Whether something was set by command, which holds whatever the version says."""
    set_by: str | None
    set_at: datetime | None
    running: int
    """Jobs that take a place now, of all keys."""
    started: int | None
    """Of a rate: starts that count now, of all keys."""
    remarks: tuple[str, ...] = ()
    """What somebody who has just changed it may not have meant."""


async def read_limits(connection: asyncpg_trio.Connection, script: str | None = None) -> list[ScriptLimit]:
    """The limits of all scripts that have one, by name; or of one. Raises `UnknownScriptError`."""
    if script is not None and not is_text(script):
        raise UnknownScriptError(f"no script {script[:80]!r} is registered in this database")
    rows = await connection.fetch(query("limits"), script)
    if script is not None and not rows:
        raise UnknownScriptError(await unknown_script(connection, script))
    return [
        ScriptLimit(
            script=row["script"],
            limit=_limit(row["limits"]),
            said=make_limit(_decode(row["said"]), row["script"]) if row["said"] else None,
            is_set=row["set"] is not None,
            set_by=row["set_by"],
            set_at=row["set_at"],
            running=row["running"],
            started=row["started"],
        )
        for row in rows
    ]


async def set_limit(
    connection: asyncpg_trio.Connection, script: str, fields: Mapping[str, Any] | None, *, by: str = ""
) -> ScriptLimit:
    """Have the script's limit be this one, whatever its version says, from now on; None: no limit.

    `fields`: as of a `Limit`. Raises `UsageError` that names the field, and `UnknownScriptError`.
    """
    try:
        limit = None if fields is None else make_limit(dict(fields), "the limit")
    except ScriptError as error:
        raise UsageError(str(error).removeprefix("the limit: ")) from None
    (before,) = await read_limits(connection, script)  # it is there; its name may be misspelt
    document: dict[str, Any] = {}
    if limit is not None:
        jobs, seconds = limit.rate or (None, None)
        document = {"concurrency": limit.concurrency, "rate": jobs, "seconds": seconds, "key": limit.key}
        document = {name: value for name, value in document.items() if value is not None}
    with refusals(script):
        await connection.execute(query("limit_set"), script, _encode(document).decode(), by)
    (found,) = await read_limits(connection, script)
    return await _remarked(connection, before, found)


async def _remarked(
    connection: asyncpg_trio.Connection, before: ScriptLimit, found: ScriptLimit
) -> ScriptLimit:
    key = None if found.limit is None else found.limit.key
    if key is None:
        return found
    schema = (await current_version(connection, found.script)).description.schema
    remarks = field_remarks(found, schema)
    was = {"limit.key": None if before.limit is None else before.limit.key}
    remarks += await key_remarks(connection, found.script, was, {"limit.key": key})
    return attrs.evolve(found, remarks=tuple(remarks))


def field_remarks(found: ScriptLimit, schema: Mapping[str, Any]) -> list[str]:
    """What is to be said of a limit that was set for a script with args of this schema."""
    key = None if found.limit is None else found.limit.key
    if key is None or (wrong := unknown_field(key, schema)) is None:
        return []
    return [f"`limit.key`: {wrong}; jobs without it have one key together"]


async def version_remarks(
    connection: asyncpg_trio.Connection, before: Description | None, after: Description
) -> list[str]:
    """What is to be said of the limit and the keys of a script that has another version now than before."""
    (found,) = await read_limits(connection, after.path)
    remarks = field_remarks(found, after.schema) if found.is_set else []
    if before is not None:
        keys = keys_of(before.settings), keys_of(after.settings)
        remarks += await key_remarks(connection, after.path, *keys)
    return remarks


async def key_remarks(
    connection: asyncpg_trio.Connection,
    script: str,
    before: Mapping[str, str | None],
    after: Mapping[str, str | None],
) -> list[str]:
    """What is to be said of jobs that have keys made of other texts than they are made of now; both as
    `keys_of` gives them.
    """
    changed = {name: was for name, was in before.items() if was and after.get(name) not in (None, was)}
    if not changed:
        return []
    row = await connection.fetchrow(query("keys_waiting"), script)
    return [
        f"`{name}` was {was}: jobs that wait keep the keys that they were put in with"
        for name, was in changed.items()
        if row is not None and row["limited" if name == "limit.key" else "unique"]
    ]


async def clear_limit(connection: asyncpg_trio.Connection, script: str) -> tuple[ScriptLimit, bool]:
    """Have what the version says hold again; and whether something else did. Raises `UnknownScriptError`."""
    (before,) = await read_limits(connection, script)
    with refusals(script):
        await connection.execute(query("limit_set"), script, None, "")
    (found,) = await read_limits(connection, script)
    return await _remarked(connection, before, found), before.is_set


def limit_text(limit: Limit | None) -> str:
    """A limit for people."""
    if limit is None:
        return "no limit"
    parts = []
    if limit.concurrency is not None:
        parts.append(f"{limit.concurrency:,} at a time")
    if limit.rate is not None:
        starts = "start" if limit.rate[0] == 1 else "starts"
        parts.append(f"{limit.rate[0]:,} {starts} in {limit.rate[1]:g} s")
    return " and ".join(parts) + (f" for each {limit.key}" if limit.key else "")


def limit_document(limit: Limit | None) -> dict[str, Any] | None:
    """A limit as JSON."""
    return None if limit is None else attrs.asdict(limit)


def script_limit_document(found: ScriptLimit) -> dict[str, Any]:
    """A script's limit as JSON."""
    return attrs.asdict(found)


def _limit(document: str | None) -> Limit | None:
    if document is None:
        return None
    found = _decode(document)
    rate = (found["rate"], found["seconds"]) if "rate" in found else None
    return Limit(concurrency=found.get("concurrency"), rate=rate, key=found.get("key"))
