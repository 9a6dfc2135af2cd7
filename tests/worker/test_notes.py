"""What a runtime notes of jobs that have not ended is there before their outcomes, whatever happens; parked
jobs leave, and come back with what was noted.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import attrs
import pytest
import trio
from worker_stage import Stage

import hotpath
from hotpath.core.flow.keys import step_uuid
from hotpath.core.notes import Cached, Checkpoint, Dispatch, Early, Mark, Parking, StepNote
from hotpath.model import ErrorKind
from hotpath.store.work import WorkerSession
from hotpath.worker.notekeeper import Notekeeper
from hotpath.worker.pen import Pen

FAR = 2_000_000_000_000_000
"""2033, in microseconds."""


def dedicated(stage: Stage, runtime: Any, name: str = "nap", **options) -> hotpath.worker.Dedicated:
    """A worker in this process, of a script that its runtime does not look at."""
    return hotpath.dedicated(
        name, workspace=stage.workspace, database_url=stage.url, runtime=runtime, **options
    )


def step_id(job: UUID, number: int) -> bytes:
    """The same id for the same step of a job, with the job's time in it."""
    return step_uuid(job, f"s{number}", 0)


def step(
    job: UUID, key: str, number: int = 0, *, outcome: bytes = b"1", state: int = 1, log=None
) -> StepNote:
    """A step of the job that has just ended."""
    now = time.perf_counter_ns() // 1000
    return StepNote(key, step_id(job, number), 0, now - 50, 50, state, 1, b'{"y":1}', outcome, log)


@attrs.define(eq=False)
class Acting:
    """A runtime that loads nothing and has each job played by an async function of (batch, index, args)."""

    play: Callable[[Any, int, dict[str, Any]], Awaitable[None]]
    concurrency: int = 100
    interrupted: list[tuple[int, ErrorKind]] = attrs.field(factory=list)

    @asynccontextmanager
    async def open(self, script):
        yield

    async def run(self, batch):
        batch.begun = len(batch)
        async with trio.open_nursery() as nursery:
            for index, args in enumerate(json.loads(batch.args)):
                nursery.start_soon(self.play, batch, index, args)

    def interrupt(self, batch, index, kind):
        self.interrupted.append((index, kind))

    def stuck(self, after):
        return []


