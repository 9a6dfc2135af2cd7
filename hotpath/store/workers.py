"""What a supervisor says to the database about its workers: they start, they live, they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hotpath import asyncpg_trio
from hotpath.store.queries import query


async def register_tags(connection: asyncpg_trio.Connection, names: Sequence[str]) -> list[tuple[int, str]]:
    """Make the tags known by name, each in a short transaction of its own; return (key, name) of each."""
    tags = []
    for name in dict.fromkeys(names):
        await connection.execute(query("add_tag"), name)
        tags.append((await connection.fetchval(query("tag_id"), name), name))
    return tags


async def register_worker(
    connection: asyncpg_trio.Connection,
    *,
    name: str,
    group: str | None,
    script: int,
    version: int,
    tags: Sequence[int],
    host: str,
    pid: int,
    concurrency: int,
    lease: float,
) -> int:
    """A worker starts; return its id, new at every start. Its lease runs for `lease` seconds."""
    worker: int = await connection.fetchval(
        query("register_worker"), name, group, script, version, list(tags), host, pid, concurrency, lease
    )
    return worker


async def heartbeat(connection: asyncpg_trio.Connection, jobs: Mapping[int, int], lease: float) -> set[int]:
    """Say that these workers live, and how many jobs each has run; return those whose lease was still
    theirs to renew.
    """
    rows = await connection.fetch(query("heartbeat"), list(jobs), list(jobs.values()), lease)
    return {row[0] for row in rows}


async def stop_worker(connection: asyncpg_trio.Connection, worker: int, jobs: int) -> int:
    """A worker has ended: what it still holds goes back into the queue at once; return how many jobs."""
    leases = await connection.fetchval(query("stop_worker"), worker, jobs)
    if not leases:
        return 0
    return int(await connection.fetchval(query("give_back"), leases, worker))


async def reap(connection: asyncpg_trio.Connection) -> int:
    """Take back what dead workers of any host hold, by the database's clock; return how many jobs that is."""
    orphans = [row[0] for row in await connection.fetch(query("orphans"))]
    if not orphans:
        return 0
    return int(await connection.fetchval(query("give_back"), orphans, None))


async def make_partitions(connection: asyncpg_trio.Connection, days: int = 7) -> int:
    """Attach the partitions of the coming days; return how many were made."""
    made: int = await connection.fetchval(query("make_partitions"), days)
    return made
