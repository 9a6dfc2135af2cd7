"""Runs that wait: whoever ends what they wait for wakes them, whichever comes first (I1); a cancel reaches
what is below.
"""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

import pytest
import trio
from flow_stage import FAILED, Flows, dispatch, mark, resume, step
from store_stage import outcomes

from hotpath.core.hand import Hand
from hotpath.model import ErrorKind
from hotpath.store import flows, jobs, workers
from hotpath.store.work import WorkerSession, complete
from hotpath.store.workers import Verdict


async def test_parked_run_waits_in_the_queue(flowing: Flows):
    """I12: a parked run is queued, holds no lease, is not charged an attempt, and comes when its time has
    come; its neighbours in the lease stay.
    """
    stage = flowing.stage
    worker, hand = await flowing.in_hand(3)
    until = int(((await stage.now()) + timedelta(hours=1)).timestamp() * 1e6)
    assert await flowing.park(worker, hand, 0) == 1
    assert await flowing.park(worker, hand, 1, until_us=until) == 1
    assert await stage.states() == {"queued": 2, "running": 1}
    times = [(await jobs.get_job(stage.connection, run)).scheduled_for for run in hand.ids[:2]]
    assert times[0].year > 2100
    assert times[1].timestamp() == pytest.approx(until / 1e6)
    assert await flowing.park(worker, hand, 1, until_us=until) == 0  # sent again: nothing is left to do
    assert await flowing.park(worker, hand, 2, until_us=1) == 1
    assert await stage.count("lease") == 0
    assert await stage.count("batch") == 0
    again = await stage.claim(worker)
    assert list(again.ids) == [hand.ids[2]]
    assert list(again.attempts) == [1]
    await stage.check_once_each(hand.ids)


async def test_park_of_a_lost_lease_changes_nothing(flowing: Flows):
    """I2: who has lost its lease cannot park the run, which somebody else may have."""
    worker, hand = await flowing.in_hand()
    await worker.give_back([hand.lease])
    other = await flowing.stage.worker()
    assert list((await flowing.stage.claim(other)).ids) == list(hand.ids)
    assert await flowing.park(worker, hand) == 0
    assert await flowing.stage.states() == {"running": 1}


async def test_parked_run_keeps_what_it_knows(flowing: Flows):
    """I1: what a run noted before it was parked is there when the partitions of its steps are gone."""
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    await flowing.note(worker, (hand, 0, step(run, "a")), (hand, 0, step(run, "b", state=2, outcome=FAILED)))
    await flowing.park(worker, hand, until_us=1)
    hand = await stage.claim(worker)
    await flowing.note(worker, (hand, 0, step(run, "c")))
    await flowing.park(worker, hand)
    before = await flowing.recall(run)
    await stage.connection.execute("delete from hotpath.job_done")
    known = await flowing.recall(run)
    assert known is not None
    assert known == before
    assert {key: one.state for key, one in known.steps.items()} == {"a": 1, "b": 2, "c": 1}
    assert known.steps["c"].outcome == b'"result of c"'
    assert [one.key for one in await flows.read_steps(stage.connection, run)] == ["a", "b", "c"]


# ---------------------------------------------------------------- a child ends


def timed_out(hand: Hand, **more: float) -> Verdict:
    """The first job of the hand took too long, and its worker was killed."""
    return Verdict(lease=hand.lease, place=0, kind=ErrorKind.TIMEOUT, error=FAILED, started_ago=1.0, **more)


async def _flushed(flowing: Flows, scorer: WorkerSession, hand: Hand) -> None:
    await flowing.stage.flush(scorer, outcomes(hand))


async def _completed(flowing: Flows, scorer: WorkerSession, hand: Hand) -> None:
    assert await complete(
        scorer.connection, scorer.worker, hand.lease, 0, b"5", started_us=0, duration_us=1, log=None
    )


async def _released(flowing: Flows, scorer: WorkerSession, hand: Hand) -> None:
    assert await flowing.stage.cancel(hand.ids[0])
    await scorer.release(hand.lease, [0])


async def _given_back(flowing: Flows, scorer: WorkerSession, hand: Hand) -> None:
    assert await flowing.stage.cancel(hand.ids[0])
    await scorer.give_back([hand.lease])


async def _buried(flowing: Flows, scorer: WorkerSession, hand: Hand) -> None:
    await workers.bury(flowing.stage.connection, scorer.worker, 1, [timed_out(hand)])


