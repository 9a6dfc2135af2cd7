"""A version that is deployed takes over from the one that runs: without a gap, and only if it can be run."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import pytest
import trio
from worker_stage import Command, Stage

from hotpath.scripts.describe import describe
from hotpath.scripts.locate import locate
from hotpath.store.choices import roll_back, version_workers
from hotpath.store.scripts import register_version

VERSION = """
def main(x: int) -> list[int]:
    return [{number}, x]
"""


def save(stage: Stage, source: str, name: str = "job") -> None:
    """Have the workspace hold this."""
    (stage.workspace / f"{name}.py").write_text(source)


async def deploy(stage: Stage, name: str = "job") -> int:
    """As `hotpath deploy` does it; the version's id."""
    description = await describe(locate(name, stage.workspace))
    return (await register_version(stage.connection, description, deploy=True)).id


async def break_on_import(stage: Stage) -> int:
    """Deploy a version that can be described, and that no worker can import."""
    save(
        stage,
        "import sys\nif 'hotpath.worker.process' in sys.modules or 'hotpath.worker.loop' in sys.modules:\n"
        "    raise RuntimeError('not here')\n" + VERSION.format(number=99),
    )
    return await deploy(stage)


async def workers(stage: Stage, version: int) -> list[Any]:
    """Live workers of the script, seen from the version's."""
    script = await stage.connection.fetchval(
        "select script from hotpath.script_version where id = $1", version
    )
    return [each for each in await version_workers(stage.connection, script) if not each.is_pinned]


async def taken(stage: Stage, version: int) -> None:
    """Wait until all workers run it."""

    async def all_do() -> bool:
        found = await workers(stage, version)
        return bool(found) and all(each.version == version for each in found)

    await stage.until(all_do)


async def refused(stage: Stage, version: int) -> list[Any]:
    """Wait until the workers have said that they cannot run it."""

    async def all_say() -> list[Any] | None:
        found = await workers(stage, version)
        return found if found and all(each.refused == version for each in found) else None

    return await stage.until(all_say)


async def feed(stage: Stage, stop: trio.Event) -> list[int]:
    """Put jobs in, sealed ones and loose ones, until told; how many."""
    count = itertools.count()
    given: list[int] = []
    while not stop.is_set():
        some = [next(count) for _ in range(200)]
        await stage.client.enqueue_many("job", ({"x": x} for x in some))
        given += some
        for _ in range(5):
            x = next(count)
            await stage.client.enqueue("job", {"x": x})
            given.append(x)
        await trio.sleep(0.005)
    return given


@pytest.mark.slow
async def test_every_job_runs_once_through_three_deploys(stage: Stage):
    """Jobs flow while versions are deployed, one of which cannot be imported: none fails, none runs twice,
    and results come from ever newer versions.
    """
    save(stage, VERSION.format(number=1))
    await deploy(stage)
    command = await stage.dedicate("job", "--processes", "2")
    await command.ready()
    stop, given = trio.Event(), []

    async def produce() -> None:
        given.extend(await feed(stage, stop))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        await stage.until_done(500)
        save(stage, VERSION.format(number=2))
        second = await deploy(stage)
        await taken(stage, second)
        broken = await break_on_import(stage)
        said = await refused(stage, broken)
        assert {each.version for each in said} == {second}
        assert all("not here" in each.refusal for each in said)
        save(stage, VERSION.format(number=3))
        await taken(stage, await deploy(stage))
        stop.set()
    await stage.until_done(len(given))
    rows = await stage.connection.fetch(
        "select state, result, args, started_at, worker from hotpath.job order by started_at"
    )
    assert Counter(row["state"] for row in rows) == {"success": len(given)}
    assert sorted(json.loads(row["args"])["x"] for row in rows) == sorted(given)
    ran = [json.loads(row["result"]) for row in rows]
    assert all(result[1] == json.loads(row["args"])["x"] for result, row in zip(ran, rows, strict=True))
    assert {result[0] for result in ran} == {1, 2, 3}
    # Of each worker one version; the first job of a version starts behind the first of the one before.
    firsts = [next(i for i, result in enumerate(ran) if result[0] == number) for number in (1, 2, 3)]
    assert firsts == sorted(firsts)
    assert len({(row["worker"], result[0]) for row, result in zip(rows, ran, strict=True)}) == len(
        {row["worker"] for row in rows}
    )
    await stage.check_empty()
    await command.said("not here")


