"""Two connections at one lease: whoever waits for its row sees what the other did, and no job is lost or
doubled (I1, I2).
"""

from __future__ import annotations

import random

import pytest
import trio
from store_stage import Stage, outcomes

from hotpath.model import ErrorKind
from hotpath.store import workers
from hotpath.store.work import WorkerSession, complete
from hotpath.store.workers import Verdict

KINDS = ("loose", "sealed")
ERROR = b'{"name": "E", "message": "no", "traceback": "", "kind": "exception"}'


async def put(stage: Stage, kind: str, count: int):
    """Enqueue jobs, loose or sealed; return their ids."""
    return await (stage.loose(count) if kind == "loose" else stage.sealed(count))


async def _keep(found: list, act, *arguments) -> None:
    """Do it, and keep what comes of it."""
    found.append(await act(*arguments))


@pytest.mark.parametrize("kind", KINDS)
async def test_flush_that_meets_a_cancel(stage: Stage, kind):
    """I2: a flush waits for a cancel's transaction; the outcome that it brings stands."""
    ids = await put(stage, kind, 3)
    worker, client = await stage.worker(), await stage.connect()
    hand = await stage.claim(worker)
    found: list = []
    async with trio.open_nursery() as nursery, client.transaction():
        assert await stage.cancel(ids[1], client)
        nursery.start_soon(_keep, found, stage.flush, worker, outcomes(hand))
        await stage.blocked(worker.connection)
    assert found == [{hand.lease}]
    assert await stage.states() == {"success": 3}
    await stage.check_once_each(ids)
    await stage.check_empty()


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_cancel_that_meets_a_flush(stage: Stage, kind, partial):
    """I2: a cancel waits for a flush's transaction, and answers that the job has ended; or that the lease
    goes on, and the job is asked to stop.
    """
    ids = await put(stage, kind, 3)
    worker, client = await stage.worker(), await stage.connect()
    hand = await stage.claim(worker)
    found: list = []
    async with trio.open_nursery() as nursery, worker.connection.transaction():
        await stage.flush(worker, outcomes(hand, [0, 1] if partial else None))
        nursery.start_soon(_keep, found, stage.cancel, ids[1], client)
        await stage.blocked(client)
    assert found == [False]
    assert await stage.cancel(ids[2]) == partial
    assert [await stage.state(job) for job in ids[:2]] == ["success"] * 2
    await stage.check_once_each(ids)


LEAVING = ("give_back", "release", "retry", "bury")


def _leave(stage: Stage, worker, hand, how: str):
    """What takes all jobs of a hand off its lease, and the connection that it uses."""
    every = range(len(hand))
    match how:
        case "give_back":
            return lambda: worker.give_back([hand.lease])
        case "release":
            return lambda: worker.release(hand.lease, every)
        case "retry":
            for index in every:
                hand.retry((index, 2, 1, 1, ERROR, None), 0.0)
            return lambda: stage.flush(worker, hand.take())
    verdict = Verdict(lease=hand.lease, place=1, kind=ErrorKind.CRASH, error=ERROR)
    return lambda: workers.bury(worker.connection, worker.worker, 0, [verdict])


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("kind", KINDS)
async def test_leaving_that_meets_a_cancel(stage: Stage, kind, how):
    """I2, I8: what takes jobs off a lease waits for a cancel's transaction, and then sees its request: the
    job is canceled and does not run again.
    """
    ids = await put(stage, kind, 3)
    worker, client = await stage.worker(), await stage.connect()
    hand = await stage.claim(worker)
    found: list = []
    async with trio.open_nursery() as nursery, client.transaction():
        assert await stage.cancel(ids[1], client)
        nursery.start_soon(_keep, found, _leave(stage, worker, hand, how))
        await stage.blocked(worker.connection)
    assert [await stage.state(job) for job in ids] == ["queued", "canceled", "queued"]
    await stage.check_once_each(ids)


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("kind", KINDS)
async def test_cancel_that_meets_a_leaving(stage: Stage, kind, how):
    """I8: a cancel waits for a transaction that takes its job off the lease, finds it where it is now, and
    cancels it there.
    """
    ids = await put(stage, kind, 3)
    worker, client = await stage.worker(), await stage.connect()
    hand = await stage.claim(worker)
    found: list = []
    async with trio.open_nursery() as nursery, worker.connection.transaction():
        await _leave(stage, worker, hand, how)()
        nursery.start_soon(_keep, found, stage.cancel, ids[1], client)
        await stage.blocked(client)
    assert found == [True]
    assert [await stage.state(job) for job in ids] == ["queued", "canceled", "queued"]
    await stage.check_once_each(ids)


