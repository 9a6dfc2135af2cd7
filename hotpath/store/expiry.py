"""What a keeper does of limits: end jobs that waited too long, forget keys of jobs that have ended."""

from __future__ import annotations

from hotpath import asyncpg_trio
from hotpath.store.queries import query

AT_ONCE = 500
"""Loose jobs of one transaction."""
BATCHES = 10
ROUNDS = 20
"""Transactions of one look: there is other work to be done."""
KEYS = 1_000


async def expire(connection: asyncpg_trio.Connection) -> int:
    """End jobs that nobody has begun in the time that their script gives them; returns how many.

    Two probes of an index while there are none.
    """
    ended = 0
    for statement, most in (("expire_loose", AT_ONCE), ("expire_sealed", BATCHES)):
        for _ in range(ROUNDS):
            now: int = await connection.fetchval(query(statement), most)
            ended += now
            if now < most:
                break
    return ended


async def sweep_unique(connection: asyncpg_trio.Connection) -> int:
    """Forget keys that do not count any more; returns how many."""
    forgotten = 0
    for _ in range(ROUNDS):
        now: int = await connection.fetchval(query("sweep_unique"), KEYS)
        forgotten += now
        if now < KEYS // 2:
            break
    return forgotten