@pytest.mark.slow
async def test_async_settings_and_tag_come_with_the_version(stage: Stage):
    """A version with another tag and concurrency: its workers have them, and still heed the former tag."""
    save(stage, "import trio\nasync def main(x: int) -> int:\n    await trio.sleep(0.01)\n    return 1\n")
    await deploy(stage)
    command = await stage.dedicate("job")
    await command.ready()
    settings = "import hotpath\nhotpath.settings(tag='elsewhere', concurrency=7)\n"
    save(stage, f"{settings}async def main(x: int) -> int:\n    return 2\n")
    second = await deploy(stage)
    await taken(stage, second)
    assert await stage.client.result(await stage.client.enqueue("job", {"x": 1})) == 2
    assert await stage.client.result(await stage.client.enqueue("job", {"x": 1}, tag="job")) == 2
    row = await stage.connection.fetchrow(
        "select concurrency, tags from hotpath.worker where stopped_at is null order by id desc limit 1"
    )
    assert row["concurrency"] == 7
    assert await stage.connection.fetchval(
        "select array_agg(hotpath.tag_name(t) order by 1) from unnest($1::int8[]) t", row["tags"]
    ) == ["elsewhere", "job"]


@pytest.mark.slow
async def test_args_that_no_longer_fit_fail_when_they_run(stage: Stage):
    """Jobs that were checked against an older version and do not fit the one that runs end as bad args."""
    await stage.client.register("double")
    save(stage, "def main(x: int, y: int = 1) -> int:\n    return x\n")
    first = await deploy(stage)
    job = await stage.client.enqueue("job", {"x": 1, "y": 2})
    save(stage, "def main(x: str) -> str:\n    return x\n")
    await deploy(stage)
    await stage.drain("job")
    error = (await stage.client.job(job)).error
    assert error["kind"] == "bad_args"
    assert "`x`" in error["message"] or "`y`" in error["message"]
    await roll_back(stage.connection, "job")
    assert await stage.client.retry(job)
    await stage.drain("job")
    assert (await stage.client.job(job)).result == 1
    assert first


@pytest.mark.slow
async def test_what_is_deployed_runs_wherever_the_workspace_is(stage: Stage):
    """A worker whose workspace has another version, or none, runs the one that was deployed; its modules come
    from the workspace, and tracebacks show its lines.
    """
    (stage.workspace / "f").mkdir()
    (stage.workspace / "f" / "helper.py").write_text("def clean(x: int) -> int:\n    return 10 * x\n")
    source = (
        "from f.helper import clean\nfrom . import helper\n\ndef main(x: int) -> int:\n    if x < 0:\n"
        "        raise ValueError('negative')\n"
        "    assert __name__ == 'f.job' and helper.clean is clean\n    return clean(x)\n"
    )
    save(stage, source, "f/job")
    await deploy(stage, "f/job")
    for other in ("def main(x: int) -> int:\n    return -1\n", None):
        if other is None:
            (stage.workspace / "f" / "job.py").unlink()
        else:
            save(stage, other, "f/job")
        good = await stage.client.enqueue("f/job", {"x": 4})
        bad = await stage.client.enqueue("f/job", {"x": -4})
        command = await stage.drain("f/job")
        assert ("is deployed and runs" in command.stderr) is (other is not None)
        assert (await stage.client.job(good)).result == 40
        error = (await stage.client.job(bad)).error
        assert "f/job.py" in error["traceback"]
        assert "raise ValueError('negative')" in error["traceback"]


@pytest.mark.slow
async def test_normal_workers_run_what_is_deployed(stage: Stage):
    """Also where the workspace has nothing."""
    save(stage, VERSION.format(number=1))
    await deploy(stage)
    (stage.workspace / "job.py").unlink()
    job = await stage.client.enqueue("job", {"x": 1})
    await stage.drain_all()
    assert (await stage.client.job(job)).result == [1, 1]


@pytest.mark.slow
async def test_a_roll_back_takes_over_and_stays(stage: Stage):
    """The version before runs again, also for a worker that starts with the newer file in its workspace."""
    versions = []
    for number in (1, 2):
        save(stage, VERSION.format(number=number))
        versions.append(await deploy(stage))
    command = await stage.dedicate("job")
    await command.ready()
    assert (await stage.client.result(await stage.client.enqueue("job", {"x": 0})))[0] == 2
    await roll_back(stage.connection, "job")
    await taken(stage, versions[0])
    assert (await stage.client.result(await stage.client.enqueue("job", {"x": 0})))[0] == 1
    again = await stage.dedicate("job")
    await again.ready()
    assert {each.version for each in await workers(stage, versions[0])} == {versions[0]}
    await stage.until(lambda: said(again, "is deployed and runs"))


