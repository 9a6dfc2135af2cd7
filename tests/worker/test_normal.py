"""`hotpath worker` with real processes: any script by tag, in strict order, each kept warm."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter

import pytest
import trio
from worker_stage import Stage, gone, hurry

from hotpath.core import pacing
from hotpath.core.tags import parse_patterns
from hotpath.store.choices import version_workers
from hotpath.worker.normal import supervise_normal
from hotpath.worker.options import NormalOptions

LIST = """
import os, time

def main(x: int, file: str, seconds: float = 0.0, gate: str = "") -> int:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d\\n" % x)
    os.close(descriptor)
    if not os.path.exists(file + ".hurry"):
        time.sleep(seconds)
    while gate and not os.path.exists(gate):
        time.sleep(0.005)
    return os.getpid()
"""
OVERLAP = """
with e as (
    select started_at as at, 1 as step from hotpath.job_done
    union all
    select started_at + duration_us * interval '1 microsecond', -1 from hotpath.job_done)
select max(n)::int4 from (select sum(step) over (order by at, step) as n from e) s
"""
"""How many jobs ran at the same time."""


def write(stage: Stage, *names: str, source: str = LIST) -> None:
    """Scripts in the workspace."""
    for name in names:
        (stage.workspace / f"{name}.py").write_text(source)


async def test_drain_runs_jobs_of_any_script(stage: Stage):
    """I1, I9: jobs of several scripts, sync and async, loose and sealed, end with their results and logs."""
    await stage.client.enqueue_many("double", ({"x": x} for x in range(300)))
    for x in range(300, 320):
        await stage.client.enqueue("double", {"x": x})
        await stage.client.enqueue("nap", {"x": x})
        await stage.client.enqueue("size", {"text": "a" * x})
    command = await stage.drain_all()
    rows = await stage.rows()
    assert Counter((row["script"], row["state"]) for row in rows) == {
        ("double", "success"): 288,
        ("double", "failure"): 32,
        ("nap", "success"): 20,
        ("size", "success"): 20,
    }
    for row in rows:
        args = json.loads(row["args"])
        if row["script"] == "size":
            assert row["result"] == str(len(args["text"]))
        elif row["state"] == "success":
            assert row["result"] == str(args["x"] * (2 if row["script"] == "double" else 1))
    assert await stage.connection.fetchval("select count(*) from hotpath.job_log") == 32
    assert command.last["event"] == "drained"
    assert (command.last["jobs"], command.last["failure"]) == (360, 32)
    await stage.check_empty()
    assert await stage.worker_pids() == []
    assert {event["script"] for event in command.events if event["event"] == "warm"} == {
        "double",
        "nap",
        "size",
    }


async def order(stage: Stage, path: str = "marks") -> list[int]:
    """The numbers of jobs in the order in which they began."""
    return [int(line) for line in (stage.workspace / path).read_text().split()]


async def test_one_slot_starts_jobs_in_strict_order(stage: Stage):
    """I4: jobs of several scripts, tags and priorities, loose and sealed, begin by priority, time and id."""
    write(stage, "a", "b", "c")
    marks = str(stage.workspace / "marks")
    x = 0
    for turn in range(12):
        for script in ("a", "b", "c"):
            await stage.client.enqueue(
                script,
                {"x": x, "file": marks},
                priority=(x * 7) % 5 - 2,
                tag=f"t{x % 4}" if turn % 2 else None,
            )
            x += 1
        args = [{"x": x + k, "file": marks} for k in range(4)]
        await stage.client.enqueue_many("abc"[turn % 3], args, priority=turn % 3)
        x += 4
    rows = await stage.connection.fetch(
        "select (args ->> 'x')::int as x from hotpath.job order by priority desc, scheduled_for, id"
    )
    await stage.drain_all()
    assert await order(stage) == [row["x"] for row in rows]
    assert await stage.states() == {"success": x}
    await stage.check_empty()


@pytest.mark.slow
async def test_better_jobs_go_first_while_it_runs(stage: Stage):
    """I4: what comes with a higher priority begins before what waits, whichever script and tag it has."""
    write(stage, "a", "b")
    await stage.client.register("b")
    marks, gate = str(stage.workspace / "marks"), stage.workspace / "gate"
    for x in range(40):
        held = {"gate": str(gate)} if x == 4 else {}
        await stage.client.enqueue("a", {"x": x, "file": marks, "seconds": 0.02, **held})
    command = await stage.normal("--drain")
    await stage.until_done(3)
    await stage.client.enqueue("b", {"x": 100, "file": marks}, priority=5)
    gate.touch()
    assert await command.wait() == 0, command.stderr
    began = await order(stage)
    assert began.index(100) < 30
    assert [x for x in began if x < 100] == list(range(40))


@pytest.mark.slow
async def test_several_slots_run_side_by_side(stage: Stage):
    """Two slots are two jobs at a time, of one script or of two."""
    write(stage, "a", "b")
    marks = str(stage.workspace / "marks")
    for x in range(8):
        await stage.client.enqueue("ab"[x % 2], {"x": x, "file": marks, "seconds": 0.5})
    await stage.drain_all("--slots", "2")
    assert await stage.states() == {"success": 8}
    assert await stage.connection.fetchval(OVERLAP) == 2
    await stage.connection.execute("delete from hotpath.job_done")
    for x in range(8):
        await stage.client.enqueue("a", {"x": x, "file": marks, "seconds": 0.5})
    await stage.drain_all("--slots", "2")
    assert await stage.states() == {"success": 8}
    assert await stage.connection.fetchval(OVERLAP) == 2
    rows = await stage.connection.fetch("select distinct result::text from hotpath.job")
    assert len(rows) == 2


async def test_async_script_runs_up_to_its_concurrency(stage: Stage):
    """One slot is one process: an async script runs many jobs in it at a time."""
    await stage.client.enqueue_many("nap", ({"x": x, "seconds": 0.3} for x in range(200)))
    command = await stage.drain_all()
    assert await stage.states() == {"success": 200}
    assert command.last["seconds"] < 20, "one after the other it is a minute"


async def test_listens_to_its_tags_alone(stage: Stage):
    """Names, patterns and exclusions; a pattern that fits nothing is said."""
    write(stage, "a")
    marks = str(stage.workspace / "marks")
    for x, tag in enumerate(("etl-1", "etl-slow", "other", "etl-2", "named")):
        await stage.client.enqueue("a", {"x": x, "file": marks}, tag=tag)
    command = await stage.drain_all("--tags", "etl-*,!etl-slow,named", "--tags", "nothing-*,absent")
    assert await order(stage) == [0, 3, 4]
    assert await stage.states() == {"success": 3, "queued": 2}
    assert "nothing-*: it fits no tag" in command.stderr
    assert "tags: absent: no script or job has this tag" in command.stderr
    assert "etl-slow" not in command.stderr.replace("!etl-slow", "")
    assert "named:" not in command.stderr


async def test_wakes_for_known_tags(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """I5: a job in a known tag wakes the worker, which would look for it in a minute only."""
    for name in ("FIRST_WAIT", "LONGEST_WAIT"):
        monkeypatch.setattr(pacing, name, 60.0)
    options = NormalOptions(workspace=stage.workspace, patterns=parse_patterns(["*"]), quiet=True)
    first = await stage.client.enqueue("double", {"x": 1})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise_normal, stage.client.config, options)
        with trio.fail_after(20):
            assert await stage.client.result(first) == 2
        for x in range(5, 8):
            await stage.until(
                lambda: stage.connection.fetchval(
                    "select count(*) from hotpath.doze d join hotpath.tag t on t.id = d.tag"
                    " where t.name = 'double' and d.until > now()"
                )
            )
            with trio.fail_after(20):
                assert await stage.client.result(await stage.client.enqueue("double", {"x": x})) == 2 * x
        nursery.cancel_scope.cancel(reason="the test has seen enough")


async def test_finds_new_tags(stage: Stage):
    """A job in a tag that nobody knew begins within a second or so; not only with the look that comes after
    ten, whatever it costs.
    """
    command = await stage.normal()
    await command.ready()
    job = await stage.client.enqueue("double", {"x": 1})
    assert await stage.client.result(job) == 2  # warm from now on
    job = await stage.client.enqueue("double", {"x": 2}, tag="brand-new")
    with trio.fail_after(pacing.LOOK_LATEST - 1):
        assert await stage.client.result(job) == 4


@pytest.mark.slow
async def test_script_that_cannot_be_loaded_fails_its_jobs(stage: Stage):
    """Its jobs end as failures that say which file and why; others are not kept from running."""
    write(stage, "a")
    marks = str(stage.workspace / "marks")
    await stage.client.register("a")
    absent = "import sys\nif 'hotpath.worker.loop' in sys.modules:\n    import nothing_of_the_kind\n"
    write(stage, "bad", source=absent + LIST)
    await stage.client.register("bad")
    ids = [await stage.client.enqueue("bad", {"x": x, "file": marks}) for x in range(3)]
    await stage.client.enqueue("a", {"x": 7, "file": marks})
    command = await stage.drain_all()
    assert (command.last["jobs"], command.last["failure"]) == (4, 3)
    assert await order(stage) == [7]
    for job in ids:
        error = (await stage.client.job(job)).error
        assert error["kind"] == "exception"
        assert "bad" in error["message"]
        assert "nothing_of_the_kind" in error["message"] + error["traceback"]
    await stage.check_empty()


@pytest.mark.slow
async def test_killed_process_is_started_again(stage: Stage):
    """I1, I6: kill -9 of a script's process: what it held runs again, in another one."""
    marks = stage.workspace / "marks"
    await stage.client.enqueue_many(
        "mark", ({"x": x, "file": str(marks), "seconds": 0.01} for x in range(2000))
    )
    command = await stage.normal("--drain")
    await stage.until_done(20)
    pid = await stage.connection.fetchval(
        "select pid from hotpath.worker where stopped_at is null and script is not null"
    )
    os.kill(pid, signal.SIGKILL)
    hurry(marks)
    assert await command.wait() == 0, command.stderr
    assert gone(pid)
    assert await stage.states() == {"success": 2000}
    assert set(await order(stage)) == set(range(2000))
    await stage.check_empty()


