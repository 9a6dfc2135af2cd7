"""When a drain is over: `drained.sql`."""

from __future__ import annotations

from store_stage import Stage

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
