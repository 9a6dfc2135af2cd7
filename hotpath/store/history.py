"""What queues were like over the last 14 days: looked at once a minute by whoever is first, kept within
bounds, told in steps.

How jobs ended is counted by the workers (`hotpath.minute`); how many waited is looked at here. Where there
would be too many rows, the hours that are older than a day become a row each.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from hotpath import asyncpg_trio
from hotpath.core.series import HOUR, STEPS, begin_of, choose_step, steps_between
from hotpath.core.tags import parse_patterns
from hotpath.errors import UsageError
from hotpath.store.queries import query
from hotpath.store.status import read_tags

TAGS = 200
"""Tags that get a row in one minute: the fullest; the others get one together."""
COUNTED = 100_000
"""Waiting loose jobs that are counted in one look, of all tags together."""
KEEP_DAYS, KEEP_ROWS = 14, 1_000_000
"""What is kept: so many days, and no more rows than that."""
ROLL_ROWS = 800_000
"""Rows from which on hours that are older than a day become a row each."""
ROLL_HOURS = 24
"""Hours that are rolled up at a time."""
ROLL_EVERY = 300.0
"""Seconds between two looks at how many rows there are, whoever looks."""
MOST_STEPS = 2_000
MOST_TAGS = 200
SHOWN_STEPS = 360
"""Steps that are told where none are asked for, at most."""
OTHERS = "*"
"""Stands for the tags beyond the fullest, together."""


@attrs.frozen
class Series:
    """One tag, or all together, step by step."""

    tag: str | None
    """None: all together; `*`: those that were not among the fullest."""
    waiting: list[int | None]
    """The most that waited at a full minute of the step; None: nobody looked."""
    running: list[int | None]
    oldest_ms: list[float | None]
    """The longest that a job which was due had waited; None: none was due, or nobody looked."""
    success: list[int]
    failure: list[int]
    canceled: list[int]
    retried: list[int]
    """Attempts that failed and run again."""
    busy_ms: list[float]
    """Time inside `main`."""

    @property
    def ended(self) -> list[int]:
        """Jobs that ended in each step."""
        return [sum(each) for each in zip(self.success, self.failure, self.canceled, strict=True)]


@attrs.frozen
class History:
    """What queues were like."""

    since: datetime
    until: datetime
    step_seconds: int
    steps: list[datetime]
    """When each step began; the last one may be under way."""
    all: Series
    tags: list[Series]
    """Those with the most jobs, the fullest first."""


async def look_at_queues(connection: asyncpg_trio.Connection, at: datetime | None = None) -> float:
    """Note what queues are like in this minute (or that of `at`), unless somebody has; return how many
    seconds of it are left by the database's clock.
    """
    async with connection.transaction():
        (turn,) = await connection.fetch(query("look_turn"), at)
        if turn["minute"] is not None:
            rows = (await read_tags(connection, counted=COUNTED)).values()
            named = [row for row in rows if row["tag"] is not None]
            await connection.execute(
                query("look_put"),
                turn["minute"],
                [row["tag"] for row in named],
                [row["waiting"] for row in named],
                [row["running"] for row in named],
                [row["oldest"] for row in named],
                TAGS,
            )
    seconds: float = turn["seconds"]
    return seconds


async def keep_history_small(
    connection: asyncpg_trio.Connection, *, roll_rows: int = ROLL_ROWS, every: float = ROLL_EVERY
) -> int:
    """Drop what is too old; make hours of old minutes where there are too many. Return how many rows are
    gone.
    """
    gone: int = await connection.fetchval(query("sweep_queue"), KEEP_DAYS, KEEP_ROWS)
    now: datetime = datetime.fromtimestamp(await connection.fetchval(query("clock")) / 1e6, UTC)
    last, oldest = begin_of(now - timedelta(days=1), HOUR), begin_of(now - timedelta(days=KEEP_DAYS), HOUR)
    async with connection.transaction():
        for row in await connection.fetch(query("roll_turn"), every):
            statement = query("roll_minute" if row["name"] == "minute" else "roll_queue")
            begin, rows = max(row["until"], oldest), row["rows"]
            for hour in steps_between(begin, min(last, begin + timedelta(hours=ROLL_HOURS)), HOUR):
                if rows <= roll_rows:
                    break
                less: int = await connection.fetchval(statement, hour)
                rows, gone = rows - less, gone + less
    return gone


async def read_history(
    connection: asyncpg_trio.Connection,
    *,
    tags: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    step: float | None = None,
    limit: int = 20,
) -> History:
    """What queues were like from `since` (6 hours ago) to `until` (now), in steps of `step` seconds: those of
    the `limit` tags with the most jobs, of those that match the patterns `tags`. Raises `UsageError`.
    """
    patterns = None if tags is None else list(parse_patterns(tags, "tag").texts)
    if not 1 <= limit <= MOST_TAGS:
        raise UsageError(f"limit is 1 to {MOST_TAGS}, not {limit}")
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        now = datetime.fromtimestamp(await connection.fetchval(query("clock")) / 1e6, UTC)
        until = now if until is None else min(until, now)
        since = until - timedelta(hours=6) if since is None else max(since, now - timedelta(days=KEEP_DAYS))
        if since >= until:
            raise UsageError("since is a time before until, and before now")
        minutes = choose_step(until - since, SHOWN_STEPS) if step is None else _minutes(step, until - since)
        steps = steps_between(since, until, minutes)
        looks = await connection.fetch(query("history_looks"), steps[0], until, minutes)
        rolled = next(row["rolled"] for row in looks if row["at"] is None)
        if minutes < HOUR and rolled is not None and steps[0] < rolled:
            minutes = HOUR
            steps = steps_between(since, until, minutes)
            looks = await connection.fetch(query("history_looks"), steps[0], until, minutes)
        rows = await connection.fetch(query("history"), steps[0], until, minutes, patterns, limit)
    seen = {row["at"] for row in looks}
    by_tag: dict[str | None, dict[datetime, Any]] = {None: {}}
    for row in rows:
        by_tag.setdefault(row["tag"], {})[row["at"]] = row
    found = [_series(tag, found, steps, seen) for tag, found in by_tag.items()]
    return History(steps[0], until, minutes * 60, steps, found[0], sorted(found[1:], key=_fullest))


def _minutes(step: float, span: timedelta) -> int:
    if step / 60 not in STEPS:
        offered = ", ".join(str(minutes * 60) for minutes in STEPS)
        raise UsageError(f"step is one of {offered} seconds, not {step:g}")
    if span.total_seconds() / step > MOST_STEPS:
        raise UsageError(f"step {step:g} would make more than {MOST_STEPS:,} steps: take a longer one")
    return int(step // 60)


def _series(
    tag: str | None, rows: dict[datetime, Any], steps: Sequence[datetime], seen: set[datetime]
) -> Series:
    def counts(name: str) -> list[int]:
        return [(row[name] or 0) if (row := rows.get(at)) is not None else 0 for at in steps]

    def looked(name: str) -> list[int | None]:
        return [count if at in seen else None for at, count in zip(steps, counts(name), strict=True)]

    oldest = [row["oldest_us"] if (row := rows.get(at)) is not None else None for at in steps]
    return Series(
        tag=tag,
        waiting=looked("waiting"),
        running=looked("running"),
        oldest_ms=[None if each is None else each / 1000 for each in oldest],
        success=counts("success"),
        failure=counts("failure"),
        canceled=counts("canceled"),
        retried=counts("retried"),
        busy_ms=[each / 1000 for each in counts("busy_us")],
    )


def _fullest(series: Series) -> tuple[float, str]:
    most = max((each or 0 for each in series.waiting), default=0)
    return -(sum(series.ended) + most), series.tag or ""
