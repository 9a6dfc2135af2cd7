"""Supervisors and the server have schedules tick: in time, each tick once, whoever is killed."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest
import trio
from warm import open_warm
from worker_stage import Command, Stage

from bench.scenarios.schedules import TIMINGS, check_ticks
from hotpath.store.ticks import tick
from hotpath.worker.changes import Changes
from hotpath.worker.ticker import POLL, Ticker

SCRIPT = """
def main(n: int) -> int:
    return n
"""


@pytest.fixture
async def ticking(stage: Stage) -> Stage:
    """A stage with a script for schedules."""
    (stage.workspace / "tick.py").write_text(SCRIPT)
    await stage.client.register("tick")
    return stage


async def jobs(stage: Stage) -> int:
    """How many there are."""
    return await stage.connection.fetchval("select count(*) from hotpath.job")


def serve(stage: Stage) -> Command:
    """Start `hotpath serve`."""
    command = Command(open_warm(["serve", "--port", "0", "--json"], stage.environment, stage.workspace))
    stage.nursery.start_soon(command.follow)
    return command


def test_nothing_is_imported_for_schedules_that_are_not_there():
    """What a supervisor starts with reads neither cron expressions nor time zones."""
    code = (
        "import sys, hotpath.worker.supervisor, hotpath.worker.ticker, hotpath.worker.process;"
        "sys.exit(', '.join({'cronsim', 'zoneinfo', 'tzdata'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
async def test_each_tick_once_while_servers_are_killed(ticking: Stage):
    """I1: with two commands and a server that all have schedules tick, two of them killed on the way, each
    tick is one job, and all that was due is there.
    """
    for n, timing in enumerate(TIMINGS):
        await ticking.client.set_schedule(f"t{n}", script="tick", args={"n": n}, catch_up="all", **timing)
    first = await ticking.client.schedules()
    commands = [await ticking.dedicate("tick"), await ticking.dedicate("tick"), serve(ticking)]
    for victim in (commands[0], commands[2]):
        await victim.ready()
        before = await jobs(ticking)

        async def some(before: int = before) -> bool:
            return await jobs(ticking) > before + 4

        await ticking.until(some)
        victim.process.kill()
    await ticking.dedicate("tick")

    async def went_on() -> bool:
        now = await ticking.client.schedules()
        enough = timedelta(seconds=3)
        return all(
            each.last_at is not None and each.last_at >= begun.next_at + enough
            for each, begun in zip(now, first, strict=True)
        )

    await ticking.until(went_on)
    for each in first:
        await ticking.client.pause_schedule(each.name)
    assert len(await check_ticks(ticking.connection, first, await ticking.client.schedules())) > 10


@pytest.mark.slow
async def test_the_server_has_schedules_tick(ticking: Stage):
    """Without a worker, `hotpath serve` puts the jobs in."""
    await serve(ticking).ready()
    await ticking.client.set_schedule("s", script="tick", args={"n": 1}, every=1)
    await ticking.until(lambda: jobs(ticking))


async def test_asleep_it_hears_of_a_new_schedule(ticking: Stage):
    """Without schedules it sleeps until it polls; one that is set is heeded long before."""
    changes = Changes()
    ticker = Ticker(ticking.client.database, changes)
    assert await ticker._look() >= POLL
    ticking.nursery.start_soon(changes.follow, ticking.client.database)
    ticking.nursery.start_soon(ticker.run)
    await trio.testing.wait_all_tasks_blocked(0.05)
    await ticking.client.set_schedule("s", script="tick", args={"n": 1}, every=1)
    await ticking.until(lambda: jobs(ticking), seconds=POLL / 3)


async def test_what_is_in_other_hands_is_not_asked_for_all_the_time(ticking: Stage):
    """While somebody else has the only schedule that is due, it looks ever more rarely."""
    await ticking.client.set_schedule("s", script="tick", args={"n": 1}, every=1)
    await ticking.until(lambda: ticking.connection.fetchval("select next_at <= now() from hotpath.schedule"))
    ticker = Ticker(ticking.client.database, Changes())
    async with ticking.connection.transaction():
        await ticking.connection.execute("select from hotpath.schedule for update")
        waits = [await ticker._look() for _ in range(4)]
        assert await jobs(ticking) == 0
    assert 0 < waits[0] < waits[3]
    assert await ticker._look() == 0.0
    assert await jobs(ticking) > 0


async def test_a_clock_that_was_ahead_silences_nothing(ticking: Stage, caplog):
    """A schedule that waits for a time that a clock was ahead to goes on from now, and that is told once."""
    schedule = await ticking.client.set_schedule("s", script="tick", args={"n": 1}, every=1)
    await tick(ticking.connection, now=schedule.next_at + timedelta(hours=3))
    early = await jobs(ticking)
    ticker = Ticker(ticking.client.database, Changes())
    await ticker._look()
    assert caplog.text.count("clock was ahead by 3.0 h") == 1

    async def some() -> bool:
        await ticker._look()
        return await jobs(ticking) > early

    await ticking.until(some)
    assert caplog.text.count("was ahead") == 1
