"""I11: through PgBouncer in transaction mode everything works, with a direct LISTEN or with polling alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from retention_stage import add_days, attached, name
from servers import Pooler, Server
from trouble_tools import check_once, enqueue_marks
from worker_stage import Stage, open_stage

from hotpath import asyncpg_trio
from hotpath.store.listen import PooledError, open_listener
from hotpath.store.reach import reach

pytestmark = pytest.mark.slow


@pytest.fixture
async def pooled(
    request: pytest.FixtureRequest,
    server: Server,
    pooler: Pooler,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Stage]:
    """A stage whose client and commands go through the pooler, by polling alone unless told otherwise, and
    whose own looks go to the server.
    """
    if getattr(request, "param", "") == "direct LISTEN":
        monkeypatch.setenv("HOTPATH_LISTEN_URL", server.url(database))
    async with open_stage(pooler.url(database), tmp_path) as stage:
        stage.connection.terminate()
        stage.connection = await asyncpg_trio.connect(server.url(database))
        yield stage
        stage.connection.terminate()


async def hotpath(stage: Stage, *words: str, give: str | None = None) -> list[dict]:
    """Run a command to its good end; the documents it prints."""
    done = await trio.run_process(
        [sys.executable, "-m", "hotpath", *words],
        stdin=(give or "").encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=stage.environment,
        cwd=stage.workspace,
    )
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]


async def test_drain(pooled: Stage):
    """I1: sealed and loose jobs, with large args and logs, end once each through the pooler."""
    marks = await enqueue_marks(pooled, 600, 0.0)
    for x in range(600, 620):
        await pooled.client.enqueue("mark", {"x": x, "file": str(marks)})
    await pooled.drain("mark", "--processes", "2")
    await check_once(pooled, marks, 620)
    large = await pooled.client.enqueue("size", {"text": "z" * 50_000})
    printed = await pooled.client.enqueue("double", {"x": 4})
    await pooled.drain("size")
    await pooled.drain("double")
    assert await pooled.client.result(large) == 50_000
    assert await pooled.client.log(printed) == "four 4\n"


@pytest.mark.parametrize("pooled", ["direct LISTEN", "polling alone"], indirect=True)
async def test_long_running(pooled: Stage):
    """A worker that stays finds what is enqueued while it is idle, and answers whoever waits; no session is
    left listening behind the pooler.
    """
    command = await pooled.dedicate("double")
    await command.ready()
    for x in (1, 2, 5):
        await trio.sleep(0.3)
        with trio.fail_after(20):
            assert await pooled.client.result(await pooled.client.enqueue("double", {"x": x})) == 2 * x

    async def dozes() -> bool:
        return await pooled.connection.fetchval("select exists (select from hotpath.doze)")

    if "HOTPATH_LISTEN_URL" in os.environ:
        await pooled.until(dozes)
    else:
        assert not await dozes()
    command.process.terminate()
    assert await command.wait() == 0, command.stderr


async def test_commands(pooled: Stage):
    """Push, run, cancel, retry, job and status work through the pooler."""
    (pooled.workspace / "rows.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
    await hotpath(pooled, "push", "double", "rows.jsonl", "--json")
    waiting = await pooled.client.enqueue("double", {"x": 7})
    await hotpath(pooled, "cancel", str(waiting))
    await hotpath(pooled, "status", "--json")
    await pooled.drain("double")
    assert await pooled.states() == {"success": 2, "canceled": 1}
    failed = await pooled.client.enqueue("double", {"x": 3})
    await pooled.drain("double")
    await hotpath(pooled, "retry", str(failed))
    assert (await pooled.client.job(failed)).state.value == "queued"
    await pooled.drain("double")
    await hotpath(pooled, "job", str(failed), "--json")
    command = await pooled.dedicate("double")
    await command.ready()
    await hotpath(pooled, "run", "double", '{"x": 5}')
    command.process.terminate()
    assert await command.wait() == 0


async def test_pooler_restarts(pooled: Stage, pooler: Pooler):
    """A pooler that is killed and started again is weather: each job ends once, by the worker that was
    there.
    """
    marks = await enqueue_marks(pooled, 800, 0.002)
    command = await pooled.dedicate("mark")
    await pooled.until_done(50)
    await trio.to_thread.run_sync(pooler.stop)
    await trio.sleep(0.5)
    await trio.to_thread.run_sync(pooler.start)
    await pooled.until_done(800)
    await check_once(pooled, marks, 800)
    assert command.process.returncode is None
    command.process.terminate()
    assert await command.wait() == 0, command.stderr


async def test_pooler_is_known(server: Server, pooler: Pooler, database: str):
    """A pooler is known with settings, which it refuses, and without, by the process number it makes up."""
    for settings in ({"enable_seqscan": "off"}, None):
        for url, expected in ((pooler.url(database), True), (server.url(database), False)):
            reached = await reach(url, name="hotpath test", settings=settings)
            assert reached.pooled is expected
            await reached.connection.close()


async def test_no_listening_through_a_pooler(server: Server, pooler: Pooler, database: str):
    """A listener says that it cannot listen, and leaves no LISTEN in a session that is somebody else's."""
    with pytest.raises(PooledError, match="HOTPATH_LISTEN_URL"):
        async with open_listener(pooler.url(database), "hotpath"):
            pass
    connection = await asyncpg_trio.connect(pooler.url(database), statement_cache_size=0)
    try:
        assert await connection.fetch("select pg_listening_channels()") == []
    finally:
        await connection.close()


async def test_retention(pooled: Stage):
    """Days are detached and dropped, and days gone through, by statements that may each be another
    session's; nobody is left to be believed at it.
    """
    await add_days(pooled, 2, 5)
    await pooled.connection.execute(
        "insert into hotpath.script (name, tag, created_at) values ('old', 1, now() - interval '1 year')"
    )
    await pooled.connection.execute(
        "insert into hotpath.job_done (id, done_at, scheduled_for, tag, script, priority, attempt, state, "
        "args) select hotpath.uuid7(), now() - interval '2 days', now(), 1, id, 0, 1, 2, '{}' "
        "from hotpath.script where name = 'old'"
    )
    await hotpath(pooled, "retention", "set", "--jobs", "3d", "--args", "0s", "--json")
    (plan,) = await hotpath(pooled, "prune", "--dry-run", "--json")
    assert name("job_done", 5) in {each["name"] for each in plan["partitions"]}
    (done,) = await hotpath(pooled, "prune", "--json")
    assert (done["args"], done["troubles"], done["more"]) == (1, [], False)
    assert await attached(pooled, "job_done") == [name("job_done", 2)]
    assert await pooled.connection.fetchval("select holder is null from hotpath.pruning")
    (again,) = await hotpath(pooled, "prune", "--json")
    assert (again["dropped"], again["args"]) == ([], 0)
