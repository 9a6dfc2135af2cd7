"""What a job can ask about itself."""

from __future__ import annotations

import time
from uuid import UUID

import pytest

import hotpath
from hotpath.errors import HotpathError

KINDS = pytest.mark.parametrize("kind", ["def", "async def"])
"""A synchronous and an async `main`: what holds for one runtime holds for the other."""


@KINDS
async def test_current_job(opened, make_batch, kind):
    """`current_job()` says which job runs: id, script, attempt, args as enqueued, tag and worker."""
    text = f"""
        import hotpath
        {kind} main(x: int, y: int = 5):
            job = hotpath.current_job()
            return [job.id, job.script, job.attempt, job.args, job.tag, job.worker, job.deadline,
                    job.cancel_requested]
        """
    async with opened(text, name="asking") as runtime:
        batch = make_batch({"x": 1}, {"x": 2, "y": 3})
        batch.attempts = [1, 7]
        await runtime.run(batch)
    assert batch.values == [
        [str(UUID(int=1)), "asking", 1, {"x": 1}, "tests", "tester-1", None, False],
        [str(UUID(int=2)), "asking", 7, {"x": 2, "y": 3}, "tests", "tester-1", None, False],
    ]


@KINDS
async def test_deadline(play, kind):
    """The deadline of a script with a time limit is that long after the job's start, by `time.monotonic`."""
    text = f"""
        import hotpath, time
        {kind} main(): return [hotpath.current_job().deadline, time.monotonic()]
        """
    before = time.monotonic()
    batch = await play(text, {}, timeout=50)
    deadline, inside = batch.values[0]
    assert before + 50 <= deadline <= inside + 50


@KINDS
async def test_in_tasks_and_threads(play, kind):
    """Tasks and Trio's threads of a job are in it; a bare thread is in none."""
    text = f"""
        import hotpath, threading, trio
        def ask(): return str(hotpath.current_job().id)[-1]
        async def inside(): return await trio.to_thread.run_sync(ask)
        def bare(seen):
            try: seen.append(ask())
            except hotpath.HotpathError as error: seen.append(str(error))
        {kind} main():
            seen = [{"await inside()" if kind == "async def" else "trio.run(inside)"}]
            thread = threading.Thread(target=bare, args=(seen,)); thread.start(); thread.join()
            return seen
        """
    batch = await play(text, {}, {})
    for at, (own, bare) in enumerate(batch.values):
        assert own == str(at + 1)
        assert "no job is running here" in bare


def test_outside_of_a_job():
    """Outside of a job there is none, and saying progress is refused too."""
    with pytest.raises(HotpathError, match="no job is running here"):
        hotpath.current_job()
    with pytest.raises(HotpathError, match="no job is running here"):
        hotpath.progress(0.5)


@KINDS
async def test_no_job_between_jobs(opened, make_batch, kind):
    """When a job has ended, nothing runs in it: not the runtime, not the next script's `preload`."""
    async with opened(f"{kind} main(): ...") as runtime:
        await runtime.run(make_batch({}))
        with pytest.raises(HotpathError):
            hotpath.current_job()


@KINDS
async def test_progress(play, kind):
    """Progress is a number from 0 to 1; anything else is an error in the job that says it."""
    text = f"""
        import hotpath
        {kind} main(x = None): hotpath.progress(float(x) if isinstance(x, str) else x)
        """
    args = [0, 1, 0.5, -0.1, 1.1, None, True, "nan", "inf"]
    batch = await play(text, *({"x": x} for x in args))
    assert [one.state for one in batch.in_order] == ["success"] * 3 + ["failure"] * 6
    assert {one.value["name"] for one in batch.in_order[3:]} == {"ValueError"}
