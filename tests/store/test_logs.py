"""Stored and live logs: a position names the same character wherever it is read."""

from __future__ import annotations

import time
import uuid

import pytest
import trio
from test_plans import FEW, explain, pages

from hotpath.core.logtext import LogText
from hotpath.store import logs
from hotpath.store.complete import add_log, add_parked_log
from hotpath.store.logs import LogChunk, live_after, read_log, watch, watched

SUCCESS = 1


async def one_in_hand(stage, count=1):
    """A worker with jobs in hand."""
    ids = await stage.loose(count)
    session = await stage.worker()
    hand = await stage.claim(session, count)
    return session, hand, ids


def report(hand, index, log, state=SUCCESS):
    """End a job that began 2 s ago."""
    now = time.perf_counter_ns() // 1000
    hand.report((index, state, now - 2_000_000, 2_000_000, b"null", log))


def offset_us():
    """What makes the database's time of our clock's, on one machine."""
    return time.time_ns() // 1000 - time.perf_counter_ns() // 1000


async def read_all(connection, job, step=1 << 20):
    """All chunks of a stored log, read `step` characters at a time."""
    chunks, after = [], None
    while True:
        page = await read_log(connection, job, after, step)
        chunks += page.chunks
        if page.next is None:
            return chunks, page.complete
        assert page.next == (page.chunks[-1].attempt, page.chunks[-1].end)
        after = page.next


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
async def test_a_stored_log_is_read_by_position(stage, step):
    """Pages of any size give the log once, with its times, and the gap where its middle was not kept."""
    session, hand, ids = await one_in_hand(stage)
    now = time.perf_counter_ns() // 1000
    log = LogText("hé\n<gone>€nd", (2, now - 1_000_000, 103, now), (3, 100, 6))
    report(hand, 0, log)
    before = time.time() * 1000
    await session.cycle([hand.take()], None, clock_offset_us=offset_us())
    chunks, complete = await read_all(stage.connection, ids[0], step)
    assert complete
    kept = [chunk for chunk in chunks if not chunk.is_gap]
    assert "".join(chunk.text for chunk in kept) == "hé\n€nd"
    gaps = [chunk for chunk in chunks if chunk.is_gap]
    assert (gaps[0].at, gaps[-1].end) == (3, 103)
    at = 0
    for chunk in chunks:
        assert (chunk.attempt, chunk.at) == (1, at)
        assert chunk.is_gap or chunk.end == at + len(chunk.text)
        at = chunk.end
    times = {position: when for chunk in chunks for position, when in chunk.times}
    assert times[0] == pytest.approx(before - 2000, abs=30_000)  # by another clock it would be years
    assert times[103] - times[2] == pytest.approx(1000, abs=5)
    assert times[103] == pytest.approx(before, abs=30_000)
    inside = await read_log(stage.connection, ids[0], (1, 50))
    assert [(chunk.at, chunk.end, chunk.is_gap) for chunk in inside.chunks] == [
        (50, 103, True),
        (103, 106, False),
    ]
    assert not (await read_log(stage.connection, ids[0], (1, 106))).chunks


async def test_a_log_in_several_rows_is_one(stage):
    """What a run printed before it was parked, and after its completion, stands in one row of positions."""
    session, hand, ids = await one_in_hand(stage)
    await add_parked_log(session, ids[0], 1, "first ", 0)
    await add_parked_log(session, ids[0], 1, LogText("<x>second ", (), (0, 10, 3)), 0)
    report(hand, 0, "third ")
    await session.cycle([hand.take()], None)
    await add_log(session, ids[0], 1, "late", 0)
    chunks, complete = await read_all(stage.connection, ids[0], 4)
    assert complete
    assert "".join(chunk.text for chunk in chunks if not chunk.is_gap) == "first second third late"
    assert chunks[-1].end == len("first second third late") + 10
    page = await read_log(stage.connection, ids[0], (1, 6 + 10 + 7))
    assert "".join(chunk.text for chunk in page.chunks) == "third late"