@pytest.mark.slow
async def test_poison_fails_alone(stage: Stage):
    """I7: a job that kills its process fails after three crashes; others of its script do not."""
    write(
        stage,
        "poison",
        source="import os\n\ndef main(x: int) -> int:\n    if x == 5:\n        os._exit(3)\n    return x\n",
    )
    for x in range(10):
        await stage.client.enqueue("poison", {"x": x})
        await stage.client.enqueue("double", {"x": x * 10})
    await stage.drain_all()
    rows = await stage.rows()
    assert Counter((row["script"], row["state"]) for row in rows) == {
        ("poison", "success"): 9,
        ("poison", "failure"): 1,
        ("double", "success"): 10,
    }
    (failed,) = (row for row in rows if row["state"] == "failure")
    assert json.loads(failed["error"])["kind"] == "crash"
    await stage.check_empty()


async def test_time_out_and_cancel(stage: Stage):
    """I8: a job over its time ends as a failure, one that somebody cancels as canceled, and others go on."""
    write(
        stage, "sleepy", source="import time\n\ndef main(x: int) -> int:\n    time.sleep(60)\n    return x\n"
    )
    late = await stage.client.enqueue("sleepy", {"x": 1}, timeout=0.3, priority=2)
    stop = await stage.client.enqueue("sleepy", {"x": 2}, priority=1)
    last = await stage.client.enqueue("double", {"x": 1})
    command = await stage.normal("--drain")

    async def runs() -> bool:
        return (await stage.client.job(stop)).state == "running"

    await stage.until(runs)
    assert await stage.client.cancel(stop)
    assert await command.wait() == 0, command.stderr
    assert (await stage.client.job(late)).error["kind"] == "timeout"
    assert (await stage.client.job(stop)).state == "canceled"
    assert (await stage.client.job(last)).state == "success"