def end(batch, index, result: Any = 0) -> None:
    """The job has ended in success."""
    batch.report((index, 1, time.perf_counter_ns() // 1000, 7, json.dumps(result).encode(), None))


async def steps(stage: Stage, state: int | None = None) -> list[Any]:
    """Rows of steps, by their jobs and keys."""
    return await stage.connection.fetch(
        "select parent, step, state, result, error, attempt, done_at from hotpath.job_done "
        "where parent is not null and ($1::int2 is null or state = $1) order by parent, step, done_at",
        state,
    )


async def complete_runs(stage: Stage, keys: int) -> None:
    """Every job has ended once, and all its steps are there once, written no later than it."""
    rows = await stage.connection.fetch(
        """
        select r.id, array_agg(s.step order by s.step) as steps, bool_and(s.done_at <= r.done_at) as before
        from hotpath.job_done r left join hotpath.job_done s on s.parent = r.id
        where r.parent is null group by r.id
        """
    )
    for row in rows:
        assert row["steps"] == [f"s{number}" for number in range(keys)], row
        assert row["before"], row


async def test_notes_are_there_before_outcomes(stage: Stage):
    """I1: of many jobs, each with steps noted at once or over time, every step is stored once, with its log
    and times, and none after its job.
    """
    ids = list(await stage.client.enqueue_many("nap", ({"x": x} for x in range(120))))

    async def play(batch, index, args):
        for number in range(3):
            batch.note(index, step(batch.ids[index], f"s{number}", number, log=f"log {number}\n"))
            if args["x"] % 3 == 0:
                await trio.sleep(0.005)
        end(batch, index, args["x"])

    await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    assert [await stage.client.result(job) for job in ids] == list(range(120))
    assert len(await steps(stage)) == 360
    await complete_runs(stage, 3)
    assert await stage.client.log(UUID(bytes=step_id(ids[7], 2))) == "log 2\n"
    await stage.check_empty()


async def test_note_does_not_wait_for_the_end_of_its_job(stage: Stage):
    """A step of a job that goes on is visible in a moment, and one that must not wait is told of when it is:
    in Trio's thread, and after it can be seen.
    """
    await stage.client.enqueue("nap", {"x": 1})
    told: list[int] = []
    go_on, noted, looked = trio.Event(), trio.Event(), trio.Event()

    async def play(batch, index, args):
        batch.note(index, step(batch.ids[index], "s0", 0))
        await noted.wait()
        done = trio.Event()

        def written():
            told.append(threading.get_ident())
            done.set()

        await trio.to_thread.run_sync(
            lambda: batch.note(index, step(batch.ids[index], "s1", 1), written)
        )  # as from a lane
        await done.wait()
        assert [row["step"] for row in await steps(stage)] == ["s0", "s1"]
        looked.set()  # the connection is free again
        await go_on.wait()
        end(batch, index)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hotpath.serve_worker, dedicated(stage, Acting(play), drain=True))

        async def seen():
            return len(await steps(stage)) == 1

        await stage.until(seen)
        noted.set()

        with trio.fail_after(20):
            await looked.wait()
        assert told == [threading.get_ident()]
        assert await stage.states() == {"running": 1, "success": 2}
        go_on.set()


async def test_notes_of_every_kind(stage: Stage):
    """Marks, early results, cached results and jobs to dispatch are there with the steps; a mark can be taken
    away, and what is cached is found by its key.
    """
    await stage.client.register("double")
    job = await stage.client.enqueue("nap", {"x": 1})
    found = {}

    async def play(batch, index, args):
        run = batch.ids[index]
        batch.note(index, Mark("kept", b'{"a":1}'))
        batch.note(index, Mark("gone", b"1"))
        batch.note(index, Early(b"[7]"))
        batch.note(index, Cached(b"key", 60.0, b'"cached"'))
        batch.note(index, Dispatch("far", step_id(run, 9), "double", None, 0, None, b'{"x":21}'))
        done = trio.Event()
        batch.note(index, Mark("gone", None), done.set)
        await done.wait()
        found.update(await batch.cached([b"key", b"other"]))
        found["known"] = (await batch.recall([index]))[index]
        end(batch, index)

    await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    known = found.pop("known")
    assert found == {b"key": b'"cached"'}
    assert (known.marks, known.steps) == ({"kept": b'{"a":1}'}, {})
    assert {key: (child.id, child.state) for key, child in known.children.items()} == {
        "far": (step_id(job, 9), 0)
    }
    await stage.drain("double")
    assert await stage.client.result(UUID(bytes=step_id(job, 9))) == 42


async def test_parked_job_goes_on_with_what_was_noted(stage: Stage):
    """A parked job has left, with its notes and its log, and is `queued`; when its time comes it is claimed
    again, recalls its steps, runs as the same attempt, and its log is in one piece.
    """
    ids = list(await stage.client.enqueue_many("nap", ({"x": x} for x in range(8))))
    seen: list[Any] = []

    async def play(batch, index, args):
        assert batch.attempts[index] == 1
        known = (await batch.recall(range(len(batch)))).get(index)
        if known is None:
            batch.note(index, step(batch.ids[index], "s0", 0, outcome=b'"first"'))
            wake = None if args["x"] == 7 else batch.now_us() + 300_000
            if args["x"] != 6:
                batch.park(index, Parking(until_us=wake), f"first {args['x']}\n")
                return
        seen.append(known)
        batch.report((index, 1, time.perf_counter_ns() // 1000, 7, b"1", f"second {args['x']}\n"))

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, Acting(play)))

        async def ended():
            return (await stage.states())["success"] == 8 + 7

        await stage.until(ended)
        worker.stop()
    assert sorted(known is None for known in seen) == [False] * 6 + [True]
    known = next(known for known in seen if known is not None)
    assert set(known.steps) == {"s0"}
    assert isinstance(known.steps["s0"], Checkpoint)
    assert known.steps["s0"].outcome == b'"first"'
    assert await stage.client.log(ids[0]) == "first 0\nsecond 0\n"
    rows = {row["id"]: row for row in await stage.rows()}
    assert (rows[ids[7]]["state"], rows[ids[7]]["attempt"]) == ("queued", 0)
    assert not await stage.connection.fetchval("select count(*) from hotpath.lease")
    assert not await stage.connection.fetchval("select count(*) from hotpath.batch")


async def test_jobs_parked_beside_others_that_run(stage: Stage):
    """Some jobs of a lease are parked while others of it run on, and end: each has its own end."""
    ids = list(await stage.client.enqueue_many("nap", ({"x": x} for x in range(30))))
    go_on = trio.Event()

    async def play(batch, index, args):
        batch.note(index, step(batch.ids[index], "s0", 0))
        if args["x"] % 3 == 0:
            batch.park(index, Parking(until_us=FAR))
        elif args["x"] % 3 == 1:
            end(batch, index)
        else:
            await go_on.wait()
            end(batch, index)

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, Acting(play)))

        async def settled():
            states = Counter(row["state"] for row in await stage.rows() if row["id"] in ids)
            return states == {"queued": 10, "success": 10, "running": 10}

        await stage.until(settled)
        go_on.set()

        async def over():
            return Counter(row["state"] for row in await stage.rows() if row["id"] in ids)["success"] == 20

        await stage.until(over)
        worker.stop()
    assert (
        await stage.connection.fetchval("select count(*) from hotpath.job_queue where scheduled_for > now()")
        == 10
    )
    assert not await stage.connection.fetchval("select count(*) from hotpath.lease")