async def test_a_log_that_may_grow_is_not_complete(stage):
    """Of a job that waits or runs, what is stored is no end; an unknown one has nothing."""
    session, hand, ids = await one_in_hand(stage, 2)
    page = await read_log(stage.connection, ids[0])
    assert (page.chunks, page.next, page.complete) == ([], None, False)
    report(hand, 0, None)
    report(hand, 1, "x")
    await session.cycle([hand.take()], None)
    assert (await read_log(stage.connection, ids[0])).complete
    assert not (await read_log(stage.connection, uuid.uuid4())).complete


async def test_a_retried_attempts_log_keeps_its_times(stage):
    """An attempt that fails and runs again has its log, with marks, under its own number."""
    session, hand, ids = await one_in_hand(stage)
    now = time.perf_counter_ns() // 1000
    hand.retry((0, 2, now - 1_000_000, 1_000_000, b"{}", LogText("again\n", (0, now - 500_000))), 0.0)
    await session.cycle([hand.take()], None, clock_offset_us=offset_us())
    (chunk,), complete = await read_all(stage.connection, ids[0])
    assert not complete
    assert (chunk.attempt, chunk.text) == (1, "again\n")
    assert chunk.times[0][1] == pytest.approx(time.time() * 1000 - 500, abs=30_000)


async def test_who_watches_is_found_with_the_worker(stage):
    """Supervisors are told that somebody begins to watch, and find the job in hand, however it was put in;
    not those of others, nor jobs that have ended or are not watched any more.
    """
    session, hand, ids = await one_in_hand(stage, 3)
    sealed_ids = await stage.sealed(2)
    assert await stage.cancel(sealed_ids[0])
    sealed = await stage.claim(session, 2)
    viewer = uuid.uuid4()
    asked = [ids[1], sealed_ids[1], uuid.uuid4()]
    async with (await stage.connect()).listen(logs.WATCH_CHANNEL) as heard:
        await watch(stage.connection, asked, viewer, 10.0)
        await watch(stage.connection, asked, viewer, 10.0)
        with trio.fail_after(40):
            told = {(await heard.receive()).payload for _ in asked}
        assert told == {str(job) for job in asked}
        await stage.connection.execute("select pg_notify('hotpath_watch', 'last')")
        with trio.fail_after(40):
            assert (await heard.receive()).payload == "last"  # the second `watch` said nothing new
    found = {one.job: one for one in (await watched(stage.connection, [session.worker]))[0]}
    assert set(found) == {ids[1], sealed_ids[1]}
    one = found[ids[1]]
    assert (one.worker, one.lease, one.index, one.attempt, one.at) == (
        session.worker,
        hand.lease,
        list(hand.ids).index(ids[1]),
        1,
        0,
    )
    # The one before it was canceled: the worker does not count it.
    assert (found[sealed_ids[1]].lease, found[sealed_ids[1]].index) == (sealed.lease, 0)
    assert list(sealed.ids) == [sealed_ids[1]]
    assert await watched(stage.connection, [session.worker + 1]) == ([], 0)
    await add_parked_log(session, ids[1], 1, LogText("<x>second", (), (0, 10, 3)), 0)
    (again,) = [one for one in (await watched(stage.connection, [session.worker]))[0] if one.job == ids[1]]
    assert again.at == 16
    for index in range(3):
        report(hand, index, None)
    await session.cycle([hand.take()], None)
    assert [one.job for one in (await watched(stage.connection, [session.worker]))[0]] == [sealed_ids[1]]
    await logs.unwatch(stage.connection, asked, viewer)
    assert await watched(stage.connection, [session.worker]) == ([], 0)


async def test_what_is_said_live_is_read_from_a_position(stage):
    """Each reader gets what stands behind its own position, cut to the character, and is told that there is
    something.
    """
    job, other = uuid.uuid4(), uuid.uuid4()
    now, wall = time.perf_counter_ns() // 1000, time.time() * 1000
    said = [
        (job, LogChunk(1, 0, 3, "abc", [(0, now - 100_000), (2, now)])),
        (job, LogChunk(1, 3, 5, "de", [(3, now)])),
        (job, LogChunk(2, 4, 6, "EF", [(4, now)])),
        (other, LogChunk(1, 0, 1, "o", [(0, now)])),
    ]
    async with (await stage.connect()).listen(logs.LOG_CHANNEL) as heard:
        await logs.say_live(stage.connection, said, offset_us())
        with trio.fail_after(40):
            assert (await heard.receive()).payload.split() == [str(job), str(other)]
    found = await live_after(stage.connection, [(job, 0, 0), (other, 1, 1)])
    assert set(found) == {job}
    assert [(chunk.attempt, chunk.at, chunk.end, chunk.text) for chunk in found[job]] == [
        (1, 0, 3, "abc"),
        (1, 3, 5, "de"),
        (2, 4, 6, "EF"),
    ]
    assert found[job][0].times[0][1] == pytest.approx(wall - 100, abs=30_000)
    (first, second, third) = (await live_after(stage.connection, [(job, 1, 1)]))[job]
    assert (first.text, second.text, third.text) == ("bc", "de", "EF")
    assert [position for position, _ in first.times] == [1, 2]
    assert await live_after(stage.connection, [(job, 2, 6)]) == {}