async def test_sigterm_ends_well(stage: Stage):
    """I12: what runs ends, what was claimed and not begun is queued again, attempt 0; the exit is 0."""
    write(stage, "a", "b")
    marks = str(stage.workspace / "marks")
    for x in range(60):
        await stage.client.enqueue("ab"[x % 2], {"x": x, "file": marks, "seconds": 0.02})
    for n in range(2):
        more = ({"x": x, "file": marks, "seconds": 0.02} for x in range(60 + n, 1060, 2))
        await stage.client.enqueue_many("ab"[n], more)
    command = await stage.normal()
    await stage.until_done(6)
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    states = await stage.states()
    began = await order(stage)
    assert states["success"] == len(began) == len(set(began)) < 1060
    assert states.total() == 1060
    assert {row["attempt"] for row in await stage.rows() if row["state"] == "queued"} == {0}
    assert await stage.connection.fetchval("select count(*) from hotpath.lease") == 0
    assert await stage.worker_pids() == []


async def test_sigterm_lets_what_runs_end(stage: Stage):
    """I12: one SIGTERM is one: a job that runs on while the rest is given back ends, and runs once."""
    write(stage, "a")
    gate = stage.workspace / "gate"
    args = {"file": str(stage.workspace / "marks"), "gate": str(gate)}
    job = await stage.client.enqueue("a", {"x": 0, **args})
    command = await stage.normal()

    async def begun() -> bool:
        return (stage.workspace / "marks").exists()

    async def has_left() -> bool:
        return await stage.connection.fetchval(
            "select bool_or(stopped_at is not null) from hotpath.worker where script is null"
        )

    await stage.until(begun)
    command.process.terminate()
    await stage.until(has_left)
    gate.touch()
    assert await command.wait() == 0, command.stderr
    ended = await stage.client.job(job)
    assert (ended.state, ended.attempt, await order(stage)) == ("success", 1, [0])