async def test_lost_lease_drops_its_notes(stage: Stage, caplog):
    """I2: what is noted under a lease that somebody has taken is refused, and said so; nobody is told that it
    was written, and what runs is interrupted.
    """
    await stage.client.enqueue("nap", {"x": 1})
    told, begun, taken, noted = [], trio.Event(), trio.Event(), trio.Event()

    async def play(batch, index, args):
        begun.set()
        await taken.wait()
        batch.note(index, step(batch.ids[index], "s0", 0), lambda: told.append(1))
        noted.set()
        await trio.sleep(0.2)
        end(batch, index)

    runtime = Acting(play)
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, runtime))
        await begun.wait()
        await stage.steal()
        taken.set()
        await noted.wait()

        async def interrupted():
            return runtime.interrupted

        await stage.until(interrupted)
        await trio.sleep(0.3)
        worker.stop()
    assert not told
    assert not await steps(stage)
    assert not await stage.connection.fetchval("select count(*) from hotpath.job_done")
    assert "notes of 1 jobs are dropped" in caplog.text


@pytest.mark.parametrize("strict", [True, False])
async def test_poisonous_note_ends_its_job_alone(stage: Stage, strict):
    """I7, I13: a note that cannot be stored makes its job a failure, bad_result, though it reports a success;
    notes and outcomes of the others are stored.
    """
    ids = list(await stage.client.enqueue_many("nap", ({"x": x} for x in range(20))))
    bad = {3, 4, 17}

    async def play(batch, index, args):
        outcome = b'{"never closed": ' if args["x"] in bad else b"1"
        note = step(batch.ids[index], "s0", 0, outcome=outcome)
        if strict:
            batch.note(index, note, lambda: None)
            await trio.sleep(0.1)
        else:
            batch.note(index, note)
        end(batch, index, args["x"])

    await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    rows = {row["id"]: row for row in await stage.rows()}
    for x, job in enumerate(ids):
        if x in bad:
            assert rows[job]["state"] == "failure"
            assert json.loads(rows[job]["error"])["kind"] == "bad_result"
        else:
            assert (rows[job]["state"], rows[job]["result"]) == ("success", str(x))
    assert {row["parent"] for row in await steps(stage)} == {job for x, job in enumerate(ids) if x not in bad}
    await stage.check_empty()


