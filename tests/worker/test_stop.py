"""I12: a worker that is told to stop, at any moment, ends in time with exit code 0, and charges nobody."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from worker_stage import Stage, gone

from hotpath import asyncpg_trio
from hotpath.errors import UsageError
from hotpath.worker.child import Child
from hotpath.worker.options import GRACE, DedicateOptions, parse_size


async def check_released(stage: Stage, jobs: int) -> None:
    """All jobs wait again, none is charged an attempt."""
    rows = await stage.rows()
    assert [(row["state"], row["attempt"]) for row in rows] == [("queued", 0)] * jobs
    assert await stage.connection.fetchval("select count(*) from hotpath.lease") == 0


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal: how long Python takes to start is nobody's fault."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("seconds", [0.0, 0.15, 0.3, 0.45, 0.6, 0.8])
async def test_during_the_start(stage: Stage, seconds: float):
    """I12: SIGTERM at any moment of the start ends the command with 0, or, before it runs, by the signal."""
    await stage.client.enqueue("nap", {"x": 1, "seconds": 600})
    command = await stage.dedicate("nap", "--grace", "0", cold=True)
    await trio.sleep(seconds)
    heeds = catches(command.process.pid, signal.SIGTERM)
    command.process.terminate()
    code = await command.wait()
    assert code == 0 or (not heeds and code == -signal.SIGTERM), command.stderr
    assert "Traceback" not in command.stderr
    await check_released(stage, 1)
    assert await stage.worker_pids() == []


async def test_while_the_script_is_loaded(stage: Stage):
    """I12: a worker whose module takes its time to import does not hold up the end."""
    (stage.workspace / "heavy.py").write_text("def main() -> None: pass\n")
    await stage.client.enqueue("heavy", {})
    (stage.workspace / "heavy.py").write_text(
        "import pathlib, sys, time\n"
        "if 'hotpath.worker.loop' in sys.modules:\n"
        "    pathlib.Path('loading').touch(); time.sleep(60)\n"
        "def main() -> None: pass\n"
    )
    command = await stage.dedicate("heavy")
    await stage.until(trio.Path(stage.workspace / "loading").exists)
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    await check_released(stage, 1)


async def test_while_idle(stage: Stage):
    """I12: an idle worker ends at once."""
    command = await stage.dedicate("nap")
    await command.ready()
    (pid,) = await stage.worker_pids()
    began = time.monotonic()
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    assert time.monotonic() - began < GRACE / 2
    assert gone(pid)
    assert command.last["event"] == "stopped"


@pytest.mark.parametrize("kind", ["dedicated", "normal"])
async def test_asked_again_and_again(stage: Stage, kind: str):
    """I12: SIGTERM upon SIGTERM, to the last moment of the process, is no error either."""
    command = await (stage.dedicate("nap", cold=True) if kind == "dedicated" else stage.normal(cold=True))
    await command.ready()
    while command.process.returncode is None:
        with suppress(ProcessLookupError):
            command.process.terminate()
        await trio.sleep(0.0003)
    assert await command.wait() == 0, command.stderr
    assert command.last["event"] == "stopped"
    assert "unexpected" not in command.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nap", "mark"])
async def test_without_grace(stage: Stage, name: str):
    """I12: with `--grace 0` one SIGTERM gives back what runs, async or not, uncharged."""
    begun = trio.Path(stage.workspace / "begun")
    await stage.client.enqueue_many(name, ({"x": x, "seconds": 600, "file": str(begun)} for x in range(3)))
    command = await stage.dedicate(name, "--grace", "0", "--concurrency", "1")
    await stage.until(begun.exists)
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    assert "is killed" not in command.stderr
    await check_released(stage, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nap", "mark"])
async def test_a_whole_service_is_stopped(stage: Stage, name: str):
    """I12: SIGTERM to every process of the command, as systemd sends it, is one stop: the grace holds."""
    begun = trio.Path(stage.workspace / "begun")
    await stage.client.enqueue(name, {"x": 1, "seconds": 1.5, "file": str(begun)})
    command = await stage.dedicate(name, "--grace", "20")
    await stage.until(begun.exists)
    for pid in [*await stage.worker_pids(), command.process.pid]:
        os.kill(pid, signal.SIGTERM)
    assert await command.wait() == 0, command.stderr
    (row,) = await stage.rows()
    assert (row["state"], row["attempt"]) == ("success", 1)
    await stage.check_empty()


@pytest.mark.slow
async def test_a_worn_worker_keeps_the_grace(stage: Stage):
    """I12: a worker that was asked to end when it is through is not hurried by the first SIGTERM."""
    marks, gate = str(stage.workspace / "marks"), stage.workspace / "gate"
    await stage.client.enqueue_many(
        "mark", [{"x": 0, "file": marks}, {"x": 1, "file": marks, "gate": str(gate)}]
    )
    command = await stage.dedicate("mark", "--grace", "20", "--max-jobs", "1")

    async def succeeded() -> bool:
        return len([event for event in command.events if event["event"] == "ready"]) == 2

    await stage.until(succeeded)
    assert await stage.states() == {"success": 1, "running": 1}
    await command.signal()
    await trio.sleep(0.3)
    gate.touch()
    assert await command.wait() == 0, command.stderr
    rows = await stage.rows()
    assert [(row["state"], row["attempt"]) for row in rows] == [("success", 1)] * 2
    assert rows[0]["result"] == rows[1]["result"], "the second one ran twice"


async def test_a_stop_waits_for_the_assignment():
    """I12: what a worker is told comes behind its assignment, and each word once."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    child = Child(None, trio.lowlevel.FdStream(writing), None, None)
    child.stop()
    child.stop()
    with pytest.raises(BlockingIOError):
        os.read(reading, 100)
    await child.assign({"for": "example"})
    child.stop()
    assert os.read(reading, 100) == b'{"for":"example"}\nstop\n'
    child.stop_at_once()
    child.stop_at_once()
    child.stop()
    assert os.read(reading, 100) == b"stop now\n"
    await child.control.aclose()
    os.close(reading)


