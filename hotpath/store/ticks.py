"""The ticks of schedules: which are due, and that each becomes one job, whoever else is at it.

Nothing is locked while it is decided what is due. What was decided counts only for schedules that are still
as they were seen (`schedule.revision`), and makes jobs and moves them on in one transaction: who comes
second, or again after a lost reply, finds that nothing is left to be done.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.core import schedules as rules
from hotpath.errors import UsageError
from hotpath.store.queries import query
from hotpath.store.schedules import zone_of

log = logging.getLogger("hotpath.worker")

AT_ONCE = 200
"""Schedules of one transaction."""
BEHIND = 5_000
"""How many more are looked at where none of them can be read here."""
TICKS = 1000
"""Ticks after which a transaction takes on no more."""
ENOUGH = 1.0
"""Seconds after which no more schedules are looked at for one transaction."""
KEEP_DAYS = 40.0
"""How long it is known which job a tick became; that of a schedule's last tick is for ever."""
SWEEP_ROWS = 10_000
AHEAD = 1.0
"""Seconds by which a schedule may have been moved on ahead of the clock: servers that follow each other
differ by some milliseconds.
"""


@attrs.frozen
class Ticked:
    """What came of a look at the schedules."""

    seen: int
    """Schedules that had something to do."""
    done: int
    """Those that it was done about, here; the others were somebody else's."""


async def tick(
    connection: asyncpg_trio.Connection, *, now: datetime | None = None, limit: int = AT_ONCE
) -> Ticked:
    """Make jobs of the ticks that are due, of at most `limit` schedules. `now`: another time than the
    database's.
    """
    rows = await connection.fetch(query("schedule_due"), now, limit)
    if not rows:
        return Ticked(0, 0)
    plans, ticks = await _plans(rows)
    if not plans and len(rows) == limit:
        # Those that cannot be read here stay the first that are due: the others must not wait behind them.
        plans, ticks = await _plans(await connection.fetch(query("schedule_due"), now, limit + BEHIND))
    done: int = await connection.fetchval(
        query("schedule_tick"),
        [row["id"] for row, _ in plans],
        [row["revision"] for row, _ in plans],
        [plan.next_at for _, plan in plans],
        [plan.held_at for _, plan in plans],
        [plan.missed for _, plan in plans],
        [plan.skipped for _, plan in plans],
        [schedule for schedule, _ in ticks],
        [at for _, at in ticks],
        rows[0]["now"],
    )
    return Ticked(len(rows), done)


async def _plans(rows: Sequence[Any]) -> tuple[list[tuple[Any, rules.Plan]], list[tuple[int, datetime]]]:
    """What is to be done about these, as far as one transaction takes it on; the ticks that become jobs."""
    plans: list[tuple[Any, rules.Plan]] = []
    ticks: list[tuple[int, datetime]] = []
    deadline = trio.current_time() + ENOUGH
    for row in rows:
        if (plan := _plan(row)) is not None:
            plans.append((row, plan))
            ticks += [(row["id"], at) for at in plan.ticks]
        # After an outage one may take long to work out, and what else goes on here must not wait for all.
        await trio.lowlevel.checkpoint()
        if len(ticks) >= TICKS or trio.current_time() > deadline:
            break  # the rest is the next transaction's
    return plans, ticks


def _plan(row: Any) -> rules.Plan | None:
    """What is to be done; None: this program cannot tell, another may."""
    timing = _timing(row)
    if timing is None:
        return None
    due = rules.Due(
        timing=timing,
        next_at=row["next_at"],
        held_at=row["held_at"],
        is_busy=row["busy"],
        catch_up=row["catch_up"],
        within=timedelta(seconds=row["catch_up_within"]),
        overlap=row["overlap"],
    )
    return rules.plan(due, row["now"])


def _timing(row: Any) -> rules.Timing | None:
    """When it comes due; None: this program cannot tell."""
    try:
        return rules.parse_timing(row["kind"], row["expression"], zone_of(row["timezone"]), row["anchor"])
    except UsageError as error:
        _tell(row["id"], str(error))
        return None


@functools.lru_cache(10_000)
def _tell(schedule: int, why: str) -> None:
    """Once: it is due, and looked at, all the time."""
    log.warning("schedule %d does not tick here: %s", schedule, why)


@attrs.frozen
class SetBack:
    """What came of a look at schedules that a clock has moved on that was ahead."""

    done: int
    """Schedules that go on from now, by this look."""
    ahead: float
    """Seconds by which the clock was ahead, as far as it is seen; 0: it was not."""


async def set_back(
    connection: asyncpg_trio.Connection, *, now: datetime | None = None, limit: int = BEHIND
) -> SetBack:
    """Have schedules go on from now that a clock has moved on that was ahead: it was set right since, or
    another server leads. What they made ahead stays, and is not made again. `now`: another time than the
    database's.
    """
    rows = await connection.fetch(query("schedule_ahead"), now, AHEAD, limit)
    if not rows:
        return SetBack(0, 0.0)
    found = []
    for row in rows:
        if (timing := _timing(row)) is not None:
            known = row["updated_at"], row["last_at"]
            found.append((row, rules.set_back(timing, row["now"], row["moved_at"], *known)))
        await trio.lowlevel.checkpoint()
    done: int = await connection.fetchval(
        query("schedule_set_back"),
        [row["id"] for row, _ in found],
        [row["revision"] for row, _ in found],
        [next_at for _, next_at in found],
        rows[0]["now"],
    )
    return SetBack(done, (rows[0]["moved_at"] - rows[0]["now"]).total_seconds())


async def until_next(connection: asyncpg_trio.Connection) -> tuple[float | None, bool]:
    """Seconds until the next tick of all (None: there is none), and whether one waits for a job to end."""
    row = await connection.fetchrow(query("schedule_wait"))
    assert row is not None, "an aggregate has one row"
    return row["seconds"], row["holds"]


async def sweep_ticks(connection: asyncpg_trio.Connection) -> None:
    """Forget which jobs old ticks became."""
    await connection.execute(query("sweep_ticks"), KEEP_DAYS, SWEEP_ROWS)
