"""Jobs that misbehave: each ends with the true reason, its neighbours lose nothing, and the next job runs."""

from __future__ import annotations

import json
import os
import signal
from typing import Any
from uuid import UUID

import pytest
import trio
from worker_stage import Stage, gone

SCRIPT = """
import ctypes, os, resource, signal, sys, threading, time
import hotpath

hotpath.settings(timeout={timeout})
resource.setrlimit(resource.RLIMIT_AS, (64 << 30, resource.RLIM_INFINITY))

def segfault():
    ctypes.string_at(0)

def recursion():
    class Endless:
        __getattr__ = lambda self, name: getattr(self, name)
    sys.setrecursionlimit(10**9)
    Endless().x

def orphan():
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    os._exit(3)

def threads():
    for _ in range(1000):
        threading.Thread(target=time.sleep, args=(600,)).start()
    return threading.active_count()

def closed():
    sys.stdout.close()
    sys.__stdout__.close()
    os.close(1)
    os.close(0)

def deaf():
    for number in signal.valid_signals() - {{signal.SIGKILL, signal.SIGSTOP}}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

FAULTS = {{
    "well": lambda: "well",
    "segfault": segfault,
    "recursion": recursion,
    "abort": os.abort,
    "exit": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "group": lambda: os.killpg(0, signal.SIGKILL),
    "files": lambda: os.closerange(3, 1000),
    "orphan": orphan,
    "leave": sys.exit,
    "memory": lambda: len(bytearray(128 << 30)),
    "threads": threads,
    "closed": closed,
    "deaf": deaf,
}}

def main(how: str = "well") -> object:
    print("before", how)
    if hotpath.current_job().attempt > 1 and how != "segfault":
        return "again"
    return FAULTS[how]()
"""

KILLERS = {
    "recursion": "was killed by SIGSEGV",
    "abort": "was killed by SIGABRT",
    "exit": "exited with code 0",
    "kill": "was killed by SIGKILL",
    "group": "was killed by SIGKILL",
    "orphan": "exited with code 3",
}


async def enqueue(stage: Stage, *hows: str, limit: float | None = None) -> list[UUID]:
    """Put jobs that go wrong like this into one batch, each between two that do not."""
    (stage.workspace / "faults.py").write_text(SCRIPT.format(timeout=limit))
    jobs = [{"how": how} for each in hows for how in ("well", each)] + [{"how": "well"}]
    return list(await stage.client.enqueue_many("faults", jobs))


async def log(stage: Stage, job: UUID, attempt: int = 1) -> str:
    """What an attempt of the job has printed."""
    chunks = await stage.connection.fetch(
        "select text from hotpath.job_log where id = $1 and attempt = $2 order by seq", job, attempt
    )
    return "".join(row[0] for row in chunks)


async def attempts(stage: Stage, job: UUID) -> list[Any]:
    """All runs of the job."""
    return await stage.connection.fetch("select * from hotpath.job_attempts($1)", job)


@pytest.mark.slow
async def test_each_killer_is_charged_with_its_own_death(stage: Stage):
    """I7, I9: whatever ends the process, that attempt says how, with its log; no neighbour is charged."""
    ids = await enqueue(stage, *KILLERS)
    await stage.drain("faults")
    rows = {row["id"]: row for row in await stage.rows()}
    assert {row["state"] for row in rows.values()} == {"success"}
    for number, (how, ending) in enumerate(KILLERS.items()):
        job, neighbour = ids[2 * number + 1], ids[2 * number]
        first, second = await attempts(stage, job)
        error = json.loads(first["error"])
        assert error["message"] == f"the worker process {ending} in the middle of the job", how
        assert error["kind"] == "crash"
        assert (first["attempt"], first["state"], second["state"]) == (1, "failure", "success")
        assert await log(stage, job) == f"before {how}\n"
        assert rows[neighbour]["attempt"] == 1, "a neighbour was charged"
    await stage.check_empty()


async def test_a_poison_job_fails_after_three_crashes(stage: Stage):
    """I7: a job that kills each worker ends as `crash`, says how, and takes nobody with it."""
    ids = await enqueue(stage, "segfault")
    await stage.drain("faults")
    rows = {row["id"]: row for row in await stage.rows()}
    poison = rows.pop(ids[1])
    error = json.loads(poison["error"])
    assert (poison["state"], poison["attempt"], error["kind"]) == ("failure", 3, "crash")
    assert "SIGSEGV" in error["message"]
    assert [row["state"] for row in await attempts(stage, ids[1])] == ["failure"] * 3
    assert [await log(stage, ids[1], attempt) for attempt in (1, 2, 3)] == ["before segfault\n"] * 3
    assert {(row["state"], row["attempt"]) for row in rows.values()} == {("success", 1)}
    await stage.check_empty()