@pytest.mark.slow
async def test_twice_while_a_job_holds_the_gil(stage: Stage):
    """I12: a second SIGTERM does not wait for code that lets nothing else run; its job is not charged."""
    (stage.workspace / "hold.py").write_text(
        "import ctypes, pathlib\n"
        "def main() -> None:\n    pathlib.Path('begun').touch()\n    ctypes.PyDLL(None).sleep(60)\n"
    )
    await stage.client.enqueue_many("hold", [{}, {}])
    command = await stage.dedicate("hold")
    await stage.until(trio.Path(stage.workspace / "begun").exists)
    began = time.monotonic()
    await command.signal()
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    assert time.monotonic() - began < GRACE / 2
    await check_released(stage, 2)


async def test_in_the_middle_of_a_flush(stage: Stage):
    """I12: a flush that waits for a lock as SIGTERM comes is waited for within the grace, and counts."""
    begun, gate = trio.Path(stage.workspace / "begun"), stage.workspace / "gate"
    job = await stage.client.enqueue("mark", {"x": 1, "file": str(begun), "gate": str(gate)})
    command = await stage.dedicate("mark", "--grace", "20")
    await stage.until(begun.exists)
    other = await asyncpg_trio.connect(stage.url)
    async with other.transaction():
        await other.execute("select * from hotpath.lease for update")
        gate.touch()
        await stage.until(lambda: blocked(stage))
        command.process.terminate()
        await trio.sleep(0.5)
        assert command.process.returncode is None
    assert await command.wait() == 0, command.stderr
    await other.close()
    (row,) = await stage.rows()
    assert (row["id"], row["state"], row["attempt"]) == (job, "success", 1)
    await stage.check_empty()


@pytest.mark.slow
async def test_with_a_database_that_does_not_answer(stage: Stage):
    """I12, I6: if the flush stays stuck, the second SIGTERM ends the command all the same; the job comes back
    with the lease's end.
    """
    begun, gate = trio.Path(stage.workspace / "begun"), stage.workspace / "gate"
    await stage.client.enqueue("mark", {"x": 1, "file": str(begun), "gate": str(gate)})
    command = await stage.dedicate("mark", "--grace", "60", "--lease", "2")
    await stage.until(begun.exists)
    other = await asyncpg_trio.connect(stage.url)
    async with other.transaction():
        await other.execute("select * from hotpath.lease for update")
        gate.touch()
        await stage.until(lambda: blocked(stage))
        await command.signal()
        command.process.terminate()
        assert await command.wait() == 0, command.stderr
    await other.close()
    await stage.drain("mark")
    (row,) = await stage.rows()
    assert (row["state"], row["attempt"]) == ("success", 1)
    await stage.check_empty()


async def blocked(stage: Stage) -> bool:
    """Whether a worker's statement waits for a lock."""
    return await stage.connection.fetchval(
        "select exists (select from pg_stat_activity where datname = current_database()"
        " and application_name like 'hotpath worker%' and wait_event_type = 'Lock')"
    )


@pytest.mark.slow
async def test_handlers_of_the_script_do_not_matter(stage: Stage):
    """I12: a script that takes SIGTERM for itself is stopped all the same: the word comes by a pipe."""
    (stage.workspace / "own.py").write_text(
        "import signal\n"
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "def main() -> int:\n    return 1\n"
    )
    await stage.client.enqueue("own", {})
    command = await stage.dedicate("own")
    await stage.until_done(1)
    began = time.monotonic()
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    assert time.monotonic() - began < GRACE / 2


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--grace", "-1"),
        ("--grace", "nan"),
        ("--lease", "0.9"),
        ("--lease", "-3"),
        ("--lease", "nan"),
        ("--lease", "1e9"),
        ("--max-jobs", "0"),
        ("--max-rss", "1M"),
        ("--max-rss", "lots"),
        ("--max-rss", "-5G"),
    ],
)
def test_impossible_flags_are_refused(flag: str, value: str):
    """I13: the flag is named, before anything is started."""
    given = {flag[2:].replace("-", "_"): value}
    with pytest.raises(UsageError, match=flag):
        for name in given:
            given[name] = parse_size(value, flag) if flag == "--max-rss" else float(value)
        DedicateOptions(name="x", workspace=".", **given)


async def test_impossible_flags_end_the_command_with_2(stage: Stage):
    """I13: exit code 2, one line."""
    command = [sys.executable, "-m", "hotpath", "dedicate", "nap", "--lease", "0.5"]
    done = await trio.run_process(command, env=stage.environment, capture_stderr=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"hotpath: --lease must be from 1 s")
    assert len(done.stderr.splitlines()) == 1


def test_sizes():
    """Sizes are bytes, or K, M, G, T in powers of 1024."""
    assert [parse_size(text, "--max-rss") for text in ("1024", "512M", "1.5GiB", "2kb", "1T")] == [
        1024,
        512 << 20,
        3 << 29,
        2048,
        1 << 40,
    ]
