"""What becomes of a dead worker's jobs: burial with a verdict, suspects, crashes up to three (I6, I7)."""

from __future__ import annotations

import json

import attrs
import pytest
import trio
from store_stage import NAME, Stage, outcomes

from hotpath.core.positions import Positions
from hotpath.model import ErrorKind
from hotpath.store import workers
from hotpath.store.work import Claim
from hotpath.store.workers import Burial, Verdict

SEGV = b'{"name": "WorkerKilled", "message": "killed by SIGSEGV", "traceback": "", "kind": "crash"}'
LATE = b'{"name": "TimeoutError", "message": "after 2 s", "traceback": "", "kind": "timeout"}'
STOP = b'{"name": "JobCanceled", "message": "ended", "traceback": "", "kind": "canceled"}'
KINDS = ("loose", "sealed")


async def put(stage: Stage, kind: str, count: int):
    """Enqueue jobs, loose or sealed; return their ids."""
    return await (stage.loose(count) if kind == "loose" else stage.sealed(count))


def verdict(hand, place: int, kind: ErrorKind, error: bytes, **more) -> Verdict:
    """How the job at this place ended."""
    return Verdict(lease=hand.lease, place=place, kind=kind, error=error, **more)


async def row_of(stage: Stage, job):
    """The job by look-up."""
    return await stage.connection.fetchrow("select * from hotpath.job_get($1)", job)


# ---------------------------------------------------------------- burial


@pytest.mark.parametrize("kind", KINDS)
async def test_crash_is_charged_to_its_job_alone(stage: Stage, kind):
    """I7: the job that killed its worker is charged, keeps its log and runs alone next; the others of its
    lease, and those of other leases, lose nothing; the third crash is the end, with the reason.
    """
    ids = await put(stage, kind, 4)
    for crash in (1, 2, 3):
        worker = await stage.worker()
        hand = await stage.claim(worker)
        if crash == 1:
            assert list(hand.ids) == ids
            assert await stage.flush(worker, outcomes(hand, [0])) == {hand.lease}
            behind = await stage.loose(2)
            other = await stage.claim(worker, 1)
        else:
            while list(hand.ids) != [ids[2]]:
                assert (len(hand), hand.alone) == (1, False)
                await stage.flush(worker, outcomes(hand))
                hand = await stage.claim(worker)
            assert hand.alone, "and in a lease of its own, though more are due behind it"
        place = 2 if crash == 1 else 0
        dead = verdict(hand, place, ErrorKind.CRASH, SEGV, log=f"said {crash}", started_ago=0.5)
        burial = await workers.bury(stage.connection, worker.worker, 7, [dead])
        if crash == 1:
            assert burial == Burial(released=4, ended=0)
            assert [list(other.ids), await stage.state(behind[0])] == [[behind[0]], "queued"]
        assert await stage.state(ids[2]) == ("queued" if crash < 3 else "failure")
        assert [each[:2] for each in await stage.attempts(ids[2])] == [
            (number, "failure") for number in range(1, crash + 1)
        ]
        await stage.check_once_each(ids + behind)
    row = await row_of(stage, ids[2])
    assert (row["attempt"], row["error"], row["duration_ms"]) == (3, SEGV.decode(), 500.0)
    logs = await stage.connection.fetch("select attempt, text from hotpath.job_log order by attempt")
    assert [tuple(log) for log in logs] == [(1, "said 1"), (2, "said 2"), (3, "said 3")]
    worker = await stage.worker()
    while (hand := await stage.claim(worker)) is not None:
        await stage.flush(worker, outcomes(hand))
    assert {row["attempt"] for row in await stage.view() if row["id"] != ids[2]} == {1}
    await stage.check_empty()


async def test_verdicts_of_each_kind(stage: Stage):
    """I8: a job that overran fails, or runs again after its delay; a canceled one is canceled; a crash that
    somebody had asked to cancel is canceled; the rest goes back, uncharged.
    """
    ids = await stage.loose(6)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    assert await stage.cancel(ids[3])
    verdicts = [
        verdict(hand, 0, ErrorKind.TIMEOUT, LATE, log="said", started_ago=2.0, ended_ago=0.5),
        verdict(hand, 1, ErrorKind.TIMEOUT, LATE, retry_after=3600.0),
        verdict(hand, 2, ErrorKind.CANCELED, STOP),
        verdict(hand, 3, ErrorKind.CRASH, SEGV),
        verdict(hand, 0, ErrorKind.CANCELED, STOP),  # said twice: the first counts
        verdict(hand, 9, ErrorKind.CANCELED, STOP),  # no such place
    ]
    assert await workers.bury(stage.connection, worker.worker, 3, verdicts) == Burial(3, 3)
    rows = [await row_of(stage, job) for job in ids]
    assert [(row["state"], row["attempt"]) for row in rows] == [
        ("failure", 1), ("queued", 1), ("canceled", 1), ("canceled", 1), ("queued", 0), ("queued", 0),
    ]  # fmt: skip
    assert [row["error"] and json.loads(row["error"])["kind"] for row in rows[:4]] == [
        "timeout", None, "canceled", "canceled",
    ]  # fmt: skip
    assert rows[0]["duration_ms"] == 1500.0, "what came after its end is not counted"
    assert await stage.attempts(ids[1]) == [(1, "failure", "timeout")]
    await stage.check_once_each(ids)
    left = await stage.connection.fetchrow("select * from hotpath.worker where id = $1", worker.worker)
    assert (left["stopped_at"] is not None, left["jobs"]) == (True, 3)


