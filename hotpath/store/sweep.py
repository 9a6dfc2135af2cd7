"""What a keeper drops of runs of flows that have ended, little by little."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

import asyncpg
import trio

from hotpath import asyncpg_trio
from hotpath.store.flows import forget_some
from hotpath.store.queries import query
from hotpath.store.trouble import Trouble, trouble_of

log = logging.getLogger("hotpath.worker")

TOGETHER = 25
"""Runs of one transaction."""
STATEMENT_MS = 1_000
"""Milliseconds that a statement may take: locks of runs are held for no longer."""
_NOTHING = UUID(int=0)

T = TypeVar("T")


async def sweep(
    connection: asyncpg_trio.Connection, after: UUID | None, limit: int, *, seconds: float = float("inf")
) -> UUID | None:
    """Forget what ended runs have left, of up to `limit` runs with ids above `after`, and as many cached
    results, keys of requests and traces whose time is over. Returns where to go on; None when that was the
    last.

    A few runs at a time, each in a transaction of its own; runs with which it fails are passed over, and said
    so in the log. Stops after `seconds`. Raises what makes the connection unusable.
    """
    deadline = trio.current_time() + seconds
    for each in ("sweep_cache", "sweep_idempotency", "sweep_traces"):
        await _within(connection, partial(connection.execute, query(each), limit))
    rows = await connection.fetch(query("sweep_runs"), after or _NOTHING, limit)
    ids = [UUID(int=row["id"].int) for row in rows]
    for at in range(0, len(rows), TOGETHER):
        some = [
            run
            for run, row in zip(ids[at : at + TOGETHER], rows[at : at + TOGETHER], strict=True)
            if not row["waits"] and (not row["open"] or await _cancel_below(connection, run))
        ]
        await _drop(connection, some, deadline)
        if trio.current_time() >= deadline and at + TOGETHER < len(rows):
            return ids[at + TOGETHER - 1]
    return ids[-1] if len(ids) == limit else None


async def forget_soon(connection: asyncpg_trio.Connection, runs: Sequence[UUID]) -> list[UUID] | None:
    """Forget some of what these runs have left, if that does not take long; a sweep comes to the rest.
    Returns the runs of which there is more to drop; None: nothing was dropped.

    Raises what makes the connection unusable.
    """
    return await _within(connection, partial(forget_some, connection, runs), runs)


async def _drop(connection: asyncpg_trio.Connection, runs: Sequence[UUID], deadline: float) -> None:
    """Forget these; one by one where they cannot be together."""
    parts = [list(runs)] if runs else []
    while parts:
        part = parts.pop()
        more = await _within(connection, partial(forget_some, connection, part), part)
        if more is None and len(part) > 1:
            parts += [[run] for run in part]
        elif more and trio.current_time() < deadline:
            parts += [[run] for run in more]


async def _cancel_below(connection: asyncpg_trio.Connection, run: UUID) -> bool:
    """Cancel the jobs that the run, if it has ended, has left."""
    ended = await _within(connection, partial(connection.fetch, query("cancel_below"), run), [run])
    return bool(ended)


async def _within(
    connection: asyncpg_trio.Connection, statement: Callable[[], Awaitable[T]], runs: Sequence[UUID] = ()
) -> T | None:
    """What the statement says, in a transaction of its own that may not take long; None if it fails for a
    reason that is not the connection's.
    """
    try:
        async with connection.transaction():
            await connection.execute(f"set local statement_timeout = {STATEMENT_MS}")
            return await statement()
    except asyncpg.PostgresError as error:
        if trouble_of(error) is Trouble.WEATHER:
            raise
        if len(runs) < 2:
            what = f"run {runs[0]}" if runs else "cached results"
            log.warning("what is left of %s cannot be dropped yet: %s", what, str(error).splitlines()[0])
        return None