@pytest.mark.slow
async def test_slow_job_keeps_nobody_waiting(stage: Stage):
    """What was claimed behind a job that turns out slow goes back, for other workers to have it."""
    write(stage, "a", "b")
    marks = str(stage.workspace / "marks")
    for x in range(20):
        await stage.client.enqueue("ab"[x % 2], {"x": x, "file": marks})
    command = await stage.normal()
    await stage.until_done(20)
    await stage.client.enqueue("a", {"x": 100, "file": marks, "seconds": 600}, priority=1)
    for x in range(20, 30):
        await stage.client.enqueue("b", {"x": x, "file": marks})

    async def one_runs() -> bool:
        return (await stage.states()) == {"success": 20, "running": 1, "queued": 10}

    await stage.until(one_runs)
    await stage.drain("b")
    assert await stage.states() == {"success": 30, "running": 1}
    await command.signal()
    command.process.terminate()
    assert await command.wait() == 0, command.stderr


async def test_new_version_is_run(stage: Stage):
    """A warm process of an older version makes room for one of the current one."""
    write(stage, "v", source="def main(x: int) -> int:\n    return 1\n")
    command = await stage.normal()
    await command.ready()
    assert await stage.client.result(await stage.client.enqueue("v", {"x": 1})) == 1
    write(stage, "v", source="def main(x: int) -> int:\n    return 2\n")
    await stage.client.register("v")

    async def is_new() -> bool:
        return await stage.client.result(await stage.client.enqueue("v", {"x": 1})) == 2

    await stage.until(is_new)
    for _ in range(5):
        assert await is_new()
    assert command.process.returncode is None