@pytest.mark.parametrize("kind", KINDS)
async def test_burying_twice_changes_nothing(stage: Stage, kind):
    """I2, I7: a burial sent again after a lost reply, or by two at once, charges one crash once."""
    ids = await put(stage, kind, 3)
    worker, first, second = await stage.worker(), await stage.connect(), await stage.connect()
    hand = await stage.claim(worker)
    dead = [verdict(hand, 1, ErrorKind.CRASH, SEGV, log="said")]
    found: list[Burial] = []

    async def bury(connection):
        found.append(await workers.bury(connection, worker.worker, 1, dead))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bury, first)
        nursery.start_soon(bury, second)
    assert sorted(found, key=lambda one: one.released) == [Burial(0, 0), Burial(3, 0)]
    await bury(first)
    assert found[2] == Burial(0, 0)
    assert await stage.attempts(ids[1]) == [(1, "failure", "crash")]
    assert await stage.count("job_log") == 1
    await stage.check_once_each(ids)


async def test_verdict_of_what_is_no_longer_held(stage: Stage):
    """I2: a verdict about a lease that was reaped meanwhile, or a job that ended before, has no effect."""
    ids = await stage.loose(4)
    worker, other = await stage.worker(), await stage.worker()
    lost, kept = await stage.claim(worker, 2), await stage.claim(worker, 2)
    assert await worker.give_back([lost.lease]) == 2
    held = await stage.claim(other)
    assert await stage.flush(worker, outcomes(kept, [0])) == {kept.lease}
    dead = [verdict(lost, 0, ErrorKind.CRASH, SEGV), verdict(kept, 0, ErrorKind.CRASH, SEGV)]
    assert await workers.bury(stage.connection, worker.worker, 1, dead) == Burial(1, 0)
    assert [await stage.state(job) for job in ids] == ["running", "running", "success", "queued"]
    assert await stage.count("job_attempt") == 0
    assert await stage.flush(other, outcomes(held)) == {held.lease}
    await stage.check_once_each(ids)


async def test_attempt_of_a_job_in_hand(stage: Stage):
    """I3: the number of the run in hand is known from the lease, and is 0 once the job has left it."""
    await stage.loose(2)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    dead = verdict(hand, 0, ErrorKind.TIMEOUT, LATE, retry_after=0.0)
    await workers.bury(stage.connection, worker.worker, 0, [dead])
    worker = await stage.worker()
    hand = await stage.claim(worker)
    assert sorted(hand.attempts) == [1, 2]
    for place in (0, 1):
        attempt, steps = await workers.attempt_of(stage.connection, hand.lease, place)
        assert not steps
        assert attempt == hand.attempts[place]
    assert await stage.flush(worker, outcomes(hand, [0])) == {hand.lease}
    assert (await workers.attempt_of(stage.connection, hand.lease, 0))[0] == 0
    assert (await workers.attempt_of(stage.connection, hand.lease, 2))[0] == 0
    assert (await workers.attempt_of(stage.connection, 1, 0))[0] == 0


# ---------------------------------------------------------------- suspects


@pytest.mark.parametrize("kind", KINDS)
async def test_suspects_are_claimed_in_ever_smaller_batches(stage: Stage, kind):
    """I7: of a lease whose worker died unseen each job is a suspect; their claims shrink to one job, which
    is then charged if its worker dies again, and fails as a crash after three; nothing else is charged.
    """
    ids = await put(stage, kind, 120)
    killer = ids[57]
    sizes: list[int] = []
    with trio.fail_after(50):
        while await stage.state(killer) != "failure":
            worker = await stage.worker()
            hand = await stage.claim(worker, 120)
            sizes.append(len(hand))
            assert hand.alone or killer not in list(hand.ids) or len(sizes) == 1
            if killer in list(hand.ids):
                await stage.kill(worker)
                assert await stage.reap() == len(hand)
            else:
                assert await stage.flush(worker, outcomes(hand)) == {hand.lease}
    assert sizes[0] == 120
    assert max(sizes[1:]) == 120 >> 3
    assert sizes[-1] == 1
    row = await row_of(stage, killer)
    assert (row["attempt"], json.loads(row["error"])["kind"]) == (3, "crash")
    assert [each[0] for each in await stage.attempts(killer)] == [1, 2, 3]
    worker = await stage.worker()
    while (hand := await stage.claim(worker)) is not None:
        await stage.flush(worker, outcomes(hand))
    assert {row["attempt"] for row in await stage.view() if row["id"] != killer} == {1}
    assert await stage.states() == {"success": 119, "failure": 1}
    await stage.check_empty()


