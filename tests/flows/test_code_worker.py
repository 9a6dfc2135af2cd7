"""Flows that are code, end to end: a real worker, a real database."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent.parent / "worker"))

from worker_stage import Stage, open_stage

from hotpath.errors import HotpathError

COUNTED = """
from __future__ import annotations

import os, time

import hotpath

def count(file: str, name: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{name} {os.getpid()}\\n".encode())
    os.close(descriptor)
"""

KILLED = (
    COUNTED
    + """
@hotpath.task(durable="strict")
def work(file: str, x: int) -> int:
    count(file, f"work{x}")
    if x == 5 and not os.path.exists(file + ".go"):
        time.sleep(60)
    print("worked", x)
    return x

async def main(file: str) -> int:
    total = 0
    for x in range(10):
        total += await hotpath.step(work, file, x)
    count(file, "end")
    return total
"""
)

WAITS = """
from __future__ import annotations

import hotpath

def fetch(n: int) -> list[int]:
    print("fetching", n)
    return list(range(n))

async def clean(x: int) -> int:
    if x == 2:
        raise ValueError("two is bad")
    return x + 1

async def main(n: int) -> dict[str, object]:
    rows = await hotpath.step(fetch, n)
    try:
        cleaned = await hotpath.gather(hotpath.step(clean, x) for x in rows)
    except hotpath.StepFailed as failed:
        cleaned = [failed.step]
    await hotpath.sleep(1.3)
    doubled = await hotpath.gather(*(hotpath.step("double", x=x) for x in (1, 2)))
    said = await hotpath.approval("manager", form={"type": "object"})
    return {"cleaned": cleaned, "doubled": doubled, "said": said}
"""


def as_sync(text: str) -> str:
    """The same flow with a synchronous `main`."""
    text = text.replace("async def clean", "def clean")
    return text.replace("async def main", "def main").replace("await ", "")


@pytest.fixture
async def stage(database_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """A database of its own, a workspace with scripts, a client, and room for commands."""
    async with open_stage(database_url, tmp_path) as stage:
        yield stage


def write(stage: Stage, name: str, text: str) -> None:
    """A flow in the workspace."""
    (stage.workspace / f"{name}.py").write_text(text)


async def steps_of(stage: Stage, run: UUID) -> list[Any]:
    """Rows of a run's steps, by start."""
    rows: list[Any] = await stage.connection.fetch(
        "select * from hotpath.job where parent = $1 order by started_at, step", run
    )
    return rows


async def until_state(stage: Stage, run: UUID, state: str) -> Any:
    """Wait until the run is in this state; its row."""

    async def there() -> Any:
        row = await stage.connection.fetchrow("select * from hotpath.job_get($1)", run)
        return row if row["state"] == state else None

    return await stage.until(there)


async def until_waits(stage: Stage, run: UUID, key: str) -> None:
    """Wait until the run is parked, with this mark."""

    async def parked() -> Any:
        return await stage.connection.fetchval(
            "select exists (select from hotpath.mark m join hotpath.job_queue q on q.id = m.run"
            " where m.run = $1 and m.key = $2)",
            run,
            key,
        )

    await stage.until(parked)


@pytest.mark.slow
@pytest.mark.parametrize("form", [str, as_sync], ids=["async", "sync"])
async def test_waits_and_goes_on(stage: Stage, form: Any) -> None:
    """A run with steps, a sleep, jobs of another script and an approval ends right and shows its steps."""
    write(stage, "flow_x", form(WAITS))
    run = await stage.client.enqueue("flow_x", {"n": 3})
    flow, double = await stage.dedicate("flow_x"), await stage.dedicate("double")
    await until_waits(stage, run, "suspend:manager")
    waits = await stage.client.waits(run)
    assert [wait.key for wait in waits] == ["manager"]
    assert await stage.client.resume(run, {"ok": True}) == "manager"
    row = await until_state(stage, run, "success")
    assert json.loads(row["result"]) == {
        "cleaned": ["clean#3"], "doubled": [2, 4], "said": {"ok": True},
    }  # fmt: skip
    rows = {row["step"]: row for row in await steps_of(stage, run)}
    assert sorted(rows) == ["clean", "clean#2", "clean#3", "double", "double#2", "fetch"]
    assert {row["kind"] for row in rows.values()} == {"step"}
    assert json.loads(rows["fetch"]["args"]) == {"n": 3}
    assert rows["clean#3"]["state"] == "failure"
    assert rows["double#2"]["script"] == "double"
    assert rows["fetch"]["script"] == "flow_x"
    log = await stage.connection.fetchval(
        "select text from hotpath.job_log where id = $1", rows["fetch"]["id"]
    )
    assert log == "fetching 3\n"
    for command in (flow, double):
        command.process.send_signal(signal.SIGTERM)
        assert await command.wait() == 0, command.stderr
    await stage.check_empty()


@pytest.mark.parametrize("form", [str, as_sync], ids=["async", "sync"])
async def test_kill(stage: Stage, form: Any) -> None:
    """After kill -9 in the middle of a step the run goes on: no step whose note was written runs twice."""
    write(stage, "flow_x", form(KILLED))
    counts = stage.workspace / "counts"
    run = await stage.client.enqueue("flow_x", {"file": str(counts)})
    await stage.dedicate("flow_x")

    async def at_five() -> int | None:
        lines = counts.read_text().splitlines() if counts.exists() else []
        return int(lines[-1].split()[1]) if lines and lines[-1].startswith("work5 ") else None

    pid = await stage.until(at_five)
    (stage.workspace / "counts.go").touch()
    os.kill(pid, signal.SIGKILL)
    row = await until_state(stage, run, "success")
    assert json.loads(row["result"]) == 45
    found = Counter(line.split()[0] for line in counts.read_text().splitlines())
    assert found == {f"work{x}": 2 if x == 5 else 1 for x in range(10)} | {"end": 1}
    keys = {row["step"] for row in await steps_of(stage, run)}
    assert keys == {"work", *(f"work#{number}" for number in range(2, 11))}


async def test_failed_attempt(stage: Stage) -> None:
    """An attempt that failed is repeated with the steps that succeeded, and each row has its own id."""
    write(
        stage,
        "flow_x",
        COUNTED
        + """
hotpath.settings(retry=hotpath.Retry(attempts=2, delay=0))

def good(file: str) -> str:
    count(file, "good")

def bad(file: str) -> str:
    count(file, "bad")
    if open(file).read().count("bad") < 2:
        raise ValueError("bad")
    return "at last"

async def main(file: str) -> str:
    await hotpath.step(good, file)
    return await hotpath.step(bad, file)
""",
    )
    counts = stage.workspace / "counts"
    run = await stage.client.enqueue("flow_x", {"file": str(counts)})
    await stage.drain("flow_x")
    row = await until_state(stage, run, "success")
    assert (json.loads(row["result"]), row["attempt"]) == ("at last", 2)
    assert [line.split()[0] for line in counts.read_text().splitlines()] == ["good", "bad", "bad"]
    rows = await steps_of(stage, run)
    assert len({row["id"] for row in rows}) == len(rows) == 3


async def test_changed(stage: Stage) -> None:
    """A run whose script was changed while it waited says so, and can be begun anew."""
    text = """
import hotpath
def f(x: int) -> int: return x
async def main() -> int:
    x = await hotpath.step(f, 1)
    await hotpath.sleep(SECONDS)
    return x
"""
    write(stage, "flow_x", text.replace("SECONDS", "3600"))
    run = await stage.client.enqueue("flow_x", {})
    command = await stage.dedicate("flow_x")
    await until_waits(stage, run, "sleep:sleep")
    command.process.send_signal(signal.SIGTERM)
    assert await command.wait() == 0, command.stderr
    write(stage, "flow_x", text.replace("f, 1", "f, 2").replace("SECONDS", "0"))
    await stage.connection.execute("update hotpath.job_queue set scheduled_for = now() where id = $1", run)
    await stage.drain("flow_x")
    row = await until_state(stage, run, "failure")
    assert json.loads(row["error"])["name"] == "FlowChangedError"
    assert 'step f was recorded with the args {"x":1}' in json.loads(row["error"])["message"]
    assert await stage.client.retry(run)
    await stage.drain("flow_x")
    row = await until_state(stage, run, "success")
    assert json.loads(row["result"]) == 2


async def test_retry_from(stage: Stage) -> None:
    """A run that failed goes on from a step of one's choice: what had ended before is kept."""
    write(
        stage,
        "flow_x",
        COUNTED
        + """
def a(file: str) -> int:
    count(file, "a")
    return 1

def b(file: str, x: int) -> int:
    count(file, "b")
    if not os.path.exists(file + ".go"):
        raise ValueError("not yet")
    return x + 1

async def main(file: str) -> int:
    return await hotpath.step(b, file, await hotpath.step(a, file))
""",
    )
    counts = stage.workspace / "counts"
    run = await stage.client.enqueue("flow_x", {"file": str(counts)})
    await stage.drain("flow_x")
    row = await until_state(stage, run, "failure")
    error = json.loads(row["error"])
    assert (error["name"], error["step"]) == ("StepFailed", "b")
    (stage.workspace / "counts.go").touch()
    assert await stage.connection.fetchval("select hotpath.retry_from($1, 'b')", run)
    await stage.drain("flow_x")
    row = await until_state(stage, run, "success")
    assert json.loads(row["result"]) == 2
    assert [line.split()[0] for line in counts.read_text().splitlines()] == ["a", "b", "b"]


async def test_cancel(stage: Stage) -> None:
    """A run that waits for a job of another script is canceled together with it."""
    write(
        stage,
        "flow_x",
        "import hotpath\nasync def main() -> int:\n    return await hotpath.step('double', x=1)\n",
    )
    await stage.client.register("double")
    run = await stage.client.enqueue("flow_x", {})
    await stage.dedicate("flow_x")

    async def sent() -> Any:
        return await stage.connection.fetchval(
            "select c.id from hotpath.flow_child c join hotpath.job_queue q on q.id = c.run where c.run = $1",
            run,
        )

    child = await stage.until(sent)
    assert await stage.client.cancel(run)
    await until_state(stage, run, "canceled")
    await until_state(stage, child, "canceled")
    await stage.check_empty()


async def test_token(stage: Stage) -> None:
    """A token that a step has sent approves its run, once, in the name of whom it was made for."""
    write(
        stage,
        "flow_x",
        """
import pathlib
import hotpath

def send(file: str) -> None:
    pathlib.Path(file).write_text(hotpath.resume_token("boss", "ann"))

async def main(file: str) -> object:
    await hotpath.step(send, file)
    try:
        return await hotpath.approval("boss", form={"type": "object", "required": ["n"]})
    except hotpath.Disapproved as no:
        return [no.payload, no.approver]
""",
    )
    file = stage.workspace / "token"
    run = await stage.client.enqueue("flow_x", {"file": str(file)})
    await stage.dedicate("flow_x")
    await until_waits(stage, run, "suspend:boss")
    token = file.read_text()
    said = await stage.client.resume_by_token(token, "no", approve=False)
    assert (said.run, said.key) == (run, "boss")
    with pytest.raises(HotpathError):
        await stage.client.resume_by_token(token, "again")
    row = await until_state(stage, run, "success")
    assert json.loads(row["result"]) == ["no", "ann"]


async def test_tree(stage: Stage) -> None:
    """`hotpath job RUN` draws the steps of coroutines in a gather, and says what the run waits for."""
    write(
        stage,
        "flow_x",
        """
import hotpath
def f(x: int) -> int: return x
async def one(x: int) -> None:
    await hotpath.step(f, x)
    await hotpath.sleep(3600)
async def main() -> None:
    await hotpath.step(f, 7)
    await hotpath.gather(one(0), one(1))
""",
    )
    run = await stage.client.enqueue("flow_x", {})
    await stage.dedicate("flow_x")
    await until_waits(stage, run, "sleep:gather[0]/sleep")
    shown = await trio.run_process(
        [sys.executable, "-m", "hotpath", "job", str(run)], capture_stdout=True, env=stage.environment
    )
    text = shown.stdout.decode()
    assert "gather: 2 iterations, 2 waiting" in text
    assert text.count("✓ f ") == 3


@pytest.mark.parametrize("form", [str, as_sync], ids=["async", "sync"])
async def test_stop(stage: Stage, form: Any) -> None:
    """A worker that is told to stop ends the step in hand and lets the run go: it goes on elsewhere."""
    text = """
def work(file: str, x: int) -> int:
    count(file, f"work{x}")
    time.sleep(0 if os.path.exists(file + ".go") else 0.1)
    return x

async def main(file: str) -> int:
    total = 0
    for x in range(100):
        total += await hotpath.step(work, file, x)
    return total
"""
    write(stage, "flow_x", COUNTED + form(text))
    counts = stage.workspace / "counts"
    run = await stage.client.enqueue("flow_x", {"file": str(counts)})
    command = await stage.dedicate("flow_x")

    async def at_one() -> bool:
        return counts.exists() and "work1 " in counts.read_text()

    await stage.until(at_one)
    command.process.send_signal(signal.SIGTERM)
    assert await command.wait() == 0, command.stderr
    (stage.workspace / "counts.go").touch()
    row = await stage.connection.fetchrow("select * from hotpath.job_get($1)", run)
    assert (row["state"], row["attempt"]) == ("queued", 0)
    assert len(await steps_of(stage, run)) < 100
    await stage.drain("flow_x")
    row = await until_state(stage, run, "success")
    assert json.loads(row["result"]) == sum(range(100))
    assert len(counts.read_text().splitlines()) == 100