async def test_many_and_large_notes_in_several_writes(stage: Stage):
    """More notes than one write may hold, and larger ones, are all there, before the outcome."""
    await stage.client.enqueue("nap", {"x": 1})
    sizes: list[tuple[int, int]] = []

    async def play(batch, index, args):
        run = batch.ids[index]
        for number in range(7_000):
            batch.note(index, Mark(f"m{number}", b"1"))
        for number in range(6):
            batch.note(index, step(run, f"s{number}", number, outcome=b'"' + b"x" * (3 << 20) + b'"'))
        end(batch, index)

    with pytest.MonkeyPatch.context() as patch:
        write = Pen.write

        async def measured(self, session, **options):
            sizes.append((len(self.notes.entries), self.notes.size))
            await write(self, session, **options)

        patch.setattr(Pen, "write", measured)
        await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    assert len(sizes) >= 4
    assert all(count <= 5_000 and size <= 8 << 20 for count, size in sizes)
    assert sum(count for count, _ in sizes) == 7_006
    await complete_runs(stage, 6)
    assert await stage.connection.fetchval("select count(*) from hotpath.mark") in {0, 7_000}


@pytest.mark.parametrize("where", ["behind notes", "behind the flush"])
async def test_lost_replies_lose_and_double_nothing(stage: Stage, monkeypatch, where):
    """I1, I11: the connection breaks behind notes or behind the flush that followed them, again and again: in
    the end each step is there once, no later than its job, and each job has ended once.
    """
    await stage.client.enqueue_many("nap", ({"x": x} for x in range(60)))
    breaks = [0]

    def breaking(method):
        async def broken(self, *args, **options):
            reply = await method(self, *args, **options)
            session = self if isinstance(self, WorkerSession) else args[0]
            said = args[0] if isinstance(self, WorkerSession) else True
            if said and breaks[0] < 3:
                breaks[0] += 1
                session.connection.terminate()
                raise ConnectionResetError("the reply was lost")
            return reply

        return broken

    if where == "behind notes":
        monkeypatch.setattr(Pen, "write", breaking(Pen.write))
    else:
        monkeypatch.setattr(WorkerSession, "cycle", breaking(WorkerSession.cycle))

    async def play(batch, index, args):
        for number in range(3):
            batch.note(index, step(batch.ids[index], f"s{number}", number))
            await trio.sleep(0.002 * (args["x"] % 5))
        end(batch, index)

    await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    assert breaks[0] == 3
    assert len(await steps(stage)) == 180
    assert (await stage.states()) == {"success": 240}
    await complete_runs(stage, 3)
    await stage.check_empty()


async def test_crash_between_notes_and_their_flush(stage: Stage, monkeypatch):
    """I1: a server that crashes before the flush has forgotten the notes in front of it, which nobody waited
    for: they are sent again with it.
    """
    await stage.client.enqueue_many("nap", ({"x": x} for x in range(20)))
    cycle, crashed = WorkerSession.cycle, []

    async def crashing(self, flushes, *args, **options):
        if flushes and not crashed:
            crashed.append(await stage.connection.fetchval("select count(*) from hotpath.job_done"))
            await stage.connection.execute("delete from hotpath.job_done")
            self.connection.terminate()
            raise ConnectionResetError("the server crashed")
        return await cycle(self, flushes, *args, **options)

    monkeypatch.setattr(WorkerSession, "cycle", crashing)

    async def play(batch, index, args):
        await trio.lowlevel.checkpoint()
        batch.note(index, step(batch.ids[index], "s0", 0))
        end(batch, index)

    await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    assert crashed == [20]
    assert len(await steps(stage)) == 20
    await complete_runs(stage, 1)


