"""`hotpath.completion()`: what a job writes and that it has ended are one transaction, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import attrs
import pytest
import trio
from worker_stage import Stage

import hotpath
from hotpath.store.queries import query

WRITER = """
import os, signal, trio, hotpath

async def main(x: int, folder: str = "", stop: str = "") -> int:
    async def pause(where):
        if stop == where and not os.path.exists(f"{folder}/{where}"):
            open(f"{folder}/{where}", "w").close()
            while not os.path.exists(f"{folder}/go"):
                await trio.sleep(0.005)
    print("before", x)
    try:
        async with hotpath.completion({"x": x}) as conn:
            await conn.execute("insert into effect (x) values ($1)", x)
            await pause("inside")
    except hotpath.LeaseLost:
        open(f"{folder}/lost", "w").close()
        raise
    print("after", x)
    await pause("behind")
    if stop == "raise":
        raise ValueError("too late")
    return -1
"""


def dedicated(stage: Stage, name: str = "writer", **options) -> hotpath.worker.Dedicated:
    """A worker in this process."""
    return hotpath.dedicated(name, workspace=stage.workspace, database_url=stage.url, **options)


async def prepare(stage: Stage, source: str = WRITER) -> None:
    """The script, and the table that it writes to."""
    (stage.workspace / "writer.py").write_text(source)
    await stage.connection.execute("create table effect (x int, at timestamptz default now())")


async def effects(stage: Stage) -> list[int]:
    """What the jobs have written."""
    return [row[0] for row in await stage.connection.fetch("select x from effect order by x")]


def exists(path: Path):
    """Whether a file is there, for `Stage.until`."""
    return trio.Path(path).exists


async def test_effects_and_outcomes_are_one(stage: Stage):
    """I1, I2: each of many jobs has one effect and one outcome, with its own result and whole log."""
    await prepare(stage)
    ids = await stage.client.enqueue_many("writer", ({"x": x} for x in range(60)))
    await hotpath.serve_worker(dedicated(stage, drain=True, concurrency=20))
    assert await effects(stage) == list(range(60))
    rows = {row["id"]: row for row in await stage.rows()}
    assert len(rows) == 60
    for x, job in enumerate(ids):
        row = rows[job]
        assert (row["state"], json.loads(row["result"]), row["attempt"]) == ("success", {"x": x}, 1)
        assert row["duration_ms"] >= 0
        assert await stage.client.log(job) == f"before {x}\nafter {x}\n"
    await stage.check_empty()


async def test_outcome_is_there_while_main_goes_on(stage: Stage):
    """A job is over when its completion is committed; what `main` does after that changes nothing."""
    await prepare(stage)
    job = await stage.client.enqueue("writer", {"x": 1, "folder": str(stage.workspace), "stop": "behind"})
    late = await stage.client.enqueue("writer", {"x": 2, "stop": "raise"})
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage))
        with trio.fail_after(40):
            assert await stage.client.result(job) == {"x": 1}
            assert await stage.client.result(late) == {"x": 2}
        assert not await trio.Path(stage.workspace / "go").exists()
        (stage.workspace / "go").touch()
        worker.stop()
    assert worker.statistics().jobs == 2
    assert await stage.states() == {"success": 2}
    await stage.check_empty()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["inside", "behind"])
async def test_kill_leaves_one_effect(stage: Stage, where: str):
    """I1, I3: kill -9 between the write and the commit undoes the write, and the job runs again; after the
    the job does not. Either way there is one effect.
    """
    await prepare(stage)
    folder = stage.workspace
    job = await stage.client.enqueue("writer", {"x": 7, "folder": str(folder), "stop": where})
    command = await stage.dedicate("writer")
    await stage.until(exists(folder / where))
    (pid,) = await stage.worker_pids()
    os.kill(pid, signal.SIGKILL)
    with trio.fail_after(20):
        assert await stage.client.result(job) == {"x": 7}
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    assert await effects(stage) == [7]
    row = (await stage.rows())[0]
    assert (row["state"], row["attempt"]) == ("success", 1 if where == "behind" else row["attempt"])
    await stage.check_empty()


async def test_lost_lease_undoes_the_write(stage: Stage):
    """I2: a completion whose lease was taken back meanwhile writes nothing; the second run's effect is the
    only one.
    """
    await prepare(stage)
    folder = stage.workspace
    job = await stage.client.enqueue("writer", {"x": 3, "folder": str(folder), "stop": "inside"})
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage))
        await stage.until(exists(folder / "inside"))
        leases = [row[0] for row in await stage.connection.fetch("select id from hotpath.lease")]
        await stage.connection.fetch(query("give_back"), leases, worker.id, False)
        with trio.fail_after(40):
            assert await stage.client.result(job) == {"x": 3}  # run beside the first one, by the same worker
        (folder / "go").touch()
        await stage.until(exists(folder / "lost"))
        worker.stop()
    assert await effects(stage) == [3]
    assert await stage.states() == {"success": 1}
    await stage.check_empty()


ASK = """
import hotpath

async def main(x: int) -> int:
    async with hotpath.completion(x) as conn:
        await conn.execute("insert into effect (x) values ($1)", x)
    print("went on")
    return -1
