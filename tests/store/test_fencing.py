"""Leases lost, given back or reaped, jobs canceled: an outcome counts while its lease is held (I2)."""

from __future__ import annotations

import pytest
import trio
from store_stage import Stage, outcomes

from hotpath.store import workers

KINDS = ("loose", "sealed")


async def put(stage: Stage, kind: str, count: int):
    """Enqueue jobs, loose or sealed; return their ids."""
    return await (stage.loose(count) if kind == "loose" else stage.sealed(count))


@pytest.mark.parametrize("kind", KINDS)
async def test_late_flush_after_give_back_is_refused(stage: Stage, kind):
    """I2: once a lease was given back, its outcomes are refused; the job runs again under a new lease."""
    ids = await put(stage, kind, 4)
    slow, quick = await stage.worker(), await stage.worker()
    lost = await stage.claim(slow)
    assert await slow.give_back([lost.lease]) == 4
    await stage.check_once_each(ids)
    assert await stage.states() == {"queued": 4}
    late = outcomes(lost)
    assert await stage.flush(slow, late) == frozenset()
    assert await slow.settled([late]) == set()
    hand = await stage.claim(quick)
    assert hand.lease != lost.lease
    assert list(hand.ids) == ids
    assert await stage.flush(slow, late) == frozenset()
    assert await stage.states() == {"running": 4}
    assert await stage.flush(quick, outcomes(hand)) == {hand.lease}
    assert await stage.flush(slow, late) == frozenset()
    assert await slow.settled([late]) == set()
    await stage.check_once_each(ids)
    assert {row["attempt"] for row in await stage.view()} == {1}
    await stage.check_empty()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lease_does_not_close_over_a_flush_that_was_never_written(stage: Stage, kind):
    """I1: outcomes were taken, and dropped on the way; the flush of the rest, which would close the lease
    over them, is refused, and all of the lease runs again.
    """
    ids = await put(stage, kind, 4)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    outcomes(hand, [0, 1])  # never sent
    rest = outcomes(hand, [2, 3])
    assert rest.final
    assert await stage.flush(worker, rest) == frozenset()
    await stage.check_once_each(ids)
    assert await worker.give_back([hand.lease]) == 4
    again = await stage.claim(worker)
    assert list(again.ids) == ids
    assert await stage.flush(worker, outcomes(again, [1, 2])) == {again.lease}
    assert await stage.flush(worker, outcomes(again, [0, 3])) == {again.lease}
    await stage.check_once_each(ids)
    await stage.check_empty()


async def test_lease_of_another_worker_is_not_ours(stage: Stage):
    """I2: neither a flush nor a give-back touches a lease that another worker holds."""
    await stage.loose(2)
    holder, stranger = await stage.worker(), await stage.worker()
    hand = await stage.claim(holder)
    assert await stranger.give_back([hand.lease]) == 0
    flush = outcomes(hand)
    assert await stage.flush(stranger, flush) == frozenset()
    assert await stage.flush(holder, flush) == {hand.lease}


async def test_give_back_keeps_what_a_job_is(stage: Stage):
    """I3, I4: released jobs keep id, priority, time and args, uncharged; what ended or was canceled stays."""
    loose = await stage.loose(3, priority=7)
    sealed = await stage.sealed(4, priority=-3)
    assert await stage.connection.fetchval("select hotpath.cancel($1)", sealed[2])
    columns = "id, priority, scheduled_for, attempt, args::text"
    before = await stage.connection.fetch(
        f"select {columns} from hotpath.job where state = 'queued' order by id"
    )
    worker = await stage.worker()
    hands = [await stage.claim(worker), await stage.claim(worker)]
    assert [len(hand) for hand in hands] == [3, 3]
    assert await stage.flush(worker, outcomes(hands[0], [1]), outcomes(hands[1], [0])) == {
        hand.lease for hand in hands
    }
    assert await worker.give_back([hand.lease for hand in hands]) == 4
    await stage.check_once_each(loose + sealed)
    after = await stage.connection.fetch(
        f"select {columns} from hotpath.job where state = 'queued' order by id"
    )
    assert after == [row for row in before if row["id"] not in {loose[1], sealed[0]}]
    assert await stage.states() == {"queued": 4, "success": 2, "canceled": 1}
    assert await stage.count("batch") == 0
    rest = [await stage.claim(worker), await stage.claim(worker)]
    assert [list(hand.ids) for hand in rest] == [[loose[0], loose[2]], [sealed[1], sealed[3]]]
    assert [list(hand.attempts) for hand in rest] == [[1, 1], [1, 1]]


