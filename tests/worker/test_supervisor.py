"""The supervisor: whatever happens to it, its workers or its database, jobs come back soon and run again."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from worker_stage import Stage, gone, hurry

from hotpath.client import open_client
from hotpath.errors import HotpathError
from hotpath.store.embedded import EmbeddedPostgres, database_name
from hotpath.worker.options import LEASE


async def mark(stage: Stage, jobs: int, seconds: float) -> Path:
    """Enqueue jobs that note that they ran, and nap until they are to hurry; the file with the notes."""
    marks = stage.workspace / "marks"
    await stage.client.enqueue_many(
        "mark", ({"x": x, "file": str(marks), "seconds": seconds} for x in range(jobs))
    )
    return marks


def notes(marks: Path) -> Counter[str]:
    """How often each job ran."""
    return Counter(marks.read_text().split())


async def check_all_ran(stage: Stage, marks: Path, jobs: int) -> None:
    """Each job has one outcome, a success."""
    assert await stage.states() == {"success": jobs}
    assert set(notes(marks)) == {str(x) for x in range(jobs)}
    await stage.check_empty()


async def test_a_killed_worker_is_replaced_at_once(stage: Stage):
    """I6: after kill -9 another one works within a second or so, however often that happens."""
    marks = await mark(stage, 3000, 0.01)
    command = await stage.dedicate("mark", "--drain", "--lease", "60")
    for _ in range(4):
        done = await stage.connection.fetchval("select count(*) from hotpath.job_done")
        await stage.until_done(done + 20)
        (pid,) = await stage.worker_pids()
        os.kill(pid, signal.SIGKILL)
        await stage.until(lambda pid=pid: replaced(stage, pid), 30)  # else it would be the lease's end
    hurry(marks)
    assert await command.wait() == 0, command.stderr
    await check_all_ran(stage, marks, 3000)
    assert max(row["attempt"] for row in await stage.rows()) <= 3


async def replaced(stage: Stage, pid: int) -> bool:
    """Whether another process of this command is registered, and the old one is buried."""
    pids = await stage.worker_pids()
    return bool(pids) and pid not in pids


@pytest.mark.slow
async def test_a_worker_that_stops_has_not_drained(stage: Stage):
    """SIGTERM to one worker, a job's own, say, does not end `--drain` before the queue is empty."""
    marks = await mark(stage, 1000, 0.02)
    command = await stage.dedicate("mark", "--drain")
    await stage.until_done(5)
    (pid,) = await stage.worker_pids()
    os.kill(pid, signal.SIGTERM)
    await stage.until(lambda: replaced(stage, pid))
    hurry(marks)
    assert await command.wait() == 0, command.stderr
    assert command.last["event"] == "drained"
    await check_all_ran(stage, marks, 1000)


async def test_a_crash_after_the_drain_is_no_reason_to_begin_again(stage: Stage):
    """A library that crashes as the interpreter ends does not keep `--drain` from its end."""
    (stage.workspace / "last.py").write_text(
        "import atexit, os, signal, sys\n"
        "if 'hotpath.worker.loop' in sys.modules:\n"
        "    atexit.register(os.kill, os.getpid(), signal.SIGSEGV)\n"
        "def main() -> int:\n    return 1\n"
    )
    await stage.client.enqueue("last", {})
    command = await stage.dedicate("last", "--drain")
    assert await command.wait() == 0, command.stderr
    assert command.last["event"] == "drained"
    assert "Segmentation fault" in command.stderr
    assert await stage.connection.fetchval("select count(*) from hotpath.worker") == 1


@pytest.mark.slow
async def test_a_worn_worker_makes_room_without_a_gap(stage: Stage):
    """`--max-jobs`: several processes share the jobs, and each is ready before its predecessor ends."""
    marks = await mark(stage, 3000, 0.01)
    command = await stage.dedicate("mark", "--max-jobs", "40", "--drain")

    async def three() -> bool:
        return len([event for event in command.events if event["event"] == "ready"]) >= 3

    await stage.until(three)
    hurry(marks)  # the last ones may run all that is left before their successors are there
    assert await command.wait() == 0, command.stderr
    await check_all_ran(stage, marks, 3000)
    assert {row["attempt"] for row in await stage.rows()} == {1}
    lives = await stage.connection.fetch(
        "select started_at, stopped_at, jobs from hotpath.worker order by id"
    )
    assert sum(row["jobs"] for row in lives) == 3000 == command.last["jobs"]
    for before, after in itertools.pairwise(lives[:3]):
        assert after["started_at"] < before["stopped_at"]
    assert len({row["result"] for row in await stage.rows()}) >= 2
    assert notes(marks).most_common(1)[0][1] == 1, "a job ran twice"


