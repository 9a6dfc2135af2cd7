"""What workers say of themselves and what they count: real `hotpath dedicate` processes, and a worker in a
program.
"""

from __future__ import annotations

import os
import signal

import pytest
import trio
from worker_stage import Stage

import hotpath
from hotpath.core.tally import BUSY, CANCELED, CLAIMS, FAILURE, FLUSHES, RUNS, SUCCESS
from hotpath.store.status import read_workers
from hotpath.version import __version__
from hotpath.worker.wake import Waker


async def totals(stage: Stage, script: str) -> list[int]:
    """What was counted of a script from the beginning."""
    return await stage.connection.fetchval(
        "select coalesce((select t.counts from hotpath.total t join hotpath.script s on s.id = t.script "
        "where s.name = $1), '{}')",
        script,
    )


async def minutes(stage: Stage) -> tuple[int, ...]:
    """The sums by minute, all together."""
    return tuple(
        await stage.connection.fetchrow(
            "select sum(success)::int8, sum(failure)::int8, sum(canceled)::int8, sum(retried)::int8, "
            "sum(busy_us)::int8 from hotpath.minute"
        )
    )


async def test_a_worker_shows_what_it_is_at(stage: Stage, tmp_path):
    """While a job runs its worker names it, since when, its memory and CPU time, and how full it is."""
    command = await stage.dedicate("mark")
    await command.ready()
    job = await stage.client.enqueue("mark", {"x": 1, "file": str(tmp_path / "out"), "seconds": 60.0})

    async def at_it() -> bool:
        (worker,) = await read_workers(stage.connection)
        return worker.current_job == job and (worker.occupancy or {}).get("15s", 0) > 0.1

    await stage.until(at_it)
    (worker,) = await stage.client.workers()
    assert (worker.state, worker.running, worker.under_way) == ("running", 1, 1)
    assert (worker.program, worker.kind, worker.script) == (__version__, "script", "mark")
    assert worker.rss > 10 << 20
    assert worker.cpu_seconds > 0
    assert worker.current_since > worker.started_at
    assert worker.deaf is False
    assert set(worker.occupancy) == {"15s", "5m", "30m"}
    waiting = await stage.client.waiting(
        await stage.client.enqueue("mark", {"x": 2, "file": str(tmp_path / "out")})
    )
    assert [reason.kind for reason in waiting.reasons] == ["busy"]
    await stage.client.cancel(job)
    await stage.until_done(2)
    command.process.terminate()
    assert await command.wait() == 0
    counts = await totals(stage, "mark")
    assert (counts[SUCCESS], counts[FAILURE], counts[CANCELED]) == (1, 0, 1)
    (worker,) = await stage.client.workers()
    assert (worker.state, worker.current_job, worker.occupancy) == ("stopped", None, None)


async def test_counts_survive_a_worker_that_is_killed(stage: Stage):
    """What a process had counted stays when it is killed and another one takes its place; a job that dies
    with its worker counts, too.
    """
    (stage.workspace / "deadly.py").write_text(
        "import os, signal, time\n"
        "def main(x: int, dies: bool = False) -> int:\n"
        "    if x % 10 == 3:\n"
        "        raise ValueError(x)\n"
        "    if dies:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return x\n"
    )
    command = await stage.dedicate("deadly")
    await command.ready()
    await stage.client.enqueue_many("deadly", [{"x": x} for x in range(100)])
    await stage.until_done(100)
    (pid,) = await stage.worker_pids()

    async def reported() -> bool:
        """Whether its supervisor knows; what a process has not said when it is killed is lost."""
        return await stage.connection.fetchval("select jobs from hotpath.worker where pid = $1", pid) >= 100

    await stage.until(reported)
    os.kill(pid, signal.SIGKILL)

    async def replaced() -> bool:
        return pid not in await stage.worker_pids()

    await stage.until(replaced)
    await stage.client.enqueue("deadly", {"x": 4, "dies": True})
    await stage.client.enqueue_many("deadly", [{"x": x} for x in range(20)])
    await stage.until_done(121)
    command.process.terminate()
    assert await command.wait() == 0
    counts = await totals(stage, "deadly")
    assert (counts[SUCCESS], counts[FAILURE], counts[CANCELED]) == (108, 13, 0)
    assert sum(counts[RUNS:]) == 120
    assert sum(counts[FLUSHES:RUNS]) >= 2
    assert sum(counts[CLAIMS:FLUSHES]) >= 2
    assert counts[BUSY] > 0
    assert (await minutes(stage))[:3] == (108, 13, 0)
    assert len([worker for worker in await stage.client.workers() if worker.state == "stopped"]) >= 4


async def test_a_worker_in_a_program_says_the_same(stage: Stage):
    """A worker that somebody's program serves tells what it is at and counts, without a supervisor."""
    async with trio.open_nursery() as nursery:
        what = hotpath.dedicated("nap", workspace=stage.workspace, database_url=stage.url)
        worker = await nursery.start(hotpath.serve_worker, what)
        await stage.client.enqueue("nap", {"x": 1})
        long = await stage.client.enqueue("nap", {"x": 2, "seconds": 600.0})

        async def at_it() -> bool:
            (shown,) = await read_workers(stage.connection)
            return shown.current_job == long and shown.under_way == 1 and shown.occupancy["15s"] > 0

        await stage.until(at_it)
        (shown,) = await stage.client.workers()
        assert (shown.pid, shown.program, shown.deaf) == (os.getpid(), __version__, False)
        await stage.client.cancel(long)
        await stage.until_done(2)
        worker.stop()
    counts = await totals(stage, "nap")
    assert (counts[SUCCESS], counts[CANCELED], sum(counts[RUNS:])) == (1, 1, 2)
    assert counts[BUSY] > 100_000


async def test_a_normal_worker_says_that_it_is_deaf(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """One that nothing can wake is a finding, counted by an alert and a metric, as a dedicated one is; one
    that hears says so. A job is found all the same.
    """

    async def deaf() -> bool | None:
        return await stage.connection.fetchval(
            "select deaf from hotpath.worker where patterns is not null and stopped_at is null"
        )

    async def is_deaf() -> bool:
        return await deaf() is True

    async def hears() -> bool:
        return await deaf() is False

    assert not Waker(stage.url, 1, []).deaf, "nobody is told of one that has not tried yet"
    hearing = await stage.normal()
    await stage.until(hears)
    await hearing.ready()
    await hearing.signal()
    assert await hearing.wait() == 0
    monkeypatch.setenv("HOTPATH_LISTEN_URL", "postgresql://127.0.0.1:1/nowhere")  # nobody has that port
    await stage.normal()
    await stage.until(is_deaf)
    assert await stage.client.result(await stage.client.enqueue("double", {"x": 4})) == 8
