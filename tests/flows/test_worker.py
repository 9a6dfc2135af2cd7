"""Flows that are files, end to end: real workers, a real database."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
from runtime_stage import branches, loop, step, write_flow
from worker_stage import Command, Stage

from hotpath.errors import JobCanceled, JobFailed

COUNT = """
import os

def count(file: str, name: object) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{name} {os.getpid()}\\n".encode())
    os.close(descriptor)
"""
PLUS = "def main(x: int) -> int:\n    print('plus', x)\n    return x + 1\n"
TIMES = """
import trio

async def main(x: int) -> int:
    print("times", x)
    await trio.sleep(0.001)
    return 2 * x
"""
COUNTED = COUNT + "\ndef main(x: int, file: str) -> int:\n    count(file, x)\n    return x + 1\n"


def script(stage: Stage, name: str, text: str) -> None:
    """A script in the workspace."""
    (stage.workspace / f"{name}.py").write_text(text)


def counted(file: Path) -> Counter[str]:
    """What was counted, without the processes."""
    return Counter(line.split()[0] for line in file.read_text().splitlines()) if file.exists() else Counter()


def sleep(seconds: float) -> dict[str, Any]:
    """As an option of a step."""
    return {"type": "static", "value": seconds}


async def steps_of(stage: Stage, run: UUID) -> list[Any]:
    """Rows of a run's steps, by start."""
    rows: list[Any] = await stage.connection.fetch(
        "select * from hotpath.job where parent = $1 order by started_at, step", run
    )
    return rows


async def row_of(stage: Stage, run: UUID) -> Any:
    """The run's own row."""
    return await stage.connection.fetchrow("select * from hotpath.job_get($1)", run)


async def until_parked(stage: Stage, run: UUID, key: str | None = None) -> None:
    """Wait until the run waits in the queue, with this mark."""

    async def parked() -> Any:
        return await stage.connection.fetchval(
            "select exists (select from hotpath.job_queue q join hotpath.flow_run f on f.id = q.id"
            " where q.id = $1 and ($2::text is null or exists ("
            "   select from hotpath.mark m where m.run = q.id and m.key = $2)))",
            run,
            key,
        )

    await stage.until(parked)


async def until_line(stage: Stage, file: Path, name: str) -> None:
    """Wait until somebody has counted this."""

    async def there() -> bool:
        return name in counted(file)

    await stage.until(there)


async def end(command: Command) -> None:
    """SIGTERM, and a good end."""
    command.process.send_signal(signal.SIGTERM)
    assert await command.wait() == 0, command.stderr


async def test_steps_are_jobs(stage: Stage) -> None:
    """A run has the result of its last step; each step is a job with parent, key, iteration, args, result,
    times and log.
    """
    script(stage, "plus", PLUS)
    script(stage, "times", TIMES)
    write_flow(
        stage.workspace,
        "flow_x",
        step("a", "plus", {"x": "flow_input.x"}),
        loop("l", "[1, 2, results.a]", step("b", "times", {"x": "flow_input.iter.value"})),
        step("c", "plus", {"x": "results.l[2]"}),
    )
    runs = list(await stage.client.enqueue_many("flow_x", ({"x": x} for x in range(20))))
    await stage.drain("flow_x")
    assert [await stage.client.result(run) for run in runs] == [2 * (x + 1) + 1 for x in range(20)]
    row = await row_of(stage, runs[7])
    assert (row["kind"], row["parent"], row["step"], row["state"]) == ("flow", None, None, "success")
    rows = await steps_of(stage, runs[7])
    assert [(each["step"], each["iteration"], each["script"], each["result"]) for each in rows] == [
        ("a", "", "plus", "8"),
        ("l[0]/b", "0", "times", "2"),
        ("l[1]/b", "1", "times", "4"),
        ("l[2]/b", "2", "times", "16"),
        ("c", "", "plus", "17"),
    ]
    assert {(each["kind"], each["parent"], each["state"], each["tag"]) for each in rows} == {
        ("step", runs[7], "success", "flow_x")
    }
    assert [json.loads(each["args"]) for each in rows] == [{"x": x} for x in (7, 1, 2, 8, 16)]
    assert all(row["started_at"] <= each["started_at"] <= each["finished_at"] for each in rows)
    assert [await stage.client.log(each["id"]) for each in rows] == [
        "plus 7\n", "times 1\n", "times 2\n", "times 8\n", "plus 16\n",
    ]  # fmt: skip
    await stage.check_empty()