@pytest.mark.slow
async def test_a_worker_that_grows_makes_room(stage: Stage):
    """`--max-rss`: a script that leaks is run by one small process after the other."""
    (stage.workspace / "leak.py").write_text(
        "import os, time\n"
        "kept = []\n"
        "def main() -> int:\n"
        "    kept.extend([b'x' * (20 << 20)] * (len(kept) < 15)); time.sleep(0.02)\n"
        "    return os.getpid()\n"
    )
    command = await stage.dedicate("leak", "--max-rss", "200M")
    pids: set[int] = set()
    with trio.fail_after(30):
        while len(pids) < 2:
            pids.add(await stage.client.result(await stage.client.enqueue("leak", {})))
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    assert {(row["state"], row["attempt"]) for row in await stage.rows()} == {("success", 1)}


@pytest.mark.slow
async def test_a_worker_that_lost_its_lease_is_replaced(stage: Stage):
    """I2, I3: the lease is ended by somebody else: the worker goes, another comes, each job one outcome."""
    marks = await mark(stage, 2000, 0.01)
    command = await stage.dedicate("mark", "--drain")
    await stage.until_done(20)
    (pid,) = await stage.worker_pids()
    await stage.connection.execute("update hotpath.worker set lease_until = now() - interval '1 second'")
    await command.said("lost its lease")
    hurry(marks)
    assert await command.wait() == 0, command.stderr
    assert gone(pid)
    await check_all_ran(stage, marks, 2000)


@pytest.mark.slow
async def test_a_stopped_worker_is_replaced(stage: Stage):
    """I6: a worker process that somebody has stopped (SIGSTOP) keeps its jobs for a moment only."""
    marks = await mark(stage, 1000, 0.01)
    command = await stage.dedicate("mark", "--drain")
    await stage.until_done(10)
    (pid,) = await stage.worker_pids()
    os.kill(pid, signal.SIGSTOP)
    await stage.until(lambda: replaced(stage, pid), LEASE - 1)
    hurry(marks)
    assert await command.wait() == 0, command.stderr
    assert gone(pid)
    await check_all_ran(stage, marks, 1000)
    assert {row["attempt"] for row in await stage.rows()} == {1}


@pytest.mark.slow
async def test_a_supervisor_that_was_stopped_finds_its_way_back(stage: Stage):
    """I2, I6: while a supervisor stands still its worker stops by itself, another command has the jobs; when
    it goes on it works again, and no job has two outcomes.
    """
    marks = await mark(stage, 1000, 0.02)
    first = await stage.dedicate("mark", "--lease", "1")
    await stage.until_done(20)
    first.process.send_signal(signal.SIGSTOP)
    holders = await stage.connection.fetchval("select array_agg(id) from hotpath.worker")
    try:
        second = await stage.dedicate("mark", "--drain")

        async def taken_over() -> bool:
            return not await stage.connection.fetchval(
                "select count(*) from hotpath.lease where worker = any($1::int8[])", holders
            ) and await stage.connection.fetchval(
                "select count(*) from hotpath.lease where worker <> all($1::int8[])", holders
            )

        await stage.until(taken_over)
        hurry(marks)
        assert await second.wait() == 0, second.stderr
    finally:
        first.process.send_signal(signal.SIGCONT)
    await check_all_ran(stage, marks, 1000)
    assert second.last["jobs"] > 0
    await stage.client.enqueue("mark", {"x": 1000, "file": str(marks)})
    await stage.until_done(1001)
    first.process.terminate()
    assert await first.wait() == 0, first.stderr