async def test_what_does_not_kill_the_worker_ends_its_own_job_only(stage: Stage):
    """A job that exits, takes too much memory, leaves threads or closes stdout leaves a worker that works."""
    ids = await enqueue(stage, "leave", "memory", "closed", "threads")
    command = await stage.drain("faults")
    rows = {row["id"]: row for row in await stage.rows()}
    leave, memory, closed, threads = (rows[ids[place]] for place in (1, 3, 5, 7))
    assert (leave["state"], json.loads(leave["error"])["name"]) == ("failure", "SystemExit")
    assert (memory["state"], json.loads(memory["error"])["name"]) == ("failure", "MemoryError")
    assert (closed["state"], threads["state"]) == ("success", "success")
    assert int(threads["result"]) > 1000
    assert {row["attempt"] for row in rows.values()} == {1}
    assert [await log(stage, job) for job in ids[::2]] == ["before well\n"] * 5
    assert len([event for event in command.events if event["event"] == "ready"]) == 1, "it was restarted"


async def test_closed_descriptors_end_that_worker_only(stage: Stage):
    """I7: a job that breaks its worker after its own end, so that nobody saw who it was, is found by running
    the suspects in ever smaller company, and is then charged.
    """
    ids = await enqueue(stage, "files")
    await stage.drain("faults", "--lease", "1")
    assert {row["id"]: (row["state"], row["attempt"]) for row in await stage.rows()} == {
        ids[0]: ("success", 1),
        ids[1]: ("success", 2),
        ids[2]: ("success", 1),
    }
    await stage.check_empty()


@pytest.mark.slow
async def test_a_job_that_swallows_everything_is_killed_after_its_grace(stage: Stage):
    """I8: a job that ignores all signals and catches all is killed at its time-out; the next one runs."""
    ids = await enqueue(stage, "deaf", limit=0.5)
    await stage.drain("faults")
    rows = {row["id"]: row for row in await stage.rows()}
    error = json.loads(rows[ids[1]]["error"])
    assert (rows[ids[1]]["state"], rows[ids[1]]["attempt"], error["kind"]) == ("failure", 1, "timeout")
    assert await log(stage, ids[1]) == "before deaf\n"
    assert {(rows[job]["state"], rows[job]["attempt"]) for job in ids[::2]} == {("success", 1)}


ENDLESS = {
    "waits": "import trio\nasync def main() -> None:\n    begin()\n    await trio.sleep(60)\n",
    "sleeps": "import time\ndef main() -> None:\n    begin()\n    time.sleep(60)\n",
    "spins": "def main() -> None:\n    begin()\n    while True: pass\n",
    "holds": "import ctypes\ndef main() -> None:\n    begin()\n    ctypes.PyDLL(None).sleep(60)\n",
    "blocks": "import ctypes\nasync def main() -> None:\n    begin()\n    ctypes.PyDLL(None).sleep(60)\n",
}
BEGIN = """
import pathlib

def begin():
    print('in')
    pathlib.Path('begun').touch()

"""
NEEDS_KILL = {"holds", "blocks"}
"""The GIL is held in C: nothing else in that process can run."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDLESS)
async def test_cancel_ends_a_running_job(stage: Stage, name: str):
    """I8: async code, sync Python, and C that holds the GIL; only for the last a new process is started."""
    (stage.workspace / f"{name}.py").write_text(BEGIN + ENDLESS[name])
    command = await stage.dedicate(name)
    await command.ready()
    job = await stage.client.enqueue(name, {})
    await stage.until(trio.Path(stage.workspace / "begun").exists)
    (pid,) = await stage.worker_pids()
    began = trio.current_time()
    assert await stage.client.cancel(job)
    await stage.until_done(1)
    took = trio.current_time() - began
    (row,) = await stage.rows()
    assert (row["state"], json.loads(row["error"])["kind"]) == ("canceled", "canceled")
    assert await log(stage, job, row["attempt"]) == "in\n"
    assert took < 15, "1 s on a quiet machine; of itself it would take a minute"
    assert gone(pid) == (name in NEEDS_KILL)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDLESS)
async def test_time_out_ends_a_running_job(stage: Stage, name: str):
    """I8: the same at a job's own time-out; the retry policy is heeded though the process was killed."""
    source = BEGIN.replace("'in'", "'in', hotpath.current_job().attempt") + ENDLESS[name]
    settings = "import hotpath\nhotpath.settings(retry=hotpath.Retry(attempts=2, delay=0))\n"
    (stage.workspace / f"{name}.py").write_text(settings + source)
    job = await stage.client.enqueue(name, {}, timeout=0.3)
    command = await stage.drain(name)
    first, last = await attempts(stage, job)
    for attempt in (first, last):
        assert json.loads(attempt["error"])["kind"] == "timeout"
        assert attempt["duration_ms"] < 15_000, "of itself it would take a minute"
    assert (last["attempt"], last["state"]) == (2, "failure")
    assert [await log(stage, job, attempt) for attempt in (1, 2)] == ["in 1\n", "in 2\n"]
    readies = len([event for event in command.events if event["event"] == "ready"])
    assert readies == (3 if name in NEEDS_KILL else 1)
    await stage.check_empty()


async def test_nothing_is_left_behind(stage: Stage):
    """Workers that were killed leave no process, and a poisoned command still ends by SIGTERM, with 0."""
    await enqueue(stage, "kill")
    command = await stage.dedicate("faults")
    await stage.until_done(3)
    pids = [row[0] for row in await stage.connection.fetch("select pid from hotpath.worker")]
    command.process.send_signal(signal.SIGTERM)
    assert await command.wait() == 0, command.stderr
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)
    assert not [name for name in os.listdir("/proc/self/fd") if "hotpath-board" in _target(name)]


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""
