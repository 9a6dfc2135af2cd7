"""Workers of flows that are killed, at whatever moment: every run ends right, and what was written stays."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
from runtime_stage import branches, step, write_flow
from thoroughness import THOROUGH, examples
from worker_stage import Command, Stage

STEPS = 5
RUNS = examples(80, 300)
HOLD = 3.0
"""Seconds that the last step of the last run takes, unless it is let go: else all runs may be over on a busy
machine before a worker is killed.
"""
COUNTED = f"""
import os, time

def main(x: int, step: int, run: int, file: str, seconds: float = 0.0) -> int:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{{run}} {{step}} {{os.getpid()}}\\n".encode())
    os.close(descriptor)
    if (run, step) == ({RUNS - 1}, {STEPS - 1}):
        until = time.monotonic() + {HOLD}
        while time.monotonic() < until and not os.path.exists(file + ".go"):
            time.sleep(0.01)
    time.sleep(seconds)
    return 3 * x + step
"""
COUNTED_ASYNC = COUNTED.replace("import os, time", "import os, time, trio")
COUNTED_ASYNC = COUNTED_ASYNC.replace("def main", "async def main")
COUNTED_ASYNC = COUNTED_ASYNC.replace("time.sleep", "await trio.sleep")
FORMS = {"sync": "sssss", "async": "aaaaa", "mixed": "sasas", "waiting": "sfsfs"}
"""Scripts of the steps; `f` is one of another worker's, and `waiting` sleeps behind its first step."""


def right(x: int) -> int:
    """The result of a run."""
    for number in range(STEPS):
        x = 3 * x + number
    return x


def write_counted(stage: Stage, form: str) -> None:
    """A flow of five steps, each of which leaves a line before it does anything else."""
    (stage.workspace / "s.py").write_text(COUNTED)
    (stage.workspace / "a.py").write_text(COUNTED_ASYNC)
    (stage.workspace / "f.py").write_text(f"import hotpath\nhotpath.settings(tag='far')\n{COUNTED}")
    inputs = {"run": "flow_input.x", "file": "flow_input.file", "seconds": "flow_input.seconds"}
    modules = []
    for number, kind in enumerate(FORMS[form]):
        before = f"results.s{number - 1}" if number else "flow_input.x"
        rest = {"sleep": {"type": "static", "value": 1.2}} if form == "waiting" and not number else {}
        modules.append(step(f"s{number}", kind, {"x": before, "step": str(number), **inputs}, **rest))
    write_flow(stage.workspace, "flow_x", *modules)