@pytest.mark.parametrize("kind", KINDS)
async def test_cancel_that_meets_a_claim(stage: Stage, kind):
    """I8: a cancel waits for a claim's transaction and then asks the worker that has the job; it does not go
    on holding the batch, for which flushes of its other slices would wait.
    """
    first = await put(stage, "sealed", 4) if kind == "sealed" else await stage.loose(1)
    holder, worker, client = await stage.worker(), await stage.worker(), await stage.connect()
    held = await stage.claim(holder, 1)
    ids = first[1:] if kind == "sealed" else await stage.loose(3)
    found: list = []
    with trio.fail_after(20):
        async with client.transaction():
            async with trio.open_nursery() as nursery, worker.connection.transaction():
                hand = await stage.claim(worker, 2)
                assert list(hand.ids) == ids[:2]
                nursery.start_soon(_keep, found, stage.cancel, ids[0], client)
                await stage.blocked(client)
            assert found == [True]
            assert await stage.flush(holder, outcomes(held)) == {held.lease}
    assert (await stage.beat(worker)).cancels == {worker.worker: [(hand.lease, 0)]}
    await stage.check_once_each([first[0], *ids])


@pytest.mark.parametrize("kind", KINDS)
async def test_reap_and_flush(stage: Stage, kind):
    """I2: a reaper passes over a lease that a flush has locked; a flush that waits for one is refused."""
    ids = await put(stage, kind, 3)
    worker, reaper = await stage.worker(), await stage.connect()
    hand = await stage.claim(worker)
    await stage.kill(worker)
    async with worker.connection.transaction():
        assert await stage.flush(worker, outcomes(hand, [0])) == {hand.lease}
        assert await workers.reap(reaper) == 0
    found: list = []
    async with trio.open_nursery() as nursery, reaper.transaction():
        assert await workers.reap(reaper) == 2
        nursery.start_soon(_keep, found, stage.flush, worker, outcomes(hand))
        await stage.blocked(worker.connection)
    assert found == [frozenset()]
    assert [await stage.state(job) for job in ids] == ["success", "queued", "queued"]
    await stage.check_once_each(ids)


@pytest.mark.parametrize("kind", KINDS)
async def test_burial_that_meets_a_flush(stage: Stage, kind):
    """I2: a burial waits for the dead worker's last flush; the outcome that it brought stands, the verdict
    about that job does not, and the rest goes back.
    """
    ids = await put(stage, kind, 3)
    worker, supervisor = await stage.worker(), await stage.connect()
    hand = await stage.claim(worker)
    dead = [Verdict(lease=hand.lease, place=0, kind=ErrorKind.CRASH, error=ERROR)]
    found: list = []
    async with trio.open_nursery() as nursery, worker.connection.transaction():
        await stage.flush(worker, outcomes(hand, [0]))
        nursery.start_soon(_keep, found, workers.bury, supervisor, worker.worker, 1, dead)
        await stage.blocked(supervisor)
    assert found == [workers.Burial(2, 0)]
    assert [await stage.state(job) for job in ids] == ["success", "queued", "queued"]
    assert await stage.count("job_attempt") == 0
    await stage.check_once_each(ids)


async def test_leases_are_locked_in_one_order(stage: Stage):
    """I11: a flush and a burial of the same two leases, whichever way round they name them, do not deadlock:
    both wait for the lower id first, and hold nothing meanwhile.
    """
    ids = await stage.loose(4)
    worker, supervisor, client = await stage.worker(), await stage.connect(), await stage.connect()
    low, high = sorted(
        [await stage.claim(worker, 2), await stage.claim(worker, 2)], key=lambda hand: hand.lease
    )
    dead = [Verdict(lease=high.lease, place=0, kind=ErrorKind.CRASH, error=ERROR)]
    flushed: list = []
    buried: list = []
    lock = "select from hotpath.lease where id = $1 for update nowait"
    async with trio.open_nursery() as nursery, client.transaction():
        assert await stage.cancel(low.ids[0], client)
        nursery.start_soon(_keep, flushed, stage.flush, worker, outcomes(high), outcomes(low))
        await stage.blocked(worker.connection)
        nursery.start_soon(_keep, buried, workers.bury, supervisor, worker.worker, 1, dead)
        await stage.blocked(supervisor)
        await stage.connection.execute(lock, high.lease)
    assert flushed == [{low.lease, high.lease}]
    assert buried == [workers.Burial(0, 0)]
    assert await stage.states() == {"success": 4}
    await stage.check_once_each(ids)
    await stage.check_empty()


async def test_completion_and_who_takes_back(stage: Stage):
    """I2: a completion in an open transaction is passed over by reapers and waited for by its own worker,
    which then puts back the others alone.
    """
    ids = await stage.loose(2)
    worker, mine = await stage.worker(), await stage.connect()
    hand = await stage.claim(worker)
    found: list = []
    async with trio.open_nursery() as nursery, mine.transaction():
        assert await complete(mine, worker.worker, hand.lease, 0, b"1", started_us=1, duration_us=1, log=None)
        await stage.kill(worker)
        assert await stage.reap() == 0
        nursery.start_soon(_keep, found, worker.give_back, [hand.lease])
        await stage.blocked(worker.connection)
    assert found == [1]
    assert [await stage.state(job) for job in ids] == ["success", "queued"]
    await stage.check_once_each(ids)


