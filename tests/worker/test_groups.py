"""Workers of a group: they run as it is configured, heed changes without a gap, and say what cannot be."""

import os
import signal
import sys
import textwrap
import time

import pytest
import trio
from group_stage import TELL, pids_of, until_in_force, until_refused
from worker_stage import gone

from hotpath.errors import GroupInUseError, UsageError
from hotpath.worker.lives import TRY_AGAIN


@pytest.fixture
async def group(stage):
    """A stage with the script `tell`."""
    (stage.workspace / "tell.py").write_text(textwrap.dedent(TELL))
    return stage


async def test_tags_without_a_restart(group):
    """Other tags are in force within a second, in the same process; those that are gone are left alone."""
    await group.client.set_group("g", tags=["a", "b:3"])
    command = await group.dedicate("tell", "--group", "g")
    await command.ready()
    await until_in_force(group, "g")
    first = await group.client.result(await group.client.enqueue("tell", tag="a"))
    waiting = await group.client.enqueue("tell", tag="c")
    began = time.monotonic()
    await group.client.set_group("g", tags=["c", "d"])
    second = await group.client.result(waiting)
    assert time.monotonic() - began < 15  # within 1 s on a quiet machine: bench/scenarios/config.py
    assert second[0] == first[0], "it is the same process"
    await until_in_force(group, "g")
    (worker,) = [each for each in await group.client.workers() if each.stopped_at is None]
    assert worker.tags == ["c", "d"]
    old = await group.client.enqueue("tell", tag="a")
    for _ in range(3):
        assert (await group.client.result(await group.client.enqueue("tell", tag="d")))[0] == first[0]
    assert (await group.client.job(old)).state == "queued"

    async def sleeps_on_these():
        rows = await group.connection.fetch("select hotpath.tag_name(tag) from hotpath.doze")
        return {row[0] for row in rows} == {"c", "d"}

    await group.until(sleeps_on_these)


async def test_tags_of_a_larger_priority_first(group):
    """A tag's priority goes before that of the jobs."""
    jobs = [await group.client.enqueue("tell", tag="low", priority=9) for _ in range(2)]
    jobs += [await group.client.enqueue("tell", tag="high", priority=1) for _ in range(2)]
    await group.client.set_group("g", tags=["low", "high:5"])
    await group.drain("tell", "--group", "g")
    ended = await group.connection.fetch("select id from hotpath.job_done order by started_at")
    assert [str(row[0]) for row in ended] == [str(job) for job in (*jobs[2:], *jobs[:2])]


