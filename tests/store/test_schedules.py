"""Schedules as the database keeps them: set, changed, paused; their ticks, and what becomes of bad ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio
from store_stage import NAME, Stage, outcomes

from hotpath.errors import BadArgsError, UnknownScriptError, UsageError
from hotpath.model import MASK, Debounce, Description, Limit, Settings, State, Unique
from hotpath.store import schedules as store
from hotpath.store.queries import query
from hotpath.store.schedules import UnknownScheduleError
from hotpath.store.scripts import register_version
from hotpath.store.ticks import sweep_ticks, tick, until_next

EVERY = {"script": NAME, "every": "10s"}
KEY = {"type": "string", "writeOnly": True}
SECRET = {
    "type": "object", "properties": {"x": {"type": "integer"}, "key": KEY}, "required": [],
    "additionalProperties": False,
}  # fmt: skip


async def put(stage: Stage, name: str = "s", **given) -> store.Schedule:
    """Set a schedule; by default one that ticks every 10 s."""
    return await store.set_schedule(stage.connection, name, given or EVERY)


async def at(stage: Stage, schedule: store.Schedule, seconds: float):
    """Have all tick, so long after the next tick of this one."""
    return await tick(stage.connection, now=schedule.next_at + timedelta(seconds=seconds))


async def get(stage: Stage, name: str = "s") -> store.Schedule:
    """The schedule as it is now."""
    return await store.get_schedule(stage.connection, name)


async def register(stage: Stage, name: str, schema: dict, number: int = 1) -> None:
    """A script that takes such args."""
    await register_version(
        stage.connection,
        Description(path=name, hash=f"{number}" * 64, is_async=False, schema=schema, settings=Settings()),
    )


@pytest.mark.parametrize(
    ("settings", "tag", "args", "named"),
    [
        (Settings(tag="for-$args[x]"), None, {}, "args.x is missing, and the tag for-"),
        (Settings(), "for-$args[x]", {}, "args.x is missing, and the tag for-"),
        (Settings(unique=Unique(key="$args[x]")), None, {}, "args.x is missing, and the unique key"),
        (Settings(debounce=Debounce(1, key="$args[y]")), None, {"y": [1]}, "args.y must be text"),
        (Settings(limit=Limit(concurrency=1, key="$args[y]")), None, {"y": [1]}, "args.y must be text"),
    ],
)
async def test_args_that_no_tick_could_take_are_refused(stage: Stage, settings, tag, args, named):
    """A tag or key that is made of an arg which is not there is not found out tick by tick."""
    schema = {"type": "object", "properties": {"x": {"type": "string"}, "y": {}}, "required": []}
    await register_version(
        stage.connection,
        Description(path="made", hash="7" * 64, is_async=False, schema=schema, settings=settings),
    )
    with pytest.raises(BadArgsError) as refused:
        await put(stage, script="made", every="10s", args=args, tag=tag)
    assert named in str(refused.value)
    assert await store.list_schedules(stage.connection) == []
    schedule = await put(stage, script="made", every="10s", args={"x": "a", "y": "b"}, tag=tag)
    assert (await at(stage, schedule, 0.1)).done == 1
    assert (await get(stage)).ticks == 1


async def test_a_tick_is_a_job(stage: Stage):
    """What the schedule says is the job's; the tick's time is what it is scheduled for."""
    schedule = await put(stage, **EVERY, args={"x": 5}, tag="other", priority=7, timeout=2.5)
    assert (await at(stage, schedule, -0.1)).seen == 0
    assert (await at(stage, schedule, 0.1)).done == 1
    now = await get(stage)
    assert (now.ticks, now.last_at, now.next_at) == (
        1,
        schedule.next_at,
        schedule.next_at + timedelta(seconds=10),
    )
    (job,) = await store.schedule_jobs(stage.connection, "s", 10)
    assert (job.id, job.args, job.tag, job.priority) == (now.last_job, {"x": 5}, "other", 7)
    assert job.scheduled_for == schedule.next_at
    timeout = await stage.connection.fetchval("select timeout_ms from hotpath.job_queue")
    assert timeout == 2500
    assert await store.schedule_of(stage.connection, job.id) == ("s", schedule.next_at)
    (last,) = await store.read_ticks(stage.connection, now, 5)
    assert (last.job, last.state, last.by_hand) == (job.id, State.QUEUED, False)


async def test_one_decision_counts(stage: Stage):
    """Who decided about a schedule as it was before somebody else had it tick changes nothing."""
    schedule = await put(stage)
    one, two = await stage.connect(), await stage.connect()
    now = schedule.next_at + timedelta(seconds=1)
    async with one.transaction():
        assert (await tick(one, now=now)).done == 1
        # The row is in other hands: nobody waits for it.
        with trio.fail_after(30):
            assert (await tick(two, now=now)).done == 0
    assert (await tick(two, now=now)).seen == 0
    assert (await get(stage)).ticks == 1
    assert await stage.count("job_queue") == 1


async def test_who_decided_before_comes_too_late(stage: Stage):
    """What was decided about a schedule counts once, and not after anything else has changed it."""
    schedule = await put(stage)
    (row,) = await stage.connection.fetch(query("schedule_due"), schedule.next_at, 10)
    later = schedule.next_at + timedelta(seconds=10)
    decided = [[row["id"]], [row["revision"]], [later], [None], [0], [0], [row["id"]], [schedule.next_at]]
    decided.append(None)
    assert await stage.connection.fetchval(query("schedule_tick"), *decided) == 1
    assert await stage.connection.fetchval(query("schedule_tick"), *decided) == 0
    (row,) = await stage.connection.fetch(query("schedule_due"), later, 10)
    await put(stage, args={"x": 1})
    decided[1], decided[7] = [row["revision"]], [later]
    assert await stage.connection.fetchval(query("schedule_tick"), *decided) == 0
    assert await stage.count("job_queue") == 1


async def test_a_tick_that_was_made_is_not_made_again(stage: Stage):
    """Even if a schedule is put back (a clock, a hand in the table), a tick that became a job is not made
    again.
    """
    schedule = await put(stage)
    await at(stage, schedule, 0)
    await stage.connection.execute("update hotpath.schedule set next_at = $1", schedule.next_at)
    assert (await at(stage, schedule, 11)).done == 1
    assert await stage.count("job_queue") == 2  # it and the one after it


async def test_what_cannot_be_a_job_holds_up_nothing(stage: Stage):
    """A new version takes other args: the schedule says so, ticks on, and all others have their jobs."""
    await register(stage, "strict", SECRET)
    first = await put(stage, "a", script="strict", every="10s", args={"x": 1, "key": "hushhush"})
    await put(stage, "b")
    schedule = await put(stage, "c", script="strict", every="10s")
    await register(stage, "strict", SECRET | {"properties": {"key": KEY}}, 2)
    assert (await at(stage, schedule, 1)).done == 3
    a, b, c = await store.list_schedules(stage.connection)
    assert (a.ticks, a.refused, b.ticks, c.ticks) == (0, 1, 1, 1)
    assert "field `x`" in a.last_error
    assert (a.last_error_at is not None, b.last_error, c.last_error) == (True, None, None)
    assert a.next_at == first.next_at + timedelta(seconds=10)
    (shown, *_) = await store.masked_schedules(stage.connection, [a])
    assert shown.args == {"x": 1, "key": MASK}
    # Set right, it is well again.
    mended = await put(stage, "a", args={"key": "hushhush"})
    assert mended.last_error is None
    await at(stage, schedule, 11)
    assert (await get(stage, "a")).ticks == 1


async def test_what_cannot_be_read_here_holds_up_nothing(stage: Stage, caplog):
    """Schedules in a zone that this machine lacks are first in the line and stay there; that is told once."""
    for name in ("a", "b", "c"):
        await put(stage, name)
    await stage.connection.execute(
        "update hotpath.schedule set kind = 'cron', expression = '* * * * *', timezone = 'Mars/Base'"
    )
    good = await put(stage, "good", **EVERY | {"every": 3600})
    for _ in range(2):
        now = good.next_at + timedelta(seconds=1)
        ticked = await tick(stage.connection, now=now, limit=3)
    assert (ticked.seen, ticked.done) == (3, 0)
    assert (await get(stage, "good")).ticks == 1
    assert caplog.text.count("does not tick here") == 3


async def test_the_database_is_no_fault_of_a_schedule(stage: Stage):
    """A tick that fails for the database's sake fails whole, and is made later."""
    schedule = await put(stage)
    other = await stage.connect(lock_timeout="50ms")
    async with stage.connection.transaction():
        await stage.connection.execute("lock table hotpath.job_queue in access exclusive mode")
        with pytest.raises(Exception, match="lock timeout"):
            await tick(other, now=schedule.next_at)
    now = await get(stage)
    assert (now.ticks, now.refused, now.next_at) == (0, 0, schedule.next_at)
    assert (await tick(other, now=schedule.next_at)).done == 1