async def test_wide_loop(stage: Stage) -> None:
    """A loop of a thousand parallel iterations: all results in order, each a row of its own."""
    script(stage, "plus", "def main(x: int) -> int:\n    return x + 1\n")
    write_flow(
        stage.workspace,
        "flow_x",
        loop("l", "flow_input.xs", step("a", "plus", {"x": "flow_input.iter.value"}), parallel=True),
    )
    run = await stage.client.enqueue("flow_x", {"xs": list(range(1000))})
    await stage.drain("flow_x")
    assert await stage.client.result(run) == list(range(1, 1001))
    rows = await steps_of(stage, run)
    assert {row["iteration"]: int(row["result"]) for row in rows} == {str(x): x + 1 for x in range(1000)}
    assert len(rows) == 1000


async def test_step_of_another_worker(stage: Stage) -> None:
    """A step whose script has a tag of its own is run by whoever serves that; its run goes on where it is
    claimed, though the worker it began at is gone, without a step's running twice.
    """
    file = stage.workspace / "counts"
    script(stage, "counted", COUNTED)
    script(stage, "far", f"import hotpath\nhotpath.settings(tag='far')\n{COUNTED}")
    at = {"file": "flow_input.file"}
    write_flow(
        stage.workspace,
        "flow_x",
        step("a", "counted", {"x": "0", **at}),
        step("b", "far", {"x": "10 * results.a", **at}),
        step("c", "counted", {"x": "10 * results.b", **at}),
    )
    run = await stage.client.enqueue("flow_x", {"file": str(file)})
    first = await stage.dedicate("flow_x")
    await until_parked(stage, run)
    (child,) = [row for row in await steps_of(stage, run) if row["step"] == "b"]
    assert (child["state"], child["tag"], child["kind"]) == ("queued", "far", "step")
    assert not await stage.connection.fetchval("select count(*) from hotpath.lease")
    await end(first)
    await stage.drain("far")
    await stage.drain("flow_x")
    assert await stage.client.result(run) == 111
    assert counted(file) == {"0": 1, "10": 1, "110": 1}
    assert len({line.split()[1] for line in file.read_text().splitlines()}) == 3
    rows = await steps_of(stage, run)
    assert [(row["step"], row["script"], row["state"], row["result"]) for row in rows] == [
        ("a", "counted", "success", "1"),
        ("b", "far", "success", "11"),
        ("c", "counted", "success", "111"),
    ]
    await stage.check_empty()


async def test_sleep(stage: Stage) -> None:
    """A run that sleeps for longer than a moment is nobody's meanwhile, and goes on in time."""
    script(stage, "counted", COUNTED)
    file = stage.workspace / "counts"
    write_flow(
        stage.workspace,
        "flow_x",
        step("a", "counted", {"x": "1", "file": "flow_input.file"}, sleep=sleep(2.5)),
        step("b", "counted", {"x": "2", "file": "flow_input.file"}),
    )
    run = await stage.client.enqueue("flow_x", {"file": str(file)})
    command = await stage.dedicate("flow_x")
    await until_parked(stage, run, "sleep:a")
    assert not await stage.connection.fetchval("select count(*) from hotpath.lease")
    assert (await row_of(stage, run))["state"] == "queued"
    with trio.fail_after(20):
        assert await stage.client.result(run) == 3
    await end(command)
    assert counted(file) == {"1": 1, "2": 1}
    a, b = await steps_of(stage, run)
    # A worker knows the database's clock to within the time of its first reply.
    assert 2.0 <= (b["started_at"] - a["finished_at"]).total_seconds() < 15
    await stage.check_empty()


