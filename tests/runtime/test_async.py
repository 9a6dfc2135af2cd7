"""What is special to jobs that run at the same time: order, concurrency, time limits, other tasks' turns."""

from __future__ import annotations

import gc
import time
import weakref

import pytest
import trio
import trio.testing

from hotpath.runtime.trio_runtime import AsyncRuntime

COUNTING = """
    import trio
    running = most = 0
    order = []
    async def main(x: int, seconds: float = 1):
        global running, most
        order.append(x)
        running += 1
        most = max(most, running)
        try:
            await trio.sleep(seconds)
        finally:
            running -= 1
        return x
    """


@pytest.mark.parametrize("concurrency", [1, 3, 40])
async def test_concurrency(opened, make_batch, autojump_clock, concurrency):
    """As many jobs run at the same time as was asked for, never more, over several batches, in order."""
    name = f"counting_{concurrency}"
    async with opened(COUNTING, name=name, concurrency=concurrency) as runtime:
        module = __import__(name)
        batches = [make_batch(*({"x": at + x} for x in range(25))) for at in range(0, 100, 25)]
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for batch in batches:
                nursery.start_soon(runtime.run, batch)
                await trio.testing.wait_all_tasks_blocked()
        assert [value for batch in batches for value in batch.values] == list(range(100))
        assert module.order == list(range(100))
        assert module.most == concurrency
        assert trio.current_time() - began == pytest.approx(-(-100 // concurrency))


async def test_every_run_ends_on_its_own(opened, make_batch, autojump_clock):
    """A batch is done when its own jobs are, whatever slow jobs of an earlier batch still run."""
    async with opened(COUNTING, concurrency=10) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(runtime.run, make_batch({"x": 1, "seconds": 600}))
        await trio.testing.wait_all_tasks_blocked()
        quick = make_batch({"x": 2, "seconds": 0.1}, {"x": 3, "seconds": 0.1})
        with trio.fail_after(1):
            await runtime.run(quick)
        nursery.cancel_scope.cancel()
    assert quick.values == [2, 3]


async def test_no_idle_runner_is_kept_waiting(opened, make_batch, autojump_clock):
    """Runners that rest are used again: a second wave of jobs runs as wide as the first."""
    async with opened(COUNTING, concurrency=50) as runtime:
        for _ in range(3):
            began = trio.current_time()
            await runtime.run(make_batch(*({"x": x} for x in range(50))))
            assert trio.current_time() - began == pytest.approx(1)


async def test_runners_grow_on_demand(make_script, make_batch):
    """Jobs that never block are run by one task, however large the concurrency."""
    runtime = AsyncRuntime(1000)
    async with runtime.open(make_script("async def main(x: int): return x")):
        before = trio.lowlevel.current_statistics().tasks_living
        await runtime.run(make_batch(*({"x": x} for x in range(200))))
        assert trio.lowlevel.current_statistics().tasks_living - before == 1


async def test_others_get_their_turn(opened, make_batch):
    """Jobs that never block leave the other tasks of the thread their turn every few milliseconds."""
    text = """
        import time
        async def main():
            until = time.perf_counter() + 0.001
            while time.perf_counter() < until: pass
        """
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with opened(text) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await runtime.run(make_batch(*[{}] * 100))
        nursery.cancel_scope.cancel()
    assert turns > 20


async def test_time_limit(play, autojump_clock):
    """A job that overruns its script's time limit fails with kind `timeout`, having cleaned up; no other job
    does.
    """
    text = """
        import trio
        async def main(x: int):
            try:
                await trio.sleep(9 if x % 2 else 11)
            finally:
                print("cleaned", x)
        """
    batch = await play(text, *({"x": x} for x in range(6)), timeout=10, concurrency=2)
    for one in batch.in_order:
        assert one.log == f"cleaned {one.index}\n"
        if one.index % 2:
            assert one.state == "success"
        else:
            assert (one.state, one.value["kind"]) == ("failure", "timeout")
            assert one.value["message"] == "the job ran longer than its timeout of 10 s"
            assert "in main" in one.value["traceback"]


async def test_time_limit_of_many_tasks(play, autojump_clock):
    """A time limit ends the tasks of the job too, even when their cancellation comes back in a group."""
    text = """
        import trio
        async def main():
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(trio.sleep, 100)
        """
    batch = await play(text, {}, {}, timeout=1)
    assert [one.value["kind"] for one in batch.in_order] == ["timeout", "timeout"]


async def test_result_in_spite_of_the_limit(play, autojump_clock):
    """A job that answers its cancellation with a result has that result."""
    text = """
        import trio
        async def main(x: int):
            try:
                await trio.sleep(100)
            except trio.Cancelled:
                return x
        """
    assert (await play(text, {"x": 1}, {"x": 2}, timeout=1, concurrency=1)).values == [1, 2]


async def test_cancelled_by_its_own_scope(play, autojump_clock):
    """What a job does with cancel scopes of its own is its own affair."""
    text = """
        import trio
        async def main(x: int):
            with trio.move_on_after(1) as scope:
                await trio.sleep(100)
            if x:
                with trio.fail_after(1):
                    await trio.sleep(100)
            return scope.cancelled_caught
        """
    kept, failed = (await play(text, {"x": 0}, {"x": 1})).in_order
    assert kept.value is True
    assert (failed.value["kind"], failed.value["name"]) == ("exception", "TooSlowError")


async def test_cancelled_by_hand(play):
    """A `Cancelled` from somewhere else is a failure of the job that raises it, and the runtime goes on."""
    text = """
        import trio
        async def main(x: int):
            if x:
                try:
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
                        raise AssertionError
                except BaseException: ...
                kept = None
                with trio.CancelScope() as scope:
                    scope.cancel()
                    try:
                        await trio.sleep(1)
                    except trio.Cancelled as error:
                        kept = error
                raise kept
            return x
        """
    batch = await play(text, {"x": 0}, {"x": 1}, {"x": 0})
    assert [one.state for one in batch.in_order] == ["success", "failure", "success"]
    assert batch.values[1]["name"] == "Cancelled"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("await asyncio.sleep(1)", "an async main runs on Trio"),
        ("await asyncio.gather(asyncio.sleep(1))", "Are you trying to use a library written for"),
        ("await Foreign()", "trio.run received unrecognized yield message"),
    ],
)
async def test_asyncio_code(play, body, words):
    """Code for asyncio fails with an error that says what to do, and the runtime goes on."""
    text = f"""
        import asyncio, warnings
        class Foreign:
            def __await__(self): yield "not for Trio"
        async def main(x: int):
            warnings.simplefilter("ignore")
            if x: {body}
            return x
        """
    batch = await play(text, {"x": 1}, {"x": 0})
    assert batch.in_order[0].state == "failure"
    assert words in batch.values[0]["message"]
    assert batch.values[1] == 0


