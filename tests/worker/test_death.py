"""Deaths that no job is to blame for, or that nobody saw: nothing is lost, nothing runs on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from worker_stage import Stage, gone

from hotpath.worker import heir

HOLD = """
import ctypes, pathlib

def main() -> None:
    pathlib.Path('begun').touch()
    ctypes.PyDLL(None).sleep(60)
"""


@pytest.mark.slow
async def test_a_worker_that_notices_nothing_ends_with_its_supervisor(stage: Stage):
    """I3: kill -9 of the supervisor while a job holds the GIL: the orphan is ended all the same."""
    (stage.workspace / "hold.py").write_text(HOLD)
    await stage.client.enqueue("hold", {})
    command = await stage.dedicate("hold")
    await stage.until(trio.Path(stage.workspace / "begun").exists)
    (pid,) = await stage.worker_pids()
    await stage.until(lambda: guarded(stage))
    command.process.kill()
    await command.wait()
    await stage.until(lambda: ended(pid))


async def guarded(stage: Stage) -> bool:
    """Whether a supervisor has seen what its worker is at."""
    return any(each.current_since is not None for each in await stage.client.workers())


async def ended(pid: int) -> bool:
    """Whether that process has ended."""
    return gone(pid)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nap", "mark"])
async def test_a_long_job_goes_back_when_the_supervisor_is_killed(stage: Stage, name: str):
    """I6: kill -9 of the supervisor: its worker gives back a job that takes longer than it may wait."""
    begun = trio.Path(stage.workspace / "begun")
    await stage.client.enqueue(name, {"x": 1, "seconds": 600.0, "file": str(begun)})
    command = await stage.dedicate(name)
    await stage.until(begun.exists)
    (pid,) = await stage.worker_pids()
    await trio.sleep(0.3)  # the guard has looked
    command.process.kill()

    async def given_back() -> bool:
        (row,) = await stage.rows()
        return (row["state"], row["attempt"]) == ("queued", 0)

    await stage.until(given_back)  # nobody else is there who would do it
    await stage.until(lambda: ended(pid))


async def test_what_a_job_has_started_ends_with_its_worker(stage: Stage):
    """I8: a worker that is killed for its job takes the processes of that job with it."""
    (stage.workspace / "parent.py").write_text(
        "import ctypes, pathlib, subprocess\n"
        "def main() -> None:\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        "    pathlib.Path('pid').write_text(str(child.pid))\n"
        "    ctypes.PyDLL(None).sleep(60)\n"
    )
    await stage.client.enqueue("parent", {}, timeout=0.3)
    await stage.drain("parent")
    (row,) = await stage.rows()
    assert (row["state"], json.loads(row["error"])["kind"]) == ("failure", "timeout")
    pid = int((stage.workspace / "pid").read_text())
    try:
        await stage.until(lambda: ended(pid))
    finally:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
async def test_the_heir_ends_whole_groups_and_no_stranger(monkeypatch: pytest.MonkeyPatch):
    """I3: the heir outlives SIGTERM, and kills a worker's group, unless its number is another's by now."""
    workers = [
        await trio.lowlevel.open_process(
            ["/bin/sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True
        )
        for _ in range(2)
    ]
    worker, stranger = (process.pid for process in workers)
    try:
        children = [int(await process.stdout.receive_some()) for process in workers]
        began_at = heir.began_at
        monkeypatch.setattr(heir, "MOMENT", 0.5)
        monkeypatch.setattr(heir, "began_at", lambda pid: "1" if pid == stranger else began_at(pid))
        async with heir.open_heir() as shell:
            shell.tell([worker, stranger])
            with trio.fail_after(20):
                while not ignores(shell._process.pid, signal.SIGTERM):  # noqa: ASYNC110 - it has begun then
                    await trio.sleep(0.01)
            os.kill(shell._process.pid, signal.SIGTERM)
            await shell._process.stdin.aclose()  # as if its supervisor had been killed
            with trio.fail_after(20):
                assert await shell._process.wait() == 0
        with trio.fail_after(20):
            assert await workers[0].wait() == -signal.SIGKILL
            while not gone(children[0]):  # noqa: ASYNC110 - another process's end
                await trio.sleep(0.01)
        assert not gone(stranger)
        assert not gone(children[1])
    finally:
        for process in workers:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            await process.stdout.aclose()


def ignores(pid: int, number: int) -> bool:
    """Whether the process ignores the signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored, 16) >> (number - 1) & 1)


@pytest.mark.slow
async def test_a_killed_async_worker_charges_nobody(stage: Stage):
    """I7: kill -9 while forty jobs sleep: all are suspects, none is charged, all succeed in the end."""
    (stage.workspace / "sleeper.py").write_text(
        "import pathlib, trio\n"
        "async def main(x: int) -> int:\n"
        "    pathlib.Path(f'begun{x}').touch()\n"
        "    if not pathlib.Path('go').exists():\n"
        "        await trio.sleep(60)\n"
        "    return x\n"
    )
    await stage.client.enqueue_many("sleeper", ({"x": x} for x in range(40)))
    command = await stage.dedicate("sleeper", "--drain")

    async def all_begun() -> bool:
        return all((stage.workspace / f"begun{x}").exists() for x in range(40))

    await stage.until(all_begun)
    await trio.sleep(0.2)  # the last one sleeps, too
    (stage.workspace / "go").touch()
    (pid,) = await stage.worker_pids()
    os.kill(pid, signal.SIGKILL)
    assert await command.wait() == 0, command.stderr
    assert {(row["state"], row["attempt"]) for row in await stage.rows()} == {("success", 1)}
    await stage.check_empty()


@pytest.mark.slow
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
    began = (stage.workspace / "begun").stat().st_mtime  # on a busy machine this test sees it later
    (pid,) = await stage.worker_pids()
    await stage.until(lambda: guarded(stage))
    async with stage.connection.transaction():
        await stage.connection.execute("lock table hotpath.worker")
        await trio.Path(stage.workspace / "go").touch()
        await stage.until(lambda: ended(pid))
        await command.said("starting another")  # its supervisor has seen it, too
        await trio.sleep(1.5)
        told = time.time()
        await stage.connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )  # what tries to tell it has to try again
    with trio.fail_after(20):
        assert await stage.client.result(job) == 1
    first, _ = await stage.connection.fetch("select * from hotpath.job_attempts($1)", job)
    assert "SIGABRT" in first["error"]
    assert 0 < first["duration_ms"] < 1000 * (told - began) - 500, "it ended when it could be told"
    command.process.terminate()
    assert await command.wait() == 0