async def _parked_and_canceled(flowing: Flows, scorer: WorkerSession, hand: Hand) -> None:
    assert await flowing.stage.cancel(hand.ids[0])
    assert await flowing.park(scorer, hand) == 1


ENDS = {
    "cycle": (_flushed, 1),
    "complete": (_completed, 1),
    "release": (_released, 3),
    "give_back": (_given_back, 3),
    "end_jobs": (_buried, 2),
    "park": (_parked_and_canceled, 3),
}


@pytest.mark.parametrize("how", ENDS)
async def test_the_end_of_a_child_wakes_its_run(flowing: Flows, how):
    """I1: however the job of a step ends, the run that waits for it is due, and recalls its outcome."""
    end, state = ENDS[how]
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    child = await flowing.send(worker, hand)
    await flowing.park(worker, hand, children=(child.bytes,))
    scorer = await flowing.scorer()
    await end(flowing, scorer, await flowing.claim_child(scorer))
    assert await flowing.due(run)
    known = await flowing.recall(run)
    assert known is not None
    assert known.children["a"].state == state
    assert known.steps["a"].outcome == known.children["a"].outcome != b"null"
    job = await jobs.get_job(stage.connection, child)
    assert job is not None
    assert (job.kind, job.parent, job.step) == ("step", run, "a")
    assert await stage.count("waiter") == 0
    assert list((await stage.claim(worker)).ids) == [run]


async def test_cancel_of_a_waiting_child_wakes_its_run(flowing: Flows):
    """I8: a child that is canceled in the queue has ended: its run goes on and hears of it."""
    worker, hand = await flowing.in_hand()
    child = await flowing.send(worker, hand)
    await flowing.park(worker, hand, children=(child.bytes,))
    assert await flowing.stage.cancel(child)
    assert await flowing.due(hand.ids[0])
    known = await flowing.recall(hand.ids[0])
    assert known is not None
    assert json.loads(known.children["a"].outcome)["name"] == "JobCanceled"


async def test_a_retry_of_the_child_does_not_wake(flowing: Flows):
    """I1: a child that failed and runs again has not ended: its run waits on."""
    worker, hand = await flowing.in_hand()
    child = await flowing.send(worker, hand)
    await flowing.park(worker, hand, children=(child.bytes,))
    scorer = await flowing.scorer()
    held = await flowing.claim_child(scorer)
    verdict = timed_out(held, retry_after=0.0)
    await workers.bury(flowing.stage.connection, scorer.worker, 1, [verdict])
    assert not await flowing.due(hand.ids[0])
    await _flushed(flowing, other := await flowing.scorer(), await flowing.claim_child(other))
    assert await flowing.due(hand.ids[0])


async def test_clients_are_told_as_before(flowing: Flows):
    """I1: who waits for a child, or for a run that is canceled while it parks, is notified; so is a worker
    that sleeps on the run's tag.
    """
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    run, child = hand.ids[0], await flowing.send(worker, hand)
    await flowing.park(worker, hand, children=(child.bytes,))
    listener = await stage.connect()
    await stage.connection.execute(
        "insert into hotpath.waiter select j, gen_random_uuid(), 'infinity' from unnest($1::uuid[]) j",
        [run, child],
    )
    await stage.connection.execute(
        "insert into hotpath.doze values (1, $1, now() + interval '1 hour')", stage.tag
    )
    async with listener.listen("hotpath_done") as ends, listener.listen("hotpath") as wakes:
        scorer = await flowing.scorer()
        await _flushed(flowing, scorer, await flowing.claim_child(scorer))
        with trio.fail_after(30):
            async for said in wakes:
                assert said.payload == f"{stage.tag} back"
                break
            hand = await stage.claim(worker)
            await stage.cancel(run)
            await flowing.park(worker, hand)
            heard = []
            async for said in ends:
                heard.append(UUID(said.payload))
                if len(heard) == 2:
                    break
    assert heard == [child, run]


# ---------------------------------------------------------------- races


async def test_child_that_ended_before_its_run_parks(flowing: Flows):
    """I1: a child that ended while the run was still in hand does not leave it waiting: it is due at once."""
    worker, hand = await flowing.in_hand()
    child = await flowing.send(worker, hand)
    scorer = await flowing.scorer()
    await _flushed(flowing, scorer, await flowing.claim_child(scorer))
    await flowing.park(worker, hand, children=(child.bytes,))
    assert await flowing.due(hand.ids[0])


