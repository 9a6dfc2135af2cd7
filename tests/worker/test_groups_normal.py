"""`hotpath worker --group`: normal workers, and scripts that have workers of their own, as a group says."""

import os
import signal
import sys
import textwrap

import pytest
import trio
from group_stage import TELL, pids_of, until_in_force, until_refused


@pytest.fixture
async def group(stage):
    """A stage with the scripts `tell` and `other`, which say who runs them."""
    for name in ("tell", "other"):
        (stage.workspace / f"{name}.py").write_text(textwrap.dedent(TELL))
    return stage


async def test_a_group_that_is_not_there(group):
    """It is named, and the exit code is 2."""
    command = await group.normal("--group", "nope")
    assert await command.wait() == 2
    assert "--group: no group 'nope' is configured" in command.stderr


async def test_the_default_group_need_not_be_configured(group):
    """Its workers listen to all tags, and heed it once it is configured."""
    command = await group.normal("--group", "default")
    await command.ready()
    await group.client.result(await group.client.enqueue("tell", tag="a"))
    await group.client.set_group("default", tags=["b"], env={"COLOUR": "red"})
    await until_in_force(group, "default")
    waiting = await group.client.enqueue("tell", tag="a")
    assert (await group.client.result(await group.client.enqueue("tell", tag="b")))[1] == "red"
    assert (await group.client.job(waiting)).state == "queued"


async def test_tags_and_environment(group):
    """Other tags without a restart, another environment by processes that take the places of warm ones."""
    await group.client.set_group("g", tags=["a", "b-*"], env={"COLOUR": "red"}, slots=2)
    command = await group.normal("--group", "g")
    await command.ready()
    assert command.events[0]["slots"] == 2
    await until_in_force(group, "g")
    first = await group.client.result(await group.client.enqueue("tell", tag="a"))
    assert first[1] == "red"
    await until_in_force(group, "g")
    waiting = await group.client.enqueue("tell", tag="c-1")
    await group.client.set_group("g", tags=["c-*"])
    assert (await group.client.result(waiting))[0] == first[0], "it is the same process"
    await until_in_force(group, "g")
    old = await group.client.enqueue("tell", tag="a")
    await group.client.set_group("g", env={"COLOUR": "blue"})
    await until_in_force(group, "g")
    second = await group.client.result(await group.client.enqueue("tell", tag="c-2"))
    assert second[0] != first[0]
    assert second[1] == "blue"
    assert (await group.client.job(old)).state == "queued"
    assert await group.connection.fetchval(
        "select patterns from hotpath.worker where patterns is not null and stopped_at is null"
    ) == ["c-*"]


async def test_tags_of_a_larger_priority_first(group):
    """A tag's priority goes before that of the jobs; of the same tags it is theirs."""
    for name in ("one", "two"):
        (group.workspace / f"{name}.py").write_text(
            "def main(x: int) -> None:\n    with open('order', 'a') as file:\n        print(x, file=file)\n"
        )
    for x, priority in enumerate((9, 8)):
        await group.client.enqueue("one", {"x": x}, tag="low", priority=priority)
    for n in (1, 2):
        await group.client.enqueue("two", {"x": 1 + n}, tag=f"high-{n}", priority=n)
    await group.client.set_group("g", tags=["low", "high-*:5"])
    await group.drain_all("--group", "g")
    # As they say: of two processes each knows the database's clock to within the time of a reply.
    assert (group.workspace / "order").read_text().split() == ["3", "2", "0", "1"]


async def test_dedicated_scripts(group):
    """Each has its own workers, which come and go with the group; without tags there is nothing else. Flags
    and the group's tags make a normal worker beside them.
    """
    await group.client.set_group("g", dedicated=["tell"], processes=2, env={"COLOUR": "red"})
    command = await group.normal("--group", "g")
    workers = await until_in_force(group, "g", least=2)
    assert [each.script for each in workers] == ["tell", "tell"]
    assert (await pids_of(group))[1] == "red"
    pids = set(await group.worker_pids())
    stranger = await group.client.enqueue("size", {"text": "abc"})
    await group.client.set_group("g", dedicated=["tell", "other"], processes=1)
    await until_in_force(group, "g")
    assert (await pids_of(group, "other"))[1] == "red"
    assert (await pids_of(group))[0] in pids, "those that stay are the same"
    assert (await group.client.job(stranger)).state == "queued"
    await group.client.set_group("g", dedicated=["other"], tags=["size"])
    assert await group.client.result(stranger) == 3
    await group.until(lambda: _scripts(group, {"other", None, "size"}))
    await group.client.set_group("g", unset=["tags"])
    await group.until(lambda: _scripts(group, {"other"}))
    refused = {"dedicated": ["other", "not_there"]}
    await group.client.set_group("g", **refused)
    await until_refused(group, "g", "not_there")
    assert (await pids_of(group, "other"))[1] == "red"
    command.process.terminate()
    assert await command.wait() == 0
    assert await group.worker_pids() == []


async def _scripts(stage, wanted):
    return {each.script for each in await stage.client.group_workers("g")} == wanted


