"""`hotpath autoscale GROUP` with real commands: as many as are needed, none left behind, nothing lost."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from warm import open_warm
from worker_stage import Command, Stage, gone

from hotpath import asyncpg_trio
from hotpath.core.tally import BUSY, SUCCESS, Tally
from hotpath.store import workers
from hotpath.store.scaling import read_scaling, set_scale
from hotpath.store.scripts import find_script
from hotpath.store.workers import Counts

GROUP = "crowd"
DEDICATE = ("hotpath", "dedicate", "mark", "--group", GROUP, "--quiet")


async def autoscale(stage: Stage, *command: str) -> Command:
    """Start it; its events are read."""
    arguments = ["autoscale", GROUP, "--json", "--", *command]
    started = Command(open_warm(arguments, stage.environment, stage.workspace))
    stage.nursery.start_soon(started.follow)
    return started


async def scale(stage: Stage, **values: Any) -> None:
    """What is wanted of the group."""
    import attrs

    await set_scale(stage.connection, GROUP, lambda old: attrs.evolve(old, **values))


async def put(stage: Stage, jobs: int, seconds: float) -> None:
    """So many jobs of this length, which is known: some have ended before."""
    file = str(stage.workspace / "marks")
    ids = await stage.client.enqueue_many(
        "mark", ({"x": x, "file": file, "seconds": seconds} for x in range(jobs))
    )
    assert len(list(ids)) == jobs
    tally = Tally()
    tally[SUCCESS], tally[BUSY] = 100, round(100 * seconds * 1e6)
    script = await find_script(stage.connection, "mark")
    counts = Counts(keeper=99, script=script.version.script, tag=script.tag, counts=list(tally))
    await workers.heartbeat(stage.connection, {}, 15, counts=[counts])


async def put_group(stage: Stage) -> None:
    """The group is configured, with a tag."""
    await stage.connection.execute(
        "insert into hotpath.worker_group (name, config) values ($1, $2)", GROUP, '{"tags": ["mark"]}'
    )


def events(command: Command, kind: str) -> list[dict[str, Any]]:
    """What it said of this kind."""
    return [event for event in command.events if event["event"] == kind]


async def until(condition: Any, seconds: float = 20.0) -> None:
    """Wait until this holds."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - of another process
            await trio.sleep(0.02)


@pytest.mark.slow
async def test_up_and_down_to_none(stage: Stage):
    """From none to the maximum while much waits, and to none again after the cool-down."""
    await scale(stage, min_workers=0, max_workers=2, target_seconds=1.0, cooldown_seconds=1.0, tags=("mark",))
    await put(stage, 60, 0.1)  # before it looks: jobs of unknown length are tried with one
    command = await autoscale(stage, *DEDICATE)
    await stage.until_done(60)
    await until(lambda: len(events(command, "ended")) == 2)
    assert [(event["from"], event["to"]) for event in events(command, "scaled")][:1] == [(0, 2)]
    assert events(command, "scaled")[-1]["to"] == 0
    assert all(event["exit_code"] == 0 for event in events(command, "ended"))
    assert any("60 jobs wait" in why for why in events(command, "scaled")[0]["why"])
    assert await stage.worker_pids() == []
    found = await read_scaling(stage.connection, GROUP)
    assert (found.workers, found.need.wanted) == (0, 0)
    assert await stage.states() == {"success": 60}
    command.process.terminate()
    assert await command.wait() == 0, command.stderr


async def test_the_end_takes_all_along(stage: Stage):
    """At SIGTERM every command gets one: what runs is finished, the rest is queued, exit 0."""
    await scale(stage, min_workers=2, max_workers=2, tags=("mark",))
    await put(stage, 300, 0.2)
    command = await autoscale(stage, *DEDICATE)

    async def both() -> bool:
        return len(await stage.worker_pids()) == 2

    await stage.until(both)
    await until(lambda: len(events(command, "started")) == 2)
    await stage.until_done(4)
    pids = [event["pid"] for event in events(command, "started")] + await stage.worker_pids()
    assert len(pids) == 4
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    assert all(map(gone, pids))
    assert len(events(command, "ended")) == 2
    states = await stage.states()
    assert set(states) == {"success", "queued"}
    assert states["success"] == len((stage.workspace / "marks").read_text().split())