async def test_reap_takes_from_the_dead_alone(stage: Stage):
    """I2, I6: leases of workers that stopped or let theirs run out come back, those of live workers stay."""
    ids = await stage.loose(3)
    live, stopped, silent = await stage.worker(), await stage.worker(), await stage.worker()
    hands = [await stage.claim(one, 1) for one in (live, stopped, silent)]
    assert await workers.reap(stage.connection) == 0
    await stage.connection.execute(
        "update hotpath.worker set stopped_at = now() where id = $1", stopped.worker
    )
    await stage.connection.execute(
        "update hotpath.worker set lease_until = now() where id = $1", silent.worker
    )
    beat = await workers.heartbeat(
        stage.connection, {live.worker: 5, stopped.worker: 0, silent.worker: 0}, 15
    )
    assert (beat.renewed, beat.cancels) == ({live.worker}, {})
    assert await workers.reap(stage.connection) == 2
    assert [await stage.state(job) for job in ids] == ["running", "queued", "queued"]
    accepted = [
        await stage.flush(one, outcomes(hand))
        for one, hand in zip((live, stopped, silent), hands, strict=True)
    ]
    assert accepted == [{hands[0].lease}, frozenset(), frozenset()]
    await stage.check_once_each(ids)


async def test_the_living_are_not_reaped_by_mistake(stage: Stage):
    """I2: whoever asks, a give-back in the name of nobody leaves the leases of live workers alone."""
    await stage.loose(2)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    row = await stage.connection.fetchrow(_give_back(), [hand.lease], None, False)
    assert (row["jobs"], row["leases"]) == (0, 0)
    assert await stage.flush(worker, outcomes(hand)) == {hand.lease}


async def test_stop_worker_releases_at_once(stage: Stage):
    """I6, I12: burying a worker puts what it holds back in the same breath, and forgets that it dozed."""
    ids = await stage.sealed(5)
    worker = await stage.worker()
    await stage.claim(worker, 2)
    assert await workers.stop_worker(stage.connection, worker.worker, 9) == 2
    assert await stage.states() == {"queued": 5}
    await stage.check_once_each(ids)
    assert await workers.stop_worker(stage.connection, worker.worker, 9) == 0
    assert (
        await stage.connection.fetchval("select jobs from hotpath.worker where id = $1", worker.worker) == 9
    )


async def test_unlisted_finds_claims_whose_reply_was_lost(stage: Stage):
    """I2: a worker that reconnects sees the leases it does not know of, and only those."""
    await stage.loose(4)
    worker = await stage.worker()
    known, lost = await stage.claim(worker, 2), await stage.claim(worker, 2)
    assert await worker.unlisted([known.lease]) == [lost.lease]
    assert await worker.unlisted([known.lease, lost.lease]) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_flush_and_give_back_of_one_lease_together(stage: Stage, kind):
    """I2: whichever of a flush and a reap comes first, each job is done or queued, never both or neither."""
    worker, other = await stage.worker(), await stage.connect()
    for _ in range(12):
        ids = await put(stage, kind, 5)
        hand = await stage.claim(worker)
        said: list[frozenset[int]] = []

        async def flush(hand=hand, said=said):
            said.append(await stage.flush(worker, outcomes(hand)))

        async def give_back(hand=hand):
            await other.fetchval("select 1")
            await other.fetch(_give_back(), [hand.lease], worker.worker, False)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_back)
            nursery.start_soon(flush)
        states = {await stage.state(job) for job in ids}
        assert states == ({"success"} if said[0] else {"queued"})
        rest = await stage.claim(worker)
        if rest is not None:
            await stage.flush(worker, outcomes(rest))
        await stage.check_empty()