async def test_park_whose_reply_is_lost_happens_once(stage: Stage, monkeypatch):
    """A park that is sent again finds the job gone: it is in the queue once."""
    from hotpath.worker import notekeeper

    ids = list(await stage.client.enqueue_many("nap", ({"x": x} for x in range(10))))
    park, broken = notekeeper._park, []

    async def lost(session, parks):
        reply = await park(session, parks)
        if not broken:
            broken.append(1)
            session.connection.terminate()
            raise ConnectionResetError("the reply was lost")
        return reply

    monkeypatch.setattr(notekeeper, "_park", lost)

    async def play(batch, index, args):
        batch.note(index, step(batch.ids[index], "s0", 0))
        batch.park(index, Parking(until_us=FAR))
        await trio.lowlevel.checkpoint()

    await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    assert broken
    rows = await stage.connection.fetch("select id from hotpath.job_queue order by id")
    assert [row["id"] for row in rows] == ids
    assert len(await steps(stage)) == 10
    assert not await stage.connection.fetchval("select count(*) from hotpath.lease")


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_stopped_worker_gives_back_behind_the_notes(stage: Stage, how):
    """I12: a worker that is stopped, or cancelled, writes what was noted of jobs that have not ended before
    it gives them back; whoever runs them next recalls it. What was parked is parked.
    """
    ids = list(await stage.client.enqueue_many("nap", ({"x": x} for x in range(6))))
    begun = Counter()

    async def play(batch, index, args):
        known = (await batch.recall([index])).get(index)
        if known is not None:
            assert set(known.steps) == {"s0"}
            end(batch, index, "recalled")
            return
        begun[how] += 1
        while not batch.stopped:
            await trio.sleep(0.01)
            if how == "cancel" and begun["gone"]:
                break
        batch.note(index, step(batch.ids[index], "s0", 0))
        if args["x"] == 5:
            batch.park(index, Parking(until_us=FAR))
        if how == "cancel":
            begun["noted"] += 1
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, Acting(play)))

        async def all_begun():
            return begun[how] == 6

        await stage.until(all_begun)
        if how == "stop":
            worker.stop()
        else:
            begun["gone"] = 1

            async def all_noted():
                return begun["noted"] == 6

            await stage.until(all_noted)
            nursery.cancel_scope.cancel(reason="the worker is to go")
    assert len(await steps(stage)) == 6
    assert (await stage.states())["queued"] == 6
    await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    assert [await stage.client.result(job) for job in ids[:5]] == ["recalled"] * 5
    assert await stage.connection.fetchval("select array_agg(id) from hotpath.job_queue") == [ids[5]]


@pytest.mark.parametrize("at", ["notes", "release"])
async def test_cancelled_worker_claims_nothing_more(stage: Stage, monkeypatch, at):
    """I12: a worker that is cancelled while a statement is under way, and whose jobs are gone before the
    reply, gives them back and claims nothing: no job begins again in it.
    """
    from hotpath.worker.ledger import Ledger

    await stage.client.enqueue_many("nap", ({"x": x} for x in range(3)))
    plays, gone, asked, reply = Counter(), Counter(), trio.Event(), trio.Event()

    def slow(method):
        async def slower(self, *args, **options):
            await method(self, *args, **options)
            if not asked.is_set():
                asked.set()
                with trio.CancelScope(shield=True):
                    await reply.wait()

        return slower

    if at == "notes":
        monkeypatch.setattr(Pen, "write", slow(Pen.write))
    else:
        monkeypatch.setattr(Ledger, "release", slow(Ledger.release))

    async def play(batch, index, args):
        plays[args["x"]] += 1
        try:
            batch.note(index, step(batch.ids[index], "s0", 0))
            if at == "notes":
                await trio.sleep_forever()
        finally:
            gone[args["x"]] += 1

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def serve():
            with scope:
                await hotpath.serve_worker(dedicated(stage, Acting(play)))

        nursery.start_soon(serve)
        await asked.wait()
        scope.cancel(reason="the worker is to go")

        async def all_gone():
            return gone == plays

        await stage.until(all_gone)
        reply.set()
    assert set(plays.values()) == {1}
    assert (await stage.states())["queued"] == 3
    assert not await stage.connection.fetchval("select count(*) from hotpath.lease")