@pytest.mark.parametrize("overlap", ["skip", "queue_one"])
async def test_overlap(stage: Stage, overlap):
    """While the job before waits or runs, a tick makes none; one that was held is made when it has ended."""
    schedule = await put(stage, **EVERY, overlap=overlap)
    await at(stage, schedule, 0)
    await stage.connection.execute("update hotpath.job_queue set scheduled_for = now()")
    worker = await stage.worker()
    hand = await stage.claim(worker)
    await at(stage, schedule, 11)
    await at(stage, schedule, 21)
    assert await stage.count("job_queue") == 0
    now = await get(stage)
    held = overlap == "queue_one"
    assert (now.ticks, now.skipped) == (1, 1 if held else 2)
    assert now.held_at == (schedule.next_at + timedelta(seconds=10) if held else None)
    assert (await at(stage, schedule, 22)).seen == 0
    assert (await until_next(stage.connection))[1] is held
    await stage.flush(worker, outcomes(hand))
    assert (await at(stage, schedule, 23)).done == held
    now = await get(stage)
    assert (now.ticks, now.held_at) == (1 + held, None)
    await at(stage, schedule, 31)
    assert (await get(stage)).ticks == 2  # the one that was held goes on, or there was none


async def test_changes_leave_the_next_tick(stage: Stage):
    """Other args, and nothing is missed; another timing begins now."""
    first = await put(stage)
    same = await put(stage, args={"x": 1}, priority=3)
    assert (same.next_at, same.args, same.priority) == (first.next_at, {"x": 1}, 3)
    cron = await put(stage, cron="0 0 1 1 *", timezone="Asia/Tokyo")
    assert (cron.kind, cron.timezone, cron.args) == ("cron", "Asia/Tokyo", {"x": 1})
    assert cron.next_at.astimezone(UTC).hour == 15
    whole = await store.set_schedule(stage.connection, "s", EVERY, replace=True)
    assert (whole.args, whole.priority, whole.timezone, whole.id) == ({}, 0, "UTC", first.id)


