"""Dropping what retention no longer keeps: whole days of results, attempts and logs, a partition each.

DETACH CONCURRENTLY waits for statements that already read the day, and holds up nobody: neither flushes nor
readers of other days. PostgreSQL allows it outside of a transaction only, so each step stands alone, and what
was cut off half-way is finished the next time.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import trio

from hotpath.store.queries import query

if TYPE_CHECKING:
    from hotpath.asyncpg_trio import Connection

_LOCK = 7310868735402
"""Advisory lock of whoever drops partitions: two at once would trip over each other's half-done steps."""
TABLES = ("job_done", "job_attempt", "job_log")
"""What has a partition a day."""
_UNLOCK = 5.0  # seconds; the lock goes with the connection at the latest


async def detach_before(connection: Connection, day: date) -> list[str]:
    """Drop the partitions of all days before `day` (UTC); return their names, the oldest day first.

    Returns an empty list when somebody else is at it. The connection must be outside of a transaction. If
    cancelled, the partition in hand may stay half detached: the next call finishes it.
    """
    if not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):
        return []
    try:
        dropped = []
        for row in await connection.fetch(query("partitions_before"), day, list(TABLES)):
            if row["detach"] is not None:
                await connection.execute(row["detach"])
            await connection.execute(row["remove"])
            dropped.append(row["name"])
        return dropped
    finally:
        if not connection.is_closed():
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _UNLOCK):
                await connection.execute("select pg_advisory_unlock($1)", _LOCK)