async def test_claim_of_a_suspect_is_alone(stage: Stage):
    """I7: a claim that holds a suspect says so; one without does not, though suspects wait behind it."""
    await stage.loose(3)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    assert not hand.alone
    await workers.bury(stage.connection, worker.worker, 0, [], suspects=[hand.lease])
    first = await stage.loose(1, priority=5)
    worker = await stage.worker()
    hand = await stage.claim(worker, 2)
    assert (list(hand.ids), hand.alone) == (first, False)
    hand = await stage.claim(worker, 2)
    assert (len(hand), hand.alone) == (1, True)


async def test_bury_makes_suspects_of_the_leases_named(stage: Stage):
    """I7: of two leases of a dead worker the one in doubt makes suspects, and the other none."""
    await stage.loose(4)
    worker = await stage.worker()
    first, second = await stage.claim(worker, 2), await stage.claim(worker, 2)
    burial = await workers.bury(stage.connection, worker.worker, 0, [], suspects=[second.lease])
    assert burial == Burial(4, 0)
    rows = await stage.connection.fetch("select id, suspect, attempt from hotpath.job_queue order by id")
    assert [tuple(row) for row in rows] == [
        (job, suspect, 0) for hand, suspect in ((first, None), (second, 1)) for job in hand.ids
    ]


async def test_claim_that_came_after_the_burial_makes_no_suspects(stage: Stage):
    """I7: a claim that came through after its worker's burial never began: it goes back as it was."""
    await stage.loose(2)
    worker = await stage.worker()
    assert await workers.stop_worker(stage.connection, worker.worker, 0) == 0
    hand = await stage.claim(worker)
    assert len(hand) == 2
    assert await stage.reap() == 2
    suspects = await stage.connection.fetch("select suspect from hotpath.job_queue")
    assert [row[0] for row in suspects] == [None, None]


async def test_retried_crash_begins_alone(stage: Stage):
    """I7: a job that failed as a crash and is retried by hand runs alone from the start, with three new
    crashes to its account.
    """
    (job,) = await stage.loose(1)
    for round_ in range(2):
        for crash in range(3):
            worker = await stage.worker()
            hand = await stage.claim(worker)
            assert hand.alone == (round_ > 0 or crash > 0)
            dead = [verdict(hand, 0, ErrorKind.CRASH, SEGV)]
            await workers.bury(stage.connection, worker.worker, 0, dead)
        assert await stage.state(job) == "failure"
        assert await stage.retry(job)
        neighbours = await stage.loose(3) if not round_ else []
        if neighbours:
            worker = await stage.worker()
            taken = await stage.claim(worker)
            assert list(taken.ids) == [job]
            await worker.give_back([taken.lease])
            for one in neighbours:
                assert await stage.cancel(one)
    assert len(await stage.attempts(job)) == 6


# ---------------------------------------------------------------- leases nobody lists


async def test_unlisted_leases_go_back_after_a_while(stage: Stage):
    """I1: what a live worker holds and does not list is given back, uncharged, once it is old enough; what
    it lists stays, and so does what others hold.
    """
    ids = await stage.loose(4)
    worker, other = await stage.worker(), await stage.worker()
    known, lost = await stage.claim(worker, 1), await stage.claim(worker, 2)
    theirs = await stage.claim(other, 1)
    listed = {worker.worker: [known.lease], other.worker: [theirs.lease]}
    assert await workers.give_back_unlisted(stage.connection, listed) == 0
    await stage.connection.execute("update hotpath.lease set claimed_at = claimed_at - interval '6 seconds'")
    assert await workers.give_back_unlisted(stage.connection, {other.worker: [theirs.lease]}) == 0
    assert await workers.give_back_unlisted(stage.connection, listed) == 2
    assert await stage.flush(worker, outcomes(lost)) == frozenset()
    states = [await stage.state(job) for job in ids]
    assert states == ["running", "queued", "queued", "running"]
    again = await stage.claim(worker)
    assert (list(again.ids), list(again.attempts), again.alone) == (ids[1:3], [1, 1], False)


@pytest.mark.parametrize("kind", KINDS)
async def test_claim_sent_again_after_a_lost_reply(stage: Stage, kind):
    """I1, I2: a claim whose reply was lost may be sent again as it is: what the first one took is put back,
    and taken again under the same lease.
    """
    ids = await put(stage, kind, 3)
    worker = await stage.worker()
    claim = Claim(2, stage.tag, NAME, stage.script, Positions())
    first = (await worker.cycle([], claim)).hand
    # The reply was lost: the worker's positions are where they were.
    again = (await worker.cycle([], attrs.evolve(claim, positions=Positions()))).hand
    assert first.lease == again.lease == claim.lease
    assert list(first.ids) == list(again.ids) == ids[:2]
    await stage.check_once_each(ids)
    assert await stage.flush(worker, outcomes(again)) == {claim.lease}
    await stage.check_once_each(ids)
    assert await stage.states() == {"success": 2, "queued": 1}
