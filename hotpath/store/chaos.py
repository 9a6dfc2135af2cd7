"""What `hotpath chaos` does to the database, and what it asks of it afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from hotpath.store.database import Database
from hotpath.store.queries import query

PAGE = 20_000
"""Rows read at a time."""


async def end_sessions(database: Database, names: Sequence[str] | None, share: int, draw: int) -> int:
    """End sessions of Hotpath: `share` of 128 of those with these application names (None: of all); how
    many.
    """
    async with database.connection() as connection:
        ended: int = await connection.fetchval(query("chaos_backends"), names, share, draw)
    return ended


async def workers_of(database: Database, pids: Sequence[int], host: str, tags: Sequence[int]) -> list[int]:
    """The ids of the workers that these processes of this host are."""
    async with database.connection() as connection:
        rows = await connection.fetch(query("chaos_workers"), list(pids), host, list(tags))
    return [row["id"] for row in rows]


async def tag_keys(database: Database, names: Sequence[str]) -> list[int]:
    """The keys of these tags."""
    async with database.connection() as connection:
        return [await connection.fetchval(query("tag_id"), name) for name in names]


async def leases_held(database: Database, workers: Sequence[int]) -> int:
    """How many leases these workers hold."""
    async with database.connection() as connection:
        held: int = await connection.fetchval(query("chaos_held"), list(workers))
    return held


@asynccontextmanager
async def held_transaction(database: Database, tags: Sequence[int], *, lock: bool) -> AsyncIterator[bool]:
    """A transaction that stays open, with a snapshot, or with a lock on a lease of these tags; whether it has
    one.
    """
    async with (
        database.connection() as connection,
        connection.transaction(isolation="read_committed" if lock else "repeatable_read"),
    ):
        statement = query("chaos_lock_lease") if lock else query("chaos_held")
        found = await connection.fetchval(statement, list(tags) if lock else [])
        yield found is not None


class EndedJobs:
    """Jobs of these tags that have ended since, by id, a page at a time."""

    def __init__(self, database: Database, tags: Sequence[int], since: datetime) -> None:
        self._database, self._tags, self._since = database, list(tags), since
        self._last: tuple[UUID, datetime] = (UUID(int=0), since)

    async def page(self) -> list[Any]:
        """The next rows; none at the end."""
        async with self._database.connection() as connection:
            rows: list[Any] = await connection.fetch(
                query("chaos_done"), self._tags, self._since, *self._last, PAGE
            )
        if rows:
            self._last = (rows[-1]["id"], rows[-1]["done_at"])
        return rows


async def jobs_left(database: Database, tags: Sequence[int], limit: int = 1_000_000) -> list[Any]:
    """Jobs that have not ended: `id`, `place` (queued, batch, lease), `worker`, and whether it is `alive`."""
    async with database.connection() as connection:
        rows: list[Any] = await connection.fetch(query("chaos_left"), list(tags), limit)
    return rows


async def double_ends(database: Database, tags: Sequence[int], since: datetime) -> list[tuple[UUID, int]]:
    """(job, attempt) of which more than one end is recorded."""
    async with database.connection() as connection:
        rows = await connection.fetch(query("chaos_attempts"), list(tags), since)
    return [(row["id"], row["attempt"]) for row in rows]


async def numbers_of(database: Database, jobs: Sequence[UUID], since: datetime) -> dict[UUID, int | None]:
    """The numbers that built-in jobs carry in their args."""
    async with database.connection() as connection:
        rows = await connection.fetch(query("chaos_numbers"), list(jobs), since)
    return {row["id"]: row["n"] for row in rows}