async def test_what_is_saved_while_a_version_is_loaded_does_not_run(stage: Stage):
    """Whoever edits on just as a worker loads what was deployed: the deployed version runs, also if what is
    in the workspace by then was loaded first.
    """
    save(stage, VERSION.format(number=1))
    await deploy(stage)
    command = await stage.dedicate("job")
    await command.ready()
    async with stage.connection.transaction():
        await stage.connection.execute("lock table hotpath.worker in share mode")  # nobody is registered
        save(stage, VERSION.format(number=2))
        async with stage.client.database.connection() as other:
            await register_version(other, await describe(locate("job", stage.workspace)), deploy=True)

            async def waits() -> bool:
                return await other.fetchval(
                    "select exists (select from pg_stat_activity where wait_event_type = 'Lock' "
                    "and query like '%insert into hotpath.worker (%' and pid <> pg_backend_pid())"
                )

            await stage.until(waits)
        save(stage, VERSION.format(number=3))

    async def runs() -> int:
        result: list[int] = await stage.client.result(await stage.client.enqueue("job", {"x": 0}))
        return result[0]

    async def is_second() -> bool:
        return await runs() == 2

    await stage.until(is_second)


async def said(command: Command, text: str) -> bool:
    """Whether the command has written that."""
    return text in command.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dedicated", "normal"])
async def test_a_flow_is_swapped(stage: Stage, kind):
    """A flow file with a script of its own and one of the workspace: a new version of either takes over, and
    the flow runs without a workspace. Whoever runs it.
    """
    flow = stage.workspace / "fl.flow"
    flow.mkdir()
    text = """
value:
  modules:
    - id: a
      value:
        type: rawscript
        language: python3
        content: '!inline a.py'
        input_transforms: {{x: {{type: javascript, expr: flow_input.x}}}}
    - id: b
      value:
        type: script
        path: part
        input_transforms: {{x: {{type: javascript, expr: results.a}}}}
schema: {{type: object, properties: {{x: {{type: integer}}}}}}
summary: "{0}"
"""
    (flow / "flow.yaml").write_text(text.format("one"))
    (flow / "a.py").write_text("def main(x: int) -> int:\n    return x + 1\n")
    save(stage, "def main(x: int) -> list[int]:\n    return [1, x]\n", "part")
    await deploy(stage, "fl")
    command = await (stage.dedicate("fl") if kind == "dedicated" else stage.normal())
    await command.ready()

    async def gives(result: list[int]) -> bool:
        return await stage.client.result(await stage.client.enqueue("fl", {"x": 1})) == result

    assert await gives([1, 2])
    save(stage, "def main(x: int) -> list[int]:\n    return [2, x]\n", "part")
    await deploy(stage, "part")
    await stage.until(lambda: gives([2, 2]))
    (flow / "a.py").write_text("def main(x: int) -> int:\n    return x + 5\n")
    await deploy(stage, "fl")
    await stage.until(lambda: gives([2, 6]))
    for file in (flow / "flow.yaml", flow / "a.py", stage.workspace / "part.py"):
        file.unlink()
    await roll_back(stage.connection, "fl")
    await stage.until(lambda: gives([2, 2]))


async def test_a_version_that_never_loads_is_given_up(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """One whose import does not end in a worker is ended; the workers keep what they have and say so, until
    something else is current.
    """
    monkeypatch.setenv("HOTPATH_LOAD_TIMEOUT", "0.1")
    save(stage, VERSION.format(number=1))
    first = await deploy(stage)
    command = await stage.dedicate("job")
    await command.ready()
    hang = "import sys, time\nwhile 'hotpath.worker.loop' in sys.modules:\n    time.sleep(60)\n"
    save(stage, hang + VERSION.format(number=2))
    (worker,) = await refused(stage, await deploy(stage))
    assert worker.version == first
    assert "it cannot be loaded: that still went on after" in worker.refusal
    assert "HOTPATH_LOAD_TIMEOUT" in worker.refusal
    assert (await stage.client.result(await stage.client.enqueue("job", {"x": 0})))[0] == 1
    await stage.until(lambda: said(command, "cannot be run, the workers keep"))
    await roll_back(stage.connection, "job")

    async def is_well() -> bool:
        (worker,) = await workers(stage, first)
        return worker.refusal is None

    await stage.until(is_well)


async def test_what_was_refused_is_forgotten_though_another_version_was_tried_since(stage: Stage):
    """Who goes back to what the workers run, while they try yet another one, leaves no word of the first."""
    save(stage, VERSION.format(number=1))
    first = await deploy(stage)
    command = await stage.dedicate("job")
    await command.ready()
    await refused(stage, await break_on_import(stage))
    tried = stage.workspace / "tried"
    hang = "import pathlib, sys, time\nwhile 'hotpath.worker.loop' in sys.modules:\n"
    hang += f"    pathlib.Path({str(tried)!r}).touch()\n    time.sleep(0.01)\n"
    save(stage, hang + VERSION.format(number=3))
    await deploy(stage)

    async def is_tried() -> bool:
        return tried.exists()

    await stage.until(is_tried)
    hash_ = await stage.connection.fetchval("select hash from hotpath.script_version where id = $1", first)
    await roll_back(stage.connection, "job", hash_)

    async def is_well() -> bool:
        return [(each.version, each.refusal) for each in await workers(stage, first)] == [(first, None)]

    await stage.until(is_well)