async def test_what_was_said_a_minute_ago_goes(stage):
    """The sweep takes old rows and viewers that have left, and nothing else."""
    job = uuid.uuid4()
    await watch(stage.connection, [job], job, -61.0)
    await watch(stage.connection, [job], uuid.uuid4(), 1.0)
    await logs.say_live(stage.connection, [(job, LogChunk(1, 0, 1, "a")), (job, LogChunk(1, 1, 2, "b"))], 0)
    await stage.connection.execute(
        "update hotpath.live_log set said_at = now() - interval '61 seconds' where text = 'a'"
    )
    await logs.sweep_live(stage.connection)
    assert [chunk.text for chunk in (await live_after(stage.connection, [(job, 0, 0)]))[job]] == ["b"]
    assert await stage.count("watch") == 1


async def test_readers_may_watch_and_read(stage):
    """The role of those who look needs no more than it has."""
    reader = await stage.connect(role="hotpath_read")
    job = uuid.uuid4()
    await watch(reader, [job], job, 1.0)
    assert await live_after(reader, [(job, 0, 0)]) == {}
    assert (await read_log(reader, job)).chunks == []
    await logs.unwatch(reader, [job], job)


async def test_a_heartbeat_says_whether_anybody_watches(stage):
    """1 while somebody watches, 2 while a watched job waits to be claimed, loose or sealed; else 0."""
    session, _, ids = await one_in_hand(stage)
    assert (await stage.beat(session)).watching == 0
    await watch(stage.connection, [ids[0], uuid.uuid4()], uuid.uuid4(), 20.0)
    assert (await stage.beat(session)).watching == 1
    (loose,) = await stage.loose(1)
    await watch(stage.connection, [loose], uuid.uuid4(), 20.0)
    assert (await stage.beat(session)).watching == 2
    assert await stage.claim(session, 1) is not None
    assert (await stage.beat(session)).watching == 1
    sealed = await stage.sealed(2)
    await watch(stage.connection, [sealed[1]], uuid.uuid4(), 20.0)
    assert (await stage.beat(session)).watching == 2
    assert await stage.claim(session, 2) is not None
    assert (await stage.beat(session)).watching == 1


async def test_reading_costs_by_what_is_read(stage):
    """I10: a log is found by index among those of others, stored or live, and so is a watched job."""
    session, _, ids = await one_in_hand(stage)
    await watch(stage.connection, [ids[0]], uuid.uuid4(), 20.0)
    await stage.connection.execute(
        """
        insert into hotpath.job_log (id, attempt, text)
            select hotpath.uuid7(), 1, repeat('x', 100) from generate_series(1, 20000);
        insert into hotpath.live_log (job, attempt, at, until, text, times)
            select hotpath.uuid7(), 1, 0, 100, repeat('x', 100), '{0,0}' from generate_series(1, 20000);
        insert into hotpath.lease (id, batch, worker, lo, hi)
            select g, gen_random_uuid(), 100 + g, 0, 8 from generate_series(1, 20000) g;
        analyze hotpath.job_log, hotpath.live_log, hotpath.lease;
        """
    )
    for statement, arguments in (
        ("read_log", (f"'{ids[0]}'", "0", "0", "1000")),
        ("live_after", (f"'{{{ids[0]}}}'", "'{0}'", "'{0}'")),
        ("watched", (f"'{{{session.worker}}}'", "1000")),
    ):
        plan = await explain(stage, statement, *arguments, analyze=True)
        assert pages(plan) < FEW, statement
