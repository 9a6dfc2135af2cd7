"""I11 for normal workers: what the database does is weather; nothing is lost, nothing runs twice for it."""

from __future__ import annotations

import signal
from collections import Counter

import pytest
import trio
from servers import Server
from trouble_tools import enqueue_marks, reconnect
from worker_stage import Stage

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_restart(stage: Stage, server: Server, database: str, how: signal.Signals):
    """A restart in the middle loses no outcome and no command, shut down or crashed."""
    marks = await enqueue_marks(stage, 600, 0.002)
    for x in range(50):
        await stage.client.enqueue("size", {"text": "x" * x}, priority=1)
    command = await stage.normal()
    await stage.until_done(100)
    await trio.to_thread.run_sync(server.stop, how)
    await trio.to_thread.run_sync(server.start)
    await reconnect(stage, server, database)
    await stage.until_done(650, 45)
    assert await stage.states() == {"success": 650}
    if how is signal.SIGINT:
        assert Counter(marks.read_text().split()) == Counter(str(x) for x in range(600))
    else:  # a crash may forget claims, which do not wait for the disk: those jobs run again (decision 0002)
        assert set(marks.read_text().split()) == {str(x) for x in range(600)}
    await stage.check_empty()
    command.process.terminate()
    assert await command.wait() == 0, command.stderr


async def test_outage_beyond_the_lease(stage: Stage, server: Server, database: str):
    """An outage that outlasts the lease ends processes, and the worker's own row, but no outcome and not the
    worker: it goes on under another name.
    """
    await enqueue_marks(stage, 300, 0.005)
    command = await stage.normal("--lease", "3")
    await stage.until_done(50)
    before = await stage.connection.fetchval("select id from hotpath.worker where script is null")
    await trio.to_thread.run_sync(server.stop)
    await trio.sleep(4)
    await trio.to_thread.run_sync(server.start)
    await reconnect(stage, server, database)
    await stage.until_done(300, 45)
    assert await stage.states() == {"success": 300}

    async def renamed() -> bool:
        now = await stage.connection.fetch(
            "select id from hotpath.worker"
            " where script is null and stopped_at is null and lease_until > now()"
        )
        return len(now) == 1 and now[0]["id"] != before

    await stage.until(renamed)
    await stage.check_empty()
    command.process.terminate()
    assert await command.wait() == 0, command.stderr


async def test_cut_connections(stage: Stage, server: Server, database: str):
    """Connections that are cut again and again lose no job and double none."""
    marks = await enqueue_marks(stage, 1500, 0.0)
    for x in range(300):
        await stage.client.enqueue("size", {"text": "x" * x}, priority=x % 3 - 1)
    command = await stage.normal("--drain")
    await stage.until_done(1)
    cuts = 0
    with trio.move_on_after(30):
        while command.process.returncode is None:
            cuts += await stage.connection.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where datname = current_database() and application_name like 'hotpath worker%'"
            )
            await trio.sleep(0.15)
    assert await command.wait() == 0, command.stderr
    assert cuts
    assert await stage.states() == {"success": 1800}
    assert Counter(marks.read_text().split()) == Counter(str(x) for x in range(1500))
    await stage.check_empty()