async def test_cancel_of_a_job_that_parks(stage: Stage):
    """A job that somebody asked to cancel, and that parks all the same, ends as canceled."""
    job = await stage.client.enqueue("nap", {"x": 1})
    begun = trio.Event()

    async def play(batch, index, args):
        begun.set()
        while index not in batch.canceling:  # noqa: ASYNC110 - what a runtime that polls does
            await trio.sleep(0.005)
        batch.park(index, Parking(until_us=None))

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, Acting(play)))
        await begun.wait()
        await stage.client.cancel(job)
        await stage.until_done(1)
        worker.stop()
    assert await stage.states() == {"canceled": 1}
    await stage.check_empty()


async def test_job_that_runs_again_keeps_its_notes(stage: Stage):
    """An attempt that failed and runs again has its notes written before it goes back to the queue."""
    job = await stage.client.enqueue("nap", {"x": 1})
    seen = []

    async def play(batch, index, args):
        await trio.lowlevel.checkpoint()
        seen.append(
            (batch.attempts[index], sorted((await batch.recall([index]))[index].steps) if seen else None)
        )
        if batch.attempts[index] == 1:
            batch.note(index, step(batch.ids[index], "s0", 0))
            error = b'{"name":"E","message":"","traceback":"","kind":"exception"}'
            batch.retry((index, 4, time.perf_counter_ns() // 1000, 5, error, None), 0.0)
        else:
            end(batch, index, "again")

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, Acting(play)))
        assert await stage.client.result(job) == "again"
        worker.stop()
    assert seen == [(1, None), (2, ["s0"])]


async def test_nothing_is_asked_of_the_desk_by_scripts_that_note_nothing(stage: Stage, monkeypatch):
    """A worker whose jobs note nothing writes none, and takes no lock."""
    await stage.client.enqueue_many("nap", ({"x": x} for x in range(20)))

    def called(*_: Any, **__: Any) -> Any:
        raise AssertionError("nobody has noted anything")

    for name in ("all", "ahead", "begin", "leave", "is_due"):
        monkeypatch.setattr(Notekeeper, name, called)

    async def play(batch, index, args):
        await trio.lowlevel.checkpoint()
        end(batch, index)

    await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    assert await stage.states() == {"success": 20}


NAMED = """
import os, threading, time
from contextlib import asynccontextmanager

class Runtime:
    def __init__(self, description, lane, concurrency):
        self.lane, self.concurrency = lane, concurrency or 3
    @asynccontextmanager
    async def open(self, script):
        yield
    async def run(self, batch):
        main = await self.lane.call(lambda: threading.current_thread() is threading.main_thread())
        here = threading.current_thread() is threading.main_thread()
        for index in range(len(batch)):
            batch.report((index, 1, time.perf_counter_ns() // 1000, 1, b"[%d, %d]" % (main, here), None))
"""


@pytest.mark.slow
async def test_named_runtime_has_the_main_thread(stage: Stage, monkeypatch, tmp_path):
    """A runtime that is given by name is made in the worker's process with a lane that is its main thread,
    Trio beside it, though its script is async.
    """
    (tmp_path / "named_runtime.py").write_text(NAMED)
    (tmp_path / "sitecustomize.py").write_text(
        "import hotpath.worker.runtimes as r; r.runtime_of = lambda *_: 'named_runtime:Runtime'\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    job = await stage.client.enqueue("nap", {"x": 1})
    await stage.drain("nap", cold=True)  # for `sitecustomize`
    assert await stage.client.result(job) == [1, 0]
