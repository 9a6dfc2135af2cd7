"""Jobs that leave a lease one by one: retried, released, completed, canceled; each counts while the lease is
held (I2), and none is lost on the way (I1).
"""

from __future__ import annotations

import json
from datetime import timedelta

import asyncpg
import pytest
import trio
from store_stage import Stage, outcomes

from hotpath.store.queries import query
from hotpath.store.status import read_status
from hotpath.store.work import complete

KINDS = ("loose", "sealed")
ERROR = b'{"name": "E", "message": "no", "traceback": "", "kind": "exception"}'


async def put(stage: Stage, kind: str, count: int):
    """Enqueue jobs, loose or sealed; return their ids."""
    return await (stage.loose(count) if kind == "loose" else stage.sealed(count))


def failing(hand, delays, log=None):
    """Say that these jobs of the hand (index: delay) failed and are to run again, and take the flush."""
    for index, delay in delays.items():
        hand.retry((index, 2, 1_000_000 + index, 10, ERROR, log), delay)
    flush = hand.take()
    assert flush is not None
    return flush


async def finish(stage: Stage, worker) -> None:
    """Claim and succeed until nothing is left."""
    while (hand := await stage.claim(worker)) is not None:
        hand.over = True
        await stage.flush(worker, outcomes(hand))


# ---------------------------------------------------------------- retry of an attempt


@pytest.mark.parametrize("kind", KINDS)
async def test_failed_attempt_runs_again_after_its_delay(stage: Stage, kind):
    """I1, I3: a retried attempt is history with its error and log; the job waits for its delay by the
    database's clock, keeps what it is, and runs as the next attempt; its neighbours end as they did.
    """
    ids = await put(stage, kind, 4)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    for index in (0, 3):
        hand.report((index, 1, 1_000_000, 10, b"1", None))
    flush = failing(hand, {1: 0.0, 2: 3600.0}, log="said")
    assert flush.final
    cycle = await stage.cycle(worker, [flush])
    assert cycle.accepted == {hand.lease}
    await stage.check_once_each(ids)
    assert [await stage.state(job) for job in ids][::3] == ["success", "success"]
    again = cycle.hand
    assert (list(again.ids), list(again.attempts)) == ([ids[1]], [2])
    assert await stage.attempts(ids[1]) == [(1, "failure", "exception"), (2, "running", None)]
    assert await stage.attempts(ids[2]) == [(1, "failure", "exception")]
    later = await stage.connection.fetchrow("select * from hotpath.job_get($1)", ids[2])
    assert timedelta(minutes=59) < later["scheduled_for"] - await stage.now() < timedelta(minutes=61)
    assert (later["state"], later["attempt"], json.loads(later["args"])) == ("queued", 1, {"x": 2})
    assert await stage.flush(worker, outcomes(again, log="said more")) == {again.lease}
    assert await stage.attempts(ids[1]) == [(1, "failure", "exception"), (2, "success", None)]
    logs = await stage.connection.fetch(
        "select attempt, text from hotpath.job_log where id = $1 order by attempt", ids[1]
    )
    assert [tuple(row) for row in logs] == [(1, "said"), (2, "said more")]
    await stage.check_once_each(ids)
    assert await stage.count("lease") == await stage.count("batch") == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_retries_sent_twice_change_nothing(stage: Stage, kind):
    """I2: a flush with retries whose reply was lost is sent again: one row of history and one queued job;
    where the lease ended with the first, the second finds its outcomes where they belong.
    """
    ids = await put(stage, kind, 3)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    part = failing(hand, {1: 0.0}, log="once")
    for _ in range(2):
        assert await stage.flush(worker, part) == {hand.lease}
    assert await stage.states() == {"running": 2, "queued": 1}
    rest = failing(hand, {0: 0.0, 2: 0.0}, log="once")
    assert rest.final
    assert await stage.flush(worker, rest) == {hand.lease}
    assert await stage.flush(worker, rest) == frozenset()
    assert await worker.settled([rest]) == {hand.lease}
    await stage.check_once_each(ids)
    assert await stage.states() == {"queued": 3}
    assert (await stage.count("job_attempt"), await stage.count("job_log")) == (3, 3)
    again = await stage.claim(worker)
    assert await worker.settled([outcomes(again)]) == set(), "an earlier attempt is no answer for this one"