async def test_environment_by_a_rolling_restart(group, monkeypatch):
    """While jobs flow, the workers are replaced one after the other: no job fails or runs twice, there is
    always a worker that is ready, and the new ones have the new environment and nothing that was not given.
    """
    monkeypatch.setenv("HOST_COLOUR", "green")
    monkeypatch.setenv("NOBODYS", "1")
    await group.client.set_group("g", env={"COLOUR": "red"}, processes=2)
    command = await group.dedicate("tell", "--group", "g")
    await command.ready()
    await until_in_force(group, "g")
    assert (await pids_of(group))[1] == "red"
    assert (await pids_of(group, name="NOBODYS"))[1] is None
    assert (await pids_of(group, name="HOTPATH_DATABASE_URL"))[1] is None
    assert (await pids_of(group, name="WORKER_GROUP"))[1] == "g"
    before = set(await group.worker_pids())
    ids, changed, least = [], trio.Event(), []

    async def flow():
        while not changed.is_set():
            ids.append(await group.client.enqueue("tell"))
            await trio.sleep(0.005)

    async def watch():
        while not changed.is_set():
            alive = {each.name for each in await group.client.workers() if each.stopped_at is None}
            await trio.lowlevel.checkpoint()  # who is ready was said before, and may not be read yet
            ready = {event["worker"] for event in command.events if event["event"] == "ready"}
            least.append(len(alive & ready))
            await trio.sleep(0.01)

    await group.until(lambda: _ready(command, 2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow)
        nursery.start_soon(watch)
        await group.client.set_group("g", env={"COLOUR": "blue"}, env_from_host=["HOST_COLOUR"])
        await until_in_force(group, "g")
        changed.set()
    assert min(least) >= 2, "one more is ready before one goes"
    await group.until(lambda: _gone(group, before))
    assert (await pids_of(group))[1] == "blue"
    assert (await pids_of(group, name="HOST_COLOUR"))[1] == "green"
    results = [await group.client.result(job) for job in ids]
    assert {colour for _, colour in results} <= {"red", "blue"}
    assert (await group.states()).keys() == {"success"}
    assert await group.connection.fetchval("select max(attempt) from hotpath.job_done") == 1


async def _ready(command, count):
    return sum(event["event"] == "ready" for event in command.events) >= count


async def _gone(stage, pids):
    return pids.isdisjoint(await stage.worker_pids())


async def test_processes_up_and_down(group):
    """More are started and some end, the others stay who they are; flags go before the group."""
    await group.client.set_group("g", processes=1)
    command = await group.dedicate("tell", "--group", "g")
    await command.ready()
    (first,) = await group.worker_pids()
    await group.client.set_group("g", processes=3)
    await group.until(lambda: _count(group, 3))
    assert first in await group.worker_pids()
    await group.client.set_group("g", processes=1)
    await group.until(lambda: _count(group, 1))
    assert await group.worker_pids() == [first]
    await until_in_force(group, "g")
    fixed = await group.dedicate("double", "--group", "g", "--processes", "2")
    await group.until(lambda: _count(group, 3))
    fixed.process.terminate()
    assert await fixed.wait() == 0


async def _count(stage, count):
    return len(await stage.worker_pids()) == count


async def test_what_cannot_be_applied(group, monkeypatch):
    """A variable that the host lacks, an init script that fails, workers that cannot load with it: the old
    configuration stays in force, whole, and the database says why.
    """
    (group.workspace / "picky.py").write_text(
        "import os\nassert os.environ.get('COLOUR') != 'bad'\n"
        "def main():\n    return [os.getpid(), os.environ['COLOUR']]\n"
    )
    await group.client.set_group("g", env={"COLOUR": "red"})
    command = await group.dedicate("picky", "--group", "g")
    await command.ready()
    (worker,) = await until_in_force(group, "g")
    pid = await pids_of(group, "picky")
    for changes, words in (
        ({"env_from_host": ["NOT_THERE"]}, "NOT_THERE is not set"),
        ({"env_from_host": None, "init": "exit 3"}, "exit code 3"),
        ({"init": None, "env": {"COLOUR": "bad"}}, "AssertionError"),
    ):
        await group.client.set_group("g", **changes, processes=2)
        (refused,) = await until_refused(group, "g", words)
        assert refused.revision == worker.revision
        assert await pids_of(group, "picky") == pid
    os.kill(pid[0], signal.SIGKILL)
    with trio.fail_after(TRY_AGAIN - 3):  # it is replaced at once, and not when the next try is due
        assert (await pids_of(group, "picky"))[1] == "red", "the next one has what is in force"
    await group.client.set_group("g", env={"COLOUR": "good"}, processes=1)
    (after,) = await until_in_force(group, "g")
    assert after.revision == (await group.client.group("g")).revision
    assert await pids_of(group, "picky") != pid


async def test_a_newer_configuration_goes_first(group):
    """Workers that do not come to an end loading are ended when there is a newer configuration."""
    (group.workspace / "slow.py").write_text(
        "import os, time\nwhile os.environ.get('COLOUR') == 'slow':\n    time.sleep(0.1)\n"
        "def main():\n    return os.environ['COLOUR']\n"
    )
    await group.client.set_group("g", env={"COLOUR": "red"})
    command = await group.dedicate("slow", "--group", "g")
    await command.ready()
    await until_in_force(group, "g")
    await group.client.set_group("g", env={"COLOUR": "slow"})
    await group.until(lambda: _count(group, 2))
    assert await pids_of(group, "slow") == "red"
    await group.client.set_group("g", env={"COLOUR": "blue"})
    await until_in_force(group, "g")
    assert await pids_of(group, "slow") == "blue"
    await group.until(lambda: _count(group, 1))


async def test_stopped_while_init_runs(group):
    """SIGTERM ends the init script, too, and the exit code is 0."""
    pid = group.workspace / "pid"
    await group.client.set_group("g", init=f"echo $$ > {pid}.tmp; mv {pid}.tmp {pid}; sleep 600")
    command = await group.dedicate("tell", "--group", "g")

    async def runs():
        return pid.exists()

    await group.until(runs)
    command.process.terminate()
    assert await command.wait() == 0
    assert gone(int(pid.read_text()))


async def test_at_the_start(group):
    """What cannot be is said at once, in one line."""
    await group.client.set_group("g", env_from_host=["NOT_THERE"])
    command = await group.dedicate("tell", "--group", "g")
    assert await command.wait() == 2
    assert "`env_from_host`: NOT_THERE is not set" in command.stderr


async def test_deleted_under_its_workers(group):
    """A group with live workers is deleted only by force; they go on as they are and say so. Made again, it
    is heeded again.
    """
    await group.client.set_group("g", env={"COLOUR": "red"})
    command = await group.dedicate("tell", "--group", "g")
    await command.ready()
    await until_in_force(group, "g")
    with pytest.raises(GroupInUseError, match="1 live worker belongs"):
        await group.client.delete_group("g")
    assert len(await group.client.delete_group("g", force=True)) == 1
    await until_refused(group, "g", "the group was deleted")
    assert (await pids_of(group))[1] == "red"
    await group.client.set_group("g", env={"COLOUR": "blue"})
    await until_in_force(group, "g")
    assert (await pids_of(group))[1] == "blue"


@pytest.mark.slow
async def test_configured_later(group):
    """A group need not be configured; once it is, its workers heed that."""
    command = await group.dedicate("tell", "--group", "g")
    await command.ready()
    assert (await pids_of(group))[1] is None
    await group.client.set_group("g", env={"COLOUR": "red"}, path=["lib"])
    await until_in_force(group, "g")
    assert (await pids_of(group))[1] == "red"
    assert str(group.workspace / "lib") in (await pids_of(group, name="PYTHONPATH"))[1]


async def test_by_the_environment(group, monkeypatch):
    """WORKER_GROUP does what --group does."""
    monkeypatch.setenv("WORKER_GROUP", "g")
    await group.client.set_group("g", env={"COLOUR": "red"})
    command = await group.dedicate("tell")
    await command.ready()
    assert (await pids_of(group))[1] == "red"
    await until_in_force(group, "g")


async def _script_jobs(stage, name):
    rows = await stage.connection.fetch("select * from hotpath.job where script like $1 order by id", name)
    return [(row, await stage.client.log(row["id"])) for row in rows]


async def test_init(group):
    """It runs once, before any worker, in the group's environment, and is a job with a log, whose secrets are
    masked.
    """
    await group.client.set_group(
        "g",
        env={"COLOUR": "red", "API_TOKEN": "s3cr3t-value"},
        init="echo $COLOUR $API_TOKEN; echo oops >&2; touch made",
    )
    command = await group.dedicate("tell", "--group", "g", "--processes", "2")
    await command.ready()
    assert (group.workspace / "made").exists()
    ((job, log),) = await _script_jobs(group, "init/%")
    assert (job["state"], job["result"]) == ("success", "null")
    assert log.startswith("red ")
    assert log.endswith("oops\n")
    assert "s3cr3t" not in log
    assert (await group.client.job(job["id"])).script == job["script"]
    with pytest.raises(UsageError, match="a script of a worker group"):
        await group.client.retry(job["id"])
    first = await group.worker_pids()
    await group.client.set_group("g", init=f"#!{sys.executable}\nprint('again')")
    await until_in_force(group, "g")
    assert [log for _, log in await _script_jobs(group, "init/%")][1] == "again\n"
    await group.until(lambda: _gone(group, set(first)))


async def test_init_that_fails_or_hangs(group):
    """Then no worker starts, the exit code is 1, and what it printed is kept. One that hangs is killed with
    all that it has started.
    """
    await group.client.set_group("g", init="echo so far; exit 7")
    command = await group.dedicate("tell", "--group", "g")
    assert await command.wait() == 1
    assert "exit code 7" in command.stderr
    ((job, log),) = await _script_jobs(group, "init/%")
    assert (job["state"], log) == ("failure", "so far\n")
    assert str(job["id"]) in command.stderr
    marker = group.workspace / "child.pid"
    await group.client.set_group(
        "g", init={"language": "python", "text": textwrap.dedent(f"""
            import subprocess, time
            child = subprocess.Popen(["sleep", "600"])
            open({str(marker)!r}, "w").write(str(child.pid))
            print("waits")
            time.sleep(600)
        """)}, init_timeout=3,
    )  # fmt: skip
    command = await group.dedicate("tell", "--group", "g")
    assert await command.wait() == 1
    assert "it still ran after 3 s" in command.stderr
    job, log = (await _script_jobs(group, "init/%"))[1]
    assert log == "waits\n"
    assert '"timeout"' in job["error"]

    async def child_gone():
        return gone(int(marker.read_text()))

    await group.until(child_gone)
    assert not await group.worker_pids()


async def test_periodic(group):
    """It runs beside the workers and is recorded each time; one that fails stops nothing, one that is taken
    out runs no more.
    """
    await group.client.set_group(
        "g",
        periodic=[
            {"name": "clean", "every": 3600, "text": "echo $COLOUR"},
            {"name": "bad", "every": 3600, "text": "exit 2"},
        ],
        env={"COLOUR": "red"},
    )
    command = await group.dedicate("tell", "--group", "g")
    await command.ready()
    await group.until(lambda: _script_jobs(group, "periodic/%/clean"))
    await group.until(lambda: _script_jobs(group, "periodic/%/bad"))
    ((good, log),) = await _script_jobs(group, "periodic/%/clean")
    ((bad, _),) = await _script_jobs(group, "periodic/%/bad")
    assert (good["state"], log, bad["state"]) == ("success", "red\n", "failure")
    assert "exit code 2" in bad["error"]
    assert (await pids_of(group))[1] == "red"
    more = {"name": "more", "every": 3600, "text": "echo more"}
    await group.client.set_group("g", periodic=[more], unset=["periodic.bad", "periodic.clean"])
    await group.until(lambda: _script_jobs(group, "periodic/%/more"))
    await until_in_force(group, "g")
    assert len(await _script_jobs(group, "periodic/%/clean")) == 1, "one that is the same keeps its rhythm"
