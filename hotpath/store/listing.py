"""Lists of jobs, a page at a time, the newest first.

A job is in one of several places (DESIGN section 4). Each place is asked by its own key for one page, in
one snapshot, and the pages are merged: the cost follows the page, not the millions behind it.

There is no index by script, tag or success: it would cost each job more than the rest of its row
(docs/decisions/0015). A filter looks down the keys in windows of bounded size; if it finds few among many, a
page ends where it has looked at enough, and says where to go on.
"""

from __future__ import annotations

import heapq
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import attrs

from hotpath import asyncpg_trio
from hotpath.errors import UsageError
from hotpath.model import Job, OutcomeState, State
from hotpath.store.jobs import job_of, oldest_id, time_of
from hotpath.store.queries import query
from hotpath.store.scripts import is_text

LIMIT = 10_000
"""Jobs that one page may hold."""
FIRST_ROWS = 1_000
"""Rows of the first window, besides twice as many as the page wants; each one after it has four times as
many, up to the longest."""
LONGEST_WINDOW = 32_000
MOST_ROWS = 250_000
"""Rows that one page may look at, as far as it does not take longer than `ENOUGH`."""
ENOUGH = 0.1
"""Seconds after which no further window is begun."""

_LAST_ID = UUID(int=(1 << 128) - 1)
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCKS = timedelta(minutes=5)  # by which the clocks that made an id and a row may differ
_ENDED = {
    State.SUCCESS: OutcomeState.SUCCESS,
    State.FAILURE: OutcomeState.FAILURE,
    State.CANCELED: OutcomeState.CANCELED,
}


@attrs.frozen
class Page:
    """Some jobs of a list, and where it goes on."""

    jobs: list[Job]
    next: UUID | None
    """For `before`, to get the next page; None: there is none."""
    partial: bool = False
    """Whether there may be more jobs for this page: the search was stopped when it had looked at as many as
    one page is worth, and `next` goes on with it.
    """


