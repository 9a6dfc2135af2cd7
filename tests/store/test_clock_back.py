"""A database's clock that was ahead: schedules go on from now once it is right, and no tick is made twice."""

from __future__ import annotations

from datetime import timedelta

import pytest
from store_stage import NAME, Stage, outcomes

from hotpath.core.schedules import GRACE
from hotpath.store import schedules as store
from hotpath.store.queries import query
from hotpath.store.ticks import AHEAD, set_back, sweep_ticks, tick, until_next

HOUR = timedelta(hours=1)
TEN = timedelta(seconds=10)


async def put(stage: Stage, **given) -> store.Schedule:
    """Set a schedule; by default one that ticks every 10 s."""
    return await store.set_schedule(stage.connection, "s", {"script": NAME, "every": "10s"} | given)


async def get(stage: Stage) -> store.Schedule:
    """The schedule as it is now."""
    return await store.get_schedule(stage.connection, "s")


async def made(stage: Stage) -> list:
    """Times of all ticks that are jobs, in order; each is exactly one job."""
    rows = await stage.connection.fetch("select at, job from hotpath.schedule_tick order by at")
    assert len({row["job"] for row in rows}) == len(rows) == await stage.count("job_queue")
    return [row["at"] for row in rows]


async def test_ticks_go_on_and_none_comes_twice(stage: Stage):
    """After an hour's jump and back, every tick from now on is one job, those made ahead included."""
    schedule = await put(stage)
    await tick(stage.connection, now=schedule.next_at + HOUR)
    early = await made(stage)
    assert early[0] >= schedule.next_at + HOUR - GRACE
    assert (await until_next(stage.connection))[0] > 3500
    found = await set_back(stage.connection)
    assert found.done == 1
    assert 3500 < found.ahead < 3700
    now = await stage.connection.fetchval("select now()")
    assert now - GRACE <= (await get(stage)).next_at <= now + TEN
    assert (await set_back(stage.connection)).done == 0
    at = (first := (await get(stage)).next_at)
    while at < schedule.next_at + HOUR + 3 * TEN:
        at += 5 * TEN
        await tick(stage.connection, now=at)
    ticks = await made(stage)
    assert set(early) < set(ticks)
    assert ticks == [first + k * TEN for k in range(len(ticks))]


async def test_one_of_two_has_them_go_on(stage: Stage):
    """What was decided about a schedule counts once; a clock that differs by a moment was not ahead."""
    schedule = await put(stage)
    await tick(stage.connection, now=schedule.next_at + HOUR)
    (row,) = await stage.connection.fetch(query("schedule_ahead"), None, AHEAD, 10)
    decided = [row["id"]], [row["revision"]], [schedule.next_at], row["now"]
    assert await stage.connection.fetchval(query("schedule_set_back"), *decided) == 1
    assert await stage.connection.fetchval(query("schedule_set_back"), *decided) == 0
    await stage.connection.execute("update hotpath.schedule set moved_at = now() + interval '0.5 seconds'")
    assert (await set_back(stage.connection)).ahead == 0


async def test_what_was_set_while_it_was_ahead(stage: Stage):
    """A schedule that was made, or changed, by a clock that was ahead ticks in its interval from now."""
    await put(stage)
    for name in ("anchor", "next_at", "moved_at", "updated_at", "created_at"):
        await stage.connection.execute(f"update hotpath.schedule set {name} = {name} + interval '1 day'")
    await put(stage, args={"x": 1})  # leaves the next tick where it is
    assert (await set_back(stage.connection)).done == 1
    now = await stage.connection.fetchval("select now()")
    assert now - GRACE <= (await get(stage)).next_at <= now + TEN


@pytest.mark.parametrize("begun", [False, True])
async def test_a_job_of_a_time_to_come_is_not_the_one_before(stage: Stage, begun):
    """What may not overlap waits for a job that was made ahead only if that has begun."""
    schedule = await put(stage, overlap="queue_one")
    await tick(stage.connection, now=schedule.next_at + HOUR)
    await tick(stage.connection, now=schedule.next_at + HOUR + TEN)
    assert (await get(stage)).held_at is not None
    if begun:
        await stage.connection.execute("update hotpath.job_queue set scheduled_for = now()")
        hand = await stage.claim(worker := await stage.worker())
    await set_back(stage.connection)
    now = await get(stage)
    assert now.held_at is None
    await tick(stage.connection, now=now.next_at)
    assert (await get(stage)).ticks == (1 if begun else 2)
    if begun:
        await stage.flush(worker, outcomes(hand))
        await tick(stage.connection, now=now.next_at + TEN)
        assert (await get(stage)).ticks == 2


async def test_a_tick_made_ahead_is_the_one_before_when_it_comes(stage: Stage):
    """When the time of a tick that was made ahead has come, the next one does not overlap with its job."""
    schedule = await put(stage, overlap="skip", every="1h")
    await tick(stage.connection, now=schedule.next_at)
    await set_back(stage.connection)
    assert (await get(stage)).next_at == schedule.next_at
    await tick(stage.connection, now=schedule.next_at)
    now = await get(stage)
    assert (now.ticks, now.last_at) == (1, schedule.next_at)
    await tick(stage.connection, now=now.next_at)
    assert (await get(stage)).skipped == 1


@pytest.mark.parametrize(("catch_up", "jobs"), [("last", 1), ("none", 0)])
async def test_once(stage: Stage, catch_up, jobs):
    """A time that was to come once, and was made ahead, is over; one that was passed over comes yet."""
    when = await stage.connection.fetchval("select now() + interval '1 hour'")
    await store.set_schedule(stage.connection, "s", {"script": NAME, "at": when, "catch_up": catch_up})
    await tick(stage.connection, now=when + HOUR)
    assert (await get(stage)).state == "over"
    await set_back(stage.connection)
    now = await get(stage)
    assert (now.state, now.next_at) == (("over", None) if jobs else ("active", when))
    await tick(stage.connection, now=when)
    assert await made(stage) == [when]


async def test_what_is_caught_up_is_known_for_as_long(stage: Stage):
    """A tick that a clock ahead may have caught up is not forgotten before its time."""
    schedule = await put(stage, catch_up="all", catch_up_within=100 * 86400)
    for seconds in (0, 10):
        await tick(stage.connection, now=schedule.next_at + timedelta(seconds=seconds))
    await stage.connection.execute("update hotpath.schedule_tick set at = at - interval '60 days'")
    await sweep_ticks(stage.connection)
    assert len(await made(stage)) == 2
    await stage.connection.execute("update hotpath.schedule set catch_up_within = 86400")
    await sweep_ticks(stage.connection)
    assert await stage.count("schedule_tick") == 1