def _give_back() -> str:
    from hotpath.store.queries import query

    return query("give_back")


async def test_flush_waits_for_a_reaper_and_is_refused(stage: Stage):
    """I2: a flush that meets a give-back in an open transaction waits for it, then finds the lease gone."""
    ids = await stage.loose(2)
    worker, reaper = await stage.worker(), await stage.connect()
    hand = await stage.claim(worker)
    answer: list[frozenset[int]] = []

    async def flush():
        answer.append(await stage.flush(worker, outcomes(hand)))

    async with trio.open_nursery() as nursery, reaper.transaction():
        await reaper.fetch(_give_back(), [hand.lease], worker.worker, False)
        nursery.start_soon(flush)
        await stage.blocked(worker.connection)
    assert answer == [frozenset()]
    assert await stage.states() == {"queued": 2}
    await stage.check_once_each(ids)


@pytest.mark.parametrize("kind", KINDS)
async def test_cancel_of_what_waits(stage: Stage, kind):
    """I1, I5: a queued job is canceled in its row, once, and passed over by claims; no other job is."""
    ids = await put(stage, kind, 4)
    ask = "select hotpath.cancel($1)"
    assert await stage.connection.fetchval(ask, ids[1])
    assert not await stage.connection.fetchval(ask, ids[1])
    await stage.check_once_each(ids)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    assert list(hand.ids) == [ids[0], ids[2], ids[3]]
    assert hand.args == b'[{"x": 0},{"x": 2},{"x": 3}]'
    assert not await stage.connection.fetchval(ask, ids[1])
    await stage.check_once_each(ids)
    assert await stage.flush(worker, outcomes(hand)) == {hand.lease}
    assert not await stage.connection.fetchval(ask, ids[2])
    assert not await stage.connection.fetchval("select hotpath.cancel(gen_random_uuid())")
    assert await stage.states() == {"success": 3, "canceled": 1}
    await stage.check_once_each(ids)
    await stage.check_empty()


async def test_batch_of_which_all_was_canceled(stage: Stage):
    """I1: a sealed batch whose jobs were all canceled goes away with the claim that finds it."""
    ids = await stage.sealed(3)
    for job in ids:
        assert await stage.connection.fetchval("select hotpath.cancel($1)", job)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    assert len(hand) == 0
    hand.over = True
    assert await stage.flush(worker, hand.take()) == {hand.lease}
    assert await stage.states() == {"canceled": 3}
    await stage.check_once_each(ids)
    await stage.check_empty()


async def test_cancel_races_with_claims(stage: Stage):
    """I1, I2: while workers claim, whoever is told `canceled` never runs, and every job ends exactly once."""
    ids = [*await stage.sealed(120), *await stage.loose(60)]
    claimers = [await stage.worker() for _ in range(2)]
    cancelers = [await stage.connect() for _ in range(2)]
    ran: list = []
    asked: list = []
    canceled: list = []

    async def work(worker):
        flushes: list = []
        empty = 0
        while empty < 3:
            cycle = await stage.cycle(worker, flushes, 7)
            flushes = []
            if cycle.hand is None:
                empty += not cycle.saw
                continue
            ran.extend(cycle.hand.ids)
            cycle.hand.over = True
            flushes = [outcomes(cycle.hand)]

    async def cancel(connection, jobs):
        for job in jobs:
            if await connection.fetchval("select hotpath.cancel($1)", job):
                asked.append(job)
                if await connection.fetchval("select state from hotpath.job_get($1)", job) == "canceled":
                    canceled.append(job)

    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(cancel, cancelers[number], ids[::-1][number::4])
            nursery.start_soon(work, claimers[number])
    assert canceled
    assert set(canceled) <= set(asked)
    assert sorted(ran + canceled) == sorted(ids)
    assert await stage.states() == {"success": len(ran), "canceled": len(canceled)}
    await stage.check_empty()