@pytest.mark.parametrize("kind", KINDS)
async def test_retry_under_a_lost_lease_is_refused(stage: Stage, kind):
    """I2: without its lease a retried attempt is dropped like any outcome: no history, no second row."""
    ids = await put(stage, kind, 3)
    worker, other = await stage.worker(), await stage.worker()
    hand = await stage.claim(worker)
    assert await worker.give_back([hand.lease]) == 3
    late = failing(hand, {0: 0.0, 1: 0.0, 2: 0.0})
    assert await stage.flush(worker, late) == frozenset()
    held = await stage.claim(other)
    assert await stage.flush(worker, late) == frozenset()
    theirs = failing(held, {0: 0.0, 1: 0.0})
    assert await stage.flush(worker, theirs) == frozenset(), "nor does another's lease serve"
    assert await stage.count("job_attempt") == 0
    assert list(held.attempts) == [1, 1, 1]
    assert await stage.states() == {"running": 3}
    await stage.check_once_each(ids)


async def test_outcomes_must_be_as_many_as_jobs(stage: Stage):
    """I2: fewer errors than attempts that are to run again would leave one without; all are refused."""
    await stage.loose(2)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    two = [[hand.lease] * 2, [0, 1], [4, 4], [1, 1], [1, 1], b"[1]", [0.0, 0.0], [None, None], None]
    with pytest.raises(asyncpg.DivisionByZeroError):
        await worker.connection.fetchrow(query("end_jobs"), worker.worker, *two)
    assert await stage.states() == {"running": 2}


# ---------------------------------------------------------------- release of places


@pytest.mark.parametrize("kind", KINDS)
async def test_release_of_unstarted_jobs(stage: Stage, kind):
    """I1, I3: released places are back at once, uncharged and in order; the rest of the lease goes on, and
    what is reported of a released one is no outcome any more.
    """
    ids = await put(stage, kind, 6)
    worker, other = await stage.worker(), await stage.worker()
    hand = await stage.claim(worker)
    assert await stage.flush(worker, outcomes(hand, [1])) == {hand.lease}
    assert await worker.release(hand.lease, [1, 3, 4, 5, 5, 9, -1]) == 3
    await stage.check_once_each(ids)
    assert await stage.states() == {"success": 1, "running": 2, "queued": 3}
    assert await worker.release(hand.lease, [3, 4, 5]) == 0
    taken = await stage.claim(other)
    assert (list(taken.ids), list(taken.attempts)) == (ids[3:], [1, 1, 1])
    # The worker does not know: it reports all of them, and its bits lack what was released.
    late = outcomes(hand)
    assert late.final
    assert await stage.flush(worker, late) == {hand.lease}
    await stage.check_once_each(ids)
    assert await stage.states() == {"success": 3, "running": 3}
    assert await stage.flush(other, outcomes(taken)) == {taken.lease}
    await stage.check_once_each(ids)
    await stage.check_empty()


async def test_released_jobs_run_before_the_rest_of_their_batch(stage: Stage):
    """I4: what comes back of a sealed batch runs before what was never taken of it."""
    ids = await stage.sealed(9)
    worker = await stage.worker()
    hand = await stage.claim(worker, 5)
    assert await worker.release(hand.lease, [2, 3, 4]) == 3
    assert [list((await stage.claim(worker, 3)).ids) for _ in range(2)] == [ids[2:5], ids[5:8]]


@pytest.mark.parametrize("kind", KINDS)
async def test_release_of_the_last_jobs_ends_the_lease(stage: Stage, kind):
    """I1: with its last place the lease goes, and its share of the batch is counted once."""
    ids = await put(stage, kind, 5)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    assert await stage.flush(worker, outcomes(hand, [0, 1])) == {hand.lease}
    assert await worker.release(hand.lease, [2]) == 1
    assert await worker.release(hand.lease, [3, 4]) == 2
    assert (await stage.count("lease"), await stage.count("batch")) == (0, 0)
    await stage.check_once_each(ids)
    await finish(stage, worker)
    await stage.check_empty()


async def test_release_is_for_the_holder_alone(stage: Stage):
    """I2: neither a stranger nor a lease that is gone releases anything."""
    await stage.loose(3)
    worker, stranger = await stage.worker(), await stage.worker()
    hand = await stage.claim(worker)
    assert await stranger.release(hand.lease, [0, 1, 2]) == 0
    assert await stage.states() == {"running": 3}
    assert await worker.give_back([hand.lease]) == 3
    assert await worker.release(hand.lease, [0]) == 0
    assert await stage.states() == {"queued": 3}