@pytest.mark.slow
async def test_others_take_what_a_dead_host_leaves(stage: Stage):
    """I6: supervisor and worker die together: another command's supervisor takes over after the lease."""
    marks = await mark(stage, 1000, 0.02)
    other = await stage.dedicate("double")
    await other.ready()
    command = await stage.dedicate("mark", "--lease", "1")
    await stage.until_done(5)
    pids = await stage.worker_pids()
    command.process.send_signal(signal.SIGSTOP)  # nobody is there to see the worker die
    for pid in set(pids) - {await worker_of(stage, "double")}:
        os.kill(pid, signal.SIGKILL)
    command.process.kill()
    await stage.until(lambda: no_lease(stage))
    hurry(marks)
    await stage.drain("mark")
    await check_all_ran(stage, marks, 1000)


async def worker_of(stage: Stage, script: str) -> int:
    """Process of the live worker of a script."""
    return await stage.connection.fetchval(
        "select w.pid from hotpath.worker w join hotpath.script s on s.id = w.script"
        " where s.name = $1 and w.stopped_at is null",
        script,
    )


async def no_lease(stage: Stage) -> bool:
    """Whether nothing is leased."""
    return not await stage.connection.fetchval("select count(*) from hotpath.lease")


@pytest.mark.slow
async def test_a_claim_whose_reply_was_lost_comes_back(stage: Stage):
    """I1, I6: a lease in the worker's name that it does not know is given back, though the worker lives."""
    command = await stage.dedicate("nap")
    await command.ready()
    job = await stage.client.enqueue("nap", {"x": 7})
    await stage.until_done(1)
    # The same job once more, as the claim of a reply that never came would leave it.
    await stage.connection.execute("select hotpath.retry($1)", job)
    await stage.until_done(1)
    await stage.connection.execute(
        "insert into hotpath.batch (base, script, tag, scheduled_for, priority, n, next, open, fmt, args,"
        " ids)"
        " select hotpath.uuid7(), d.script, d.tag, now(), 0, 1, 1, 1, 1, array['{\"x\": 8}'::json],"
        " array[hotpath.uuid7()] from hotpath.job_done d limit 1"
    )
    await stage.connection.execute(
        "insert into hotpath.lease (id, worker, batch, lo, hi)"
        " select 4711, w.id, b.base, 0, 1 from hotpath.batch b, hotpath.worker w"
    )
    await stage.until_done(2)
    assert await stage.states() == {"success": 2}
    await stage.check_empty()


@pytest.fixture
def home() -> Iterator[Path]:
    """A home for a server; for root the server is another user, who has to pass through."""
    path = Path(tempfile.mkdtemp(prefix="hotpath-home-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.slow
async def test_a_killed_embedded_server_is_started_again(home: Path, tmp_path: Path):
    """I11: a command whose own database server was killed, and its only worker with it, starts both again."""
    workspace = tmp_path
    (workspace / "one.py").write_text("def main() -> int:\n    return 1\n")
    environment = {**os.environ, "HOTPATH_HOME": str(home), "HOTPATH_WORKSPACE": str(workspace)}
    with EmbeddedPostgres(home, linger=0) as server:
        url = await trio.to_thread.run_sync(server.start, database_name(workspace))
        async with open_client(url, workspace=workspace) as client, trio.open_nursery() as nursery:
            first = await client.enqueue("one", {})
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "hotpath", "dedicate", "one", "--json"],
                env=environment,
                cwd=workspace,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            try:
                with trio.fail_after(30):
                    assert await client.result(first) == 1
                pid = server.status().pid
                assert pid is not None
                async with client.database.connection() as connection:
                    worker = await connection.fetchval(
                        "select pid from hotpath.worker where stopped_at is null"
                    )
                os.kill(pid, signal.SIGKILL)
                os.kill(worker, signal.SIGKILL)
                with trio.fail_after(30):
                    await patiently(lambda: restarted(server, pid))
                    job = await patiently(lambda: client.enqueue("one", {}))
                    assert await patiently(lambda: client.result(job)) == 1
                process.terminate()
                assert await process.wait() == 0
            finally:
                process.kill()  # if the test has failed
            nursery.cancel_scope.cancel(reason="the test is over")
        await trio.to_thread.run_sync(server.stop)


async def restarted(server: EmbeddedPostgres, pid: int) -> None:
    """Raise unless another server process runs by now."""
    if server.status().pid in (None, pid):
        raise HotpathError("not yet")


async def patiently(action: Callable[[], Awaitable[Any]]) -> Any:
    """Do it again until the database lets it happen."""
    while True:
        try:
            return await action()
        except HotpathError:
            await trio.sleep(0.05)