async def test_pause(stage: Stage):
    """A paused schedule does not tick, and does not catch up; one that was to come once does."""
    schedule = await put(stage)
    once = await put(stage, "once", script=NAME, at=datetime.now(UTC) + timedelta(seconds=5))
    for name in ("s", "once"):
        paused = await store.pause_schedule(stage.connection, name)
        assert (paused.state, paused.coming(3)) == ("paused", [])
    assert (await at(stage, schedule, 40)).seen == 0
    assert (await put(stage, args={"x": 2})).state == "paused"
    again = await store.resume_schedule(stage.connection, "s")
    assert again.next_at > await stage.connection.fetchval("select now()")
    assert (await store.resume_schedule(stage.connection, "once")).next_at == once.next_at
    assert (await at(stage, schedule, 41)).seen == 2
    assert (await get(stage, "once")).state == "over"


async def test_by_hand(stage: Stage):
    """A job now, whatever the schedule is at; it counts for what may not overlap."""
    schedule = await put(stage, **EVERY, overlap="skip")
    await store.pause_schedule(stage.connection, "s")
    job = await store.run_schedule(stage.connection, "s")
    assert [each.id for each in await store.schedule_jobs(stage.connection, "s", 5)] == [job]
    assert (await store.read_ticks(stage.connection, schedule, 5))[0].by_hand
    resumed = await store.resume_schedule(stage.connection, "s")
    await at(stage, resumed, 0)
    now = await get(stage)
    assert (now.ticks, now.skipped) == (0, 1)


async def test_delete(stage: Stage):
    """Its jobs stay, and whose they were is forgotten."""
    schedule = await put(stage)
    await at(stage, schedule, 0)
    await store.delete_schedule(stage.connection, "s")
    assert await stage.count("job_queue") == 1
    assert await stage.count("schedule_tick") == 0
    for act in (store.get_schedule, store.delete_schedule, store.pause_schedule, store.run_schedule):
        with pytest.raises(UnknownScheduleError, match="'s'"):
            await act(stage.connection, "s")
        with pytest.raises(UnknownScheduleError):
            await act(stage.connection, "no\0")