@pytest.mark.parametrize("kind", KINDS)
async def test_retry_twice(stage: Stage, kind):
    """I1, I3: of two retries of one job, together or one after the other, one queues it: once."""
    ids = await put(stage, kind, 2)
    worker, first, second = await stage.worker(), await stage.connect(), await stage.connect()
    await stage.flush(worker, outcomes(await stage.claim(worker)))
    found: list = []
    async with trio.open_nursery() as nursery, first.transaction():
        assert await stage.retry(ids[0], first)
        nursery.start_soon(_keep, found, stage.retry, ids[0], second)
        await stage.blocked(second)
    assert found == [False]
    assert not await stage.retry(ids[0])
    await stage.check_once_each(ids)
    assert await stage.attempts(ids[0]) == [(1, "success", None)]
    hand = await stage.claim(worker)
    assert (list(hand.ids), list(hand.attempts)) == ([ids[0]], [2])
    assert await stage.flush(worker, outcomes(hand)) == {hand.lease}
    assert await stage.attempts(ids[0]) == [(1, "success", None), (2, "success", None)]
    await stage.check_once_each(ids)
    await stage.check_empty()


async def test_retry_of_a_job_whose_lease_goes_on(stage: Stage):
    """I2: a job that ended early and is retried by hand runs under a lease of its own, while the old one is
    still there; nothing that the old holder says of it counts.
    """
    ids = await stage.sealed(3)
    worker, other = await stage.worker(), await stage.worker()
    hand = await stage.claim(worker)
    part = outcomes(hand, [1])
    assert await stage.flush(worker, part) == {hand.lease}
    assert await stage.retry(ids[1])
    await stage.check_once_each(ids)
    again = await stage.claim(other)
    assert list(again.ids) == [ids[1]]
    await stage.check_once_each(ids)
    assert await stage.flush(worker, part) == {hand.lease}
    assert await stage.cancel(ids[1])
    assert (await stage.beat(worker)).cancels == {}
    assert (await stage.beat(other)).cancels == {other.worker: [(again.lease, 0)]}
    assert await other.give_back([again.lease]) == 0
    assert await stage.flush(worker, outcomes(hand)) == {hand.lease}
    assert [await stage.state(job) for job in ids] == ["success", "canceled", "success"]
    await stage.check_once_each(ids)
    await stage.check_empty()


@pytest.mark.parametrize("seed", range(2))
async def test_everything_at_once(stage: Stage, seed):
    """I1, I2, I3: workers that flush, release, retry, give back and die, clients that cancel and retry: each
    job ends once, whoever was accepted twice ran another attempt, and nothing is left over.
    """
    ids = [*await stage.sealed(150), *await stage.loose(50)]
    alone, over = trio.Lock(), trio.Event()

    async def newcomer() -> WorkerSession:
        async with alone:
            return await stage.worker()

    async def work(chance: random.Random) -> None:
        worker = await newcomer()
        empty = 0
        while empty < 3:
            cycle = await stage.cycle(worker, [], chance.randint(1, 12))
            hand = cycle.hand
            if hand is None:
                empty += not cycle.saw
                continue
            hand.over = True
            jobs = list(range(len(hand)))
            match chance.randrange(6):
                case 0:
                    await worker.give_back([hand.lease])
                    continue
                case 1:
                    async with alone:
                        await stage.kill(worker)
                    worker = await newcomer()
                    continue
                case 2 if len(jobs) > 1:
                    await worker.release(hand.lease, jobs[len(jobs) // 2 :])
                case 3 if jobs:
                    hand.retry((jobs.pop(), 2, 1, 1, ERROR, None), 0.0)
                case 4 if jobs:
                    dead = Verdict(lease=hand.lease, place=hand.place(0), kind=ErrorKind.CRASH, error=ERROR)
                    await workers.bury(worker.connection, worker.worker, 0, [dead])
                    worker = await newcomer()
                    continue
            await stage.flush(worker, outcomes(hand, jobs))

    async def reap() -> None:
        async with alone:
            connection = await stage.connect()
        while not over.is_set():
            await workers.reap(connection)
            await trio.sleep(0.01)

    async def meddle(chance: random.Random) -> None:
        async with alone:
            connection = await stage.connect()
        for _ in range(120):
            await stage.cancel(chance.choice(ids), connection)
            await stage.retry(chance.choice(ids), connection)

    async def all_work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(meddle, random.Random(seed))
            for number in range(3):
                nursery.start_soon(work, random.Random(10 * seed + number))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reap)
        await all_work()
        over.set()
    await stage.reap()
    while (hand := await stage.claim(last := await stage.worker())) is not None:
        assert await stage.flush(last, outcomes(hand)) == {hand.lease}
    assert set(await stage.states()) <= {"success", "failure", "canceled"}
    await stage.check_once_each(ids)
    await stage.check_empty()
    twice = await stage.connection.fetch(
        """select id, attempt from (select id, attempt, state, error from hotpath.job_done
            union all select id, attempt, state, error from hotpath.job_attempt) a
        where state <> 3 group by id, attempt having count(*) > 1"""
    )
    assert [tuple(row) for row in twice] == []
