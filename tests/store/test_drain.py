"""When a drain is over: `drained.sql`."""

from __future__ import annotations

from flow_stage import Flows, mark, nonce
from store_stage import Stage

from hotpath.store import flows

ERROR = b'{"name": "E", "message": "no", "traceback": "", "kind": "exception"}'


async def test_drain_waits_for_what_has_begun(stage: Stage):
    """A drain waits for jobs that are due, leased, or wait for their next attempt; not for those scheduled
    for later, save by a few seconds, by which the database's clock may have been set back.
    """
    worker = await stage.worker()

    async def drained() -> bool:
        return await worker.drained([stage.tag], stage.script)

    async def later(interval: str) -> None:
        await stage.connection.execute(
            "update hotpath.job_queue set scheduled_for = now() + $1::text::interval", interval
        )

    assert await drained()
    (job,) = await stage.loose(1)
    assert not await drained()
    await later("1 hour")
    assert await drained()
    await later("4 seconds")
    assert not await drained()
    await later("-1 second")
    hand = await stage.claim(worker)
    assert not await drained()
    hand.retry((0, 2, 1, 1, ERROR, None), 3600.0)
    assert await stage.flush(worker, hand.take()) == {hand.lease}
    assert await stage.state(job) == "queued"
    assert not await drained(), "a job that has begun under this drain ends under it"
    assert await stage.cancel(job)
    assert await drained()
    await stage.sealed(2, scheduled_for=await stage.now())
    assert not await drained()
    await stage.connection.execute("update hotpath.batch set scheduled_for = now() + interval '1 hour'")
    assert await drained()


async def test_drain_does_not_wait_for_people(flowing: Flows):
    """A run that waits for somebody's approval holds no drain, also when it was retried before; once it has
    been approved, it does.
    """
    stage = flowing.stage
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    assert await flowing.note(
        worker, (hand, 0, mark("suspend:a", {"required": 1, "until": None, "form": None}))
    )
    await flowing.park(worker, hand, events={"a": 0})
    assert await worker.drained([stage.tag], stage.script)
    await stage.connection.execute("update hotpath.job_queue set attempt = 1 where id = $1", run)
    assert await worker.drained([stage.tag], stage.script)
    await flows.resume(
        stage.connection, run, "a", approved=True, nonce=nonce(1), payload=b"null", approver=None
    )
    assert not await worker.drained([stage.tag], stage.script)