async def test_asked_again_and_again(stage: Stage):
    """SIGTERM upon SIGTERM, to the last moment of the process, is no error."""
    await scale(stage, min_workers=1, max_workers=1, tags=("mark",))
    command = await stage.start("autoscale", GROUP, "--json", "--", "sleep", "600", cold=True)
    await until(lambda: events(command, "started"), 60.0)
    while command.process.returncode is None:
        with suppress(ProcessLookupError):
            command.process.terminate()
        await trio.sleep(0.0003)
    assert await command.wait() == 0, command.stderr
    assert gone(events(command, "started")[0]["pid"])


async def test_without_a_command_it_is_a_normal_worker(stage: Stage):
    """`hotpath worker --group GROUP`: it is of the group, and runs what its tags say."""
    await put_group(stage)
    await put(stage, 3, 0.0)
    started = Command(open_warm(["autoscale", GROUP, "--json"], stage.environment, stage.workspace))
    stage.nursery.start_soon(started.follow)
    await stage.until_done(3)
    assert (await read_scaling(stage.connection, GROUP)).workers == 1
    started.process.terminate()
    assert await started.wait() == 0, started.stderr
    assert await stage.worker_pids() == []


async def test_one_that_dies_is_followed_by_another(stage: Stage):
    """A killed command is replaced; when the autoscaler itself is killed, nothing of it is left."""
    await scale(stage, tags=("mark",))
    await put(stage, 1, 0.0)
    command = await autoscale(stage, *DEDICATE)
    await stage.until_done(1)
    await until(lambda: events(command, "started"))  # it may not be read yet
    first = events(command, "started")[0]["pid"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: len(events(command, "started")) == 2)
    assert events(command, "crashed")[0]["exit_code"] == -signal.SIGKILL
    await put(stage, 1, 0.0)
    await stage.until_done(2)
    pids = [events(command, "started")[1]["pid"], *await stage.worker_pids()]
    command.process.kill()
    await until(lambda: all(map(gone, pids)))


@pytest.mark.slow
async def test_without_the_database_as_many_stay(stage: Stage):
    """What cannot be looked at is neither stopped nor started; after that it goes on."""
    await scale(stage, min_workers=2, tags=("mark",))
    command = await autoscale(stage, "sleep", "1000")
    await until(lambda: len(events(command, "started")) == 2)
    parts = urlsplit(stage.url)
    name = parts.path.removeprefix("/")
    admin = await asyncpg_trio.connect(parts._replace(path="/postgres").geturl())
    try:
        await admin.execute(f"alter database {name} allow_connections false")
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
        await until(lambda: "the number of workers stays" in command.stderr)
        await admin.execute(f"alter database {name} allow_connections true")
    finally:
        await admin.close()
    assert not any(gone(event["pid"]) for event in events(command, "started"))
    stage.connection.terminate()
    stage.connection = await asyncpg_trio.connect(stage.url)
    await scale(stage, min_workers=3)
    await until(lambda: len(events(command, "started")) == 3)
    assert events(command, "crashed") == []
    command.process.terminate()
    assert await command.wait() == 0


async def test_one_that_fails_is_tried_ever_later(stage: Stage):
    """A command that ends at once does not make the machine busy; SIGTERM ends the wait."""
    await scale(stage, tags=("mark",))
    command = await autoscale(stage, "false")
    await until(lambda: len(events(command, "crashed")) == 4)
    assert [event["wait_seconds"] for event in events(command, "crashed")] == [0.0, 0.1, 0.2, 0.4]
    command.process.send_signal(signal.SIGINT)
    assert await command.wait() == 0, command.stderr


async def test_one_that_ignores_sigterm_is_killed(stage: Stage):
    """After the grace that was given."""
    await scale(stage, tags=("mark",))
    stubborn = ("sh", "-c", "trap '' TERM; touch trapped; while :; do sleep 0.1; done")
    arguments = ["autoscale", GROUP, "--json", "--grace", "0.3", "--", *stubborn]
    command = Command(open_warm(arguments, stage.environment, stage.workspace))
    stage.nursery.start_soon(command.follow)
    await until((stage.workspace / "trapped").exists)
    command.process.terminate()
    assert await command.wait() == 0
    assert "did not end within 0.3 s" in command.stderr
    assert gone(events(command, "started")[0]["pid"])
