"""What jobs write below Python is in their logs: C code, descriptors, child processes (I9)."""

from __future__ import annotations

import pytest
import trio
from worker_stage import Command, Stage

from hotpath.runtime.below import make_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not make_files(0) and not make_files(1), reason="no files in memory here"),
]

BELOW = """
import ctypes, logging, os, pathlib, subprocess, sys, time

libc = ctypes.CDLL(None)
os.write(2, b"imported\\n")

def main(how: str = "", file: str = "") -> None:
    if how == "all":
        print("one")
        os.write(1, b"two\\n")
        libc.printf(b"three, not ended ")
        print("four", file=sys.stderr)
        subprocess.run(["sh", "-c", "echo five; echo six >&2"], check=True)
        logging.warning("seven")
        os.system("printf 'eight \\\\303\\\\251\\\\n'")
        subprocess.run(["sh", "-c", "echo nine"], stdout=sys.stdout)
        libc.printf(b"ten")
    elif how == "fails":
        os.write(2, b"before it failed")
        raise ValueError
    elif how == "leaves":
        # It writes again and again, whatever else runs, until it is told to stop.
        script = f"echo left; while [ ! -e {file} ]; do echo late; sleep 0.005; done; echo gone > {file}.gone"
        subprocess.Popen(["sh", "-c", script], start_new_session=True)
    elif how == "slow":
        print(file, end="")
        time.sleep(0.1)
    elif how == "closes":
        os.close(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    elif how == "dies":
        print("last words: ", end="")
        os.write(2, "in C é\\n".encode())
        subprocess.run(["echo", "of a child"])
        ctypes.string_at(0)
    elif how == "stuck":
        subprocess.run(["echo", "seen"])
        ctypes.PyDLL(None).sleep(60)
"""


async def test_what_is_written_below_python_is_the_jobs(stage: Stage):
    """C code, descriptors and child processes write to the job's log, in order with what Python writes, half
    lines too; nothing of one job is in another's log; what a process that was left behind still writes, and
    what belongs to no job, is the worker's own output.
    """
    (stage.workspace / "below.py").write_text(BELOW)
    stop = stage.workspace / "stop"
    enqueue = stage.client.enqueue
    whole = await enqueue("below", {"how": "all"})
    failed = await enqueue("below", {"how": "fails"})
    left = await enqueue("below", {"how": "leaves", "file": str(stop)})
    slow = [await enqueue("below", {"how": "slow", "file": f"{n}"}) for n in range(5)]
    closes = await enqueue("below", {"how": "closes"})
    command = await stage.dedicate("below")
    await stage.until_done(9)
    again = await enqueue("below", {"how": "all"})  # the descriptors are mended between the batches
    await stage.until_done(10)
    await stage.until(lambda: heard(command, "late\n", 21))
    stop.touch()
    await stage.until(trio.Path(f"{stop}.gone").exists)
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    log = stage.client.log
    said = "one\ntwo\nthree, not ended four\nfive\nsix\nWARNING root: seven\neight é\nnine\nten"
    assert await log(whole) == said
    assert await log(failed) == "before it failed"
    assert set((await log(left)).split()) <= {"left", "late"}  # what it had said when the job ended
    assert [await log(job) for job in slow] == [f"{n}" for n in range(5)]
    assert await log(closes) == ""
    assert await log(again) == said
    for never in ("one\n", "two", "five", "six", "ten", "nine"):
        assert never not in command.stderr


async def heard(command: Command, text: str, times: int) -> bool:
    """Whether the command has written that so often."""
    return command.stderr.count(text) >= times


async def test_a_killed_job_keeps_what_was_written_below_python(stage: Stage):
    """What C code and child processes had written as their worker died, or was killed, is in the log; and it
    is seen live.
    """
    (stage.workspace / "below.py").write_text(BELOW)
    dies = await stage.client.enqueue("below", {"how": "dies"})
    stuck = await stage.client.enqueue("below", {"how": "stuck"}, timeout=3.0)
    await stage.dedicate("below", "--grace", "0.1")
    await stage.until_done(2, 60)
    words = "last words: in C é\nof a child\n"
    assert await stage.client.log(dies) == 3 * words
    assert await stage.client.log(stuck) == "seen\n"


