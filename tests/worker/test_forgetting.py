"""What runs have left is dropped by their own worker as they succeed, and notes are durable when it is said
that they are.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from test_notes import FAR, Acting, dedicated, end, step
from worker_stage import Stage

import hotpath
from hotpath.core.notes import Early, Mark, Parking
from hotpath.worker import forgetting, ledger, notekeeper
from hotpath.worker.pen import Pen


@pytest.fixture
def asked(monkeypatch) -> Counter:
    """Which jobs were to be forgotten, and how often."""
    found: Counter = Counter()
    forget = ledger._forget

    async def counted(session, runs):
        found.update(runs)
        return await forget(session, runs)

    monkeypatch.setattr(ledger, "_forget", counted)
    return found


async def test_jobs_are_forgotten_as_they_succeed(stage: Stage, asked: Counter):
    """I10: what jobs have left is dropped soon after they succeeded, while their worker goes on; nothing is
    asked of those that noted steps alone, nor of those that failed.
    """
    ids = list(await stage.client.enqueue_many("nap", ({"x": x} for x in range(6))))

    async def play(batch, index, args):
        x = args["x"]
        batch.note(index, step(batch.ids[index], "s0", 0))
        if x < 4:
            batch.note(index, Mark("kept", b"1"))
        if x == 3:
            error = b'{"name":"E","message":"","traceback":"","kind":"exception"}'
            batch.report((index, 2, 0, 7, error, None))
        else:
            if x == 4:
                batch.note(index, Early(b"1"))
            end(batch, index)
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, Acting(play)))

        async def forgotten():
            return asked

        await stage.until_done(12)
        await stage.until(forgotten)
        worker.stop()
    assert asked == Counter([*ids[:3], ids[4]])
    left = await stage.connection.fetch("select id from hotpath.flow_run order by id")
    assert [row["id"] for row in left] == ids[3:5]  # it failed; it has an early result
    assert await stage.connection.fetchval("select count(*) from hotpath.mark") == 1


async def test_job_that_comes_back_is_forgotten(stage: Stage, asked: Counter):
    """I10: a job with a history that notes nothing more is forgotten, too; and before its worker goes."""
    await stage.client.enqueue_many("nap", ({"x": x} for x in range(3)))

    async def play(batch, index, args):
        await trio.lowlevel.checkpoint()
        if (await batch.recall([index])).get(index) is None:
            batch.note(index, step(batch.ids[index], "s0", 0))
            batch.park(index, Parking(until_us=batch.now_us() + 10_000))
        else:
            end(batch, index)

    await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    if await stage.connection.fetchval("select count(*) from hotpath.job_queue"):
        await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    assert await stage.states() == {"success": 6}
    assert len(asked) == 3
    for table in ("flow_run", "checkpoint"):
        assert await stage.connection.fetchval(f"select count(*) from hotpath.{table}") == 0


async def test_forgetting_that_fails_is_no_trouble(stage: Stage, monkeypatch):
    """I11: a connection that breaks while jobs are forgotten costs no outcome, and is not tried for long."""
    monkeypatch.setattr(forgetting, "EVERY", 0.0)
    tries = []

    async def broken(session, runs):
        tries.append(len(runs))
        session.connection.terminate()
        raise ConnectionResetError("no")

    monkeypatch.setattr(ledger, "_forget", broken)
    await stage.client.enqueue_many("nap", ({"x": x} for x in range(50)))

    async def play(batch, index, args):
        batch.note(index, Mark("kept", b"1"))
        await trio.sleep(args["x"] / 500)
        end(batch, index)

    await hotpath.serve_worker(dedicated(stage, Acting(play), drain=True))
    assert tries
    assert sum(tries) <= 50
    assert await stage.states() == {"success": 50}
    assert await stage.connection.fetchval("select count(*) from hotpath.mark") == 50


async def test_recalls_and_parks_in_parts(stage: Stage, monkeypatch):
    """I10: histories of many jobs come a hundred at a time, and no more than two hundred park at a time."""
    sizes: dict[str, list[int]] = {"recall": [], "park": []}
    recall, park = notekeeper._recall, notekeeper._park

    async def recalling(session, runs):
        sizes["recall"].append(len(runs))
        return await recall(session, runs)

    async def parking(session, parks):
        sizes["park"].append(len(parks))
        await park(session, parks)

    monkeypatch.setattr(notekeeper, "_recall", recalling)
    monkeypatch.setattr(notekeeper, "_park", parking)
    ids = list(await stage.client.enqueue_many("nap", ({"x": x} for x in range(450))))
    found: set[int] = set()

    class Whole(Acting):
        async def run(self, batch):
            for index in range(len(batch)):
                batch.note(index, Mark("kept", b"1"))
            written = trio.Event()
            batch.note(0, Mark("kept", b"1"), written.set)
            await written.wait()
            found.update(batch.ids[index] for index in await batch.recall(range(len(batch))))
            for index in range(len(batch)):
                batch.park(index, Parking(until_us=FAR))

    await hotpath.serve_worker(dedicated(stage, Whole(play=None, concurrency=1000), drain=True))
    assert found == set(ids)
    assert max(sizes["recall"]) == 100
    assert 0 < max(sizes["park"]) <= 200
    assert await stage.connection.fetchval("select count(*) from hotpath.job_queue") == 450


@pytest.mark.parametrize("when", ["before the notes", "behind the notes"])
async def test_notes_are_durable_without_the_flush_behind_them(stage: Stage, monkeypatch, when):
    """I1: notes that were to be durable with a flush which is not written, since its lease is lost, are
    durable all the same by the time that somebody is told so.
    """
    hands: dict[int, Any] = {}
    written: list[str] = []
    told, over = trio.Event(), trio.Event()
    cycle, ahead, write = ledger.Ledger.cycle, notekeeper.Notekeeper.ahead, Pen.write

    async def noted_just_before(self, flushes, claim):
        if any(flush.hand is hands.get(0) for flush in flushes):
            other = hands[1]
            other.note(0, step(other.ids[0], "s0", 0), told.set)
        return await cycle(self, flushes, claim)

    async def losing(self):
        pen = await ahead(self)
        if pen is not None and len(hands) == 2 and not hands[0].gone:
            if when == "before the notes":
                self.losing.lost(hands[0])
            await stage.steal(hands[0].lease)
        return pen

    async def watched(self, session, **options):
        # Before, not behind: what other tests write into the same log meanwhile need not be on the disk.
        written.append(await stage.connection.fetchval("select pg_current_wal_insert_lsn()::text"))
        await write(self, session, **options)

    async def play(batch, index, args):
        batch.note(index, Mark("used", b"1"))
        hands[args["x"]] = batch
        if args["x"] == 0:
            while len(hands) < 2:  # noqa: ASYNC110 - of another batch
                await trio.sleep(0.01)
            await trio.sleep(0.1)
            end(batch, index)
            return
        await told.wait()
        flushed = await stage.connection.fetchval(
            "select pg_current_wal_flush_lsn() > $1::text::pg_lsn", written[-1]
        )
        over.set()
        assert flushed
        end(batch, index)

    database = await stage.connection.fetchval("select quote_ident(current_database())")
    await stage.connection.execute(f"alter database {database} set synchronous_commit = on")
    monkeypatch.setattr(ledger.Ledger, "cycle", noted_just_before)
    monkeypatch.setattr(notekeeper.Notekeeper, "ahead", losing)
    monkeypatch.setattr(Pen, "write", watched)
    first = await stage.client.enqueue("nap", {"x": 0})
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, dedicated(stage, Acting(play)))

        async def begun():
            return hands

        await stage.until(begun)
        second = await stage.client.enqueue("nap", {"x": 1})
        with trio.fail_after(40):
            await over.wait()
        assert await stage.client.result(second) == 0
        worker.stop()
    rows = {row["id"]: row["state"] for row in await stage.rows()}
    assert rows[first] == "running"