async def test_a_new_version_that_cannot_be_loaded_is_said(stage: Stage):
    """The warm process of the older one goes on, and the database knows why, until that is the one to run."""
    source = "def main(x: int) -> int:\n    return 1\n"
    write(stage, "v", source=source)
    good = await stage.client.register("v")
    command = await stage.normal()
    await command.ready()
    assert await stage.client.result(await stage.client.enqueue("v", {"x": 1})) == 1
    raises = "import sys\nif 'hotpath.worker.loop' in sys.modules or 'hotpath.worker.fed' in sys.modules:\n"
    write(stage, "v", source=f"{raises}    raise RuntimeError('not here')\n{source}")
    broken = await stage.client.register("v")

    async def refused() -> int | None:
        found = await version_workers(stage.connection, good.script)
        (worker,) = [each for each in found if each.version == good.id]
        assert worker.refusal is None or "RuntimeError: not here" in worker.refusal
        return worker.refused

    async def is_said() -> bool:
        return await refused() == broken.id

    async def is_forgotten() -> bool:
        return await refused() is None

    await stage.until(is_said)
    assert await stage.client.result(await stage.client.enqueue("v", {"x": 1})) == 1
    await command.said("processes of an older one go on: v cannot be imported")
    assert "its jobs fail" not in command.stderr
    write(stage, "v", source=source)
    await stage.client.register("v")
    await stage.until(is_forgotten)


async def test_least_recently_used_goes(stage: Stage):
    """No more scripts are kept warm than asked for."""
    write(stage, "a", "b", "c")
    marks = str(stage.workspace / "marks")
    command = await stage.normal("--warm", "2")
    await command.ready()
    for x, script in enumerate(("a", "b", "a", "c", "a", "b")):
        await stage.client.result(await stage.client.enqueue(script, {"x": x, "file": marks}))

    async def warm() -> list[str]:
        return [event["script"] for event in command.events if event["event"] == "warm"]

    async def four() -> bool:
        return len(await warm()) >= 4

    await stage.until(four)
    assert await warm() == ["a", "b", "c", "b"]

    async def two() -> bool:
        return len(await stage.worker_pids()) == 3  # with the worker's own row

    await stage.until(two)


@pytest.mark.slow
async def test_limits_and_pauses_are_heeded(stage: Stage):
    """Two slots never run more of a script than its limit allows, others go on, and a paused tag rests."""
    write(stage, "a")
    source = LIST.replace("def main", "import hotpath\n\nhotpath.settings(limit=1)\n\ndef main", 1)
    write(stage, "narrow", source=source)
    marks = str(stage.workspace / "marks")
    gate = stage.workspace / "gate"
    for x in range(6):
        held = {"gate": str(gate)} if x == 4 else {"seconds": 0.05}
        await stage.client.enqueue("narrow", {"x": x, "file": marks, **held}, priority=1, tag="both")
        await stage.client.enqueue("a", {"x": 10 + x, "file": marks}, tag="both")
    resting = await stage.client.enqueue("a", {"x": 99, "file": marks}, priority=9, tag="rests")
    await stage.connection.execute("select hotpath.pause_tag('rests', reason => 'a test')")
    command = await stage.normal("--slots", "2")
    await stage.until_done(10)
    gate.touch()
    await stage.until_done(12)
    assert (await stage.client.job(resting)).state == "queued"
    overlap = await stage.connection.fetchval(
        "select count(*) from hotpath.job_done a"
        " join hotpath.job_done b on a.script = b.script and a.id < b.id"
        " join hotpath.script s on s.id = a.script and s.name = 'narrow'"
        " where a.started_at < b.started_at + b.duration_us * interval '1 microsecond'"
        " and b.started_at < a.started_at + a.duration_us * interval '1 microsecond'"
    )
    assert overlap == 0
    began = await order(stage)
    assert max(began.index(10 + x) for x in range(6)) < began.index(5)
    assert [x for x in began if x < 10] == list(range(6))
    await stage.connection.execute("select hotpath.resume_tag('rests')")
    assert await stage.client.result(resting)
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    await stage.check_empty()