@pytest.mark.slow
async def test_drain_waits_for_what_goes_on_by_itself(stage: Stage) -> None:
    """`--drain` waits for runs that sleep, try a step again or wait for jobs that they have sent; not for
    those that wait for people.
    """
    script(stage, "plus", PLUS)
    script(
        stage, "far", "import hotpath\nhotpath.settings(tag='far')\ndef main(x: int) -> int:\n    return x\n"
    )
    script(
        stage,
        "again",
        "import hotpath\ndef main() -> int:\n    attempt = hotpath.current_job().attempt\n"
        "    if attempt == 1: raise hotpath.RetryLater(7)\n    return attempt\n",
    )
    parts = {
        "sleep": [step("s", "plus", {"x": "1"}, sleep=sleep(7))],
        "far": [step("f", "far", {"x": "1"})],
        "again": [step("g", "again")],
        "people": [step("p", "plus", {"x": "1"}, suspend={"required_events": 1, "timeout": 600})],
    }
    chosen = [{"expr": f"flow_input.what == '{what}'", "modules": part} for what, part in parts.items()]
    choice = {"type": "branchone", "branches": chosen, "default": []}
    write_flow(stage.workspace, "flow_x", {"id": "one", "value": choice}, step("b", "plus", {"x": "1"}))
    await stage.client.enqueue("flow_x", {"what": "people"})
    await stage.drain("flow_x")
    runs = {what: await stage.client.enqueue("flow_x", {"what": what}) for what in parts}
    command = await stage.dedicate("flow_x", "--drain")
    for run in runs.values():
        await until_parked(stage, run)
    await stage.drain("far")
    assert await command.wait() == 0, command.stderr
    assert command.last["event"] == "drained"
    assert {what: (await row_of(stage, run))["state"] for what, run in runs.items()} == {
        "sleep": "success",
        "far": "success",
        "again": "success",
        "people": "queued",
    }


