"""What queues were like: looked at once a minute whoever tries, kept within bounds, told in steps."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import trio
from store_stage import NAME, Stage

from hotpath.core.series import begin_of
from hotpath.core.tally import SIZE, SUCCESS
from hotpath.documents import history_document
from hotpath.errors import UsageError
from hotpath.store import workers
from hotpath.store.history import KEEP_ROWS, OTHERS, keep_history_small, look_at_queues, read_history
from hotpath.store.queries import query
from hotpath.store.workers import Counts
from hotpath.worker.house import House


async def put(stage: Stage, at: datetime, tags: dict[str, int], *, most: int = 200) -> None:
    """A look at another time, by the statement that makes one: so many jobs wait in each tag."""
    (turn,) = await stage.connection.fetch(query("look_turn"), at)
    for tag in tags if not await stage.count("queue_minute") else ():
        await stage.connection.execute(query("add_tag"), tag)
    await stage.connection.execute(
        query("look_put"), turn["minute"], list(tags), list(tags.values()), [1] * len(tags),
        [at - timedelta(seconds=waiting) for waiting in tags.values()], most,
    )  # fmt: skip


async def test_a_minute_is_looked_at_once(stage: Stage):
    """Whoever tries at the same time, one look is noted, with what waits, runs and since when."""
    session = await stage.worker()
    await stage.loose(3)
    await stage.sealed(4)
    await stage.loose(2, tag="far", scheduled_for=await stage.now() + timedelta(hours=1))
    hand = await stage.claim(session, 2)
    assert hand is not None
    at = begin_of(await stage.now(), 1)
    connections = [await stage.connect() for _ in range(8)]
    async with trio.open_nursery() as nursery:
        for connection in connections:
            nursery.start_soon(look_at_queues, connection, at)
    assert await stage.count("queue_look") == 1
    rows = await stage.connection.fetch(
        "select hotpath.tag_name(tag), waiting, running, oldest_us from hotpath.queue_minute order by 1"
    )
    assert [tuple(row)[:3] for row in rows] == [("far", 2, 0), (NAME, 5, 2)]
    assert rows[0]["oldest_us"] is None
    assert rows[1]["oldest_us"] >= 0
    assert 0 < await look_at_queues(stage.connection, at) <= 60


async def test_the_house_looks(stage: Stage):
    """Whoever keeps house looks in each minute, soon after it has begun."""
    await stage.loose(3)
    house = House(look_at=0.0)
    first = begin_of(await stage.now(), 1)
    await house.keep(stage.connection)
    await house.keep(stage.connection)
    minutes = 1 + (begin_of(await stage.now(), 1) - first) // timedelta(minutes=1)
    looks = await stage.count("queue_look")
    assert 1 <= looks <= minutes, "one, unless another minute has just begun"
    assert await stage.count("queue_minute") == looks


async def test_it_is_told_in_steps(stage: Stage):
    """The greatest of each step and all that ended in it; what nobody looked at is not nothing."""
    now = begin_of(await stage.now(), 60)
    for minute, waiting in ((1, 10), (2, 30), (16, 7)):
        at = now - timedelta(hours=2) + timedelta(minutes=minute)
        await put(stage, at, {NAME: waiting, "far": 2})
    await put(stage, now - timedelta(hours=1), {})
    await stage.connection.execute(
        "insert into hotpath.minute values ($1, $2, $3, 5, 1, 2, 3, 4000), ($4, $2, $3, 7, 0, 0, 0, 1000)",
        now - timedelta(minutes=118), stage.script, stage.tag, now - timedelta(minutes=119),
    )  # fmt: skip
    history = await read_history(
        stage.connection, since=now - timedelta(hours=2), until=now, step=900, limit=1
    )
    assert (history.step_seconds, len(history.steps)) == (900, 8)
    (mine,) = history.tags
    assert mine.tag == NAME
    assert mine.waiting == [30, 7, None, None, 0, None, None, None]
    assert history.all.waiting == [32, 9, None, None, 0, None, None, None]
    assert history.all.running[:2] == [2, 2]
    assert mine.success[0] == 12
    assert (mine.failure[0], mine.canceled[0], mine.retried[0], mine.busy_ms[0]) == (1, 2, 3, 5.0)
    assert mine.oldest_ms[0] >= 30_000
    assert mine.oldest_ms[2] is None
    assert mine.ended == history.all.ended == [15, *[0] * 7]
    (far,) = (await read_history(stage.connection, tags=["f*", f"!{NAME}"])).tags
    assert (far.tag, max(each or 0 for each in far.waiting)) == ("far", 2)
    assert history_document(history)["all"]["tag"] is None


BAD_QUESTIONS = [
    ({"step": 61}, "step is one of"),
    ({"step": 60, "since": -14}, "more than 2,000 steps"),
    ({"since": 1}, "since is a time before until"),
    ({"tags": [""]}, "tag: ''"),
    ({"limit": 0}, "limit is 1 to 200"),
]


async def test_bad_questions(stage: Stage, subtests):
    """Are refused, and the field is named."""
    for options, said in BAD_QUESTIONS:
        with subtests.test(ascii(options)[:60]):
            if "since" in options:
                options = options | {"since": await stage.now() + timedelta(days=options["since"])}
            with pytest.raises(UsageError, match=said):
                await read_history(stage.connection, **options)


@pytest.mark.slow
async def test_size_is_bounded(stage: Stage):
    """Of 16 days with 60 tags, the last day is known to the minute and what is before it by the hour; what is
    older than 14 days is gone, and of a minute no more than the fullest tags have rows.
    """
    now = begin_of(await stage.now(), 60)
    tags = {f"t{k:02}": k for k in range(60)}
    async with stage.connection.transaction():
        for quarter in range(16 * 96):
            at = now - timedelta(minutes=15 * quarter)
            await put(stage, at, tags | {"t59": 1000 + quarter % 4}, most=20)
    await stage.connection.execute("analyze hotpath.queue_minute")
    assert await stage.count("queue_minute") == 16 * 96 * 21
    most = 14_000
    for _ in range(20):
        await keep_history_small(stage.connection, roll_rows=most, every=0)
    assert await stage.count("queue_minute") <= most < KEEP_ROWS
    oldest, looks = await stage.connection.fetchrow(
        "select min(minute), (select min(minute) from hotpath.queue_look) from hotpath.queue_minute"
    )
    assert now - timedelta(days=14, hours=1) <= oldest
    assert now - timedelta(days=14, hours=1) <= looks
    history = await read_history(stage.connection, since=now - timedelta(days=13), step=60 * 15)
    assert history.step_seconds == 3600  # no finer than it is known
    fullest = history.tags[0]
    assert fullest.tag == "t59"
    assert {each for each in fullest.waiting if each is not None} >= {1003}
    assert min(each for each in fullest.waiting[:-2] if each is not None) == 1003
    (others,) = [each for each in history.tags if each.tag == OTHERS]
    assert others.waiting[1] == sum(range(40))
    fresh = await read_history(stage.connection, since=now - timedelta(hours=5), step=900)
    assert fresh.step_seconds == 900
    await stage.connection.execute("analyze hotpath.queue_minute")
    left = await stage.count("queue_minute")
    await stage.connection.fetchval(query("sweep_queue"), 14, left - 500)
    assert await stage.count("queue_minute") == left - 500


async def test_rolling_up_keeps_the_sums(stage: Stage):
    """How jobs ended is the same by the hour as it was by the minute."""
    now = begin_of(await stage.now(), 60)
    await stage.connection.execute(
        "insert into hotpath.minute "
        "select $1::timestamptz - k * interval '1 minute', $2, $3, 2, 1, 0, 0, 500 "
        "from generate_series(1, 4320) k",
        now, stage.script, stage.tag,
    )  # fmt: skip
    before = await read_history(stage.connection, since=now - timedelta(days=3), until=now, step=3600)
    for _ in range(20):
        await keep_history_small(stage.connection, roll_rows=100, every=0)
    assert await stage.count("minute") <= 24 * 60 + 60 + 48
    after = await read_history(stage.connection, since=now - timedelta(days=3), until=now, step=3600)
    assert after.all.ended == before.all.ended
    assert after.all.busy_ms == before.all.busy_ms
    assert sum(after.all.ended) == 3 * 4320


async def test_jobs_that_ended_are_in_it(stage: Stage):
    """What workers count with their heartbeat is what is told."""
    counts = [0] * SIZE
    counts[SUCCESS] = 9
    said = Counts(keeper=1, script=stage.script, tag=stage.tag, counts=counts)
    await workers.heartbeat(stage.connection, {}, 15, counts=[said])
    history = await read_history(stage.connection)
    assert sum(history.all.success) == 9
    assert history.tags[0].tag == NAME
