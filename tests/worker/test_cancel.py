"""Cancelling what runs: each kind of code ends, `finally` runs, neighbours lose nothing (I8)."""

from __future__ import annotations

import json
import time

import pytest
import trio
from worker_stage import Stage

import hotpath
from hotpath.worker.inhand import InHand

SYNC = """
import time

def main(x: int, folder: str, hang: bool = False, seconds: float = 600.0) -> int:
    if hang:
        open(f"{folder}/begun", "w").close()
        try:
            while True:
                time.sleep(seconds)
        finally:
            open(f"{folder}/finally", "w").close()
    return x
"""
ASYNC = """
import trio

async def main(x: int, folder: str, hang: bool = False, seconds: float = 600.0) -> int:
    if hang:
        open(f"{folder}/begun", "w").close()
        try:
            await trio.sleep(seconds)
        finally:
            open(f"{folder}/finally", "w").close()
    return x
"""
STUCK = """
import ctypes

def main(x: int, folder: str, hang: bool = False) -> int:
    if hang:
        open(f"{folder}/begun", "w").close()
        ctypes.PyDLL(None).sleep(600)  # holds the GIL
    return x
"""
POLITE = """
import time, hotpath

def main(x: int, folder: str, hang: bool = False) -> str:
    if hang:
        open(f"{folder}/begun", "w").close()
        try:
            time.sleep(600)
        except hotpath.JobInterrupted:
            assert hotpath.current_job().cancel_requested
            raise
    return x
"""


async def canceled(stage: Stage, job, seconds: float = 20.0) -> None:
    """Cancel the job as SQL does, and wait until it has ended: it would not do so by itself."""
    assert await stage.connection.fetchval("select hotpath.cancel($1)", job)
    with trio.fail_after(seconds), pytest.raises(hotpath.JobCanceled):
        await stage.client.result(job)


@pytest.mark.parametrize(
    ("source", "ends"),
    [(SYNC, True), (ASYNC, True), (STUCK, False), (POLITE, False)],
    ids=["sync", "async", "stuck in C", "polite"],
)
async def test_cancel_reaches_what_runs(stage: Stage, source: str, ends: bool):
    """I8: a running job is canceled whatever its code does; the jobs beside it are run, uncharged."""
    (stage.workspace / "hang.py").write_text(source)
    folder = stage.workspace
    ids = await stage.client.enqueue_many(
        "hang", ({"x": x, "folder": str(folder), "hang": x == 3} for x in range(8))
    )
    command = await stage.dedicate("hang", "--drain")
    await stage.until(trio.Path(folder / "begun").exists)
    await canceled(stage, ids[3])
    assert await command.wait() == 0, command.stderr
    assert (folder / "finally").exists() == ends
    rows = {row["id"]: row for row in await stage.rows()}
    assert [rows[job]["state"] for job in ids] == ["canceled" if x == 3 else "success" for x in range(8)]
    assert json.loads(rows[ids[3]]["error"])["kind"] == "canceled"
    assert {row["attempt"] for row in rows.values()} <= {0, 1}
    await stage.check_empty()


@pytest.mark.parametrize("source", [SYNC, ASYNC], ids=["sync", "async"])
async def test_cancel_before_the_turn(stage: Stage, source: str, monkeypatch):
    """I8: a job that is claimed and has not begun is canceled at once, and never begins."""
    monkeypatch.setattr(InHand, "look", lambda *_: False)  # nothing goes back for being late
    (stage.workspace / "hang.py").write_text(source)
    folder = stage.workspace
    quick = await stage.client.enqueue_many("hang", ({"x": x, "folder": str(folder)} for x in range(3)))
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(
            hotpath.serve_worker,
            hotpath.dedicated(
                "hang",
                workspace=folder,
                database_url=stage.url,
                concurrency=1 if source is ASYNC else None,
            ),
        )
        for job in quick:
            await stage.client.result(job)
        # In a thread of its own synchronous code is not woken from a system call.
        seconds = 600 if source is ASYNC else 0.01
        args = {"folder": str(folder), "hang": True, "seconds": seconds}
        hanging = await stage.client.enqueue("hang", {"x": 9, **args})
        await stage.until(trio.Path(folder / "begun").exists)
        behind = await stage.client.enqueue("hang", {"x": 10, **args})

        async def claimed():
            return (await stage.client.job(behind)).state == hotpath.State.RUNNING

        await stage.until(claimed)
        (folder / "begun").unlink()
        await canceled(stage, behind)
        assert (await stage.client.job(hanging)).state == hotpath.State.RUNNING
        await canceled(stage, hanging)
        assert not (folder / "begun").exists()
        worker.stop()
    await stage.check_empty()


class Deaf:
    """A runtime that cannot be told anything: it reports what it runs, job after job, when let go."""

    concurrency = 1

    def __init__(self) -> None:
        self.go = trio.Event()
        self.turn = trio.Lock()
        self.seen: list[int] = []

    def open(self, script):
        """Nothing to load."""
        from contextlib import nullcontext

        return nullcontext()

    async def run(self, batch):
        """One after the other, unless stopped."""
        async with self.turn:
            for index, args in enumerate(json.loads(batch.args)):
                if batch.stopped:
                    break
                batch.mark[0] = batch.number + index
                self.seen.append(args["x"])
                if args["x"] == 1:
                    await self.go.wait()
                batch.report((index, 1, time.perf_counter_ns() // 1000, 1, b"%d" % args["x"], None))
            batch.mark[0] = 0


async def test_runtime_that_cannot_be_told(stage: Stage, monkeypatch):
    """I8: with a runtime of one's own that knows no interrupt, a job that waits is canceled all the same; one
    that runs ends as it likes.
    """
    monkeypatch.setattr(InHand, "look", lambda *_: False)
    ids = await stage.client.enqueue_many("double", ({"x": x} for x in range(6)))
    runtime = Deaf()
    async with trio.open_nursery() as nursery:
        what = hotpath.dedicated("double", runtime=runtime, workspace=stage.workspace, database_url=stage.url)
        worker = await nursery.start(hotpath.serve_worker, what)

        async def waiting():
            return 1 in runtime.seen

        await stage.until(waiting)
        await canceled(stage, ids[4])
        assert await stage.connection.fetchval("select hotpath.cancel($1)", ids[1])
        runtime.go.set()
        for x in (0, 1, 2, 3, 5):
            with trio.fail_after(20):
                assert await stage.client.result(ids[x]) == x
        worker.stop()
    assert sorted(runtime.seen) == [0, 1, 2, 3, 5]
    assert await stage.states() == {"success": 5, "canceled": 1}
    await stage.check_empty()