ANSWERS = {
    "approved": {"approve": True},
    "disapproved": {"approve": False, "approver": "ann"},
    "late": None,
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", ANSWERS)
async def test_approval(stage: Stage, answer: str) -> None:
    """A run that waits for people holds no lease, and goes on as they say, or when the time is over; --drain
    does not wait for it.
    """
    script(stage, "plus", PLUS)
    write_flow(
        stage.workspace,
        "flow_x",
        step(
            "a", "plus", {"x": "1"}, suspend={"required_events": 1, "timeout": 7 if answer == "late" else 600}
        ),
        step("b", "plus", {"x": "resume.x"}),
    )
    run = await stage.client.enqueue("flow_x", {})
    if answer == "late":
        command = await stage.dedicate("flow_x")
        await until_parked(stage, run, "suspend:a")
    else:
        await stage.drain("flow_x")
    assert not await stage.connection.fetchval("select count(*) from hotpath.lease")
    assert [wait.key for wait in await stage.client.waits(run)] == ["a"]
    if answer == "late":
        with pytest.raises(JobFailed, match="nobody approved it within 7 s"), trio.fail_after(20):
            await stage.client.result(run)
        await end(command)
        return
    assert await stage.client.resume(run, {"x": 40}, **ANSWERS[answer]) == "a"
    await stage.drain("flow_x")
    if answer == "approved":
        assert await stage.client.result(run) == 41
    else:
        with pytest.raises(JobFailed, match="disapproved by ann"):
            await stage.client.result(run)
    await stage.check_empty()


async def test_cancel_of_a_run_that_waits_for_its_jobs(stage: Stage) -> None:
    """With a parked run the jobs that it has sent are canceled, those that wait and those that run."""
    script(
        stage, "far", "import hotpath\nhotpath.settings(tag='far')\ndef main(x: int) -> int:\n    return x\n"
    )
    script(
        stage,
        "slow",
        "import time, hotpath\nhotpath.settings(tag='slow')\ndef main() -> None:\n"
        "    for _ in range(3000): time.sleep(0.01)\n",
    )
    write_flow(
        stage.workspace, "flow_x", branches("all", [step("a", "far", {"x": "1"})], [step("b", "slow")])
    )
    run = await stage.client.enqueue("flow_x", {})
    command, slow = await stage.dedicate("flow_x"), await stage.dedicate("slow")

    async def runs() -> bool:
        return {row["state"] for row in await steps_of(stage, run)} == {"queued", "running"}

    await stage.until(runs)
    await until_parked(stage, run)
    assert await stage.client.cancel(run)

    async def over() -> bool:
        rows = [await row_of(stage, run), *await steps_of(stage, run)]
        return len(rows) == 3 and {row["state"] for row in rows} == {"canceled"}

    await stage.until(over)
    for each in (command, slow):
        await end(each)
    await stage.check_empty()


@pytest.mark.parametrize("where", ["lane", "trio"])
async def test_cancel_of_a_run_whose_step_runs(stage: Stage, where: str) -> None:
    """A running run that is canceled ends long before its step would, and that with it; others go on."""
    file = stage.workspace / "counts"
    nap = "for _ in range(3000): time.sleep(0.01)" if where == "lane" else "await trio.sleep(30)"
    script(
        stage,
        "slow",
        f"import time, trio\n{COUNT}\n"
        f"{'' if where == 'lane' else 'async '}def main(x: int, file: str) -> int:\n"
        f"    count(file, x)\n    if x: return x\n    {nap}\n",
    )
    write_flow(
        stage.workspace,
        "flow_x",
        step("a", "slow", {"x": "flow_input.x", "file": "flow_input.file"}),
        step("b", "slow", {"x": "9", "file": "flow_input.file"}),
    )
    runs = list(await stage.client.enqueue_many("flow_x", ({"x": x, "file": str(file)} for x in range(5))))
    command = await stage.dedicate("flow_x")
    await until_line(stage, file, "0")
    assert await stage.client.cancel(runs[0])
    with pytest.raises(JobCanceled), trio.fail_after(25):
        await stage.client.result(runs[0])
    with trio.fail_after(25):
        assert [await stage.client.result(run) for run in runs[1:]] == [9] * 4
    assert [(row["step"], row["state"]) for row in await steps_of(stage, runs[0])] == [("a", "canceled")]
    await end(command)
    await stage.check_empty()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["lane", "trio"])
async def test_time_out_of_a_run_whose_step_cannot_be_interrupted(stage: Stage, where: str) -> None:
    """A run that is over its time in a step of C code, which nobody can interrupt, fails as a time-out all
    the same, by the end of its worker; others end right.
    """
    word = "async " if where == "trio" else ""
    script(
        stage,
        "hold",
        f"import ctypes\n{word}def main(x: int) -> int:\n"
        "    if x == 0: ctypes.PyDLL(None).sleep(60)\n    return x\n",
    )
    write_flow(stage.workspace, "flow_x", step("a", "hold", {"x": "flow_input.x"}))
    run = await stage.client.enqueue("flow_x", {"x": 0}, timeout=1.0)
    others = [await stage.client.enqueue("flow_x", {"x": x}) for x in range(1, 4)]
    command = await stage.dedicate("flow_x")
    with pytest.raises(JobFailed) as failed, trio.fail_after(50):
        await stage.client.result(run)
    assert failed.value.error["kind"] == "timeout"
    with trio.fail_after(20):
        assert [await stage.client.result(each) for each in others] == [1, 2, 3]
    await end(command)
    await stage.check_empty()


async def test_early_return(stage: Stage) -> None:
    """Who waits for a run gets its early result while it goes on; the run ends with its own."""
    gate = stage.workspace / "gate"
    script(stage, "plus", PLUS)
    script(
        stage,
        "wait",
        "import os, trio\nasync def main(file: str) -> str:\n"
        "    while not os.path.exists(file): await trio.sleep(0.01)\n    return 'late'\n",
    )
    write_flow(
        stage.workspace,
        "flow_x",
        step("a", "plus", {"x": "1"}),
        step("b", "wait", {"file": "flow_input.gate"}),
        early_return="results.a",
    )
    run = await stage.client.enqueue("flow_x", {"gate": str(gate)})
    command = await stage.dedicate("flow_x")
    with trio.fail_after(20):
        assert await stage.client.result(run) == 2
    assert (await row_of(stage, run))["state"] == "running"
    gate.touch()
    assert (await stage.client.wait(run)).result == "late"
    await end(command)