@pytest.mark.parametrize("flush_first", [True, False])
async def test_child_that_ends_while_its_run_parks(flowing: Flows, flush_first):
    """I1: whoever comes second, the flush of a child or the parking of its run, waits for the other and sees
    what it did.
    """
    worker, hand = await flowing.in_hand()
    child = await flowing.send(worker, hand)
    scorer = await flowing.scorer()
    held = await flowing.claim_child(scorer)

    async def flush() -> None:
        await flowing.stage.flush(scorer, outcomes(held))

    async def park() -> None:
        await flowing.park(worker, hand, children=(child.bytes,))

    first, second = (flush, park) if flush_first else (park, flush)
    one, other = (scorer, worker) if flush_first else (worker, scorer)
    async with trio.open_nursery() as nursery, one.connection.transaction():
        await first()
        nursery.start_soon(second)
        await flowing.stage.blocked(other.connection)
    assert await flowing.due(hand.ids[0])


async def test_event_before_and_after_parking(flowing: Flows):
    """I1: an approval that came before the run parked, unseen, makes it due at once; one that was seen does
    not; one that comes later wakes it.
    """
    connection = flowing.stage.connection
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    await resume(connection, run, "s", 1)
    await flowing.park(worker, hand, events={"s": 0})
    assert await flowing.due(run)
    hand = await flowing.stage.claim(worker)
    await flowing.park(worker, hand, events={"s": 1, "t": 0})
    assert not await flowing.due(run)
    await resume(connection, run, "t", 2)
    assert await flowing.due(run)


@pytest.mark.parametrize("resume_first", [True, False])
async def test_event_while_the_run_parks(flowing: Flows, resume_first):
    """I1: an approval and a parking that meet: the second waits, and the run is due."""
    worker, hand = await flowing.in_hand()
    run, client = hand.ids[0], await flowing.stage.connect()

    async def say() -> None:
        await resume(client, run, "s")

    async def park() -> None:
        await flowing.park(worker, hand, events={"s": 0})

    first, second = (say, park) if resume_first else (park, say)
    one, other = (client, worker.connection) if resume_first else (worker.connection, client)
    async with trio.open_nursery() as nursery, one.transaction():
        await first()
        nursery.start_soon(second)
        await flowing.stage.blocked(other)
    assert await flowing.due(run)


@pytest.mark.parametrize("turned", [False, True])
async def test_locks_of_runs_are_taken_in_one_order(flowing: Flows, turned):
    """I11: of several runs' locks the same comes first, however they are named: who waits for it holds no
    other, so that two which meet do not deadlock.
    """
    runs = [UUID(int=1 << 100 | slot) for slot in (3, 200)]
    holder, waiter = await flowing.stage.connect(), await flowing.stage.connect()
    lock = "select hotpath.lock_runs($1)"
    async with trio.open_nursery() as nursery, holder.transaction():
        await holder.execute(lock, runs[:1])
        nursery.start_soon(waiter.execute, lock, runs[::-1] if turned else runs)
        await flowing.stage.blocked(waiter)
        held = await flowing.stage.connection.fetchval(
            "select count(*) from pg_locks where locktype = 'advisory' and granted and pid = $1",
            waiter.get_server_pid(),
        )
    assert held == 0


async def test_flushes_that_wake_the_same_runs_do_not_deadlock(flowing: Flows):
    """I11: two flushes that end children of the same two runs, in opposite order, take turns."""
    worker, hand = await flowing.in_hand(2)
    pairs = [[await flowing.send(worker, hand, index, key) for index in (0, 1)] for key in ("a", "b")]
    for index in (0, 1):
        await flowing.park(worker, hand, index)
    scorers = [await flowing.scorer() for _ in range(2)]
    held = await flowing.claim_child(scorers[0])
    await scorers[0].release(held.lease, [list(held.ids).index(one) for one in pairs[1]])
    others = await flowing.claim_child(scorers[1])
    async with trio.open_nursery() as nursery, scorers[0].connection.transaction():
        await flowing.stage.flush(scorers[0], outcomes(held, [list(held.ids).index(one) for one in pairs[0]]))
        nursery.start_soon(flowing.stage.flush, scorers[1], outcomes(others))
        await flowing.stage.blocked(scorers[1].connection)
    assert [await flowing.due(run) for run in hand.ids] == [True, True]
    known = [await flowing.recall(run) for run in hand.ids]
    assert [one.children[key].state for one in known for key in "ab"] == [1] * 4


