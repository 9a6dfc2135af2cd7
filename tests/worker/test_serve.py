"""A worker inside the test's own Trio program, with runtimes that behave and runtimes that do not."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from worker_stage import Stage

import hotpath
from hotpath.worker.search import Search

BROKEN = b'{"never closed": '


@attrs.define
class Fixed:
    """A runtime that loads nothing and reports what `outcome(index)` says: (state, payload, log)."""

    outcome: object
    concurrency: int = 1
    attempts: list[int] = attrs.field(factory=list)

    @asynccontextmanager
    async def open(self, script):
        yield

    async def run(self, batch):
        await trio.lowlevel.checkpoint()
        self.attempts += list(batch.attempts)
        for index, args in enumerate(json.loads(batch.args)):
            state, payload, log = self.outcome(args["x"])
            batch.report((index, state, time.perf_counter_ns() // 1000, 7, payload, log))


def dedicated(stage: Stage, name: str, **options) -> hotpath.worker.Dedicated:
    """A worker for this script, in this process."""
    return hotpath.dedicated(name, workspace=stage.workspace, database_url=stage.url, **options)


async def test_custom_runtime_drains(stage: Stage):
    """I1: a runtime of one's own sees args and attempts, and what it reports is what is stored."""
    ids = await stage.client.enqueue_many("double", ({"x": x} for x in range(50)))
    runtime = Fixed(lambda x: (1, b"%d" % (x + 1000), f"log of {x}\n"))
    await hotpath.serve_worker(dedicated(stage, "double", runtime=runtime, drain=True))
    assert [await stage.client.result(job) for job in ids] == [x + 1000 for x in range(50)]
    assert runtime.attempts == [1] * 50
    assert await stage.client.log(ids[7]) == "log of 7\n"
    await stage.check_empty()


@pytest.mark.slow
async def test_takes_back_what_the_dead_left(stage: Stage):
    """I6: where there are only library workers, one of them takes back what a dead host held."""
    begun = stage.workspace / "begun"
    await stage.client.enqueue("mark", {"x": 1, "seconds": 600, "file": str(begun)})
    command = await stage.dedicate("mark")
    await stage.until(trio.Path(begun).exists)
    pids = await stage.worker_pids()
    command.process.send_signal(signal.SIGSTOP)  # nobody is there to see the worker die
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    command.process.kill()
    assert await stage.states() == {"running": 1}
    await stage.connection.execute("update hotpath.worker set lease_until = now()")

    async def is_back() -> bool:
        return await stage.states() == {"queued": 1}

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, "double"))
        await stage.until(is_back)
        worker.stop()


@pytest.mark.parametrize(
    ("poison", "log"),
    [(BROKEN, None), (b"", None), (b"1,2", None), (b"1", "a NUL: \0"), (b'"\xff"', None)],
    ids=["cut", "empty", "two values", "NUL in its log", "not UTF-8"],
)
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "loose"])
async def test_poisonous_outcome_ends_alone(stage: Stage, poison, log, sealed):
    """I7, I13: an outcome that cannot be stored ends as a failure, bad_result; its neighbours keep theirs."""
    if sealed:
        ids = list(await stage.client.enqueue_many("double", ({"x": x} for x in range(20))))
    else:
        ids = [await stage.client.enqueue("double", {"x": x}) for x in range(20)]
    bad = {3, 4, 17}
    runtime = Fixed(lambda x: (1, poison, log) if x in bad else (1, b"%d" % x, None))
    await hotpath.serve_worker(dedicated(stage, "double", runtime=runtime, drain=True))
    rows = {row["id"]: row for row in await stage.rows()}
    assert set(rows) == set(ids)
    for x, job in enumerate(ids):
        if x in bad:
            assert rows[job]["state"] == "failure"
            assert json.loads(rows[job]["error"])["kind"] == "bad_result"
        else:
            assert (rows[job]["state"], rows[job]["result"]) == ("success", str(x))
    await stage.check_empty()


async def test_two_halves_of_one_value_shift_nobody(stage: Stage):
    """I7: two broken results that make one good value together are found all the same."""
    ids = list(await stage.client.enqueue_many("double", ({"x": x} for x in range(12))))
    runtime = Fixed(lambda x: (1, {5: b'"half', 6: b'other half"'}.get(x, b"%d" % x), None))
    await hotpath.serve_worker(dedicated(stage, "double", runtime=runtime, drain=True))
    rows = {row["id"]: row for row in await stage.rows()}
    assert set(rows) == set(ids)
    assert [rows[job]["result"] for job in ids] == [None if x in {5, 6} else str(x) for x in range(12)]