@pytest.mark.slow
async def test_two_workers_share(stage: Stage):
    """I1, I2: two normal workers, of two slots each, run every job once between them."""
    write(stage, "a", "b", "c")
    marks = str(stage.workspace / "marks")
    for script in "abc":
        await stage.client.enqueue_many(
            script, ({"x": x, "file": marks, "seconds": 0.001} for x in range(200)), priority=len(script)
        )
    for x in range(60):
        await stage.client.enqueue("abc"[x % 3], {"x": x, "file": marks})
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(stage.drain_all, "--slots", "2")
    assert await stage.states() == {"success": 660}
    assert len(await order(stage)) == 660
    await stage.check_empty()


@pytest.mark.slow
async def test_processes_end_with_their_supervisor(stage: Stage):
    """I6: after kill -9 of the worker's supervisor all that it had claimed is back at once, uncharged."""
    write(stage, "a", "b")
    marks = str(stage.workspace / "marks")
    for x in range(60):
        await stage.client.enqueue("ab"[x % 2], {"x": x, "file": marks, "seconds": 0.005})
    for n in range(2):
        more = ({"x": x, "file": marks, "seconds": 0.005} for x in range(60 + n, 2060, 2))
        await stage.client.enqueue_many("ab"[n], more)
    command = await stage.normal()
    await stage.until_done(10)
    pids = [
        row[0]
        for row in await stage.connection.fetch("select pid from hotpath.worker where script is not null")
    ]
    command.process.kill()
    await command.wait()

    async def ended() -> bool:
        return all(gone(pid) for pid in pids)

    await stage.until(ended)
    states = await stage.states()
    assert set(states) == {"success", "queued"}
    assert states.total() == 2060
    assert {row["attempt"] for row in await stage.rows() if row["state"] == "queued"} == {0}
    assert not await stage.connection.fetchval("select count(*) from hotpath.lease")
    hurry(marks)
    await stage.drain_all()
    assert await stage.states() == {"success": 2060}


async def test_pinned_versions_are_scripts_of_their_own(stage: Stage):
    """A job that names a version runs it, from the database, beside jobs of the current one."""
    write(stage, "v", source="def main(x: int) -> int:\n    return 1\n")
    await stage.client.register("v")
    first = await stage.connection.fetchval("select hash from hotpath.script_version")
    write(stage, "v", source="def main(x: int) -> int:\n    return 2\n")
    await stage.client.register("v")
    jobs = [
        await stage.client.enqueue("v" if x % 2 else f"v@{first[:12]}", {"x": x}, priority=-x)
        for x in range(6)
    ]
    command = await stage.drain_all()
    assert [await stage.client.result(job) for job in jobs] == [1, 2, 1, 2, 1, 2]
    warm = [event["script"] for event in command.events if event["event"] == "warm"]
    assert warm == [f"v@{first[:12]}", "v"]


@pytest.mark.slow
async def test_processes_wear_out(stage: Stage):
    """A process that has run as many jobs as it may makes room for a warm one; no job is lost or doubled."""
    write(stage, "a")
    marks = str(stage.workspace / "marks")
    command = await stage.normal("--max-jobs", "5")
    pids, x = set(), 0
    with trio.fail_after(30):
        while len(pids) < 3:
            pids.add(await stage.client.result(await stage.client.enqueue("a", {"x": x, "file": marks})))
            x += 1
    assert await order(stage) == list(range(x))
    assert await stage.states() == {"success": x}
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    await stage.check_empty()


async def test_memory_bounds_what_is_warm(stage: Stage):
    """Processes that take more memory together than they may are let go, all but one."""
    write(stage, "a", "b")
    marks = str(stage.workspace / "marks")
    command = await stage.normal("--warm-memory", "20M")
    await command.ready()
    for x, script in enumerate(("a", "b")):
        await stage.client.result(await stage.client.enqueue(script, {"x": x, "file": marks}))

    async def one() -> bool:
        return len(await stage.worker_pids()) == 2  # with the worker's own row

    await stage.until(one)
