"""`hotpath dedicate` with real processes: every job exactly one row, whatever ends meanwhile."""

from __future__ import annotations

import os
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import trio
from worker_stage import Stage, gone, hurry


async def test_drain_runs_each_job_once(stage: Stage):
    """I1, I9: sealed and loose jobs end with their own result, error and log, and the summary counts them."""
    ids = list(await stage.client.enqueue_many("double", ({"x": x} for x in range(700))))
    ids += [await stage.client.enqueue("double", {"x": x}) for x in range(700, 720)]
    command = await stage.drain("double")
    rows = {row["id"]: row for row in await stage.rows()}
    assert set(rows) == set(ids)
    logs = {
        row["id"]: row["text"] for row in await stage.connection.fetch("select id, text from hotpath.job_log")
    }
    for x, job in enumerate(ids):
        row = rows[job]
        assert row["attempt"] == 1
        if x % 10 == 3:
            assert row["state"] == "failure"
            assert '"kind":"exception"' in row["error"].replace(" ", "")
            assert f"three: {x}" in row["error"]
        else:
            assert (row["state"], row["result"]) == ("success", str(2 * x))
        assert logs.get(job) == (f"four {x}\n" if x % 10 == 4 else None)
        assert row["scheduled_for"] <= row["finished_at"]
    assert command.last["event"] == "drained"
    assert (command.last["jobs"], command.last["success"], command.last["failure"]) == (720, 648, 72)
    await stage.check_empty()
    assert await stage.worker_pids() == []


async def test_several_processes_share_the_work(stage: Stage):
    """I1, I2: three processes run each job exactly once between them."""
    marks = stage.workspace / "marks"
    ids = await stage.client.enqueue_many(
        "mark", ({"x": x, "file": str(marks), "seconds": 0.002} for x in range(3000))
    )
    command = await stage.dedicate("mark", "--processes", "3", "--drain")

    async def shared() -> bool:
        return await stage.connection.fetchval("select count(distinct worker) = 3 from hotpath.job_done")

    await stage.until(shared)
    hurry(marks)
    assert await command.wait() == 0, command.stderr
    assert Counter(marks.read_text().split()) == Counter(str(x) for x in range(3000))
    assert await stage.states() == {"success": 3000}
    assert len({row["result"] for row in await stage.rows()}) > 1
    assert {row["id"] for row in await stage.rows()} == set(ids)
    await stage.check_empty()


async def test_async_main_runs_side_by_side(stage: Stage):
    """I1: an async main sleeps in company: a hundred naps of half a second end long before fifty seconds."""
    await stage.client.enqueue_many("nap", ({"x": x, "seconds": 0.5} for x in range(100)))
    command = await stage.drain("nap", "--concurrency", "100")
    assert await stage.states() == {"success": 100}
    assert command.last["seconds"] < 25


@pytest.mark.slow
async def test_sigterm_ends_well(stage: Stage):
    """I12: SIGTERM lets the job under way end; what was not begun is queued again, attempt 0; exit 0."""
    marks = stage.workspace / "marks"
    await stage.client.enqueue_many(
        "mark", ({"x": x, "file": str(marks), "seconds": 0.02} for x in range(1000))
    )
    command = await stage.dedicate("mark", "--grace", "10")
    await stage.until_done(10)
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    assert command.last["event"] == "stopped"
    states = await stage.states()
    ran = Counter(marks.read_text().split())
    assert set(states) == {"success", "queued"}
    assert states["success"] == len(ran) == ran.total()
    assert states.total() == 1000
    assert {row["attempt"] for row in await stage.rows() if row["state"] == "queued"} == {0}
    assert await stage.connection.fetchval("select count(*) from hotpath.lease") == 0
    hurry(marks)
    await stage.drain("mark")
    assert Counter(marks.read_text().split()) == Counter(str(x) for x in range(1000))
    assert await stage.states() == {"success": 1000}
    await stage.check_empty()


async def test_second_sigterm_releases_at_once(stage: Stage):
    """I12: a second SIGTERM does not wait for a long job: it is queued again, uncharged; the exit is 0."""
    begun = trio.Path(stage.workspace / "begun")
    job = await stage.client.enqueue("nap", {"x": 1, "seconds": 600, "file": str(begun)})
    command = await stage.dedicate("nap", "--grace", "600")
    await stage.until(begun.exists)
    await command.signal()
    await trio.sleep(0.3)
    assert command.process.returncode is None
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    row = (await stage.rows())[0]
    assert (row["id"], row["state"], row["attempt"]) == (job, "queued", 0)


