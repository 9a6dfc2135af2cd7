"""An async job ends when its time is up or when it is canceled, and says what it has in hand (I7, I8)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from hotpath.model import ErrorKind, Retry
from hotpath.runtime.protocol import Interruptible
from hotpath.runtime.trio_runtime import AsyncRuntime

SLEEPER = """
    import hotpath, trio
    begun, ended = [], []
    async def main(x: int, how: str = ""):
        begun.append(x)
        try:
            await trio.sleep(600 if x else 0)
            return x
        except trio.Cancelled:
            if how == "return":
                return "made it"
            raise
        finally:
            if how == "shield":
                with trio.CancelScope(shield=True):
                    await trio.sleep(20)
            ended.append(x)
            if how == "raise":
                raise ValueError("in finally")
    """


async def test_time_outs_of_jobs(opened, make_batch, autojump_clock):
    """A job's own time-out goes before its script's; without either a job takes what it takes."""
    async with opened(SLEEPER, timeout=10) as runtime:
        batch = make_batch({"x": 1}, {"x": 2}, {"x": 0})
        batch.timeouts = [None, 2, 1]
        began = trio.current_time()
        await runtime.run(batch)
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)
        assert [one.state for one in batch.in_order] == ["failure", "failure", "success"]
        assert [one.value["message"] for one in batch.in_order[:2]] == [
            "the job ran longer than its timeout of 10 s",
            "the job ran longer than its timeout of 2 s",
        ]
        assert batch.mark == [0, 0]


@pytest.mark.parametrize(
    ("how", "kind", "state"),
    [
        ("", ErrorKind.CANCELED, "canceled"),
        ("raise", ErrorKind.CANCELED, "canceled"),
        ("return", ErrorKind.CANCELED, "success"),
        ("", ErrorKind.TIMEOUT, "retry"),
        ("raise", ErrorKind.TIMEOUT, "retry"),
        ("return", ErrorKind.TIMEOUT, "success"),
    ],
)
async def test_interrupt(opened, make_batch, how, kind, state):
    """An interrupted job is cancelled where it waits, cleans up, and ends as what it was made to be, whatever
    it raises then; its neighbours are not touched.
    """
    async with opened(SLEEPER, name="interrupted_async", retry=Retry(2, delay=1)) as runtime:
        import interrupted_async as module

        batch = make_batch({"x": 1}, {"x": 2, "how": how}, {"x": 3})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.run, batch)
            await trio.testing.wait_all_tasks_blocked()
            assert batch.begun == 3
            runtime.interrupt(batch, 1, kind)
            runtime.interrupt(batch, 1, ErrorKind.CANCELED)  # too late: it is ending
            await trio.testing.wait_all_tasks_blocked()
            assert module.ended == [2]
            nursery.cancel_scope.cancel()
        (one,) = batch.ended
        assert (one.index, one.state) == (1, state)
        assert one.value == "made it" if how == "return" else one.value["kind"] == kind.value
        assert list(batch.delays) == ([1] if state == "retry" else [])


async def test_interrupt_before_the_start(opened, make_batch):
    """A job that is canceled before its turn is reported as canceled and never begins."""
    async with opened(SLEEPER, name="not_begun_async", concurrency=2) as runtime:
        import not_begun_async as module

        batch, behind = make_batch({"x": 1}, {"x": 2}, {"x": 3}, {"x": 0}), make_batch({"x": 4}, {"x": 0})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.run, batch)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(runtime.run, behind)
            await trio.testing.wait_all_tasks_blocked()
            assert (batch.begun, behind.begun) == (2, 0)
            for one, index in [(batch, 2), (behind, 0), (batch, 0), (make_batch({}), 0)]:
                runtime.interrupt(one, index, ErrorKind.CANCELED)
            await trio.testing.wait_all_tasks_blocked()
            runtime.interrupt(batch, 1, ErrorKind.CANCELED)
        assert module.begun == [1, 2, 0, 0]
        assert [one.state for one in batch.in_order] == ["canceled"] * 3 + ["success"]
        assert [one.state for one in behind.in_order] == ["canceled", "success"]


async def test_interrupt_from_within(opened, make_batch):
    """A job that has itself canceled is cancelled at its next checkpoint."""
    text = """
        import trio
        act = []
        async def main(x: int):
            if x:
                act[0]()
            await trio.sleep(0)
            await trio.sleep(600 if x else 0)
        """
    async with opened(text, name="within") as runtime:
        import within as module

        batch = make_batch({"x": 0}, {"x": 1}, {"x": 0})
        module.act.append(lambda: runtime.interrupt(batch, 1, ErrorKind.CANCELED))
        with trio.fail_after(30):
            await runtime.run(batch)
        assert [one.state for one in batch.in_order] == ["success", "canceled", "success"]


async def test_stuck(opened, make_batch, autojump_clock):
    """A job that goes on behind a shield though it was cancelled, or its time is up, is named as stuck."""
    async with opened(SLEEPER) as runtime:
        batch = make_batch({"x": 1, "how": "shield"}, {"x": 2, "how": "shield"}, {"x": 3})
        batch.timeouts = [None, 2, None]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.run, batch)
            await trio.testing.wait_all_tasks_blocked()
            runtime.interrupt(batch, 0, ErrorKind.CANCELED)
            runtime.interrupt(batch, 2, ErrorKind.CANCELED)
            await trio.sleep(1)
            assert runtime.stuck(5) == []
            await trio.sleep(5)
            assert list(runtime.stuck(5)) == [(batch, 0, ErrorKind.CANCELED)]
            await trio.sleep(2)
            assert sorted(runtime.stuck(5), key=lambda one: one[1]) == [
                (batch, 0, ErrorKind.CANCELED), (batch, 1, ErrorKind.TIMEOUT),
            ]  # fmt: skip
        assert runtime.stuck(0) == []
        assert [one.state for one in batch.in_order] == ["canceled", "failure", "canceled"]
        await runtime.run(again := make_batch({"x": 0}))
        assert again.values == [0]


async def test_mark_while_it_runs(opened, make_batch):
    """While a job's code runs the mark names it, also after it has waited; while all wait it names none."""
    text = """
        import trio
        marks, gate = [], trio.Event()
        async def main(x: int):
            marks.append((x, *mark))
            await gate.wait()
            marks.append((x, *mark))
            await trio.sleep(0)
            marks.append((x, *mark))
        """
    async with opened(text, name="marked", timeout=50) as runtime:
        import marked as module

        batch = make_batch({"x": 0}, {"x": 1})
        module.mark = batch.mark
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.run, batch)
            await trio.testing.wait_all_tasks_blocked()
            assert batch.mark == [0, 0]
            module.gate.set()
        assert batch.mark == [0, 0]
        assert len(module.marks) == 6
        assert all(token == batch.number + x for x, token, _ in module.marks)
        for x in (0, 1):
            (deadline,) = {deadline for job, _, deadline in module.marks if job == x}
            assert deadline // 1000 == batch.in_order[x].started_us + 50_000_000


def test_offers_what_the_protocol_names():
    """The runtime can be asked to interrupt a job."""
    assert isinstance(AsyncRuntime(), Interruptible)