async def test_drain_believes_two_looks(stage: Stage, monkeypatch):
    """I1: a drain that is told once that nothing is left, wrongly, looks everywhere and asks again."""
    await stage.client.register("double")
    asked = []

    async def drained(self, session):
        asked.append(await truth(self, session))
        if len(asked) == 1:
            await stage.client.enqueue_many("double", ({"x": x} for x in range(3)))
            await stage.client.enqueue("double", {"x": 9})
            return True
        return asked[-1]

    truth = Search.drained
    monkeypatch.setattr(Search, "drained", drained)
    await hotpath.serve_worker(dedicated(stage, "double", drain=True))
    assert (await stage.states()).total() == 4
    assert "queued" not in await stage.states()
    assert len(asked) >= 3


async def test_enqueue_wakes_a_sleeping_worker(stage: Stage):
    """I5: a worker that sleeps for a minute is woken by an enqueue, loose or sealed, without a poll."""
    await stage.client.register("double")
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, "double"))
        loop = worker._loop
        for kind in ("loose", "sealed"):

            async def asleep():
                loop._polls.wait = 60.0
                noted = await stage.connection.fetchval(
                    "select count(*) from hotpath.doze where until > now()"
                )
                return noted and loop._look_at > trio.current_time() + 30

            await stage.until(asleep)
            if kind == "loose":
                job = await stage.client.enqueue("double", {"x": 8})
            else:
                job = (await stage.client.enqueue_many("double", [{"x": 8}]))[0]
            with trio.fail_after(20):
                assert await stage.client.result(job) == 16
        worker.stop()
    assert await stage.connection.fetchval("select count(*) from hotpath.doze") == 0


async def test_scheduled_job_wakes_its_worker(stage: Stage):
    """I4: an idle worker runs a job soon after it is due, and never before."""
    await stage.client.register("double")
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, "double"))
        due = await stage.connection.fetchval("select now() + interval '0.7 seconds'")
        job = await stage.client.enqueue("double", {"x": 1}, scheduled_for=due)
        with trio.fail_after(20):
            assert await stage.client.result(job) == 2
        assert (await stage.client.job(job)).started_at >= due
        worker.stop()


async def test_cancelled_worker_gives_back(stage: Stage):
    """I12: cancelling `serve_worker` gives back what has not ended, uncharged, and flushes what has."""
    await stage.client.enqueue_many("nap", ({"x": x, "seconds": 0.0 if x < 5 else 600.0} for x in range(40)))
    async with trio.open_nursery() as nursery:
        await nursery.start(hotpath.serve_worker, dedicated(stage, "nap", concurrency=20))
        await stage.until_done(5)
        nursery.cancel_scope.cancel(reason="the test says so")
    assert await stage.states() == {"success": 5, "queued": 35}
    assert {row["attempt"] for row in await stage.rows() if row["state"] == "queued"} == {0}
    assert await stage.connection.fetchval("select count(*) from hotpath.lease") == 0
    assert await stage.worker_pids() == []


async def test_stopped_worker_ends_what_runs(stage: Stage):
    """I12: `stop()` lets jobs under way end and gives back the rest."""
    begun = trio.Path(stage.workspace / "begun")
    await stage.client.enqueue_many("nap", ({"x": x, "seconds": 0.4, "file": str(begun)} for x in range(30)))
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, "nap", concurrency=4))
        await stage.until(begun.exists)
        worker.stop()
    states = await stage.states()
    assert states["success"] >= 1
    assert set(states) == {"success", "queued"}
    assert states.total() == 30


TWICE = """
import pathlib, trio

async def main(x: int, folder: str) -> int:
    run = "second" if pathlib.Path(f"{folder}/first{x}").exists() else "first"
    pathlib.Path(f"{folder}/{run}{x}").touch()
    while not pathlib.Path(f"{folder}/{run}").exists():
        await trio.sleep(0.005)
    return x
"""


async def test_lost_lease_is_refused_and_counted(stage: Stage, caplog):
    """I2: outcomes of a lease that was taken back meanwhile are dropped, with a word; the jobs run again."""
    (stage.workspace / "twice.py").write_text(TWICE)
    ids = await stage.client.enqueue_many(
        "twice", ({"x": x, "folder": str(stage.workspace)} for x in range(3))
    )
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, "twice", concurrency=10))

        async def begun(runs="first"):
            return all((stage.workspace / f"{runs}{x}").exists() for x in range(3))

        await stage.until(begun)
        leases = [row[0] for row in await stage.connection.fetch("select id from hotpath.lease")]
        await stage.connection.fetch(_give_back(), leases, worker.id, False)
        await stage.until(lambda: begun("second"))
        (stage.workspace / "first").touch()

        async def counted(jobs):
            statistics = worker.statistics()
            # Those that end behind the flush that is refused are not sent any more.
            return 1 <= statistics.refused <= 3 and statistics.jobs == jobs

        await stage.until(lambda: counted(0))
        (stage.workspace / "second").touch()
        await stage.until(lambda: counted(3))
        worker.stop()
    assert "was lost" in caplog.text
    rows = await stage.rows()
    assert {row["id"] for row in rows} == set(ids)
    assert len(rows) == 3
    assert {row["state"] for row in rows} == {"success"}


def _give_back() -> str:
    from hotpath.store.queries import query

    return query("give_back")
