"""Runs that begin again, as a whole or from a step, and what is forgotten of those that have ended."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from flow_stage import CHILD, FAILED, Flows, mark, resume, step
from store_stage import ANYTHING, outcomes

from hotpath.core.hand import Hand
from hotpath.core.notes import Early
from hotpath.errors import UsageError
from hotpath.model import Description, Settings
from hotpath.store import flows, jobs, scripts
from hotpath.store.sweep import sweep
from hotpath.store.work import WorkerSession
from hotpath.worker.house import House

TABLES = ("flow_run", "checkpoint", "mark", "flow_event", "flow_child")


async def left(flowing: Flows) -> dict[str, int]:
    """Rows of what is kept of runs, where there are any."""
    counts = {table: await flowing.stage.count(table) for table in TABLES}
    return {table: count for table, count in counts.items() if count}


async def played(flowing: Flows, state: int = 2) -> tuple[WorkerSession, UUID]:
    """A run that has ended, of steps a, l[0]/b, l[1]/b, l, c, d: d failed, if the run did."""
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    await flowing.note(
        worker,
        (hand, 0, step(run, "a", at=1_000)),
        (hand, 0, mark("sleep:a", {"until": 5})),
        (hand, 0, mark("suspend:a", {"required": 1, "until": None, "form": None})),
        (hand, 0, mark("choice:l:iterator", [1, 2])),
    )
    await resume(flowing.stage.connection, run, "a")
    child = await flowing.send(worker, hand, key="l[0]/b")
    scorer = await flowing.scorer()
    await flowing.stage.flush(scorer, outcomes(await flowing.claim_child(scorer)))
    await flowing.park(worker, hand, children=(child.bytes,))
    hand = await flowing.stage.claim(worker)
    whole = step(run, "l", at=1_500, duration_us=1_000)
    await flowing.note(worker, (hand, 0, step(run, "l[1]/b", at=2_000)), (hand, 0, whole))
    await flowing.note(worker, (hand, 0, step(run, "c", at=3_000)), (hand, 0, mark("choice:d:skip", False)))
    await flowing.note(
        worker,
        (hand, 0, step(run, "d", at=4_000, state=state, outcome=FAILED)),
        (hand, 0, mark("choice:e:skip", True)),
    )
    await flowing.stage.flush(worker, outcomes(hand, state=state, payload=FAILED))
    return worker, run


async def again(flowing: Flows, worker: WorkerSession, run: UUID) -> Hand:
    """The run, claimed once more."""
    hand = await flowing.stage.claim(worker)
    assert list(hand.ids) == [run]
    return hand


async def test_retry_begins_anew(flowing: Flows):
    """I3: a run that is retried knows nothing of its steps before, which stay to be seen as jobs; ids of its
    steps are new.
    """
    worker, run = await played(flowing)
    old = [one.id for one in await flows.read_steps(flowing.stage.connection, run)]
    assert await flowing.stage.retry(run)
    hand = await again(flowing, worker, run)
    assert list(hand.attempts) == [2]
    known = await flowing.recall(run)
    assert known is not None
    assert (known.generation, known.retried) == (1, True)
    assert [known.steps, known.marks, known.events, known.children] == [{}] * 4
    assert await left(flowing) == {"flow_run": 1}
    await flowing.note(worker, (hand, 0, step(run, "a", generation=1)))
    assert [one.key for one in await flows.read_steps(flowing.stage.connection, run)] == ["a"]
    assert {await flowing.stage.state(one) for one in old} == {"success", "failure"}
    assert [row[:2] for row in await flowing.stage.attempts(run)] == [(1, "failure"), (2, "running")]


async def test_retry_from_a_step_keeps_what_was_before(flowing: Flows):
    """I3: a run that is retried from a step knows the steps that ended before it, with what was decided and
    said there, and nothing of that step and those behind it.
    """
    worker, run = await played(flowing)
    before = await flowing.recall(run)
    assert before is not None
    assert await flows.retry_from(flowing.stage.connection, run, "d")
    await again(flowing, worker, run)
    known = await flowing.recall(run)
    assert known is not None
    assert known.steps == {key: one for key, one in before.steps.items() if key != "d"}
    assert known.marks.keys() == {"sleep:a", "suspend:a", "choice:l:iterator"}
    assert known.events == before.events
    assert known.children == before.children
    assert (known.generation, known.retried) == (1, True)


@pytest.mark.parametrize(
    ("key", "steps", "marks"),
    [
        ("c", {"a", "l[0]/b", "l[1]/b", "l"}, {"sleep:a", "suspend:a", "choice:l:iterator"}),
        ("l[1]/b", {"a", "l[0]/b"}, {"sleep:a", "suspend:a", "choice:l:iterator"}),
        ("l", {"a"}, {"sleep:a", "suspend:a"}),
        ("a", set(), set()),
    ],
)
async def test_retry_from_any_step(flowing: Flows, key, steps, marks):
    """I3: what is kept is what ended before the step did: not what it stands in, nor, of a loop, what stands
    in it.
    """
    worker, run = await played(flowing)
    assert await flows.retry_from(flowing.stage.connection, run, key)
    await again(flowing, worker, run)
    known = await flowing.recall(run)
    assert known is not None
    assert known.steps.keys() == steps
    assert known.marks.keys() == marks
    shown = await flows.read_steps(flowing.stage.connection, run)
    assert {one.key for one in shown} == steps
    assert all(one.started_at for one in shown)


async def test_retry_from_again_and_again(flowing: Flows):
    """I3: what was kept at one retry is there for the next, after the run has ended once more and what it
    left was looked through.
    """
    worker, run = await played(flowing)
    for generation, key in ((1, "d"), (2, "d"), (3, "c")):
        assert await flows.retry_from(flowing.stage.connection, run, key)
        hand = await again(flowing, worker, run)
        known = await flowing.recall(run)
        assert known is not None
        assert known.generation == generation
        assert known.steps.keys() == {"a", "l[0]/b", "l[1]/b", "l"} | ({"c"} if key == "d" else set())
        state = 1 if generation == 2 else 2
        noted = step(run, "d", generation=generation, at=5_000, state=state, outcome=FAILED)
        await flowing.note(worker, (hand, 0, noted))
        await flowing.stage.flush(worker, outcomes(hand, state=state, payload=FAILED))
        await flows.forget(flowing.stage.connection, [run])
        assert (await flows.read_steps(flowing.stage.connection, run))[-1].key == "d"


async def test_retry_refuses(flowing: Flows):
    """I13: a step cannot be retried alone; a run that has not ended is not retried; a step that it does not
    have, and a job that is no run, are named.
    """
    connection = flowing.stage.connection
    worker, run = await played(flowing)
    steps = {one.key: one.id for one in await flows.read_steps(connection, run)}
    with pytest.raises(UsageError, match=rf"step a of run {run} and cannot be retried alone"):
        await jobs.retry(connection, steps["a"])
    with pytest.raises(UsageError, match=f"run {run} has no step nope that has ended"):
        await flows.retry_from(connection, run, "nope")
    assert await flowing.stage.state(run) == "failure"
    assert not await flows.retry_from(connection, uuid4(), "a")
    assert await jobs.retry(connection, run)
    assert not await flows.retry_from(connection, run, "a")
    scorer = await flowing.scorer()
    single = await jobs.enqueue(connection, CHILD, b"{}")
    await flowing.stage.flush(scorer, outcomes(await flowing.claim_child(scorer)))
    with pytest.raises(UsageError, match="is not a run of a flow: it has no step a"):
        await flows.retry_from(connection, single, "a")
    assert await jobs.retry(connection, single)
    del worker


async def test_retry_cancels_what_was_left_below(flowing: Flows):
    """I8: children that an ended run left in the queue are canceled as it is retried, and wake nobody."""
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    child = await flowing.send(worker, hand)
    await stage.flush(worker, outcomes(hand, state=2, payload=FAILED))
    assert await stage.retry(run)
    assert await stage.state(child) == "canceled"
    known = await flowing.recall(run)
    assert known is not None
    assert not known.children
    assert await stage.count("waiter") == 0


async def test_forget_only_after_the_end(flowing: Flows):
    """I1: nothing is forgotten of a run that waits or is in hand; of one that succeeded, everything; of one
    that failed, or that people have answered, nothing until its own row has gone: it may be retried from a
    step behind that.
    """
    connection = flowing.stage.connection
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    await flowing.note(worker, (hand, 0, step(run, "a")), (hand, 0, mark("sleep:a", {"until": 1})))
    await resume(connection, run, "a")
    assert await flows.forget(connection, [run]) == 0
    before = await left(flowing)
    assert before == {"flow_run": 1, "mark": 1, "flow_event": 1}
    await flowing.park(worker, hand)
    assert await flows.forget(connection, [run]) == 0
    assert await left(flowing) == before | {"checkpoint": 1}
    await resume(connection, run, "b", 2)
    await flowing.stage.flush(worker, outcomes(await again(flowing, worker, run)))
    kept = await left(flowing)
    assert await flows.forget(connection, [run]) == 0
    assert await left(flowing) == kept
    await connection.execute("delete from hotpath.job_done where id = $1", run)
    assert await flows.forget(connection, [run]) == 1
    assert await left(flowing) == {}
    worker, hand = await flowing.in_hand()
    await flowing.note(worker, (hand, 0, step(hand.ids[0], "a")), (hand, 0, mark("sleep:a", {"until": 1})))
    await flowing.stage.flush(worker, outcomes(hand))
    assert await flows.forget(connection, [hand.ids[0]]) == 1
    assert await left(flowing) == {}
    _, failed = await played(flowing)
    kept = await left(flowing)
    assert await flows.forget(connection, [failed]) == 0
    assert await left(flowing) == kept
    await connection.execute("delete from hotpath.job_done where id = $1", failed)
    assert await flows.forget(connection, [failed]) == 1
    assert await left(flowing) == {}


async def test_early_result_outlives_the_run(flowing: Flows):
    """I1: an early result stays to be seen after the run has succeeded, and everything else goes."""
    worker, hand = await flowing.in_hand()
    await flowing.note(worker, (hand, 0, Early(b"5")), (hand, 0, mark("choice:a:skip", 1)))
    await flowing.stage.flush(worker, outcomes(hand))
    assert await flows.forget(flowing.stage.connection, list(hand.ids)) == 0
    assert await left(flowing) == {"flow_run": 1}
    assert await flowing.stage.connection.fetchval("select early from hotpath.flow_run") == "5"


async def test_blank_steps_lose_their_values(flowing: Flows):
    """I1: of a step that is to be deleted after use, args, result and log go when the run has ended, and not
    before; a retry from behind it runs it again.
    """
    connection = flowing.stage.connection
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    a, b = step(run, "a", log="said\n"), step(run, "b", at=2_000_000)
    await flowing.note(worker, (hand, 0, a), (hand, 0, mark("blank:a", {"id": str(UUID(bytes=a.id))})))
    await flowing.note(worker, (hand, 0, b))
    await flows.forget(connection, [run])
    job = await jobs.get_job(connection, UUID(bytes=a.id))
    assert job is not None
    assert (job.result, job.args) == ("result of a", {"x": 1})
    await flowing.stage.flush(worker, outcomes(hand, state=2, payload=FAILED))
    await flows.forget(connection, [run])
    job = await jobs.get_job(connection, UUID(bytes=a.id))
    assert job is not None
    assert (job.state, job.result, job.args) == ("success", None, {})
    assert await jobs.get_log(connection, job.id) == []
    assert await flows.retry_from(connection, run, "b")
    known = await flowing.recall(run)
    assert known is not None
    assert not known.steps


async def test_sweep_goes_through_all(flowing: Flows):
    """I10: a sweep looks at a few runs at a time and goes on where it stopped; it leaves those that wait, and
    cancels what runs that ended have left in the queue.
    """
    connection = flowing.stage.connection
    worker, hand = await flowing.in_hand(5)
    for index in range(5):
        await flowing.note(worker, (hand, index, mark("choice:a:skip", 1)))
    orphan = await flowing.send(worker, hand, 0)
    await flowing.park(worker, hand, 4)
    await flowing.stage.flush(worker, outcomes(hand, range(4)))
    after, looks = None, 0
    while looks == 0 or after is not None:
        after = await sweep(connection, after, 2)
        looks += 1
    assert looks == 3
    assert await flowing.stage.state(orphan) == "canceled"
    assert await left(flowing) == {"flow_run": 1, "mark": 1}
    assert await flowing.recall(hand.ids[4]) is not None


async def test_keepers_forget_what_is_left(flowing: Flows, monkeypatch):
    """I10: any worker's keeper forgets what ended runs have left, when it is time to, and not before."""
    worker, hand = await flowing.in_hand()
    await flowing.note(worker, (hand, 0, mark("choice:a:skip", 1)))
    await flowing.stage.flush(worker, outcomes(hand))
    await House().keep(flowing.stage.connection)
    assert await left(flowing) == {"flow_run": 1, "mark": 1}
    monkeypatch.setattr("hotpath.worker.house.SWEEP_EVERY", 0.0)
    await House().keep(flowing.stage.connection)
    assert await left(flowing) == {}


async def test_kind_of_a_version(flowing: Flows):
    """I13: a version's kind is stored and read; one that changes its kind is written anew."""
    connection = flowing.stage.connection
    found = await scripts.find_script(connection, "flow_x")
    assert found.version.description.kind == "flow"
    listed = [one for one in await scripts.versions(connection) if one.current]
    kinds = {one.version.description.path: one.version.description.kind for one in listed}
    assert kinds == {"flow_x": "flow", CHILD: "script"}
    changed = Description(
        path=CHILD, hash="1" * 64, is_async=True, schema=ANYTHING, settings=Settings(), kind="flow"
    )
    await scripts.register_version(connection, changed)
    assert (await scripts.find_script(connection, CHILD)).version.description == changed