async def test_many_children_wake_their_run_now_and_then(flowing: Flows):
    """I10: while more than 20 children are under way, the end of one has the run look 100 ms later, once for
    all that end until then; the last ones wake it at once.
    """
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    await flowing.note(worker, *((hand, 0, dispatch(run, f"l[{k}]/a")) for k in range(30)))
    await flowing.park(worker, hand)
    scorer = await flowing.scorer()
    held = await flowing.claim_child(scorer)
    left = "select scheduled_for - now() from hotpath.job_queue where id = $1"
    async with scorer.connection.transaction():
        await stage.flush(scorer, outcomes(held, [0]))
        assert await scorer.connection.fetchval(left, run) == timedelta(milliseconds=100)
    await stage.flush(scorer, outcomes(held, range(1, 5)))
    first = await stage.connection.fetchval("select scheduled_for from hotpath.job_queue where id = $1", run)
    await stage.flush(scorer, outcomes(held, range(5, 9)))
    after = await stage.connection.fetchval("select scheduled_for from hotpath.job_queue where id = $1", run)
    assert after == first
    await stage.connection.execute(
        "update hotpath.job_queue set scheduled_for = now() + interval '1 hour' where id = $1", run
    )
    await stage.flush(scorer, outcomes(held, range(9, 12)))
    assert await flowing.due(run)


# ---------------------------------------------------------------- cancel


@pytest.mark.parametrize("parked", [True, False])
async def test_cancel_reaches_what_runs_below(flowing: Flows, parked):
    """I8: a cancel of a run, parked or in hand, ends its waiting children and asks those that run, and
    theirs; what had ended stays.
    """
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    scorer = await flowing.scorer()
    done = await flowing.send(worker, hand, key="done")
    await stage.flush(scorer, outcomes(await flowing.claim_child(scorer)))
    running = await flowing.send(worker, hand, key="running")
    held = await flowing.claim_child(scorer)
    below = await flowing.send(scorer, held, key="below")
    waiting = await flowing.send(worker, hand, key="waiting")
    if parked:
        await flowing.park(worker, hand, children=(running.bytes, waiting.bytes))
    assert await stage.cancel(run)
    states = [await stage.state(job) for job in (run, done, running, below, waiting)]
    assert states == ["canceled" if parked else "running", "success", "running", "canceled", "canceled"]
    assert (await stage.beat(scorer)).cancels == {scorer.worker: [(held.lease, 0)]}
    if not parked:
        assert (await stage.beat(worker)).cancels == {worker.worker: [(hand.lease, 0)]}
        # What it sends out from now on ends at once.
        late = await flowing.send(worker, hand, key="late")
        assert await stage.state(late) == "canceled"
        assert await flowing.park(worker, hand, children=(running.bytes,)) == 1
        assert await stage.state(run) == "canceled"
    await scorer.give_back([held.lease])
    await stage.check_empty()
    assert await stage.count("waiter") == 0


async def test_cancel_that_meets_a_dispatch(flowing: Flows):
    """I8: a cancel that waits for a note in flight reaches the child that this note sent out."""
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    client = await stage.connect()
    async with trio.open_nursery() as nursery, worker.connection.transaction():
        child = await flowing.send(worker, hand)
        nursery.start_soon(stage.cancel, hand.ids[0], client)
        await stage.blocked(client)
    assert await stage.state(child) == "canceled"


async def test_cancel_that_meets_the_end_of_a_child(flowing: Flows):
    """I11: a cancel of a run and the flush of its child's end do not wait for each other: both are done."""
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    child = await flowing.send(worker, hand)
    await flowing.park(worker, hand, children=(child.bytes,))
    scorer, client = await flowing.scorer(), await stage.connect()
    held = await flowing.claim_child(scorer)
    found: list[bool] = []

    async def cancel() -> None:
        found.append(await stage.cancel(hand.ids[0], client))

    async with trio.open_nursery() as nursery, scorer.connection.transaction():
        await stage.flush(scorer, outcomes(held))
        nursery.start_soon(cancel)
        await stage.blocked(client)
    assert found == [True]
    assert [await stage.state(job) for job in (hand.ids[0], child)] == ["canceled", "success"]


async def test_cancel_takes_its_locks_in_everybodys_order(flowing: Flows):
    """I11: a cancel of a run that is held up, and the flush of a child behind it, do not deadlock."""
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    run, child = hand.ids[0], await flowing.send(worker, hand)
    await flowing.park(worker, hand, children=(child.bytes,))
    scorer, client, holder = await flowing.scorer(), await stage.connect(), await stage.connect()
    held = await flowing.claim_child(scorer)
    async with trio.open_nursery() as nursery, holder.transaction():
        await holder.execute("select from hotpath.job_queue where id = $1 for update", run)
        nursery.start_soon(stage.cancel, run, client)
        await stage.blocked(client)
        nursery.start_soon(stage.flush, scorer, outcomes(held))
        await stage.blocked(scorer.connection)
    assert [await stage.state(job) for job in (run, child)] == ["canceled", "success"]