@pytest.mark.slow
async def test_stop_in_the_middle_of_long_runs(stage: Stage) -> None:
    """SIGTERM: the step that runs ends, the worker goes within its grace, and the runs go on at another one,
    no step of them twice.
    """
    file = stage.workspace / "counts"
    script(
        stage,
        "counted",
        f"import time\n{COUNT}\ndef main(x: int, run: int, file: str) -> int:\n"
        "    count(file, f'{run}.{x}')\n"
        "    if not os.path.exists(file + '.go'): time.sleep(0.02 if x < 6 else 0.5)\n    return x + 1\n",
    )
    inputs = {"run": "flow_input.run", "file": "flow_input.file"}
    write_flow(
        stage.workspace,
        "flow_x",
        *(step(f"s{at}", "counted", {"x": str(at), **inputs}) for at in range(12)),
    )
    runs = list(await stage.client.enqueue_many("flow_x", ({"run": x, "file": str(file)} for x in range(5))))
    first = await stage.dedicate("flow_x", "--grace", "20")
    await until_line(stage, file, "2.4")
    await end(first)
    (stage.workspace / "counts.go").touch()
    states = {(await row_of(stage, run))["state"] for run in runs}
    assert states == {"queued"}
    before = counted(file)
    assert 20 <= sum(before.values()) < 60
    await stage.drain("flow_x")
    assert [await stage.client.result(run) for run in runs] == [12] * 5
    assert counted(file) == {f"{run}.{x}": 1 for run in range(5) for x in range(12)}
    assert {row["attempt"] for row in await stage.rows()} == {1}
    await stage.check_empty()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["lane", "trio"])
async def test_stop_with_a_step_that_is_longer_than_the_grace(stage: Stage, where: str) -> None:
    """SIGTERM, and a step that goes on for longer than the grace: it is given up, the worker goes, and the
    run goes on elsewhere with that step; those before it do not run again.
    """
    file = stage.workspace / "counts"
    script(stage, "counted", COUNTED)
    nap = "for _ in range(3000): time.sleep(0.01)" if where == "lane" else "await trio.sleep(30)"
    script(
        stage,
        "slow",
        f"import time, trio\n{COUNT}\n"
        f"{'' if where == 'lane' else 'async '}def main(x: int, file: str) -> int:\n"
        f"    count(file, x)\n    if os.path.exists(file + '.go'): return x\n    {nap}\n",
    )
    at = {"file": "flow_input.file"}
    write_flow(
        stage.workspace,
        "flow_x",
        step("a", "counted", {"x": "1", **at}),
        step("b", "slow", {"x": "2", **at}),
        step("c", "counted", {"x": "3", **at}),
    )
    run = await stage.client.enqueue("flow_x", {"file": str(file)})
    first = await stage.dedicate("flow_x", "--grace", "1")
    await until_line(stage, file, "2")
    with trio.fail_after(20):
        await end(first)
    assert (await row_of(stage, run))["state"] == "queued"
    assert [row["step"] for row in await steps_of(stage, run)] == ["a"]
    (stage.workspace / "counts.go").touch()
    await stage.drain("flow_x")
    assert await stage.client.result(run) == 4
    assert counted(file) == {"1": 1, "2": 2, "3": 1}
    assert (await row_of(stage, run))["attempt"] == 1
    await stage.check_empty()


