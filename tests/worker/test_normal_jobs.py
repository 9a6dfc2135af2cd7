"""What jobs may do in processes of normal workers as in those of dedicated ones: end themselves by
`hotpath.completion()`, be followed as they print.
"""

from __future__ import annotations

import json
import os
import signal

import pytest
import trio
from worker_stage import Stage

WRITER = """
import os, trio, hotpath

async def main(x: int, folder: str = "", stop: str = "") -> int:
    async def pause(where):
        if stop == where and not os.path.exists(f"{folder}/{where}"):
            with open(f"{folder}/.{where}", "w") as file:
                file.write(str(os.getpid()))
            os.rename(f"{folder}/.{where}", f"{folder}/{where}")
            await trio.sleep_forever()
    print("before", x)
    async with hotpath.completion({"x": x}) as conn:
        await conn.execute("insert into effect (x) values ($1)", x)
        await pause("inside")
    print("after", x)
    await pause("behind")
    return -1
"""
TALK = """
import pathlib, time

def main(who: str, gate: str) -> None:
    print("I am", who)
    while not pathlib.Path(gate).exists():
        time.sleep(0.005)
    print(who, "ends")
"""
CHAT = TALK.replace("import pathlib, time", "import pathlib, trio").replace("def", "async def").replace(
    "time.sleep", "await trio.sleep"
)  # fmt: skip


async def prepare(stage: Stage) -> None:
    """The script, and the table that it writes to."""
    (stage.workspace / "writer.py").write_text(WRITER)
    await stage.connection.execute("create table effect (x int)")


async def effects(stage: Stage) -> list[int]:
    """What the jobs have written."""
    return [row[0] for row in await stage.connection.fetch("select x from effect order by x")]


@pytest.mark.slow
async def test_effects_and_outcomes_are_one(stage: Stage):
    """I1, I2: jobs that end themselves, loose and sealed, among others that do not: each has one effect and
    one outcome, with its own result and whole log.
    """
    await prepare(stage)
    ids = []
    for x in range(9):
        ids.append(await stage.client.enqueue("writer", {"x": x}))
        if x % 3 == 0:
            await stage.client.enqueue("size", {"text": "a" * x})
    ids += await stage.client.enqueue_many("writer", ({"x": x} for x in range(9, 25)))
    command = await stage.drain_all()
    assert await effects(stage) == list(range(25))
    assert await stage.states() == {"success": 28}
    rows = {row["id"]: row for row in await stage.rows()}
    for x, job in enumerate(ids):
        assert (json.loads(rows[job]["result"]), rows[job]["attempt"]) == ({"x": x}, 1)
        assert await stage.client.log(job) == f"before {x}\nafter {x}\n"
    assert (command.last["jobs"], command.last["failure"]) == (28, 0)
    await stage.check_empty()


@pytest.mark.slow
async def test_kill_leaves_one_effect(stage: Stage):
    """I1, I3: kill -9 between the write and the commit undoes the write, and the job runs again; once it is
    committed the job is over, while `main` goes on, and is not run again.
    """
    await prepare(stage)
    folder = stage.workspace
    command = await stage.normal()
    for x, where in enumerate(("behind", "inside")):
        job = await stage.client.enqueue("writer", {"x": x, "folder": str(folder), "stop": where})
        if where == "behind":
            with trio.fail_after(20):
                assert await stage.client.result(job) == {"x": x}
        await stage.until(trio.Path(folder / where).exists)
        os.kill(int((folder / where).read_text()), signal.SIGKILL)
        with trio.fail_after(20):
            assert await stage.client.result(job) == {"x": x}
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    assert await effects(stage) == [0, 1]
    assert await stage.states() == {"success": 2}
    await stage.check_empty()


async def test_jobs_are_followed_as_they_print(stage: Stage):
    """I9: followers of jobs in two processes, of one that runs several at a time, too, get what their own job
    prints while it runs, and then the rest.
    """
    (stage.workspace / "talk.py").write_text(TALK)
    (stage.workspace / "chat.py").write_text(CHAT)
    gate = stage.workspace / "gate"
    talk = await stage.client.enqueue("talk", {"who": "Ada", "gate": str(gate)})
    chat = await stage.client.enqueue("chat", {"who": "Dot", "gate": str(gate)})
    await stage.client.enqueue("chat", {"who": "Eve", "gate": str(gate)})
    read = {talk: "", chat: ""}

    async def follow(job, until):
        async with stage.client.tail(job, after=after.get(job)) as tail:
            async for chunk in tail:
                read[job] += chunk.text
                after[job] = tail.after
                if until in read[job]:
                    return

    after: dict = {}
    command = await stage.normal("--slots", "2")
    for until in ("I am", "nothing more"):
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for job in read:
                    nursery.start_soon(follow, job, until)
        if not gate.exists():
            assert [(await stage.client.job(job)).state for job in read] == ["running", "running"]
            gate.touch()
    assert list(read.values()) == ["I am Ada\nAda ends\n", "I am Dot\nDot ends\n"]
    assert list(read.values()) == [await stage.client.log(job) for job in read]
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
