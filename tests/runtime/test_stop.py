"""Ways for a batch to end early: stopped by the worker, cancelled, or with the runtime."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

KINDS = pytest.mark.parametrize("kind", ["def", "async def"])
"""A synchronous and an async `main`: what holds for one runtime holds for the other."""


@KINDS
async def test_stopped_batch(opened, make_batch, kind):
    """Once a batch is stopped its job in hand is finished and reported, no further one starts, and `run`
    returns.
    """
    async with opened(f"{kind} main(x: int): return x") as runtime:
        batch = make_batch(*({"x": x} for x in range(20)))
        batch.on_report = lambda ended: ended.index >= 4 and batch.stop()
        await runtime.run(batch)
        assert batch.ended[-1].index == 4
        assert [one.value for one in batch.ended] == [0, 1, 2, 3, 4]
        after = make_batch({"x": 1})
        await runtime.run(after)
        assert after.values == [1]


@KINDS
async def test_batch_stopped_before(opened, make_batch, kind):
    """Of a batch that is stopped when it is given, no job starts."""
    async with opened(f"{kind} main(x: int): return x") as runtime:
        batch = make_batch({"x": 1}, {"x": "wrong"})
        batch.stop()
        await runtime.run(batch)
        assert batch.ended == []


async def test_stopped_with_jobs_under_way(opened, make_batch):
    """Async jobs under way when their batch is stopped are finished and reported before `run` returns; the
    rest is skipped, and batches behind are not touched.
    """
    text = """
        import trio
        gate = trio.Event()
        running = 0
        async def main(x: int):
            global running
            running += 1
            await gate.wait()
            return x
        """
    async with opened(text, name="stop_under_way", concurrency=4) as runtime:
        import stop_under_way as module

        first, second = make_batch(*({"x": x} for x in range(10))), make_batch({"x": 7})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.run, first)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(runtime.run, second)
            await trio.testing.wait_all_tasks_blocked()
            assert module.running == 4
            first.stop()
            module.gate.set()
        assert [one.value for one in first.in_order] == [0, 1, 2, 3]
        assert second.values == [7]


async def test_cancelled_async_run(opened, make_batch):
    """A cancelled `run` cancels its jobs, which clean up, reports nothing more, and leaves other batches
    alone.
    """
    text = """
        import trio
        cleaned = []
        async def main(x: int):
            try:
                await trio.sleep(0 if x < 3 else 600)
                return x
            finally:
                cleaned.append(x)
        """
    async with opened(text, name="cancelled_run", concurrency=8) as runtime:
        import cancelled_run as module

        batch, other = make_batch(*({"x": x} for x in range(20))), make_batch({"x": 0}, {"x": 1})
        async with trio.open_nursery() as nursery:

            async def run():
                with trio.CancelScope() as scope:
                    nursery.start_soon(stop, scope)
                    await runtime.run(batch)

            async def stop(scope):
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

            nursery.start_soon(run)
        assert sorted(one.index for one in batch.ended) == [0, 1, 2]
        await runtime.run(other)
        assert other.values == [0, 1]
        assert len(batch.ended) == 3
        assert sorted(module.cleaned) == [0, 0, 1, 1, 2, *range(3, 11)]


async def test_cancelled_jobs_are_not_reported(opened, make_batch):
    """Of a cancelled `run` nothing more is reported, neither a late result nor a time-out in its place. Its
    jobs can see that they were asked to stop.
    """
    text = """
        import hotpath, trio
        asked = []
        async def main(x: int):
            try:
                await trio.sleep(600)
            except trio.Cancelled:
                asked.append(hotpath.current_job().cancel_requested)
                if x:
                    raise
            return x
        """
    async with opened(text, name="unreported", timeout=300) as runtime:
        import unreported as module

        batch = make_batch({"x": 0}, {"x": 1})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.run, batch)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert module.asked == [True, True]
        assert batch.ended == []


async def test_cancelled_sync_run(opened, make_batch):
    """A synchronous job cannot be interrupted: after a cancelled `run` it ends unreported, no further one
    starts, and the next batch waits for it.
    """
    text = """
        import threading
        entered, gate, seen = threading.Event(), threading.Event(), []
        def main(x: int):
            seen.append(x)
            if x == 1:
                entered.set()
                assert gate.wait(20)
            return x
        """
    async with opened(text, name="cancelled_sync") as runtime:
        import cancelled_sync as module

        batch, other = make_batch(*({"x": x} for x in range(5))), make_batch({"x": 9})
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(runtime.run, batch)
                await trio.to_thread.run_sync(module.entered.wait, 20)
                scope.cancel()
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.run, other)
            await trio.testing.wait_all_tasks_blocked()
            module.gate.set()
        assert module.seen == [0, 1, 9]
        assert [one.value for one in batch.ended] == [0]
        assert other.values == [9]


@KINDS
async def test_closed_runtime_runs_nothing(opened, make_batch, kind):
    """Outside of `open` a batch is refused at once."""
    async with opened(f"{kind} main(): ...") as runtime:
        pass
    with pytest.raises(RuntimeError, match="outside"):
        await runtime.run(make_batch({}))


async def test_closing_cancels_async_jobs(opened, make_batch):
    """Leaving `open` cancels the jobs that still run, without a report of theirs."""
    batch = None
    async with trio.open_nursery() as nursery:
        async with opened("import trio\nasync def main(): await trio.sleep(600)") as runtime:
            batch = make_batch({}, {})
            nursery.start_soon(runtime.run, batch)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert batch.ended == []


async def test_lane_thread_ends(opened, make_batch):
    """The thread of a synchronous script ends with its runtime."""
    before = set(threading.enumerate())
    async with opened("def main(): ...") as runtime:
        await runtime.run(make_batch({}))
        (lane,) = {thread for thread in threading.enumerate() if thread.name == "hotpath-jobs"} - before
    await trio.to_thread.run_sync(lane.join, 20)
    assert not lane.is_alive()