async def test_no_bit_is_lost_between_flush_and_release(stage: Stage):
    """I2: a partial flush of a worker that does not know of a release keeps the row's own bits: what was
    released and ended elsewhere does not end, or come back, a second time.
    """
    ids = await stage.sealed(6)
    worker, other = await stage.worker(), await stage.worker()
    hand = await stage.claim(worker)
    assert await worker.release(hand.lease, [4, 5]) == 2
    taken = await stage.claim(other)
    assert list(taken.ids) == ids[4:]
    part = outcomes(hand, [0])
    assert part.bits == b"\x01"
    assert await stage.flush(worker, part) == {hand.lease}
    assert await worker.give_back([hand.lease]) == 3
    await stage.check_once_each(ids)
    assert await stage.flush(other, outcomes(taken)) == {taken.lease}
    await finish(stage, other)
    await stage.check_once_each(ids)
    assert {row["attempt"] for row in await stage.view()} == {1}
    await stage.check_empty()


# ---------------------------------------------------------------- completion


async def test_completion_is_fenced_and_once(stage: Stage):
    """I2: a completion counts once, while the lease is held, with its caller's commit, and not after the
    lease is gone.
    """
    ids = await stage.loose(3)
    worker, mine, stranger = await stage.worker(), await stage.connect(), await stage.worker()
    hand = await stage.claim(worker)
    how = {"started_us": 1_700_000_000_000_000, "duration_us": 5, "log": "said"}
    with pytest.raises(ZeroDivisionError):
        async with mine.transaction():
            assert await complete(mine, worker.worker, hand.lease, 1, b'"x"', **how)
            raise ZeroDivisionError
    assert not await complete(mine, stranger.worker, hand.lease, 1, b'"x"', **how)
    assert await stage.states() == {"running": 3}
    async with mine.transaction():
        assert await complete(mine, worker.worker, hand.lease, 1, b'"x"', **how)
    assert not await complete(mine, worker.worker, hand.lease, 1, b'"y"', **how)
    row = await stage.connection.fetchrow("select * from hotpath.job_get($1)", ids[1])
    assert (row["state"], row["result"], row["duration_ms"]) == ("success", '"x"', 0.005)
    late = outcomes(hand)
    assert await stage.flush(worker, late) == {hand.lease}
    await stage.check_once_each(ids)
    assert await stage.connection.fetchval("select result::text from hotpath.job_get($1)", ids[1]) == '"x"'
    assert not await complete(mine, worker.worker, hand.lease, 0, b"1", **how)
    await stage.check_empty()


# ---------------------------------------------------------------- cancel of what runs


@pytest.mark.parametrize("kind", KINDS)
async def test_cancel_of_what_runs_is_heard(stage: Stage, kind):
    """I8: a request stands in the lease, is notified and told with each heartbeat until the job has ended;
    what ends first keeps its outcome.
    """
    ids = await put(stage, kind, 4)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    listener = await stage.connect()
    async with listener.listen("hotpath_cancel") as notes:
        assert await stage.cancel(ids[2])
        with trio.fail_after(40):
            assert (await notes.receive()).payload == str(worker.worker)
    assert await stage.cancel(ids[3])
    assert await stage.states() == {"running": 4}
    for _ in range(2):
        beat = await stage.beat(worker)
        assert beat.cancels == {worker.worker: [(hand.lease, 2), (hand.lease, 3)]}
    assert await stage.flush(worker, outcomes(hand, [3])) == {hand.lease}
    assert not await stage.cancel(ids[3])
    assert (await stage.beat(worker)).cancels == {worker.worker: [(hand.lease, 2)]}
    assert await stage.flush(worker, outcomes(hand, [2], state=3, payload=ERROR)) == {hand.lease}
    assert (await stage.beat(worker)).cancels == {}
    assert [await stage.state(job) for job in ids] == ["running", "running", "canceled", "success"]


