"""A wake is a hint that may be lost on the way, but not by the worker that has heard it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio
from worker_stage import Stage

import hotpath
from hotpath import asyncpg_trio
from hotpath.core.pacing import IdlePolls, LookRation
from hotpath.store.work import WorkerSession
from hotpath.worker.wake import Waker


async def test_wake_during_an_empty_claim(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
):
    """A wake that comes while a claim is on its way back empty leads to another look, not to a sleep, and
    that one does not pass what came meanwhile.
    """
    armed = False
    cycle = WorkerSession.cycle

    async def cycle_and_enqueue(self, flushes, claim, **options):
        nonlocal armed
        reply = await cycle(self, flushes, claim, **options)
        if armed and claim is not None and reply.hand is None:
            armed = False
            jobs.append(await stage.client.enqueue("double", {"x": 2}))
            worker._loop.wake()
            await trio.sleep(0.1)  # on a busy machine the reply is long on its way
        return reply

    async def hear_nothing(self) -> None:
        await trio.sleep_forever()

    jobs = []
    monkeypatch.setattr(WorkerSession, "cycle", cycle_and_enqueue)
    monkeypatch.setattr(Waker, "run", hear_nothing)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await stage.client.enqueue("double", {"x": 1}, scheduled_for=tomorrow)  # of a known priority
    what = hotpath.dedicated("double", workspace=stage.workspace, database_url=stage.url)
    worker = await nursery.start(hotpath.serve_worker, what)

    async def has_looked() -> bool:
        return worker._loop.search.next_in is not None

    await stage.until(has_looked)
    monkeypatch.setattr(IdlePolls, "next_wait", lambda _: 50.0)
    monkeypatch.setattr(LookRation, "affordable", lambda *_: False)
    monkeypatch.setattr(LookRation, "due", lambda *_: False)
    armed = True
    worker._loop.wake()
    with trio.fail_after(30):
        while not jobs:  # noqa: ASYNC110 - the wrapped method says when
            await trio.sleep(0.01)
        assert await stage.client.result(jobs[0]) == 4
    worker.stop()


async def test_a_note_of_sleep_names_what_is_listened_to(stage: Stage, nursery: trio.Nursery):
    """A worker that is told to listen to other tags while it falls asleep on the former ones sleeps on the
    new ones.
    """
    waker = Waker(stage.url, 1, [11])
    locked = await asyncpg_trio.connect(stage.url)
    async with locked.transaction():
        await locked.execute("lock table hotpath.doze in exclusive mode")
        nursery.start_soon(waker.run)
        waker.idle(1.0)

        async def waits():
            return await stage.connection.fetchval(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and wait_event_type = 'Lock' and query like '%hotpath.doze%'"
            )

        await stage.until(waits)
        waker.listen([22, 33])
    await locked.close()

    async def sleeps_on():
        rows = await stage.connection.fetch("select tag from hotpath.doze")
        return {row[0] for row in rows} == {22, 33}

    await stage.until(sleeps_on)


async def test_a_job_that_was_passed(stage: Stage, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery):
    """I4: a job that was committed late, or came back, lies before the place where claims begin. When those
    see that it is there and do not get it, a full look finds it, also when the regular one is not due for
    long: on a busy machine looks seem to cost much.
    """
    what = hotpath.dedicated("double", workspace=stage.workspace, database_url=stage.url)
    worker = await nursery.start(hotpath.serve_worker, what)
    monkeypatch.setattr(LookRation, "_pause", 1e9)
    with trio.fail_after(40):
        job = await stage.client.enqueue("double", {"x": 1})
        assert await stage.client.result(job) == 2
        past = datetime.now(UTC) - timedelta(hours=1)
        job = await stage.client.enqueue("double", {"x": 2}, scheduled_for=past)
        assert await stage.client.result(job) == 4
    worker.stop()
