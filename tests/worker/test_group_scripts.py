"""Scripts of a group: shown while they run, ended when they are canceled or nobody is there any more; what
becomes of a worker whose host has no room for them.
"""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

import pytest
import trio

from hotpath.client import open_client
from hotpath.core.groups import Periodic, ScriptText
from hotpath.core.secrets import masker_of
from hotpath.store.logs import live_after, watch
from hotpath.store.records import Run, begin_aside, see_aside
from hotpath.worker import aside, house
from hotpath.worker.aside import Aside
from hotpath.worker.group_scripts import Place, keep_running, run_script


@pytest.fixture
async def client(database_url, tmp_path):
    """A client of a fresh database."""
    async with open_client(database_url, workspace=tmp_path) as opened:
        yield opened


def place_in(directory: Path) -> Place:
    """Where scripts run."""
    return Place(workspace=directory, environment=None, masker=masker_of(("secret!",)))


async def until(look):
    """What `look()` gives once it is true; the test's own minute bounds it."""
    while True:
        if found := await look():
            return found
        await trio.sleep(0.01)


async def shown(client, **asked):
    """The job that runs, once it is seen."""
    return (await until(lambda: client.jobs(**asked)))[0]


async def test_a_script_is_seen_and_followed_while_it_runs(client, tmp_path, monkeypatch):
    """In lists, by its id, among the tags, by who watches; nobody can claim it. Then it has ended, once."""
    monkeypatch.setattr(aside, "MOMENT", 0.0)
    monkeypatch.setattr(aside, "EVERY", 0.02)
    monkeypatch.setattr(aside, "WATCHED_EVERY", 0.02)
    text = "echo first; echo a secret!; while ! test -e go; do sleep 0.02; done; echo last"
    ends: list[tuple[Run, uuid.UUID | None]] = []

    async def run():
        it = Aside(client.database, "init/here-g", {"group": "g"})
        ends.append(await run_script(ScriptText(text), 30.0, place_in(tmp_path), it))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        job = await shown(client, script="init/here-g", state="running")
        assert (job.tag, job.args, job.attempt, job.worker) == ("init", {"group": "g"}, 1, None)
        assert (await client.job(job.id)).state == "running"
        assert [(tag.tag, tag.running, tag.waiting) for tag in (await client.status()).tags] == [
            ("init", 1, 0)
        ]
        async with client.database.connection() as connection:
            assert (
                await connection.fetchval("select state from hotpath.job where id = $1", job.id) == "running"
            )
            assert await connection.fetchval("select count(*) from hotpath.job_queue, hotpath.batch") == 0
            await watch(connection, [job.id], uuid.uuid4(), 30.0)

            async def told():
                chunks = (await live_after(connection, [(job.id, 0, 0)])).get(job.id, [])
                return "".join(chunk.text for chunk in chunks) == "first\na ••••••\n"

            await until(told)
        (tmp_path / "go").touch()
        assert await client.result(job.id) is None
    ((ended, id),) = ends
    assert (id, ended.error, ended.log) == (job.id, None, "first\na ••••••\nlast\n")
    found = await client.jobs(script="init/here-g")
    assert [(one.id, one.state, one.started_at) for one in found] == [(job.id, "success", job.started_at)]
    assert await client.log(job.id) == "first\na ••••••\nlast\n"


async def test_a_script_that_is_over_at_once_is_only_recorded(client, tmp_path):
    """It was never shown: one statement, at its end."""
    it = Aside(client.database, "periodic/here-g/p", {})
    run, id = await run_script(ScriptText("echo x; exit 3"), 30.0, place_in(tmp_path), it)
    job = await client.job(id)
    assert (run.log, job.state, job.error["message"]) == ("x\n", "failure", "it ended with exit code 3")


async def test_a_script_is_canceled(client, tmp_path, monkeypatch):
    """As any job that runs: within a moment its process group is killed, and it has ended so."""
    monkeypatch.setattr(aside, "MOMENT", 0.0)
    monkeypatch.setattr(aside, "EVERY", 0.02)
    it = Aside(client.database, "init/here-g", {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_script, ScriptText("echo so far; sleep 600"), 700.0, place_in(tmp_path), it)
        job = await shown(client, state="running")
        assert await client.cancel(job.id)
    ended = await client.job(job.id)
    assert (ended.state, ended.error["kind"], ended.error["message"]) == (
        "canceled",
        "canceled",
        "it was canceled",
    )
    assert not await client.cancel(job.id)


async def test_a_script_ends_with_its_worker(client, tmp_path, monkeypatch):
    """Where the worker is stopped, its job says so."""
    monkeypatch.setattr(aside, "MOMENT", 0.0)
    it = Aside(client.database, "init/here-g", {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_script, ScriptText("sleep 600"), 700.0, place_in(tmp_path), it)
        job = await shown(client, state="running")
        nursery.cancel_scope.cancel()
    ended = await client.job(job.id)
    assert (ended.state, ended.error["message"]) == ("canceled", "it was stopped with its worker")


async def test_what_nobody_runs_any_more_is_ended(client, monkeypatch):
    """A keeper ends it once it was silent for long, and by two looks the same; one that comes to word again
    goes on, and who is late is told.
    """
    monkeypatch.setattr(house, "ASIDES_EVERY", 0.0)
    keeper = house.House()
    async with client.database.connection() as connection:
        lost = await begin_aside(connection, "init/dead-g", 1.0, {})
        kept = await begin_aside(connection, "init/slow-g", 1.0, {})

        async def silence(job):
            await connection.execute(
                "update hotpath.aside set seen_at = seen_at - interval '1 minute' where id = $1", job
            )

        await keeper._asides(connection)
        await silence(lost)
        await silence(kept)
        await keeper._asides(connection)
        assert {one.state for one in await client.jobs()} == {"running"}  # one look says nothing
        assert await see_aside(connection, kept) is not None
        await keeper._asides(connection)
        ended = await client.job(lost)
        assert (ended.state, ended.error["kind"]) == ("failure", "crash")
        assert (await client.job(kept)).state == "running"
        assert await see_aside(connection, lost) is None


async def test_a_host_without_room_ends_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """I11: a periodic script that cannot even be written is a run that failed, and comes again."""
    runs: list[Run] = []

    async def run_one(_name: str, script: ScriptText, limit: float) -> Run:
        it = Aside(None, "periodic/p", {})
        run, _ = await run_script(script, limit, place, it)
        runs.append(run)
        if len(runs) == 2:
            scope.cancel()
        return run

    async def recorded(_self: Aside, _run: Run) -> None:
        """There is no database."""

    monkeypatch.setattr(Aside, "_record", recorded)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    place = Place(workspace=tmp_path, environment=None, masker=masker_of(()))
    periodic = Periodic(name="p", every=10.0, script=ScriptText("echo here"))
    with trio.CancelScope() as scope:
        await keep_running(periodic, "periodic/p", run_one)
    assert [run.error is not None and "it cannot be run: " in run.error[1] for run in runs] == [True, True]