def ran(file: Path) -> dict[tuple[int, int], list[int]]:
    """By run and step, the processes in which it ran, in order."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for line in file.read_text().splitlines() if file.exists() else ():
        run, number, pid = map(int, line.split())
        found[run, number].append(pid)
    return found


async def check(stage: Stage, file: Path, runs: Mapping[UUID, int], kills: int) -> None:
    """All runs ended right; each step has one row, by the process in which it ran last: none has run again
    that was written; and none ran more often than there were kills.
    """
    rows = await stage.connection.fetch("select * from hotpath.job where kind = 'flow'")
    assert Counter(row["state"] for row in rows) == {"success": len(runs)}, [
        row["error"] for row in rows if row["error"]
    ][:3]
    assert {row["id"]: json.loads(row["result"]) for row in rows} == {
        run: right(x) for run, x in runs.items()
    }
    steps = await stage.connection.fetch(
        "select d.parent, d.step, d.state, w.pid"
        " from hotpath.job_done d join hotpath.worker w on w.id = d.worker where d.parent is not null"
    )
    assert {row["state"] for row in steps} == {1}
    wrote = {(runs[row["parent"]], int(row["step"][1:])): row["pid"] for row in steps}
    assert len(steps) == len(wrote) == STEPS * len(runs)
    processes = ran(file)
    assert processes.keys() == wrote.keys()
    again = [key for key, pids in processes.items() if pids[-1] != wrote[key]]
    assert not again, f"{len(again)} steps ran again though they were written: {again[:5]}"
    assert all(len(set(pids)) == len(pids) <= kills + 1 for pids in processes.values())
    await stage.check_empty()


async def until_or_over(
    stage: Stage, command: Command, condition: Callable[[], Awaitable[Any]], seconds: float = 30.0
) -> Any:
    """Wait until the condition gives something true, and return it; None if the command ends before."""

    async def either() -> Any:
        return await condition() or (command.process.returncode is not None and "over")

    found = await stage.until(either, seconds)
    return None if found == "over" else found


async def enqueue(stage: Stage, file: Path, **more: Any) -> dict[UUID, int]:
    """The runs, each with its number."""
    args = ({"x": x, "file": str(file), "seconds": 0.001, **more} for x in range(RUNS))
    return dict(zip(await stage.client.enqueue_many("flow_x", args), range(RUNS), strict=True))


KILLED = [("sync", 1), ("async", 3), ("mixed", 4), *([("sync", 2)] if THOROUGH else [])]


@pytest.mark.slow
@pytest.mark.parametrize(("form", "seed"), KILLED)
async def test_killed_workers(stage: Stage, form: str, seed: int) -> None:
    """kill -9 of the worker, again and again, while runs of five steps are under way: its supervisor
    starts another one, every run ends right, and no step runs again that was written.
    """
    chance = random.Random(seed)
    file = stage.workspace / "counts"
    write_counted(stage, form)
    runs = await enqueue(stage, file)
    command = await stage.dedicate("flow_x", "--drain", "--concurrency", "60")
    killed: set[int] = set()
    for _ in range(4):
        # What is held may keep others from their last steps.
        goal = min(len(ran(file)) + chance.randrange(1, RUNS * STEPS // 3), RUNS * (STEPS - 1))

        async def there(goal: int = goal) -> int | None:
            alive = set(await stage.worker_pids()) - killed
            return alive.pop() if alive and len(ran(file)) >= goal else None

        pid = await until_or_over(stage, command, there)
        if pid is None:
            break
        await trio.sleep(chance.random() * 0.03)
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
    file.with_name("counts.go").touch()
    assert len(killed) >= 2
    assert await command.wait(50) == 0, command.stderr
    await check(stage, file, runs, len(killed))


@pytest.mark.slow
async def test_killed_workers_of_runs_that_wait(stage: Stage) -> None:
    """The same with runs that sleep and send jobs to another worker, and either is killed: none waits for
    ever, none goes on too early, and no step runs again that was written.
    """
    chance = random.Random(6)
    file = stage.workspace / "counts"
    write_counted(stage, "waiting")
    runs = await enqueue(stage, file)
    flows = await stage.dedicate("flow_x", "--drain", "--concurrency", "60")
    far = await stage.dedicate("f")
    killed: set[int] = set()
    for _ in range(5):
        # What is held may keep others from their last steps.
        goal = min(len(ran(file)) + chance.randrange(1, RUNS * STEPS // 3), RUNS * (STEPS - 1))

        async def there(goal: int = goal) -> list[int]:
            alive = sorted(set(await stage.worker_pids()) - killed)
            return alive if len(ran(file)) >= goal else []

        pids = await until_or_over(stage, flows, there)
        if pids is None:
            break
        await trio.sleep(chance.random() * 0.03)
        pid = chance.choice(pids)
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
    file.with_name("counts.go").touch()
    assert len(killed) >= 3
    assert await flows.wait(50) == 0, flows.stderr
    await check(stage, file, runs, len(killed))
    assert far.process.returncode is None
    slept = await stage.connection.fetchval(
        "select min(b.started_at - a.finished_at)"
        " from hotpath.job a join hotpath.job b on b.parent = a.parent where a.step = 's0' and b.step = 's1'"
    )
    assert slept.total_seconds() > 0.9


@pytest.mark.slow
async def test_killed_hosts(stage: Stage) -> None:
    """Supervisor and worker die together, twice: another command's supervisor finds what they held, and the
    runs go on there.
    """
    chance = random.Random(5)
    file = stage.workspace / "counts"
    write_counted(stage, "sync")
    runs = await enqueue(stage, file)
    for _ in range(2):
        command = await stage.dedicate("flow_x", "--lease", "1", "--concurrency", "60")
        # On a busy machine this test may see it when all is done.
        goal = min(len(ran(file)) + chance.randrange(RUNS // 2, 2 * RUNS), STEPS * RUNS)

        async def there(goal: int = goal) -> bool:
            return len(ran(file)) >= goal

        await stage.until(there)
        pids = await stage.worker_pids()
        command.process.send_signal(signal.SIGSTOP)  # nobody is there to see the worker die
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        command.process.kill()
    await stage.drain("flow_x")
    await check(stage, file, runs, 2)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["sync", "async", "beside"])
async def test_step_that_kills_its_process(stage: Stage, form: str) -> None:
    """A step that ends the process fails its run, as a crash that names it, when it has done so three times;
    other runs end right, though they are in the same process.
    """
    file = stage.workspace / "counts"
    write_counted(stage, "sync")
    kill = "def main(x: int) -> int:\n    if x == 7: os._exit(9)\n    return x\n"
    (stage.workspace / "k.py").write_text(f"import os\n{'async ' if form == 'async' else ''}{kill}")
    (stage.workspace / "n.py").write_text(
        "import trio\nasync def main(x: int) -> int:\n    await trio.sleep(0.01)\n    return x\n"
    )
    at = {"x": "flow_input.x"}
    inputs = {**at, "run": "flow_input.x", "file": "flow_input.file", "step": "0"}
    deadly = step("k", "k", at)
    write_flow(
        stage.workspace,
        "flow_x",
        step("s0", "s", inputs),
        branches("all", [deadly], [step("n", "n", at)]) if form == "beside" else deadly,
        step("s1", "s", {**inputs, "step": "1"}),
    )
    args = [{"x": x, "file": str(file)} for x in range(20)]
    runs = dict(zip(await stage.client.enqueue_many("flow_x", args), range(20), strict=True))
    command = await stage.dedicate("flow_x", "--drain")
    assert await command.wait(55) == 0, command.stderr
    rows = {runs[row["id"]]: row for row in await stage.rows() if row["id"] in runs}
    assert {x: row["state"] for x, row in rows.items()} == {
        x: "failure" if x == 7 else "success" for x in range(20)
    }
    error = json.loads(rows[7]["error"])
    assert error["kind"] == "crash"
    if form == "beside":  # its neighbour may have done it as well, where it ran, too
        assert "all[0]/k" in error["message"]
        assert (error.get("step"), error.get("iteration")) in {("k", "0"), (None, None)}
    else:
        assert (error["step"], error["message"][:8]) == ("k", "step k: ")
    # Where a flow has both kinds, an async step may die while the lane has another's in hand: that is charged
    # then, and runs alone.
    most = 2 if form == "async" else 1
    assert all(row["attempt"] <= most for x, row in rows.items() if x != 7)
    assert ran(file).keys() == {(x, number) for x in range(20) for number in range(2)} - {(7, 1)}
    await stage.check_empty()