"""


@attrs.define
class Cutter:
    """A way to the server that breaks at the first COMMIT: before it, or behind the reply."""

    folder: str
    server: str
    happened: bool
    cuts: int = 0

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take connections until cancelled."""
        with trio.socket.socket(socket.AF_UNIX) as listener:
            await listener.bind(f"{self.folder}/.s.PGSQL.5432")
            listener.listen(50)
            task_status.started()
            await trio.serve_listeners(self._pass_on, [trio.SocketListener(listener)])

    async def _pass_on(self, client: trio.SocketStream) -> None:
        async with client, await trio.open_unix_socket(self.server) as server, trio.open_nursery() as nursery:
            cutting = trio.Event()

            async def back() -> None:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    async for data in server:
                        if cutting.is_set():
                            break
                        await client.send_all(data)
                nursery.cancel_scope.cancel()

            nursery.start_soon(back)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async for data in client:
                    if b"COMMIT" in data and not self.cuts:
                        self.cuts += 1
                        cutting.set()
                        if not self.happened:
                            break
                    await server.send_all(data)
                    if cutting.is_set():
                        await trio.sleep_forever()  # until the server's reply, which nobody hears
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("happened", [True, False], ids=["committed", "undone"])
async def test_lost_reply_to_the_commit_is_found_out(stage: Stage, happened: bool):
    """I2, I11: when the connection breaks in the middle of the commit, the job's state is what the database
    says: ended, or failed with nothing written.
    """
    await prepare(stage, ASK)
    where = urlsplit(stage.url)
    (server,) = parse_qs(where.query)["host"]
    job = await stage.client.enqueue("writer", {"x": 5})
    with tempfile.TemporaryDirectory() as folder:
        cutter = Cutter(folder, f"{server}/.s.PGSQL.5432", happened)
        url = urlunsplit(where._replace(query=f"host={folder}"))
        async with trio.open_nursery() as nursery:
            await nursery.start(cutter.serve)
            what = hotpath.dedicated("writer", workspace=stage.workspace, database_url=url, drain=True)
            await hotpath.serve_worker(what)
            nursery.cancel_scope.cancel()
    assert cutter.cuts == 1
    if happened:
        assert await stage.client.result(job) == 5
        assert await stage.client.log(job) == "went on\n"
    else:
        with pytest.raises(hotpath.JobFailed, match="nothing was written"):
            await stage.client.result(job)
    assert await effects(stage) == ([5] if happened else [])
    assert len(await stage.rows()) == 1
    await stage.check_empty()


MISUSE = """
import hotpath, trio

async def main(how: str) -> str:
    if how == "twice":
        async with hotpath.completion("first"):
            pass
        try:
            hotpath.completion("second")
            async with hotpath.completion("second"):
                pass
        except hotpath.HotpathError as error:
            print(error)
        return "ignored"
    if how == "nested":
        async with hotpath.completion("outer"):
            try:
                async with hotpath.completion("inner"):
                    pass
            except hotpath.HotpathError as error:
                print(error)
        return "ignored"
    if how == "bad result":
        hotpath.completion(object())
    if how == "undone":
        try:
            async with hotpath.completion("never") as conn:
                await conn.execute("insert into effect (x) values (1)")
                raise KeyError("on purpose")
        except KeyError:
            return "went on"
    if how == "cancelled":
        with trio.move_on_after(0.05):
            async with hotpath.completion("never") as conn:
                await conn.execute("insert into effect (x) values (2)")
                await trio.sleep_forever()
        return "went on"
    if how == "refused":
        async with hotpath.completion("never") as conn:
            await conn.execute("insert into effect (x) values (1 / 0)")
"""


@pytest.mark.parametrize(
    ("how", "state", "said"),
    [
        ("twice", "success", "a job ends once"),
        ("nested", "success", "a job ends once"),
        ("bad result", "failure", "BadResultError"),
        ("undone", "success", "went on"),
        ("cancelled", "success", "went on"),
        ("refused", "failure", "DivisionByZeroError"),
    ],
)
async def test_misuse_is_said_and_harms_nothing(stage: Stage, how: str, state: str, said: str):
    """I13: a second completion, a result that cannot be stored, a block that raises: each with its own words,
    and nothing is written.
    """
    await prepare(stage, MISUSE)
    job = await stage.client.enqueue("writer", {"how": how})
    await hotpath.serve_worker(dedicated(stage, drain=True))
    row = (await stage.rows())[0]
    assert (row["id"], row["state"]) == (job, state)
    assert said in f"{row['result']} {row['error']} {await stage.client.log(job)}"
    if how in {"twice", "nested"}:
        assert json.loads(row["result"]) == {"twice": "first", "nested": "outer"}[how]
    assert await effects(stage) == []
    await stage.check_empty()


async def test_sync_main_is_told(stage: Stage):
    """A synchronous main that asks for a completion fails with words that say why; outside a job it raises
    them.
    """
    await prepare(
        stage, "import hotpath\n\ndef main(x: int) -> int:\n    hotpath.completion(x)\n    return x\n"
    )
    await stage.client.enqueue("writer", {"x": 1})
    await hotpath.serve_worker(dedicated(stage, drain=True))
    assert "for an async main" in (await stage.rows())[0]["error"]
    with pytest.raises(hotpath.HotpathError, match="no job is running here"):
        hotpath.completion(1)