async def test_trio_run_inside_a_sync_main(play):
    """A synchronous `main` may run a Trio of its own; what is printed in it is the job's."""
    text = """
        import trio
        async def inner(x):
            await trio.sleep(0)
            print("inner", x)
            return x
        def main(x: int): return trio.run(inner, x)
        """
    batch = await play(text, {"x": 1}, {"x": 2})
    assert batch.values == [1, 2]
    assert [one.log for one in batch.in_order] == ["inner 1\n", "inner 2\n"]


def test_concurrency_of_nothing():
    """A concurrency below one is refused."""
    with pytest.raises(ValueError, match="at least 1"):
        AsyncRuntime(0)


async def test_memory_of_what_has_ended(opened, make_batch):
    """What a job was given and what it made is freed when it has ended, though its batch has not."""
    text = """
        import dataclasses, trio, weakref
        @dataclasses.dataclass
        class Big:
            x: int
        seen = []
        gate = trio.Event()
        async def main(big: Big):
            local = Big(0)
            seen.append((weakref.ref(big), weakref.ref(local)))
            await trio.sleep(0)
            if big.x:
                await gate.wait()
        """
    async with opened(text, name="memory", concurrency=4) as runtime:
        import memory as module

        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.run, make_batch(*({"big": {"x": x}} for x in (0, 0, 1))))
            deadline = time.monotonic() + 20
            while len(module.seen) < 3 or any(ref() for refs in module.seen[:2] for ref in refs):
                assert time.monotonic() < deadline
                await trio.sleep(0.001)
            assert all(ref() for ref in module.seen[2])
            module.gate.set()


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_memory_of_a_batch(opened, make_batch, kind):
    """A warm runtime that waits for work keeps nothing of its last batch."""
    async with opened(f"{kind} main(x: int): return x") as runtime:
        batch = make_batch({"x": 1}, {"x": 2})
        await runtime.run(batch)
        kept = weakref.ref(batch)
        del batch
        deadline = time.monotonic() + 20
        while kept() is not None:
            assert time.monotonic() < deadline
            gc.collect()
            await trio.sleep(0.001)