@attrs.frozen(kw_only=True)
class _Asked:
    """What a list is narrowed to."""

    wanted: State | None
    script: int | None
    tag: int | None
    steps: bool
    payloads: bool
    limit: int
    ended_after: datetime

    @property
    def finds_all(self) -> bool:
        """Whether no row is passed over, so that a page is as many rows as it has jobs."""
        return self.wanted is None and self.script is None and self.tag is None and self.steps

    @property
    def ended(self) -> str | None:
        """Which of the statements finds jobs that have ended."""
        if self.wanted in (State.FAILURE, State.CANCELED):
            return "failed"
        return "done" if self.wanted is None or self.wanted in _ENDED else None


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
    id on, however long it takes to find them.

    Steps of runs are left out unless `steps`. With `parent`, the steps of that run and nothing else, the last
    begun first: they are all as old as the run. Without `payloads` args and results are not read: they are
    empty. Raises `UsageError` that names what cannot be asked.
    """
    found: list[Job] = []
    while True:
        page = await list_page(
            connection, state=state, script=script, tag=tag, since=since, limit=limit - len(found),
            before=before, steps=steps, parent=parent, payloads=payloads,
        )  # fmt: skip
        found += page.jobs
        if not page.partial:
            return found
        before = page.next


async def list_page(
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
) -> Page:
    """The same, a page of it within bounds: of a filter that finds few among many, what the newest few
    hundred thousand rows had, and where to go on.
    """
    wanted = None if state is None else _state(state)
    if not 1 <= limit <= LIMIT:
        raise UsageError(f"limit must be from 1 to {LIMIT}, not {limit}")
    if since is not None and since.tzinfo is None:
        raise UsageError(f"since must be a time with a time zone, not {since}")
    for name, value in (("script", script), ("tag", tag)):
        if value is not None and not is_text(value):
            raise UsageError(f"{name} must be text without NUL and without lone surrogates, not {value!r}")
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(query("list_settings"))
        names = await connection.fetchrow(query("list_names"), script, tag)
        assert names is not None, "a query without a table has one row"
        if script is not None and names["script"] is None:
            return Page([], None)
        if parent is not None:
            if since is not None and time_of(parent) < since:
                return Page([], None)
            rows = await connection.fetch(
                query("list_steps"), parent, before, wanted, names["script"], names["tag"], limit, payloads
            )
            jobs = [job_of(row, payloads=payloads) for row in rows]
            return Page(jobs, jobs[-1].id if len(jobs) == limit else None)
        asked = _Asked(
            wanted=wanted, script=names["script"], tag=names["tag"], steps=steps, payloads=payloads,
            limit=limit, ended_after=_EVER if since is None else since - _CLOCKS,
        )  # fmt: skip
        lower = UUID(int=0) if since is None else oldest_id(since)
        return await _walk(connection, asked, before or _LAST_ID, lower)


async def _walk(connection: asyncpg_trio.Connection, asked: _Asked, upper: UUID, lower: UUID) -> Page:
    """Look down from `upper` window by window, each of so many rows at most, until there is a page, or
    nothing is left, or it has been enough.
    """
    found: list[Job] = []
    rows = min(2 * asked.limit + FIRST_ROWS, LONGEST_WINDOW)
    deadline = time.monotonic() + ENOUGH
    looked = 0
    while True:
        floor = None if asked.finds_all else await _floor(connection, asked, upper, lower, rows)
        more = await _window(connection, asked, upper, floor or lower, asked.limit - len(found))
        found += [job_of(row, payloads=asked.payloads) for row in more]
        if len(found) == asked.limit:
            return Page(found, found[-1].id)
        if floor is None:
            return Page(found, None)
        upper = floor
        looked += rows
        if looked >= MOST_ROWS or time.monotonic() >= deadline:
            return Page(found, floor, partial=True)
        rows = min(4 * rows, LONGEST_WINDOW)


async def _floor(
    connection: asyncpg_trio.Connection, asked: _Asked, upper: UUID, lower: UUID, rows: int
) -> UUID | None:
    """The lowest id down to which no table has many more than `rows` rows; None: none has."""
    floors: list[Any] = []
    if asked.wanted in (None, State.QUEUED):
        floors.append(await connection.fetchval(query("floor_waiting"), upper, lower, rows))
    if asked.ended is not None:
        name = query(f"floor_{asked.ended}")
        floors.append(await connection.fetchval(name, upper, lower, asked.ended_after, rows))
    return max((UUID(int=floor.int) for floor in floors if floor is not None), default=None)


async def _window(
    connection: asyncpg_trio.Connection, asked: _Asked, upper: UUID, lower: UUID, limit: int
) -> list[Any]:
    """Up to `limit` rows from before `upper` down to `lower`, of all places, the newest first."""
    pages: list[list[Any]] = []
    narrow = (asked.script, asked.tag)
    steps, payloads = asked.steps, asked.payloads
    if asked.wanted in (None, State.QUEUED):
        pages.append(
            await connection.fetch(query("list_loose"), upper, lower, *narrow, limit, steps, payloads)
        )
        pages.append(await connection.fetch(query("list_sealed"), upper, lower, *narrow, limit, payloads))
    if asked.wanted in (None, State.RUNNING):
        pages.append(
            await connection.fetch(query("list_running"), upper, lower, *narrow, limit, steps, payloads)
        )
    if asked.ended is not None:
        code = None if asked.wanted is None else int(_ENDED[asked.wanted])
        after = max(asked.ended_after, time_of(lower) - _CLOCKS)  # none from this id on has ended before
        pages.append(
            await connection.fetch(
                query(f"list_{asked.ended}"), upper, lower, after, *narrow, code, limit, steps, payloads
            )
        )
    merged = heapq.merge(*pages, key=lambda row: row["id"], reverse=True)
    return list(islice(merged, limit))


def _state(state: State | str) -> State:
    try:
        return State(state)
    except ValueError:
        raise UsageError(f"state must be one of {', '.join(State)}, not {state!r}") from None
