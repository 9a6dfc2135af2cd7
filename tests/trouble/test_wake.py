"""A wake is a hint that may be lost on the way, but not by the worker that has heard it."""

from __future__ import annotations

import pytest
import trio
from worker_stage import Stage

import hotpath
from hotpath.core.pacing import IdlePolls, LookRation
from hotpath.store.work import WorkerSession
from hotpath.worker.wake import Waker


async def test_wake_during_an_empty_claim(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
):
    """A wake that comes while a claim is on its way back empty leads to another look, not to a sleep."""
    armed = False
    cycle = WorkerSession.cycle

    async def cycle_and_enqueue(self, flushes, claim, **options):
        nonlocal armed
        reply = await cycle(self, flushes, claim, **options)
        if armed and claim is not None and reply.hand is None:
            armed = False
            jobs.append(await stage.client.enqueue("double", {"x": 2}))
            worker._loop.wake()
        return reply

    async def hear_nothing(self) -> None:
        await trio.sleep_forever()

    jobs = []
    monkeypatch.setattr(WorkerSession, "cycle", cycle_and_enqueue)
    monkeypatch.setattr(Waker, "run", hear_nothing)
    monkeypatch.setattr(IdlePolls, "next_wait", lambda _: 30.0)
    monkeypatch.setattr(LookRation, "affordable", lambda *_: False)
    what = hotpath.dedicated("double", workspace=stage.workspace, database_url=stage.url)
    worker = await nursery.start(hotpath.serve_worker, what)
    armed = True
    worker._loop.wake()
    with trio.fail_after(10):
        while not jobs:  # noqa: ASYNC110 - the wrapped method says when
            await trio.sleep(0.01)
        assert await stage.client.result(jobs[0]) == 4
    worker.stop()