async def test_drain(group):
    """Dedicated workers and the normal one end when nothing is left."""
    await group.client.set_group("g", dedicated=["tell"], tags=["size"])
    for _ in range(20):
        await group.client.enqueue("tell")
        await group.client.enqueue("size", {"text": "x"})
    await group.drain_all("--group", "g")
    assert await group.states() == {"success": 40}


async def test_a_script_that_is_missing_at_the_start(group):
    """It is named."""
    await group.client.set_group("g", dedicated=["not_there"])
    command = await group.normal("--group", "g")
    assert await command.wait() == 1
    assert "not_there" in command.stderr


@pytest.mark.slow
async def test_environment_while_jobs_flow(group):
    """No job fails or runs twice while warm processes are replaced."""
    await group.client.set_group("g", tags=["*"], env={"COLOUR": "red"}, slots=2)
    command = await group.normal("--group", "g")
    await command.ready()
    await pids_of(group)
    await pids_of(group, "other")
    ids, changed = [], trio.Event()

    async def flow():
        while not changed.is_set():
            ids.extend([await group.client.enqueue("tell"), await group.client.enqueue("other")])
            await trio.sleep(0.005)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow)
        await group.client.set_group("g", env={"COLOUR": "blue"})
        await until_in_force(group, "g")
        changed.set()
    results = [await group.client.result(job) for job in ids]
    assert {colour for _, colour in results} <= {"red", "blue"}
    assert (await pids_of(group))[1] == "blue"
    assert await group.connection.fetchval("select max(attempt) from hotpath.job_done") == 1


@pytest.mark.slow
async def test_one_script_that_breaks(group):
    """Its workers are gone, and said to be; those of others go on, and it comes back when it loads again."""
    needed = group.workspace / "needed"
    needed.touch()
    (group.workspace / "tell.py").write_text(f"open({str(needed)!r}).close()\n" + textwrap.dedent(TELL))
    await group.client.set_group("g", dedicated=["tell", "other"])
    await group.normal("--group", "g")
    await until_in_force(group, "g")
    (pid, _) = await pids_of(group)
    needed.unlink()
    os.kill(pid, signal.SIGKILL)
    await until_refused(group, "g", "FileNotFoundError")
    assert await pids_of(group, "other")
    needed.touch()
    assert (await pids_of(group))[0] != pid
    await until_in_force(group, "g")


async def test_a_script_that_leaves_is_not_asked(group):
    """A change that takes out a script and that this one could not work with is applied all the same, and
    nobody starts a process of it any more.
    """
    starts = group.workspace / "starts"
    text = f"import os\nopen({str(starts)!r}, 'a').write('x')\nassert os.environ['COLOUR'] == 'red'\n"
    (group.workspace / "other.py").write_text(text + textwrap.dedent(TELL))
    await group.client.set_group("g", dedicated=["tell", "other"], env={"COLOUR": "red"})
    await group.normal("--group", "g")
    await until_in_force(group, "g", least=2)
    assert (await pids_of(group, "other"))[1] == "red"
    before = starts.read_text()
    await group.client.set_group("g", dedicated=["tell"], env={"COLOUR": "blue"})
    await until_in_force(group, "g")
    assert (await pids_of(group))[1] == "blue"
    await group.until(lambda: _scripts(group, {"tell"}))
    assert starts.read_text() == before


async def test_scripts_that_are_only_deployed(group):
    """A group may be dedicated to what the database has and the workspace has not, and to one version."""
    version = (await group.client.register("tell")).description.hash[:12]
    (group.workspace / "tell.py").write_text(textwrap.dedent(TELL).replace('"COLOUR"', '"SHADE"'))
    deployed = await run_command(group, "deploy")
    assert deployed == 0
    (group.workspace / "tell.py").unlink()
    await group.client.set_group(
        "g", dedicated=["tell", f"tell@{version}"], env={"COLOUR": "red", "SHADE": "dark"}
    )
    await group.normal("--group", "g")
    await until_in_force(group, "g")
    assert (await pids_of(group))[1] == "dark"
    assert (await pids_of(group, f"tell@{version}"))[1] == "red"
    await group.client.set_group("g", env={"COLOUR": "blue"})
    await until_in_force(group, "g")
    assert (await pids_of(group, f"tell@{version}"))[1] == "blue"


async def test_pins_leave_with_their_script(group):
    """What runs an earlier version beside a script of the group goes when the script does."""
    pin = f"tell@{(await group.client.register('tell')).description.hash[:12]}"
    (group.workspace / "tell.py").write_text(textwrap.dedent(TELL) + "# another version\n")
    await group.client.set_group("g", dedicated=["tell", "other"], env={"COLOUR": "red"})
    await group.normal("--group", "g")
    await until_in_force(group, "g", least=2)
    assert (await pids_of(group, pin))[1] == "red"
    await group.client.set_group("g", dedicated=["other"])
    await group.until(lambda: _scripts(group, {"other"}))


async def run_command(stage, *arguments):
    """Run `hotpath ARGUMENTS` to its end; its exit code."""
    done = await trio.run_process(
        [sys.executable, "-m", "hotpath", *arguments], env=stage.environment, check=False, capture_stdout=True
    )
    return done.returncode
