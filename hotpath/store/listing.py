"""Lists of jobs, a page at a time, the newest first.

A job is in one of several places (DESIGN section 4). Each place is asked by its own key for one page, in
one snapshot, and the pages are merged: the cost follows the page, not the millions behind it, unless a
filter by script or tag finds few among many.
"""

from __future__ import annotations

import heapq
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from hotpath import asyncpg_trio
from hotpath.errors import UsageError
from hotpath.model import Job, OutcomeState, State
from hotpath.store.jobs import job_of, oldest_id, time_of
from hotpath.store.queries import query
from hotpath.store.scripts import is_text

LIMIT = 10_000
"""Jobs that one page may hold."""

_LAST_ID = UUID(int=(1 << 128) - 1)
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCKS = timedelta(minutes=5)  # by which the clocks that made an id and a row may differ
_ENDED = {
    State.SUCCESS: OutcomeState.SUCCESS,
    State.FAILURE: OutcomeState.FAILURE,
    State.CANCELED: OutcomeState.CANCELED,
}


async def list_jobs(
    connection: asyncpg_trio.Connection,
    *,
    state: State | str | None = None,
    script: str | None = None,
    tag: str | None = None,
    since: datetime | None = None,
    limit: int = 100,
    before: UUID | None = None,
    steps: bool = False,
    parent: UUID | None = None,
    payloads: bool = True,
) -> list[Job]:
    """Jobs of this state, script, tag, made since then: at most `limit`, the newest first, from before that
    id on.

    Steps of runs are left out unless `steps`. With `parent`, the steps of that run and nothing else, the last
    begun first: they are all as old as the run. Without `payloads` args and results are not read: they are
    empty. Raises `UsageError` that names what cannot be asked.
    """
    wanted = None if state is None else _state(state)
    if not 1 <= limit <= LIMIT:
        raise UsageError(f"limit must be from 1 to {LIMIT}, not {limit}")
    if since is not None and since.tzinfo is None:
        raise UsageError(f"since must be a time with a time zone, not {since}")
    for name, value in (("script", script), ("tag", tag)):
        if value is not None and not is_text(value):
            raise UsageError(f"{name} must be text without NUL and without lone surrogates, not {value!r}")
    upper = before or _LAST_ID
    lower = UUID(int=0) if since is None else oldest_id(since)
    ended_after = _EVER if since is None else since - _CLOCKS
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        names = await connection.fetchrow(query("list_names"), script, tag)
        assert names is not None, "a query without a table has one row"
        if script is not None and names["script"] is None:
            return []
        narrow = (names["script"], names["tag"])
        if parent is not None:
            if since is not None and time_of(parent) < since:
                return []
            rows = await connection.fetch(
                query("list_steps"), parent, before, wanted, *narrow, limit, payloads
            )
            return [job_of(row) for row in rows]
        pages: list[list[Any]] = []
        if wanted in (None, State.QUEUED):
            pages.append(
                await connection.fetch(query("list_loose"), upper, lower, *narrow, limit, steps, payloads)
            )
            pages.append(await connection.fetch(query("list_sealed"), upper, lower, *narrow, limit, payloads))
        if wanted in (None, State.RUNNING):
            pages.append(
                await connection.fetch(query("list_running"), upper, lower, *narrow, limit, steps, payloads)
            )
        if wanted is None or wanted in _ENDED:
            name = "list_failed" if wanted in (State.FAILURE, State.CANCELED) else "list_done"
            code = None if wanted is None else int(_ENDED[wanted])
            asked = (upper, lower, ended_after, *narrow, code, limit, steps, payloads)
            pages.append(await connection.fetch(query(name), *asked))
    merged = heapq.merge(*pages, key=lambda row: row["id"], reverse=True)
    return [job_of(row) for row in islice(merged, limit)]


def _state(state: State | str) -> State:
    try:
        return State(state)
    except ValueError:
        raise UsageError(f"state must be one of {', '.join(State)}, not {state!r}") from None
