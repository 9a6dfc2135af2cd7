"""The end of a lease as the worker sees it: nothing begins any more, what runs is interrupted (I2)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
from worker_stage import Stage

import hotpath
from hotpath.worker.inhand import InHand

ENDLESS = """
import time, trio

async def main(x: int, folder: str, seconds: float = 600.0) -> int:
    with open(f"{folder}/begun", "a") as file:
        file.write(f"{x}\\n")
    try:
        await trio.sleep(seconds)
    finally:
        with open(f"{folder}/ended", "a") as file:
            file.write(f"{x}\\n")
    return x
"""


def begun(stage: Stage, name: str = "begun") -> list[int]:
    """Which jobs have begun, or ended, in order."""
    path = stage.workspace / name
    return [int(x) for x in path.read_text().split()] if path.exists() else []


@contextmanager
def lease_run_out() -> Iterator[None]:
    """By the clock of workers in this process their leases are over, though not in the database."""
    beat = InHand.beat

    def late(self: InHand, now: int) -> bool:
        self.until = now - 1
        return beat(self, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InHand, "beat", late)
        yield


async def start(stage: Stage, nursery: trio.Nursery, **options) -> hotpath.worker.Worker:
    """A worker in this process."""
    what = hotpath.dedicated("endless", workspace=stage.workspace, database_url=stage.url, **options)
    return await nursery.start(hotpath.serve_worker, what)


async def test_lease_taken_by_the_database_ends_what_runs(stage: Stage):
    """I2: a worker whose lease somebody ended interrupts what runs, records none of it as canceled, and goes
    on as a new worker, which runs the jobs.
    """
    (stage.workspace / "endless.py").write_text(ENDLESS)
    folder = str(stage.workspace)
    await stage.client.enqueue_many("endless", ({"x": x, "folder": folder} for x in range(3)))
    async with trio.open_nursery() as nursery:
        worker = await start(stage, nursery, concurrency=3)
        first = worker.id

        async def running(count=3):
            return len(begun(stage)) >= count

        await stage.until(running)
        await stage.connection.execute("update hotpath.worker set lease_until = now() - interval '1 second'")

        async def again():
            return worker.id != first and await running(6)

        await stage.until(again)
        assert sorted(begun(stage, "ended")) == [0, 1, 2]
        assert (await stage.states()) == {"running": 3}
        assert {row["attempt"] for row in await stage.rows()} == {1}
        nursery.cancel_scope.cancel(reason="the test has seen enough")
    assert await stage.states() == {"queued": 3}


async def test_lease_that_runs_out_by_the_local_clock(stage: Stage):
    """I2: when nobody renews, nothing begins and what runs is interrupted by the worker's own clock; what had
    ended is flushed, and the rest runs again once the lease holds again.
    """
    (stage.workspace / "endless.py").write_text(ENDLESS)
    folder = str(stage.workspace)
    ids = await stage.client.enqueue_many(
        "endless", ({"x": x, "folder": folder, "seconds": 0.0 if x < 2 else 600.0} for x in range(4))
    )
    async with trio.open_nursery() as nursery:
        await start(stage, nursery, concurrency=3)

        async def running():
            return len(begun(stage)) >= 4

        await stage.until(running)
        with lease_run_out():

            async def interrupted():
                return sorted(begun(stage, "ended")) == [0, 1, 2, 3]

            await stage.until(interrupted)
            job = await stage.client.enqueue("endless", {"x": 9, "folder": folder, "seconds": 0.0})
            await stage.until_done(2)
            await trio.sleep(0.3)
            assert begun(stage) == [0, 1, 2, 3]
        with trio.fail_after(40):
            assert await stage.client.result(job) == 9
        states = {row["id"]: row["state"] for row in await stage.rows()}
        assert [states[one] for one in ids[:2]] == ["success", "success"]
        assert "canceled" not in states.values()
        nursery.cancel_scope.cancel(reason="the test has seen enough")


FLOWS = {
    "code": """
import pathlib, trio, hotpath

async def work(x: int, folder: str) -> int:
    with open(f"{folder}/begun", "a") as file:
        file.write(f"{x}\\n")
    try:
        await trio.sleep(600)
    finally:
        with open(f"{folder}/ended", "a") as file:
            file.write(f"{x}\\n")
    return x

async def main(folder: str) -> int:
    return await hotpath.step(work, 7, folder)
""",
    "file": """
value:
  modules:
    - id: a
      value:
        type: script
        path: endless
        input_transforms:
          x: {type: static, value: 7}
          folder: {type: javascript, expr: flow_input.folder}
schema: {type: object, properties: {folder: {type: string}}}
""",
}


@pytest.mark.parametrize("kind", FLOWS)
async def test_step_of_a_run_whose_lease_has_run_out_was_not_canceled(stage: Stage, kind: str):
    """I2: a step that is interrupted because its run's lease has run out is no step that somebody has
    canceled: it is not recorded, and runs again with its run.
    """
    (stage.workspace / "endless.py").write_text(ENDLESS)
    place = stage.workspace / ("flow_x.flow/flow.yaml" if kind == "file" else "flow_x.py")
    place.parent.mkdir(exist_ok=True)
    place.write_text(FLOWS[kind])
    run = await stage.client.enqueue("flow_x", {"folder": str(stage.workspace)})
    what = hotpath.dedicated("flow_x", workspace=stage.workspace, database_url=stage.url)
    async with trio.open_nursery() as nursery:
        await nursery.start(hotpath.serve_worker, what)

        async def begins(times=1):
            return len(begun(stage)) == times

        await stage.until(begins)
        with lease_run_out():

            async def interrupted():
                return begun(stage, "ended")

            await stage.until(interrupted)
        await stage.until(lambda: begins(2))
        steps = await stage.connection.fetch("select step, state from hotpath.job where parent = $1", run)
        assert [tuple(row) for row in steps if row["state"] != "running"] == []
        nursery.cancel_scope.cancel(reason="the test has seen enough")


class Watched:
    """A runtime of several jobs at a time that notes which run together."""

    concurrency = 8

    def __init__(self) -> None:
        self.together: list[set[int]] = []
        self.now: set[int] = set()

    @asynccontextmanager
    async def open(self, script):
        """Nothing to load."""
        yield

    async def run(self, batch):
        """All jobs of the batch at once."""
        batch.begun = len(batch)

        async def one(index, x):
            self.now.add(x)
            self.together.append(set(self.now))
            await trio.sleep(0.05)
            self.now.discard(x)
            batch.report((index, 1, time.perf_counter_ns() // 1000, 50_000, b"%d" % x, None))

        async with trio.open_nursery() as nursery:
            for index, args in enumerate(json.loads(batch.args)):
                nursery.start_soon(one, index, args["x"])


async def test_suspect_runs_alone(stage: Stage):
    """I7: a job that may kill its worker runs with nothing beside it, before it and behind it."""
    jobs = [await stage.client.enqueue("double", {"x": x}) for x in range(12)]
    await stage.connection.execute("update hotpath.job_queue set suspect = 3 where id = $1", jobs[5])
    runtime = Watched()
    what = hotpath.dedicated(
        "double", runtime=runtime, workspace=stage.workspace, database_url=stage.url, drain=True
    )
    await hotpath.serve_worker(what)
    assert await stage.states() == {"success": 12}
    assert [group for group in runtime.together if 5 in group] == [{5}]
    assert any(len(group) > 1 for group in runtime.together)
