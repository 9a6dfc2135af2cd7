"""Jobs through the library: time-outs, cancel of what runs, retry, attempts."""

from contextlib import asynccontextmanager
from uuid import UUID

import attrs
import pytest
import trio

from hotpath.core.positions import Positions
from hotpath.errors import JobCanceled, UnknownJobError, UsageError
from hotpath.model import State
from hotpath.store.scripts import Registered, find_script
from hotpath.store.work import Claim, WorkerSession
from hotpath.store.workers import register_worker

NOBODY = UUID(int=7)


@attrs.define
class Holder:
    """A worker that claims jobs of one script and runs none."""

    session: WorkerSession
    script: Registered

    async def claim(self):
        """The next hand."""
        claim = Claim(10, self.script.tag, "add", self.script.version.script, Positions())
        return (await self.session.cycle([], claim)).hand

    async def end(self, hand, state=1, payload=b"1"):
        """Report one outcome for all jobs of a hand, and flush it."""
        for index in range(len(hand)):
            hand.report((index, state, 1_000_000, 10, payload, None))
        await self.session.cycle([hand.take()], None)


@asynccontextmanager
async def a_holder(client):
    """One that is registered, on a connection of its own."""
    connection = await client.database.connect()
    try:
        found = await find_script(connection, "add")
        worker = await register_worker(
            connection, name="w", group=None, script=found.version.script, version=found.version.id,
            tags=[found.tag], host="here", pid=1, concurrency=1, lease=60,
        )  # fmt: skip
        yield Holder(WorkerSession(connection, worker), found)
    finally:
        connection.terminate()


async def test_time_outs_of_jobs(client_of):
    """I8: `timeout=` of one job or of many is what the worker is given, in seconds."""
    async with client_of() as client:
        ids = [
            await client.enqueue("add", {"x": 1}),
            await client.enqueue("add", {"x": 1}, timeout=0.5),
            *await client.enqueue_many("add", [{"x": 1}] * 2, timeout=7),
        ]
        async with a_holder(client) as holder:
            loose, sealed = await holder.claim(), await holder.claim()
            assert [*loose.ids, *sealed.ids] == ids
            assert (loose.timeouts, sealed.timeouts) == ([None, 0.5], [7.0, 7.0])


NO_TIMEOUT = [0, -1, -0.001, float("nan"), float("inf"), True, "3", 3_000_000]


async def test_time_out_that_is_none(client_of, subtests):
    """I13: what is no time-out is refused with the field named, for one job and for many."""
    async with client_of() as client:
        for timeout in NO_TIMEOUT:
            with subtests.test(ascii(timeout)[:60]):
                with pytest.raises(UsageError, match="timeout must be"):
                    await client.enqueue("add", {"x": 1}, timeout=timeout)
                with pytest.raises(UsageError, match="timeout must be"):
                    await client.enqueue_many("add", [{"x": 1}], timeout=timeout)
                assert await client.jobs() == []


async def test_retry_and_attempts(client_of):
    """I3: a job that ended runs again under its id; each run is an attempt with its own end."""
    async with client_of() as client:
        job = await client.enqueue("add", {"x": 1}, timeout=3)
        assert await client.attempts(job) == []
        assert not await client.retry(job)
        async with a_holder(client) as holder:
            await holder.end(await holder.claim(), 2, b'{"name": "E", "kind": "exception"}')
            assert await client.retry(job)
            assert (await client.job(job)).state is State.QUEUED
            hand = await holder.claim()
            assert (list(hand.ids), list(hand.attempts), hand.timeouts) == ([job], [2], [3.0])
            first, second = await client.attempts(job)
            assert (first.attempt, first.state, first.error) == (
                1, State.FAILURE, {"name": "E", "kind": "exception"},
            )  # fmt: skip
            assert first.duration_ms == 0.01
            assert (second.attempt, second.state, second.finished_at) == (2, State.RUNNING, None)
            await holder.end(hand)
            with trio.fail_after(30):
                assert await client.result(job) == 1
            assert [each.state for each in await client.attempts(job)] == [State.FAILURE, State.SUCCESS]
        for ask in (client.retry, client.attempts, client.cancel):
            with pytest.raises(UnknownJobError):
                await ask(NOBODY)


async def test_cancel_of_a_running_job(client_of):
    """I8: `cancel` of a running job is true, as often as it is asked; who waits hears how it ended."""
    async with client_of() as client:
        job = await client.enqueue("add", {"x": 1})
        async with a_holder(client) as holder:
            hand = await holder.claim()
            assert await client.cancel(job)
            assert await client.cancel(job)
            assert (await client.job(job)).state is State.RUNNING
            async with trio.open_nursery() as nursery:

                async def wait():
                    with pytest.raises(JobCanceled):
                        await client.result(job)

                nursery.start_soon(wait)
                with trio.fail_after(30):
                    assert await holder.session.give_back([hand.lease]) == 0
        assert not await client.cancel(job)
