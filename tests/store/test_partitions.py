"""Partitions of what is done: attached ahead, dropped a day at a time, and neither waits for readers of
other days.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import trio
from store_stage import Stage, outcomes

from hotpath.store.partitions import detach_before
from hotpath.store.workers import make_partitions

PARENTS = ("job_attempt", "job_done", "job_log")


def today() -> datetime:
    """The day that partitions begin with: UTC."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def name(parent: str, day: datetime) -> str:
    """Name of the partition of a day."""
    return f"{parent}_{day:%Y%m%d}"


async def partitions(stage: Stage, parent: str) -> list[str]:
    """Names of the partitions that are attached."""
    rows = await stage.connection.fetch(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid "
        "where i.inhparent = $1::text::regclass order by 1",
        f"hotpath.{parent}",
    )
    return [row[0] for row in rows]


async def add_old_days(stage: Stage, days: int) -> None:
    """Partitions of days gone by, as make_partitions left them then."""
    for parent in PARENTS:
        for back in range(1, days + 1):
            day = today() - timedelta(days=back)
            await stage.connection.execute(
                f"create table hotpath.{name(parent, day)} partition of hotpath.{parent} "
                f"for values from ('{day.isoformat()}') to ('{(day + timedelta(days=1)).isoformat()}')"
            )


async def test_partitions_are_a_week_ahead(stage: Stage):
    """I10: each of the three tables has today's partition and a week's to come; asking again makes none."""
    for parent in PARENTS:
        assert await partitions(stage, parent) == [
            name(parent, today() + timedelta(days=ahead)) for ahead in range(8)
        ]
    assert await make_partitions(stage.connection) == 0
    assert await make_partitions(stage.connection, 9) == 6


async def test_partitions_look_like_their_parents(stage: Stage):
    """I10: a partition that was attached has the primary key, the partial indexes for failures and for steps,
    and no leftover check.
    """
    part = f"hotpath.{name('job_done', today() + timedelta(days=2))}"
    indexes = await stage.connection.fetch(
        "select pg_get_indexdef(indexrelid) from pg_index where indrelid = $1::text::regclass", part
    )
    assert len(indexes) == 3
    assert any("state <> 1" in row[0] for row in indexes)
    assert (
        await stage.connection.fetchval(
            "select count(*) from pg_constraint where conrelid = $1::text::regclass and contype = 'c'", part
        )
        == 0
    )


async def test_attach_does_not_wait_behind_a_reader(stage: Stage):
    """I10: a report that reads all results in an open transaction holds up neither new partitions nor
    flushes.
    """
    reader = await stage.connect()
    await stage.loose(1)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    async with reader.transaction():
        await reader.fetch("select count(*) from hotpath.job")
        with trio.fail_after(20):
            assert await make_partitions(stage.connection, 8) == 3
            assert await stage.flush(worker, outcomes(hand)) == {hand.lease}


async def test_old_days_go(stage: Stage):
    """I10: days before the given one are dropped from all three tables, the oldest first; the others stay
    with their rows.
    """
    await add_old_days(stage, 3)
    await stage.connection.execute(
        "insert into hotpath.job_done (id, done_at, scheduled_for, tag, script, priority, attempt, state) "
        "select hotpath.uuid7(), now() - d * interval '1 day', now(), 1, $1, 0, 1, 1 "
        "from generate_series(0, 3) d",
        stage.script,
    )
    before = today() - timedelta(days=1)
    dropped = await detach_before(stage.connection, before.date())
    assert dropped == [name(parent, today() - timedelta(days=back)) for back in (3, 2) for parent in PARENTS]
    assert await stage.count("job_done") == 2
    assert len(await partitions(stage, "job_log")) == 9
    assert (
        await stage.connection.fetchval("select count(*) from pg_class where relname = any ($1)", dropped)
        == 0
    )
    assert await detach_before(stage.connection, before.date()) == []


async def test_detach_holds_up_nobody(stage: Stage):
    """I10: while a detachment waits for a reader of the old day, flushes go on; what is cut off is finished
    next time.
    """
    await add_old_days(stage, 1)
    reader, other, worker = await stage.connect(), await stage.connect(), await stage.worker()
    await stage.loose(1)
    hand = await stage.claim(worker)
    async with reader.transaction():
        await reader.fetch("select count(*) from hotpath.job_done")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(detach_before, other, today().date())
            pid = other.get_server_pid()
            with trio.fail_after(40):
                while not await stage.connection.fetchval(  # noqa: ASYNC110 - of another session
                    "select cardinality(pg_blocking_pids($1)) > 0", pid
                ):
                    await trio.sleep(0.01)
                assert await detach_before(stage.connection, today().date()) == [], "two at once"
                assert await stage.flush(worker, outcomes(hand)) == {hand.lease}
            nursery.cancel_scope.cancel(reason="cut off half-way")
    with trio.fail_after(20):
        left = await detach_before(await stage.connect(), today().date())
    assert name("job_done", today() - timedelta(days=1)) in left
    assert [len(await partitions(stage, parent)) for parent in PARENTS] == [8, 8, 8]
    assert await stage.states() == {"success": 1}
