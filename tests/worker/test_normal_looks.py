"""What a normal worker finds though its claims begin behind it: no due job waits while a slot is free (I4).

Full looks seem to cost so much here, as on a busy machine, that none is taken for its own sake.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trio
from worker_stage import Stage

from hotpath import asyncpg_trio
from hotpath.config import Config
from hotpath.core import pacing
from hotpath.core.pacing import LookRation
from hotpath.core.tags import parse_patterns
from hotpath.store.mixed import MAX_JOBS, Claiming, Found
from hotpath.store.work import WorkerSession
from hotpath.worker import dispatcher as dispatching
from hotpath.worker.dispatcher import Dispatcher
from hotpath.worker.lookout import Lookout
from hotpath.worker.options import NormalOptions
from hotpath.worker.report import NormalReporter
from hotpath.worker.stop import Stop
from hotpath.worker.supervisor import Supervisor, hold_database

GATE = """
import pathlib, trio

async def main(file: str) -> None:
    while not pathlib.Path(file).exists():
        await trio.sleep(0.01)
"""
NARROW = GATE.replace("async def", "import hotpath\n\nhotpath.settings(limit=1)\n\nasync def", 1)


@asynccontextmanager
async def open_normal(stage: Stage, slots: int = 1) -> AsyncIterator[Dispatcher]:
    """A normal worker in this process; those that run the scripts are processes of their own."""
    config = Config(workspace=stage.workspace, database_url=stage.url)
    options = NormalOptions(
        workspace=stage.workspace, patterns=parse_patterns(["*"]), slots=slots, quiet=True
    )
    stop = Stop()
    for name in ("double", "size"):  # before: who hears of a version looks, too
        await stage.client.register(name)
    async with trio.open_nursery() as nursery:
        database = await nursery.start(hold_database, config)
        supervisor = Supervisor(config, database, options, stop)
        dispatcher = Dispatcher(supervisor, options, NormalReporter(options))
        async with trio.open_nursery() as beside:
            beside.start_soon(supervisor.run, dispatcher.run)
            with trio.fail_after(50):
                yield dispatcher
            stop()
            stop()
        nursery.cancel_scope.cancel(reason="the test is over")


def forgo_looks(monkeypatch: pytest.MonkeyPatch, *, ask: bool = False) -> None:
    """From now on a full look is taken only for what was missed; and if nobody may `ask`, not for that."""
    monkeypatch.setattr(LookRation, "_pause", 1e9)
    if not ask:
        monkeypatch.setattr(LookRation, "doubtful", lambda *_: False)
        monkeypatch.setattr(LookRation, "due", lambda *_: False)


def after_claims(monkeypatch: pytest.MonkeyPatch, then: Callable[[Claiming, Found], Awaitable[None]]) -> None:
    """Have this done between each claim and its reply."""
    claim = Claiming.__call__

    async def claim_and_more(self: Claiming, session: WorkerSession) -> Found:
        found = await claim(self, session)
        await then(self, found)
        return found

    monkeypatch.setattr(Claiming, "__call__", claim_and_more)


async def test_a_job_that_was_passed(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """I4: a job that was committed late, or came back, lies before the place where claims begin. It is found
    within a second or so, and for that the worker looks once.
    """
    async with open_normal(stage):
        job = await stage.client.enqueue("double", {"x": 1})
        assert await stage.client.result(job) == 2
        forgo_looks(monkeypatch, ask=True)
        past = datetime.now(UTC) - timedelta(hours=1)
        job = await stage.client.enqueue("double", {"x": 2}, scheduled_for=past)
        assert await stage.client.result(job) == 4


async def test_a_job_behind_one_that_others_hold(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """I4: claims see a due job that somebody has locked for long, and get nothing: what they passed is looked
    for meanwhile.
    """
    locked = await asyncpg_trio.connect(stage.url)
    async with open_normal(stage):
        job = await stage.client.enqueue("double", {"x": 1})
        assert await stage.client.result(job) == 2
        forgo_looks(monkeypatch, ask=True)
        async with locked.transaction():
            soon = datetime.now(UTC) + timedelta(seconds=0.5)  # not begun before it is locked
            held = await stage.client.enqueue("double", {"x": 5}, scheduled_for=soon)
            await locked.execute("select from hotpath.job_queue where id = $1 for update", held)
            saw = trio.Event()

            async def note(_claiming: Claiming, found: Found) -> None:
                if found.saw:
                    saw.set()

            after_claims(monkeypatch, note)
            await saw.wait()
            past = datetime.now(UTC) - timedelta(hours=1)
            job = await stage.client.enqueue("double", {"x": 2}, scheduled_for=past)
            assert await stage.client.result(job) == 4
        assert await stage.client.result(held) == 10
    await locked.close()


async def test_jobs_behind_some_that_others_hold_and_that_fill_a_claim(stage: Stage):
    """I4: nobody knows yet how long a job takes, so a claim is one job; that one is locked for long, by
    somebody's open transaction, and so are the next ones: those behind them begin meanwhile.
    """
    locked = await asyncpg_trio.connect(stage.url)
    held = [await stage.client.enqueue("double", {"x": x}) for x in range(4, 9)]
    await locked.execute("begin")
    await locked.execute("select from hotpath.job_queue for update")
    jobs = [await stage.client.enqueue("double", {"x": x}) for x in range(15, 18)]
    async with open_normal(stage):
        assert [await stage.client.result(job) for job in jobs] == [30, 32, 34]
        await locked.execute("rollback")
        assert [await stage.client.result(job) for job in held] == [8, 10, 12, 14, 16]
    await locked.close()


async def test_a_job_in_a_tag_that_is_new(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """A tag that nobody had used before is known within a second, also where a full look is not due."""
    async with open_normal(stage):
        job = await stage.client.enqueue("double", {"x": 1})
        assert await stage.client.result(job) == 2
        forgo_looks(monkeypatch, ask=True)
        job = await stage.client.enqueue("double", {"x": 2}, tag="brand-new")
        assert await stage.client.result(job) == 4


async def test_a_script_that_is_being_loaded_is_not_passed(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """I4: while a process loads a script, its jobs are left out; they begin once it is warm, without one."""
    async with open_normal(stage, slots=2):
        job = await stage.client.enqueue("double", {"x": 1}, tag="shared")
        assert await stage.client.result(job) == 2
        forgo_looks(monkeypatch)
        job = await stage.client.enqueue("size", {"text": "abc"}, tag="shared")
        assert await stage.client.result(job) == 3


async def test_a_script_whose_limit_is_reached_is_not_passed(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """I4, I10: what a limit holds back begins when it has room, without a look; while it waits, that is no
    reason to look.
    """
    (stage.workspace / "narrow.py").write_text(NARROW)
    open_file, shut = stage.workspace / "open", stage.workspace / "shut"
    open_file.touch()
    looks: list[bool] = []
    asked: list[bool] = []
    look, ask, claim_apart = Lookout.look, Lookout.ask, Dispatcher._claim_apart
    tried = trio.Event()

    async def count_look(self, session):
        looks.append(self._asked)  # as when the script's version is heard of
        await look(self, session)

    async def count_ask(self, session, left_out):
        asked.append(await ask(self, session, left_out))
        return asked[-1]

    async def note_try(self, found, taker):
        await claim_apart(self, found, taker)
        tried.set()

    await stage.client.register("narrow")
    async with open_normal(stage, slots=2):
        job = await stage.client.enqueue("narrow", {"file": str(open_file)})
        await stage.client.result(job)
        first = await stage.client.enqueue("narrow", {"file": str(shut)})

        async def runs() -> bool:
            return (await stage.client.job(first)).state == "running"

        await stage.until(runs)
        monkeypatch.setattr(Lookout, "look", count_look)
        monkeypatch.setattr(Lookout, "ask", count_ask)
        monkeypatch.setattr(Dispatcher, "_claim_apart", note_try)
        monkeypatch.setattr(pacing, "LOOK_EVERY", 0.02)
        forgo_looks(monkeypatch, ask=True)
        second = await stage.client.enqueue("narrow", {"file": str(open_file)})
        await tried.wait()
        # Who asked behind a claim that was on its way as this job came saw it, and one look may come of that.
        asked.clear()

        async def asked_often(least: int = 4) -> bool:
            return len(asked) >= least

        await stage.until(lambda: asked_often(1))
        looks.clear()
        await stage.until(asked_often)
        assert not any(asked)
        assert all(looks)
        assert (await stage.client.job(second)).state == "queued"
        forgo_looks(monkeypatch)
        shut.touch()
        await stage.client.result(second)
        assert all(looks)


async def test_a_job_that_comes_while_an_empty_reply_is_late(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """What comes between an empty claim and its reply, which takes long on a busy machine, is not passed."""
    jobs = []

    async def enqueue(_claiming: Claiming, found: Found) -> None:
        if not found.segments and not jobs:
            jobs.append(await stage.client.enqueue("double", {"x": 2}))
            await trio.sleep(0.1)

    async with open_normal(stage):
        job = await stage.client.enqueue("double", {"x": 1})
        assert await stage.client.result(job) == 2
        forgo_looks(monkeypatch)
        after_claims(monkeypatch, enqueue)

        async def came() -> bool:
            return bool(jobs)

        await stage.until(came)
        assert await stage.client.result(jobs[0]) == 4


async def test_a_slot_that_becomes_free_while_a_claim_is_on_its_way(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    """A job for which no slot was free begins when one has become free before the worker heard of it."""
    (stage.workspace / "gate.py").write_text(GATE)
    file = stage.workspace / "open"
    monkeypatch.setattr(dispatching, "HOLD", 1e9)

    async def end_what_runs(_claiming: Claiming, found: Found) -> None:
        if found.cold is not None and any(seat.running for seat in dispatcher.warm.seats):
            file.touch()
            while any(seat.running for seat in dispatcher.warm.seats):  # noqa: ASYNC110 - another process
                await trio.sleep(0.01)

    async with open_normal(stage) as dispatcher:
        gate = await stage.client.enqueue("gate", {"file": str(file)})

        async def runs() -> bool:
            return (await stage.client.job(gate)).state == "running"

        await stage.until(runs)
        after_claims(monkeypatch, end_what_runs)
        job = await stage.client.enqueue("double", {"x": 1})
        assert await stage.client.result(job) == 2


async def test_many_jobs_that_others_hold(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """Where all that a claim may look at is locked, the worker pauses as when it is one job, and goes on."""
    paused = trio.Event()
    nothing_found = Dispatcher._nothing_found

    async def note(self, found, left_out):
        if found.saw and found.more:
            paused.set()
        await nothing_found(self, found, left_out)

    monkeypatch.setattr(Dispatcher, "_nothing_found", note)
    locked = await asyncpg_trio.connect(stage.url)
    for x in range(600):
        await stage.client.enqueue("double", {"x": 10 * x}, tag="double")
    async with open_normal(stage):
        async with locked.transaction():
            job = await stage.client.enqueue("double", {"x": 1}, tag="double", priority=1)
            await locked.execute("select from hotpath.job_queue where priority = 0 for update")
            assert await stage.client.result(job) == 2
            await paused.wait()
        await stage.until_done(601)
    await locked.close()


@pytest.mark.parametrize("tags", [["double"], ["double", "twice"]])
async def test_jobs_behind_more_than_a_claim_that_others_hold(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tags: list[str]
):
    """I4: those behind begin also where more is locked than a claim looks at, in one tag or in two."""
    sizes = []

    async def note(_claiming: Claiming, found: Found) -> None:
        sizes.extend(map(len, found.segments))

    after_claims(monkeypatch, note)
    locked = await asyncpg_trio.connect(stage.url)
    await stage.client.register("double")
    await stage.connection.execute(
        "select hotpath.enqueue('double', '{\"x\": 1}', tag => ($1::text[])[1 + n * cardinality($1) / 1300])"
        " from generate_series(0, 1299) n",
        tags,
    )
    await locked.execute("begin")
    await locked.execute("select from hotpath.job_queue for update")
    jobs = [await stage.client.enqueue("double", {"x": x}, tag=tags[x % len(tags)]) for x in range(15, 19)]
    async with open_normal(stage):
        assert [await stage.client.result(job) for job in jobs] == [30, 32, 34, 36]
        assert await stage.connection.fetchval("select count(*) from hotpath.job_queue") == 1300
        await locked.execute("rollback")
        await stage.until_done(1304)
    assert 0 < max(sizes) <= MAX_JOBS
    await locked.close()
