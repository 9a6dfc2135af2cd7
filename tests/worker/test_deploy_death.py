"""A worker that dies while another version is being loaded beside it is followed by one that runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio
from test_deploy import VERSION, deploy, save
from worker_stage import Command, Stage

from hotpath import asyncpg_trio

SLOW = """
import pathlib, sys, time
if 'hotpath.worker.process' in sys.modules or 'hotpath.worker.loop' in sys.modules:
    pathlib.Path({begun!r}).touch()
    until = time.monotonic() + 60
    while not pathlib.Path({go!r}).exists() and time.monotonic() < until:
        time.sleep(0.02)
    raise RuntimeError('not here')
"""


async def dies_meanwhile(stage: Stage) -> tuple[Command, Path]:
    """A command whose only worker was killed while a version is loaded that cannot be, which goes on until
    the file is there.
    """
    save(stage, VERSION.format(number=1))
    await deploy(stage)
    command = await stage.dedicate("job")
    await command.ready()
    begun, go = stage.workspace / "begun", stage.workspace / "go"
    [pid] = await stage.worker_pids()
    save(stage, SLOW.format(begun=str(begun), go=str(go)) + VERSION.format(number=2))
    await deploy(stage)
    with trio.fail_after(20):
        while not begun.exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return command, go


@pytest.mark.slow
async def test_a_version_that_cannot_be_loaded_ends_nothing_when_the_worker_has_died(stage: Stage):
    """The version that runs is kept, although none of its workers lives at that moment."""
    command, go = await dies_meanwhile(stage)

    async def dead() -> bool:
        return "starting another" in command.stderr or len(await stage.worker_pids()) == 1

    await stage.until(dead)
    go.touch()
    job = await stage.client.enqueue("job", {"x": 5})
    assert await stage.client.result(job) == [1, 5]
    await command.said("not here")


async def test_a_version_that_loads_for_long_keeps_no_place_empty(stage: Stage):
    """While another version is being loaded, one that has died is followed by one of its own version."""
    command, _ = await dies_meanwhile(stage)
    job = await stage.client.enqueue("job", {"x": 5})
    with trio.fail_after(30):
        assert await stage.client.result(job) == [1, 5]
    assert command.process.returncode is None


async def test_a_version_that_loads_for_long_keeps_no_later_one_back(stage: Stage):
    """What is deployed while another version is being loaded takes over; nobody waits for that one."""
    command, _ = await dies_meanwhile(stage)
    save(stage, VERSION.format(number=3))
    await deploy(stage)

    async def is_new() -> bool:
        job = await stage.client.enqueue("job", {"x": 5})
        return await stage.client.result(job) == [3, 5]

    await stage.until(is_new)
    assert command.process.returncode is None


@pytest.mark.slow
async def test_a_worker_that_is_not_registered_yet_hears_of_another_version(stage: Stage):
    """One that was started before the deployment and registers behind it does not stay with the old one."""
    save(stage, VERSION.format(number=1))
    await deploy(stage)
    command = await stage.dedicate("job")
    await command.ready()
    [pid] = await stage.worker_pids()
    save(stage, VERSION.format(number=2))
    asked = (
        "select count(*) from pg_stat_activity where application_name = 'hotpath supervisor'"
        " and datname = current_database() and wait_event_type = 'Lock'"
        " and query like '%insert into hotpath.worker%'"
    )
    other = await asyncpg_trio.connect(stage.url)
    async with other.transaction():
        await other.execute("lock table hotpath.worker in exclusive mode")
        os.kill(pid, signal.SIGKILL)
        await stage.until(lambda: stage.connection.fetchval(asked))
        await deploy(stage)
        await trio.sleep(1.0)  # it hears of that meanwhile; if not, this shows less, and holds all the same
    await other.close()

    async def is_new() -> bool:
        job = await stage.client.enqueue("job", {"x": 5})
        return await stage.client.result(job) == [2, 5]

    await stage.until(is_new)
