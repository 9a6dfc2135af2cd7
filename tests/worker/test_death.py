"""Deaths that no job is to blame for, or that nobody saw: nothing is lost, nothing runs on."""

from __future__ import annotations

import os
import signal

import pytest
import trio
from worker_stage import Stage, gone

pytestmark = pytest.mark.slow

HOLD = """
import ctypes, pathlib

def main() -> None:
    pathlib.Path('begun').touch()
    ctypes.PyDLL(None).sleep(60)
"""


async def test_a_worker_that_notices_nothing_ends_with_its_supervisor(stage: Stage):
    """I3: kill -9 of the supervisor while a job holds the GIL: the orphan is ended all the same."""
    (stage.workspace / "hold.py").write_text(HOLD)
    await stage.client.enqueue("hold", {})
    command = await stage.dedicate("hold")
    await stage.until(trio.Path(stage.workspace / "begun").exists)
    (pid,) = await stage.worker_pids()
    await trio.sleep(0.3)  # the guard has looked
    command.process.kill()
    await command.wait()

    async def ended() -> bool:
        return gone(pid)

    await stage.until(ended, 9)


async def test_a_killed_async_worker_charges_nobody(stage: Stage):
    """I7: kill -9 while forty jobs sleep: all are suspects, none is charged, all succeed in the end."""
    begun = trio.Path(stage.workspace / "begun")
    jobs = [{"x": x, "seconds": 0.8, "file": str(begun) if x == 39 else ""} for x in range(40)]
    await stage.client.enqueue_many("nap", jobs)
    command = await stage.dedicate("nap", "--drain")
    await stage.until(begun.exists)
    await trio.sleep(0.2)  # the last one sleeps, too
    (pid,) = await stage.worker_pids()
    os.kill(pid, signal.SIGKILL)
    assert await command.wait() == 0, command.stderr
    assert {(row["state"], row["attempt"]) for row in await stage.rows()} == {("success", 1)}
    await stage.check_empty()


async def test_a_death_during_an_outage_is_told_afterwards(stage: Stage):
    """I7, I11: a worker crashes while the database refuses everybody: the verdict waits, and counts."""
    (stage.workspace / "crash.py").write_text(
        "import os, pathlib, time\nimport hotpath\n"
        "def main() -> int:\n"
        "    if hotpath.current_job().attempt == 1:\n"
        "        pathlib.Path('begun').touch()\n"
        "        while not pathlib.Path('go').exists(): time.sleep(0.01)\n"
        "        os.abort()\n"
        "    return 1\n"
    )
    job = await stage.client.enqueue("crash", {})
    command = await stage.dedicate("crash")
    await stage.until(trio.Path(stage.workspace / "begun").exists)
    async with stage.connection.transaction():
        await stage.connection.execute("lock table hotpath.worker")
        await trio.Path(stage.workspace / "go").touch()
        await trio.sleep(1.5)
    with trio.fail_after(20):
        assert await stage.client.result(job) == 1
    first, _ = await stage.connection.fetch("select * from hotpath.job_attempts($1)", job)
    assert "SIGABRT" in first["error"]
    command.process.terminate()
    assert await command.wait() == 0