@pytest.mark.slow
async def test_two_workers(stage: Stage) -> None:
    """Two workers share the runs; each step of each run happens once, and all results are right."""
    file = stage.workspace / "counts"
    script(
        stage,
        "counted",
        f"import time\n{COUNT}\ndef main(x: int, run: int, file: str) -> int:\n"
        "    count(file, f'{run}.{x}')\n"
        "    time.sleep(0.002 if os.path.exists(file + '.go') else 0.02)\n    return x + run\n",
    )
    inputs = {"run": "flow_input.run", "file": "flow_input.file"}
    write_flow(
        stage.workspace,
        "flow_x",
        *(step(f"s{at}", "counted", {"x": str(at), **inputs}) for at in range(4)),
    )
    commands = [await stage.dedicate("flow_x", "--concurrency", "20") for _ in range(2)]
    for command in commands:
        await command.ready()
    runs = list(
        await stage.client.enqueue_many("flow_x", ({"run": x, "file": str(file)} for x in range(300)))
    )

    async def shared() -> bool:
        return file.exists() and len({line.split()[1] for line in file.read_text().splitlines()}) == 2

    await stage.until(shared)
    (stage.workspace / "counts.go").touch()
    await stage.until_done(300 * 5)
    assert [await stage.client.result(run) for run in runs] == [x + 3 for x in range(300)]
    assert counted(file) == {f"{run}.{x}": 1 for run in range(300) for x in range(4)}
    assert len({line.split()[1] for line in file.read_text().splitlines()}) == 2
    for command in commands:
        await end(command)
    await stage.check_empty()


async def test_args_nested_deeper_than_python_reads(stage: Stage):
    """SQL can put in args that no Python reads: that run fails and says so; its neighbours run."""
    script(stage, "one", "def main() -> int:\n    return 1\n")
    secret = {"type": "string", "format": "password", "writeOnly": True}
    for name, properties, given in (("open", {}, {}), ("hidden", {"key": secret}, {"key": "hunter22"})):
        schema = {"type": "object", "properties": {**properties, "x": {}}}
        write_flow(stage.workspace, name, step("a", "one"), schema=schema)
        runs = [await stage.client.enqueue(name, given)]
        opened = json.dumps(given)[:-1] + (", " if given else "") + '"x": '
        deep = opened + "[" * 1500 + "]" * 1500 + "}"
        runs += [await stage.connection.fetchval("select hotpath.enqueue($1, $2::text::jsonb)", name, deep)]
        runs += [await stage.client.enqueue(name, given)]
        await stage.drain(name)
        ends = await stage.connection.fetch(
            "select state, error ->> 'kind' from hotpath.job where id = any ($1::uuid[]) order by id", runs
        )
        assert [row["state"] for row in ends] == ["success", "failure", "success"]
        assert ends[1][1] == "bad_args"


@pytest.mark.slow
async def test_normal_worker_runs_flows(stage: Stage) -> None:
    """One normal worker is enough: runs, their steps in the same process, steps with another tag as jobs of
    their own, and runs that sleep meanwhile.
    """
    file = stage.workspace / "counts"
    script(stage, "counted", COUNTED)
    script(stage, "times", TIMES)
    script(stage, "far", f"import hotpath\nhotpath.settings(tag='far')\n{COUNTED}")
    at = {"file": "flow_input.file"}
    write_flow(
        stage.workspace,
        "flow_x",
        step("a", "counted", {"x": "flow_input.x", **at}, sleep=sleep(1.2)),
        loop("l", "[1, 2]", step("t", "times", {"x": "flow_input.iter.value"})),
        step("b", "far", {"x": "10 * results.a", **at}),
        step("c", "counted", {"x": "10 * results.b", **at}),
    )
    runs = [await stage.client.enqueue("flow_x", {"file": str(file), "x": x}) for x in range(5)]
    await stage.drain_all()
    assert [await stage.client.result(run) for run in runs] == [100 * (x + 1) + 11 for x in range(5)]
    assert set(counted(file).values()) == {1}
    assert len(counted(file)) == 15
    rows = await steps_of(stage, runs[3])
    assert [(row["step"], row["tag"], row["state"]) for row in rows] == [
        ("a", "flow_x", "success"),
        ("l[0]/t", "flow_x", "success"),
        ("l[1]/t", "flow_x", "success"),
        ("b", "far", "success"),
        ("c", "flow_x", "success"),
    ]
    await stage.check_empty()