@pytest.mark.slow
async def test_killed_worker_process_is_replaced(stage: Stage):
    """I1, I6: kill -9 of a worker process: its jobs are run by the one that is started in its place."""
    marks = stage.workspace / "marks"
    await stage.client.enqueue_many(
        "mark", ({"x": x, "file": str(marks), "seconds": 0.01} for x in range(2000))
    )
    command = await stage.dedicate("mark", "--drain")
    await stage.until_done(20)
    (pid,) = await stage.worker_pids()
    os.kill(pid, signal.SIGKILL)
    hurry(marks)
    assert await command.wait() == 0, command.stderr
    assert gone(pid)
    assert await stage.states() == {"success": 2000}
    # Only what ended after the last flush before the kill may have run twice.
    assert set(marks.read_text().split()) == {str(x) for x in range(2000)}
    # I7: one job was in hand; a kill between two jobs charges nobody.
    assert Counter(row["attempt"] for row in await stage.rows())[1] >= 1999
    await stage.check_empty()


async def test_worker_dies_with_its_supervisor(stage: Stage):
    """I3, I6: after kill -9 of the supervisor its worker process gives back what it holds, and ends."""
    await stage.client.enqueue_many(
        "mark", ({"x": x, "file": str(stage.workspace / "m"), "seconds": 0.02} for x in range(400))
    )
    command = await stage.dedicate("mark")
    await stage.until_done(5)
    (pid,) = await stage.worker_pids()
    command.process.kill()
    await command.wait()

    async def ended():
        return gone(pid)

    await stage.until(ended)
    states = await stage.states()
    assert states.total() == 400
    assert set(states) == {"success", "queued"}
    assert await stage.connection.fetchval("select count(*) from hotpath.lease") == 0


async def test_cut_connections_are_weather(stage: Stage):
    """I11: workers whose connections are cut again and again drain all the same, each job one row."""
    (stage.workspace / "blink.py").write_text(
        "import os, time\ndef main(x: int) -> None:\n    time.sleep(0 if os.path.exists('cut') else 0.0005)\n"
    )
    ids = await stage.client.enqueue_many("blink", ({"x": x} for x in range(5000)))
    command = await stage.dedicate("blink", "--drain")
    cuts = 0
    await stage.until_done(1)
    with trio.move_on_after(30):
        while command.process.returncode is None:
            cuts += await stage.connection.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where datname = current_database() and application_name like 'hotpath worker%'"
            )
            if cuts >= 4:
                (stage.workspace / "cut").touch()
            await trio.sleep(0.2)
    assert await command.wait() == 0, command.stderr
    assert cuts >= 4
    row = await stage.connection.fetchrow(
        "select count(*), count(distinct id), count(*) filter (where attempt = 1) from hotpath.job_done"
    )
    assert tuple(row) == (len(ids), len(ids), len(ids))
    await stage.check_empty()


async def test_later_jobs_do_not_hold_the_drain(stage: Stage):
    """I4: a drain ends although jobs are scheduled for later, and leaves them queued."""
    later = datetime.now(UTC) + timedelta(hours=1)
    await stage.client.enqueue("double", {"x": 1}, scheduled_for=later, priority=9)
    await stage.client.enqueue_many("double", [{"x": 2}, {"x": 5}], scheduled_for=later)
    await stage.client.enqueue("double", {"x": 6})
    await stage.drain("double")
    assert await stage.states() == {"success": 1, "queued": 3}


async def test_large_args_reach_main(stage: Stage):
    """I1: args over 8 KiB, and of a mebibyte, arrive whole and in their own job."""
    lengths = [1, 8000, 9000, 300_000, 1 << 20, 2, 20_000, 3]
    ids = list(await stage.client.enqueue_many("size", ({"text": "z" * length} for length in lengths)))
    ids += [await stage.client.enqueue("size", {"text": "z" * 50_000})]
    await stage.drain("size")
    assert [await stage.client.result(job) for job in ids] == [*lengths, 50_000]
    await stage.check_empty()


async def test_jobs_of_several_tags(stage: Stage):
    """I4: a worker of two tags takes from both, the higher priority first, wherever it waits."""
    marks = str(stage.workspace / "marks")
    for x, (tag, priority) in enumerate([("a", 0), ("b", 5), ("a", 9), ("b", 0), ("a", 5), ("c", 9)]):
        await stage.client.enqueue("mark", {"x": x, "file": marks}, tag=tag, priority=priority)
    await stage.drain("mark", "--tag", "a", "--tag", "b")
    assert (stage.workspace / "marks").read_text().split() == ["2", "1", "4", "0", "3"]
    assert await stage.states() == {"success": 5, "queued": 1}


async def test_broken_script_says_so(stage: Stage):
    """I13: a module that raises on import ends the command with exit code 1 and its words; jobs stay."""
    await stage.client.enqueue("double", {"x": 1})
    (stage.workspace / "double.py").write_text("raise RuntimeError('no luck')\n")
    command = await stage.dedicate("double", "--drain")
    assert await command.wait() == 1
    assert "no luck" in command.stderr
    assert await stage.states() == {"queued": 1}
