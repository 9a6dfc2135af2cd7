"""Why a job waits: each reason, by what is in the database, in words that name the evidence."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest
from flow_stage import Flows
from store_stage import NAME, Stage, outcomes

from hotpath.core.positions import Positions
from hotpath.model import Limit
from hotpath.store import jobs, scripts, workers
from hotpath.store.pauses import pause_tag
from hotpath.store.waiting import COUNTED, Waiting, why_waiting
from hotpath.store.work import Claim


async def ask(stage: Stage, job) -> Waiting:
    """What is said of the job."""
    found = await why_waiting(stage.connection, job)
    assert found is not None
    return found


def kinds(waiting: Waiting) -> list[str]:
    """The kinds of the reasons, in order."""
    return [reason.kind for reason in waiting.reasons]


async def test_nobody_ever_listened(stage: Stage):
    """Without any worker the tag is named, and how to start one."""
    (job,) = await stage.loose(1, tag="far")
    waiting = await ask(stage, job)
    assert kinds(waiting) == ["no_worker"]
    assert waiting.reasons[0].text == (
        f"no live worker listens to tag far; start one with: hotpath dedicate {NAME} --tag far"
    )
    assert (waiting.ahead, waiting.more_ahead, waiting.eta_seconds) == (0, False, None)


async def test_who_listened_last(stage: Stage):
    """A worker that has stopped, or is lost, is named as the last one."""
    (job,) = await stage.loose(1)
    worker = await stage.worker()
    await workers.stop_worker(stage.connection, worker.worker, 0)
    (reason,) = (await ask(stage, job)).reasons
    assert reason.kind == "no_worker"
    assert "did last, it was stopped" in reason.text
    lost = await stage.worker()
    await stage.kill(lost)
    (reason,) = (await ask(stage, job)).reasons
    assert "did last, it was last heard of" in reason.text


async def test_workers_of_another_script(stage: Stage):
    """Workers that listen to the tag and run something else are no help, and that is said."""
    (job,) = await stage.loose(1)
    worker = await stage.worker()
    await stage.connection.execute("update hotpath.worker set script = 999 where id = $1", worker.worker)
    waiting = await ask(stage, job)
    assert kinds(waiting) == ["other_script"]
    assert f"no live worker on tag {NAME} runs {NAME}" in waiting.reasons[0].text


async def test_next_and_idle(stage: Stage):
    """A job that is the first, with an idle worker, is about to be taken."""
    await stage.worker()
    (job,) = await stage.loose(1)
    waiting = await ask(stage, job)
    assert kinds(waiting) == ["next"]
    assert waiting.reasons[0].text == f"it is the next on tag {NAME}, and a worker is idle"


@pytest.mark.parametrize("more", [False, True])
async def test_jobs_before_it_are_counted(stage: Stage, more):
    """All loose and sealed jobs that come before it by priority, time and id are counted, and no others, up
    to a limit.
    """
    worker = await stage.worker()
    await stage.loose(1)
    held = await stage.claim(worker, 1)
    assert held is not None
    await stage.loose(3)
    await stage.sealed(5)
    await stage.loose(2, priority=4)
    await stage.sealed(2, priority=3)
    await stage.loose(1, priority=9, scheduled_for=await stage.now() + timedelta(hours=1))
    (job,) = await stage.loose(1)
    inside = (await stage.sealed(4))[2]
    await stage.loose(2)
    await stage.loose(2, priority=-1)
    await stage.loose(2, tag="other")
    if more:
        await stage.connection.execute(
            "insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args) "
            "select hotpath.uuid7(), now() - interval '1 hour', $1, $2, 5, '{}' "
            "from generate_series(1, $3::int4)",
            stage.tag, stage.script, 2 * COUNTED,
        )  # fmt: skip
    waiting = await ask(stage, job)
    ahead = 3 + 5 + 2 + 2
    assert (waiting.ahead, waiting.more_ahead) == ((COUNTED + ahead, True) if more else (ahead, False))
    assert kinds(waiting) == ["busy"]
    count = f"more than {waiting.ahead:,}" if more else str(ahead)
    assert waiting.reasons[0].text == f"the worker of tag {NAME} is busy, and {count} jobs are before it"
    if not more:
        assert (await ask(stage, inside)).ahead == ahead + 1 + 2


async def test_the_time_is_estimated(stage: Stage):
    """By what the workers get done now, or by what a job took lately."""
    worker = await stage.worker()
    await stage.loose(1)
    assert await stage.claim(worker, 1) is not None
    *_, job = await stage.loose(10)
    await stage.connection.execute(
        "insert into hotpath.minute values (date_trunc('minute', now()), $1, $2, 3, 1, 0, 0, 8000000)",
        stage.script,
        stage.tag,
    )
    waiting = await ask(stage, job)
    assert (waiting.ahead, waiting.eta_seconds) == (9, 20.0)
    assert waiting.reasons[0].text.endswith("9 jobs are before it, for about 20.0 s")
    await stage.connection.execute("update hotpath.worker set rates = '{5}'")
    assert (await ask(stage, job)).eta_seconds == 2.0


async def test_scheduled_for_later(stage: Stage):
    """A job that is not due says when it is, and has no place in the queue yet."""
    await stage.worker()
    when = await stage.now() + timedelta(hours=3)
    (job,) = await stage.loose(1, scheduled_for=when)
    waiting = await ask(stage, job)
    assert kinds(waiting) == ["scheduled"]
    assert waiting.reasons[0].until == when
    assert waiting.reasons[0].text.startswith("scheduled for ")
    assert waiting.reasons[0].text.endswith(", in 3.0 h")
    assert waiting.ahead is waiting.eta_seconds is None


async def test_retry_after_a_failure(stage: Stage):
    """A job that waits to run again says with what it failed and when that is."""
    worker = await stage.worker()
    (job,) = await stage.loose(1)
    hand = await stage.claim(worker)
    hand.retry((0, 2, 1_000_000, 10, b'{"name":"ValueError","message":"odd"}', None), 60.0)
    hand.over = True
    await stage.flush(worker, hand.take())
    waiting = await ask(stage, job)
    assert kinds(waiting) == ["retry"]
    assert "failed with ValueError; attempt 2 is due at " in waiting.reasons[0].text


async def test_suspect_runs_alone(stage: Stage):
    """A job whose worker died with it in hand says that it runs in smaller company."""
    (job,) = await stage.loose(1)
    worker = await stage.worker()
    assert await stage.claim(worker) is not None
    await stage.kill(worker)
    assert await stage.reap() == 1
    waiting = await ask(stage, job)
    assert kinds(waiting) == ["suspect", "no_worker"]
    assert "in small company" in waiting.reasons[0].text
    await stage.connection.execute("update hotpath.job_queue set suspect = 3")
    assert "it runs alone" in (await ask(stage, job)).reasons[0].text


async def test_place_of_a_flow(flowing: Flows):
    """A run whose flow runs as many as it may says how many were first."""
    stage = flowing.stage
    await stage.worker()
    runs = await stage.loose(3)
    assert await stage.connection.fetchval("select hotpath.admit_runs($1, 1, $2)", stage.script, runs) == [
        runs[0]
    ]
    await stage.connection.execute(
        "update hotpath.job_queue set scheduled_for = now() + interval '100 years' where id <> $1", runs[0]
    )
    second, third = await ask(stage, runs[1]), await ask(stage, runs[2])
    assert kinds(second) == kinds(third) == ["limit"]
    assert second.reasons[0].text.endswith("runs 1 at a time, and all places are taken; it is the next")
    assert third.reasons[0].text.endswith("1 were first")


async def test_run_that_is_parked(flowing: Flows):
    """A run that waits for people or for a time says for which step."""
    stage = flowing.stage
    await stage.worker()
    (run,) = await stage.loose(1)
    await stage.connection.execute(
        "insert into hotpath.mark (run, key, value) values ($1, 'suspend:ask', '{\"required\": 2}')", run
    )
    await stage.connection.execute("update hotpath.job_queue set scheduled_for = now() + interval '1 year'")
    (reason,) = (await ask(stage, run)).reasons
    assert (reason.kind, reason.step) == ("approval", "ask")
    assert reason.text.startswith("waits for approval of step ask (0 of 2)")


async def test_one_that_does_not_wait(stage: Stage):
    """A job that runs or has ended has no reasons, and one that nobody knows is not found."""
    worker = await stage.worker()
    (job,) = await stage.loose(1)
    hand = await stage.claim(worker)
    assert await ask(stage, job) == Waiting("running", [])
    await stage.flush(worker, outcomes(hand))
    assert await ask(stage, job) == Waiting("success", [])
    assert await why_waiting(stage.connection, jobs.oldest_id(await stage.now())) is None


async def test_a_limit_or_a_pause_holds_it_back(stage: Stage):
    """It is said which limit is full, by how much, and that the tag is paused, until when and why."""
    settings = attrs.evolve(stage.version.description.settings, limit=Limit(concurrency=1, rate=(1, 60.0)))
    description = attrs.evolve(stage.version.description, settings=settings)
    stage.version = await scripts.register_version(stage.connection, description)
    first, second = await stage.loose(2)
    session = await stage.worker()
    claim = Claim(1, stage.tag, NAME, stage.script, Positions(), limited=True)
    assert (await session.cycle([], claim)).hand is not None
    waiting = await ask(stage, second)
    assert kinds(waiting) == ["limit", "limit"]
    assert waiting.reasons[0].text == f"1 jobs of {NAME} may run at a time, and 1 do so"
    assert "may start in 60 s" in waiting.reasons[1].text
    await pause_tag(stage.connection, NAME, reason="a test")
    assert kinds(await ask(stage, second)) == ["paused", "limit", "limit"]
    assert "a test" in (await ask(stage, second)).reasons[0].text
    assert first != second