@pytest.mark.parametrize("how", ["give_back", "release", "retry", "reap"])
@pytest.mark.parametrize("kind", KINDS)
async def test_canceled_job_does_not_come_back(stage: Stage, kind, how):
    """I1, I8: whatever takes a job off its lease that somebody asked to cancel ends it as canceled."""
    ids = await put(stage, kind, 3)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    assert await stage.cancel(ids[1])
    match how:
        case "give_back":
            assert await worker.give_back([hand.lease]) == 2
        case "release":
            assert await worker.release(hand.lease, [1, 2]) == 1
        case "retry":
            assert await stage.flush(worker, failing(hand, {1: 0.0, 2: 0.0})) == {hand.lease}
        case "reap":
            await stage.kill(worker)
            assert await stage.reap() == 3
    assert await stage.state(ids[1]) == "canceled"
    assert await stage.state(ids[2]) == "queued"
    row = await stage.connection.fetchrow("select * from hotpath.job_get($1)", ids[1])
    assert json.loads(row["error"])["kind"] == "canceled"
    await stage.check_once_each(ids)
    other = await stage.worker()
    await stage.flush(worker, outcomes(hand))
    await finish(stage, other)
    assert await stage.states() == {"success": 2, "canceled": 1}
    await stage.check_once_each(ids)
    await stage.check_empty()


async def test_waiters_hear_of_every_end(stage: Stage):
    """I10: who waits for a job is told whatever ends it: release, retry or give-back of a canceled one."""
    ids = await stage.loose(3)
    worker, listener = await stage.worker(), await stage.connect()
    for job in ids:
        await stage.connection.execute(
            "insert into hotpath.waiter values ($1, gen_random_uuid(), now() + interval '1 minute')", job
        )
    hand = await stage.claim(worker)
    for job in ids:
        assert await stage.cancel(job)
    async with listener.listen("hotpath_done") as notes:
        await worker.release(hand.lease, [0])
        await stage.flush(worker, failing(hand, {1: 5.0}))
        await worker.give_back([hand.lease])
        with trio.fail_after(40):
            assert {(await notes.receive()).payload for _ in ids} == {str(job) for job in ids}
    await stage.check_empty()


# ---------------------------------------------------------------- time-outs


@pytest.mark.parametrize("way", ["give_back", "release", "retry", "reap", "done"])
async def test_time_out_of_a_job_stays_with_it(stage: Stage, way):
    """I8: a job's own time-out travels with it, loose or sealed, through every way back; others have none."""
    for kind in ("loose", "sealed", "plain"):
        timeouts = {"loose": [None, 2.5], "sealed": [0.25, 0.25], "plain": None}[kind]
        if kind == "loose":
            jobs = await stage.loose(1) + await stage.loose(1, timeout=2.5)
        else:
            jobs = await stage.sealed(2, timeout=0.25) if kind == "sealed" else await stage.sealed(1)
        worker = await stage.worker()
        hand = await stage.claim(worker)
        assert (list(hand.ids), hand.timeouts) == (jobs, timeouts)
        match way:
            case "give_back":
                await worker.give_back([hand.lease])
            case "release":
                await worker.release(hand.lease, range(len(hand)))
            case "retry":
                await stage.flush(worker, failing(hand, dict.fromkeys(range(len(hand)), 0.0)))
            case "reap":
                await stage.kill(worker)
                await stage.reap()
            case "done":
                await stage.flush(worker, outcomes(hand))
                for job in jobs:
                    assert await stage.retry(job)
        found: list = []
        worker = await stage.worker()
        while len(found) < len(jobs):  # suspects come in smaller claims
            hand = await stage.claim(worker)
            found += hand.timeouts or [None] * len(hand)
            await stage.flush(worker, outcomes(hand))
        assert found == (timeouts or [None])
    await stage.check_empty()


# ---------------------------------------------------------------- what people see of it


async def test_status_counts_each_job_once(stage: Stage):
    """I5: waiting and running are as many as the view shows, whatever was canceled, released or ended."""
    ids = await stage.sealed(8)
    worker = await stage.worker()
    for k in (1, 6):
        assert await stage.cancel(ids[k])

    async def check(waiting: int, running: int) -> None:
        status = await read_status(stage.connection)
        (tag,) = status.tags
        (held,) = status.workers
        assert (tag.waiting, tag.running, held.running) == (waiting, running, running)
        states = await stage.states()
        assert (states["queued"], states["running"]) == (waiting, running)

    await check(6, 0)
    hand = await stage.claim(worker, 4)
    await check(3, 3)
    await worker.release(hand.lease, [hand.place(2)])
    await check(4, 2)
    await stage.flush(worker, outcomes(hand, [0]))
    await check(4, 1)