async def test_a_child_process_is_followed(stage: Stage):
    """What a child process writes while Python waits for it is at the follower's before it has ended."""
    gate = stage.workspace / "gate"
    (stage.workspace / "waits.py").write_text(
        "import subprocess\ndef main(file: str) -> None:\n"
        "    script = f'echo begun; until [ -e {file} ]; do sleep 0.01; done; echo over'\n"
        "    subprocess.run(['sh', '-c', script])\n"
    )
    job = await stage.client.enqueue("waits", {"file": str(gate)})
    await stage.dedicate("waits")
    seen = ""
    with trio.fail_after(30):
        async with stage.client.tail(job) as tail:
            async for chunk in tail:
                seen += chunk.text
                if seen == "begun\n":
                    gate.touch()
    assert seen == "begun\nover\n"


async def test_a_killed_job_leaves_no_secret(stage: Stage):
    """Only the worker can take secrets out: what its supervisor finds unread of a job that has some is not
    kept.
    """
    (stage.workspace / "quiet.py").write_text(
        "import ctypes, os, hotpath\ndef main(key: hotpath.Secret) -> None:\n    print('said')\n"
        "    os.write(1, key.encode())\n    ctypes.string_at(0)\n"
    )
    job = await stage.client.enqueue("quiet", {"key": "hunter22hunter"})
    await stage.dedicate("quiet")
    await stage.until_done(1, 60)
    log = await stage.client.log(job)
    assert "said" in log
    assert "hunter" not in log


async def test_a_forked_process_prints_without_harm(stage: Stage):
    """What a process that a job forks writes to the descriptors is the job's, what it prints in Python is
    lost with it, and it waits for nobody's lock.
    """
    (stage.workspace / "forks.py").write_text(
        "import os\ndef main() -> None:\n    print('before')\n    if os.fork() == 0:\n"
        "        os.write(1, b'child\\n')\n        print('lost')\n        os._exit(0)\n"
        "    os.wait()\n    print('after')\n"
    )
    jobs = [await stage.client.enqueue("forks", {}) for _ in range(5)]
    await stage.drain("forks")
    for job in jobs:
        assert await stage.client.log(job) == "before\nchild\nafter\n"


async def test_what_a_step_writes_is_the_steps(stage: Stage):
    """In a flow that is code, with a synchronous `main`: each step has what was written while it ran."""
    (stage.workspace / "steps.py").write_text(
        "import os, hotpath\ndef a(x: int) -> int:\n    os.write(1, b'in the step\\n')\n    return x\n"
        "def main() -> int:\n    os.write(1, b'before\\n')\n    found = hotpath.step(a, 1)\n"
        "    os.write(1, b'after\\n')\n    return found\n"
    )
    run = await stage.client.enqueue("steps", {})
    await stage.drain("steps")
    assert await stage.client.log(run) == "before\nafter\n"
    (step,) = await stage.client.jobs(parent=run)
    assert await stage.client.log(step.id) == "in the step\n"


SPAWNS = """
import multiprocessing, os, pathlib, time
import spawned

def main(stop: str, wait: bool = False) -> None:
    if not wait:
        multiprocessing.get_context("spawn").Process(target=spawned.late, args=(stop,)).start()
        while not pathlib.Path(stop + ".begun").exists():
            time.sleep(0.01)
    else:
        print("waits")
        time.sleep(0.05)
"""
SPAWNED = """
import os, pathlib, time

def late(stop: str) -> None:
    pathlib.Path(stop + ".begun").touch()
    while not pathlib.Path(stop).exists():
        os.write(1, b"late\\n")
        time.sleep(0.005)
"""


async def test_a_spawned_process_is_noticed(stage: Stage):
    """What a process of multiprocessing's own way to start one writes, when its job has ended, is in no other
    job's log.
    """
    (stage.workspace / "spawns.py").write_text(SPAWNS)
    (stage.workspace / "spawned.py").write_text(SPAWNED)
    stop = stage.workspace / "stop"
    await stage.client.enqueue("spawns", {"stop": str(stop)})
    jobs = [await stage.client.enqueue("spawns", {"stop": str(stop), "wait": True}) for _ in range(5)]
    await stage.dedicate("spawns")
    await stage.until_done(6)
    stop.touch()
    assert [await stage.client.log(job) for job in jobs] == ["waits\n"] * 5
