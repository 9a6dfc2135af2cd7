"""Schema versions: forward-only migrations, and the question whether this program may use this database.

The database stores the oldest program that it can serve (`meta.oldest_program`), so a newer schema goes on
serving older programs until a migration says otherwise: changes expand first and contract a version later.
"""

from __future__ import annotations

import functools
import random
from importlib import resources
from typing import TYPE_CHECKING

import asyncpg
import trio

from hotpath.errors import SchemaError
from hotpath.store.queries import query

if TYPE_CHECKING:
    from hotpath.asyncpg_trio import Connection

PROGRAM = 3
"""Level of this program: what `meta.oldest_program` is compared with. Raise it when the program needs a newer
schema.
"""

_LOCK = 7310868735400
"""Advisory lock that migrations of one database take, one after the other."""
LOCK_TIMEOUT = "2s"
"""How long a migration waits for a table that somebody reads or writes; others wait behind it meanwhile."""
STEP_BACK = (0.2, 1.0)
"""Seconds until the next try, at random in between: work goes on in them."""


@functools.cache
def migrations() -> list[tuple[int, str, str]]:
    """All migrations as (number, file name, SQL), in order."""
    folder = resources.files("hotpath.store") / "migrations"
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name
    )
    return [(int(entry.name[:4]), entry.name, entry.read_text(encoding="utf-8")) for entry in files]


async def installed_version(connection: Connection) -> int | None:
    """Number of the last migration applied, or None where Hotpath has no schema.

    Raises SchemaError when the database no longer serves programs as old as this one.
    """
    if await connection.fetchval("select to_regclass('hotpath.meta')") is None:
        return None
    row = await connection.fetchrow("select version, oldest_program from hotpath.meta")
    if row is None:
        return None
    if row["oldest_program"] > PROGRAM:
        raise SchemaError(
            f"the database's schema (version {row['version']}) is too new for this hotpath: "
            f"it serves programs of level {row['oldest_program']} and up, this one is {PROGRAM}; "
            "upgrade hotpath-runtime"
        )
    version: int = row["version"]
    return version


async def migrate(connection: Connection) -> list[str]:
    """Bring the schema up to date; return the names of the migrations that were applied.

    All of them in one transaction, under an advisory lock: two programs that start together do not meet half-
    way. It never waits long for a table: whoever waits for an exclusive lock holds up all that come behind.
    It steps back and tries again. Raises SchemaError when the schema is too new for this program.
    """
    while True:
        try:
            return await _migrate_once(connection)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await trio.sleep(random.uniform(*STEP_BACK))


async def _migrate_once(connection: Connection) -> list[str]:
    applied: list[str] = []
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        version = await installed_version(connection)
        if version is None:
            await connection.execute("create schema if not exists hotpath")
            version = 0
        await connection.execute("select set_config('lock_timeout', $1, true)", LOCK_TIMEOUT)
        for number, name, sql in migrations():
            if number > version:
                await connection.execute(sql)
                await connection.execute("update hotpath.meta set version = $1", number)
                applied.append(name)
        await connection.execute("select hotpath.make_partitions(7)")
    return applied


async def ensure_schema(connection: Connection, *, may_create: bool) -> None:
    """Check the schema; create or upgrade it where that is allowed (an embedded or an empty database).

    Raises SchemaError when it is missing or behind and may not be touched, or too new.
    """
    version = await installed_version(connection)
    newest = migrations()[-1][0]
    if version is not None and version >= newest:
        return
    if version is None and not may_create:
        may_create = await _is_empty(connection)
    if not may_create:
        state = (
            "has no Hotpath schema"
            if version is None
            else f"has schema version {version}, this program needs {newest}"
        )
        raise SchemaError(f"the database {state}; run: hotpath migrate")
    await migrate(connection)


async def _is_empty(connection: Connection) -> bool:
    """Whether the database holds no tables but the system's."""
    found = await connection.fetchval(query("has_tables"))
    return not found