async def test_old_ticks_are_forgotten(stage: Stage):
    """All but the last of a schedule, after some weeks."""
    schedule = await put(stage)
    for seconds in (0, 10, 20):
        await at(stage, schedule, seconds)
    await stage.connection.execute("update hotpath.schedule_tick set at = at - interval '60 days'")
    await sweep_ticks(stage.connection)
    (left,) = await store.read_ticks(stage.connection, schedule, 5)
    assert left.at == schedule.next_at + timedelta(seconds=20) - timedelta(days=60)


async def test_a_change_is_told(stage: Stage):
    """Whoever has schedules tick hears of each change as it is committed."""
    before = await stage.connection.fetchval("select n from hotpath.config_revision")
    await put(stage)
    await store.pause_schedule(stage.connection, "s")
    await store.delete_schedule(stage.connection, "s")
    assert await stage.connection.fetchval("select n from hotpath.config_revision") == before + 3


NOW = datetime(2020, 1, 1, tzinfo=UTC)


CANNOT_BE_SET = [
    ({"script": NAME}, "when is missing"),
    ({"every": "1m"}, "script is missing"),
    (EVERY | {"cron": "* * * * *"}, "every contradicts cron"),
    (EVERY | {"timezone": "Asia/Tokyo"}, "timezone contradicts every"),
    (EVERY | {"every": 0.5}, "every: 0.5 s"),
    (EVERY | {"every": "soon"}, "every: 'soon'"),
    ({"script": NAME, "cron": "0 0 30 2 *"}, "cron: day-of-month '30'"),
    ({"script": NAME, "cron": "@daily", "timezone": "Mars/Base"}, "timezone: "),
    ({"script": NAME, "cron": "@daily", "timezone": "../../etc/passwd"}, "timezone: "),
    ({"script": NAME, "at": NOW}, "at: "),
    ({"script": NAME, "at": "9999-12-31T23:59:59Z"}, "at: 9999-12-31"),
    ({"script": NAME, "at": NOW, "catch_up": "last"}, "at: "),
    ({"script": NAME, "at": datetime(2030, 1, 1)}, "at must be a datetime with a time zone"),  # noqa: DTZ001
    ({"script": NAME, "at": "2027-03-28T02:30", "timezone": "Europe/Berlin"}, "at: 2027-03-28"),
    (EVERY | {"catch_up": "all", "overlap": "skip"}, "overlap skip contradicts"),
    (EVERY | {"catch_up": "none", "catch_up_within": 100}, "catch_up_within contradicts"),
    (EVERY | {"priority": 40000}, "priority"),
    (EVERY | {"tag": "x" * 300}, "tag"),
    (EVERY | {"timeout": -1}, "timeout"),
]


async def test_what_cannot_be_set(stage: Stage, subtests):
    """I13: refused where it is set, the field named; nothing is stored."""
    for given, named in CANNOT_BE_SET:
        with subtests.test(ascii(given)[:60]):
            with pytest.raises(UsageError) as raised:
                await store.set_schedule(stage.connection, "s", given)
            assert str(raised.value).startswith(named)
            assert await store.list_schedules(stage.connection) == []


async def test_other_bad_input(stage: Stage):
    """I13: unknown scripts, bad args, names that are none, a mask in the place of a secret."""
    await register(stage, "strict", SECRET)
    with pytest.raises(UnknownScriptError, match="nope"):
        await put(stage, script="nope", every="1m")
    with pytest.raises(BadArgsError, match="field `y`"):
        await put(stage, script="strict", every="1m", args={"y": 1})
    with pytest.raises(BadArgsError, match="secret"):
        await put(stage, script="strict", every="1m", args={"key": MASK})
    with pytest.raises(BadArgsError, match="object"):
        await put(stage, script="strict", every="1m", args=[1])
    for name in ("", "a b", "-x", "x" * 101, "a/b", "é", "x\0"):
        with pytest.raises(UsageError, match="name"):
            await put(stage, name)
    assert await store.list_schedules(stage.connection) == []


async def test_a_time_that_is_over_runs_if_told(stage: Stage):
    """With `catch_up last` given, a time of a moment ago ticks at once."""
    when = await stage.connection.fetchval("select now() - interval '1 hour'")
    schedule = await put(stage, script=NAME, at=when, catch_up="last")
    assert (await tick(stage.connection)).done == 1
    assert (await get(stage)).state == "over"
    assert schedule.next_at == when