async def test_cancel_and_approval_that_meet(flowing: Flows):
    """I11: a cancel of a run with a child in the queue, held up, and an approval behind it do not deadlock:
    the approval hears that the run has ended.
    """
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    run, child = hand.ids[0], await flowing.send(worker, hand)
    await flowing.park(worker, hand, children=(child.bytes,), events={"s": 0})
    canceler, approver, holder = [await stage.connect() for _ in range(3)]
    heard: list[str] = []

    async def approve() -> None:
        with pytest.raises(flows.ResumeRefusedError) as refusal:
            await resume(approver, run, "s")
        heard.append(str(refusal.value))

    async with trio.open_nursery() as nursery, holder.transaction():
        await holder.execute("select from hotpath.job_queue where id = $1 for update", run)
        nursery.start_soon(stage.cancel, run, canceler)
        await stage.blocked(canceler)
        nursery.start_soon(approve)
        await stage.blocked(approver)
    assert "has ended" in heard[0]
    assert [await stage.state(job) for job in (run, child)] == ["canceled"] * 2


# ---------------------------------------------------------------- what people see


async def test_what_a_run_waits_for(flowing: Flows):
    """I5: a parked run says what it waits for: a time, an approval with its form, a job; what is over is not
    named.
    """
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    child = await flowing.send(worker, hand, key="c")
    future = int(((await stage.now()) + timedelta(hours=1)).timestamp() * 1e6)
    await flowing.note(
        worker,
        (hand, 0, mark("sleep:a", {"until": future})),
        (hand, 0, mark("sleep:b", {"until": 1})),
        (hand, 0, mark("retry:r", {"failures": 1, "until": future})),
        (hand, 0, mark("choice:d:expr", 5)),
        (hand, 0, mark("suspend:s", {"required": 2, "until": None, "form": {"type": "object"}})),
        (hand, 0, mark("suspend:t", {"required": 1, "until": future, "form": None})),
        (hand, 0, mark("suspend:u", {"required": 1, "until": 1, "form": None})),
    )
    await resume(stage.connection, run, "s", 1)
    await resume(stage.connection, run, "t", 2)
    waits = await flows.suspended(stage.connection, run)
    assert sorted((wait.kind, wait.key) for wait in waits) == [
        ("child", "c"), ("retry", "r"), ("sleep", "a"), ("suspend", "s"),
    ]  # fmt: skip
    by_key = {wait.key: wait for wait in waits}
    assert (by_key["s"].required, by_key["s"].said, by_key["s"].form) == (2, 1, {"type": "object"})
    assert by_key["s"].until is None
    assert by_key["a"].until.timestamp() == pytest.approx(future / 1e6)
    assert (by_key["c"].job, by_key["c"].script, by_key["c"].state) == (child, "score", "queued")
    assert await flows.suspended(stage.connection, child) == []


async def test_steps_of_a_run(flowing: Flows):
    """I5: the steps of a run, by start: those that ended, with attempt, error and worker, and those in the
    queue or with another worker; no more than asked for.
    """
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    await flowing.note(
        worker,
        (hand, 0, step(run, "b", at=3_000_000, attempt=2, state=2, outcome=FAILED)),
        (hand, 0, step(run, "a", at=1_000_000, script=flowing.child)),
        (hand, 0, dispatch(run, "l[0]/c")),
    )
    scorer = await flowing.scorer()
    await flowing.claim_child(scorer)
    await flowing.note(worker, (hand, 0, dispatch(run, "l[1]/c")))
    steps = {one.key: one for one in await flows.read_steps(stage.connection, run)}
    assert sorted(steps) == ["a", "b", "l[0]/c", "l[1]/c"]
    assert list(steps).index("a") < list(steps).index("b")
    assert (steps["b"].state, steps["b"].attempt, steps["b"].error["message"]) == ("failure", 2, "no")
    assert (steps["a"].script, steps["a"].duration_ms) == ("score", 0.01)
    assert steps["l[0]/c"].state == "running"
    assert steps["l[1]/c"].state == "queued"
    assert steps["l[0]/c"].worker is not None
    assert len(await flows.read_steps(stage.connection, run, limit=2)) == 2
