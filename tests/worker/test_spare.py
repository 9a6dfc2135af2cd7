"""A team's spare process: there in calm moments, used by whoever follows, and gone when it should be."""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import pytest
import trio
from group_stage import TELL, pids_of, until_in_force
from test_deploy import VERSION, deploy, save, taken
from worker_stage import Command, Stage


def processes_of(command: Command) -> set[int]:
    """Worker processes that the command has started and not yet reaped: Pythons that lead a session."""
    parent = command.process.pid
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, above, _, session, *_ = status.read_text().rpartition(")")[2].split()
            program = os.path.basename(os.readlink(status.parent / "exe"))
        except OSError:
            continue
        pid = int(status.parent.name)
        if int(above) == parent and state != "Z" and int(session) == pid and program.startswith("python"):
            found.add(pid)
    return found


def is_gone(pid: int) -> bool:
    """Whether the process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def is_normal(pid: int) -> bool:
    """Whether it has its normal priority."""
    group = Path(f"/proc/{pid}/autogroup")
    return not group.exists() or " nice 0" in group.read_text()


async def spare_of(stage: Stage, command: Command) -> int:
    """Wait until there is a process that neither is nor was a worker; its id."""

    async def spare() -> int:
        more = processes_of(command)
        workers = await stage.connection.fetchval("select array_agg(pid) from hotpath.worker")
        more -= set(workers)
        return more.pop() if len(more) == 1 else 0

    return int(await stage.until(spare))


async def until_gone(stage: Stage, pid: int) -> None:
    """Wait until the process has ended, reaped or not."""

    async def gone() -> bool:
        return is_gone(pid)

    await stage.until(gone)


@pytest.mark.slow
async def test_used_for_a_deploy_and_after_a_crash(stage: Stage):
    """Who follows a worker is the spare process, at its normal priority; then there is another one."""
    save(stage, VERSION.format(number=1))
    await deploy(stage)
    command = await stage.dedicate("job")
    await command.ready()
    spare = await spare_of(stage, command)
    save(stage, VERSION.format(number=2))
    version = await deploy(stage)
    await taken(stage, version)
    assert await stage.worker_pids() == [spare]
    another = await spare_of(stage, command)
    os.kill(spare, signal.SIGKILL)
    assert await stage.client.result(await stage.client.enqueue("job", {"x": 5})) == [2, 5]
    assert await stage.worker_pids() == [another]
    assert len(await stage.connection.fetch("select from hotpath.worker")) == 3, "a spare is no worker"

    async def normal() -> bool:
        return is_normal(another)

    await stage.until(normal)


@pytest.mark.slow
async def test_dies_with_its_supervisor(stage: Stage):
    """A supervisor that is killed leaves none behind."""
    command = await stage.dedicate("mark")
    await command.ready()
    spare = await spare_of(stage, command)
    os.kill(command.process.pid, signal.SIGKILL)
    await until_gone(stage, spare)


@pytest.mark.slow
async def test_ends_as_soon_as_the_command_is_to_stop(stage: Stage):
    """SIGTERM ends it, although a worker still has a job to end; nobody follows it."""
    command = await stage.dedicate("nap")
    await command.ready()
    spare = await spare_of(stage, command)
    begun, gate = stage.workspace / "begun", stage.workspace / "gate"
    await stage.client.enqueue("nap", {"x": 1, "file": str(begun), "gate": str(gate)})

    async def runs() -> bool:
        return begun.exists()

    await stage.until(runs)
    [worker] = await stage.worker_pids()
    command.process.terminate()
    await until_gone(stage, spare)
    assert processes_of(command) == {worker}
    gate.touch()
    assert await command.wait() == 0
    assert (await stage.states())["success"] == 1


@pytest.mark.slow
async def test_one_that_ends_is_nobody(stage: Stage):
    """A spare process that is killed makes no noise, and is not used."""
    command = await stage.dedicate("nap")
    await command.ready()
    spare = await spare_of(stage, command)
    [worker] = await stage.worker_pids()
    os.kill(spare, signal.SIGKILL)
    await until_gone(stage, spare)
    os.kill(worker, signal.SIGKILL)
    assert await stage.client.result(await stage.client.enqueue("nap", {"x": 1})) == 1
    await command.said("starting another")
    assert str(spare) not in command.stderr


@pytest.mark.slow
async def test_thrown_away_with_its_environment(stage: Stage):
    """When a group's environment changes, workers start with the new one, and not with the spare process."""
    (stage.workspace / "tell.py").write_text(textwrap.dedent(TELL))
    await stage.client.set_group("g", env={"COLOUR": "red"})
    command = await stage.dedicate("tell", "--group", "g")
    await command.ready()
    await until_in_force(stage, "g")
    spare = await spare_of(stage, command)
    await stage.client.set_group("g", env={"COLOUR": "blue"})
    await until_in_force(stage, "g")
    worker, colour = await pids_of(stage)
    assert colour == "blue"
    await until_gone(stage, spare)
    another = await spare_of(stage, command)
    os.kill(worker, signal.SIGKILL)
    assert await pids_of(stage) == [another, "blue"]


@pytest.mark.slow
async def test_none_for_a_command_that_drains(stage: Stage):
    """One that ends by itself has none, however long it takes, and waits for none."""
    begun, gate = stage.workspace / "begun", stage.workspace / "gate"
    await stage.client.enqueue("nap", {"x": 1, "file": str(begun), "gate": str(gate)})
    command = await stage.dedicate("nap", "--drain")

    async def runs() -> bool:
        return begun.exists()

    await stage.until(runs)
    most, until = 0, trio.current_time() + 3.5
    while trio.current_time() < until:
        most = max(most, len(processes_of(command)))
        await trio.sleep(0.02)
    gate.touch()
    assert await command.wait() == 0
    assert most == 1
