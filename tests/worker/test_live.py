"""Logs while their job runs: what is printed is at the follower's at once, each character once."""

from __future__ import annotations

import itertools
import time
import uuid

import attrs
import pytest
import trio
from worker_stage import Stage

from hotpath.core.logtext import Piece
from hotpath.core.pacing import Pace
from hotpath.core.positions import Positions
from hotpath.store import logs
from hotpath.store.database import open_database
from hotpath.store.logs import LogChunk, Watched, live_after, read_log
from hotpath.store.work import Claim
from hotpath.store.workers import register_worker
from hotpath.worker import live as live_module
from hotpath.worker.board import HALF, WATCHED, Board
from hotpath.worker.inhand import InHand
from hotpath.worker.ledger import Ledger
from hotpath.worker.link import open_link
from hotpath.worker.live import MOST, TICK, Live, _Follow

TALK = """
import pathlib, time, hotpath

def main(file: str = "", lines: int = 1, fails: bool = False) -> None:
    attempt = hotpath.current_job().attempt
    for n in range(lines):
        print(f"{attempt}:{n}:{time.time()}")
        time.sleep(0.02 if lines > 1 else 0)
    while file and not pathlib.Path(file).exists():
        time.sleep(0.005)
    print("end é")
    if fails and attempt == 1:
        raise hotpath.RetryLater(0.0)
"""


async def collect(tail, chunks, until=None):
    """Take chunks until the tail ends, or one has this in its text."""
    async for chunk in tail:
        chunks.append((time.time(), chunk))
        if until is not None and until in chunk.text:
            return


def texts(chunks):
    """What a follower has read."""
    return "".join(chunk.text for _, chunk in chunks)


async def test_a_job_is_followed_from_the_queue_to_its_end(stage: Stage):
    """A follower who came before the job began gets all of it, within 200 ms (95 % of the lines), then what
    its second attempt prints, and is done when it has ended; one that was cut off goes on where he was.
    """
    (stage.workspace / "talk.py").write_text(TALK)
    gate = stage.workspace / "gate"
    job = await stage.client.enqueue("talk", {"file": str(gate), "lines": 40, "fails": True})
    first: list[tuple[float, LogChunk]] = []
    with trio.fail_after(60):
        async with stage.client.tail(job) as tail, trio.open_nursery() as nursery:
            nursery.start_soon(collect, tail, first, ":39:")
            await stage.dedicate("talk")
        assert "end" not in texts(first)
        assert not gate.exists()
        assert (await read_log(stage.connection, job)).chunks == []
        rest: list[tuple[float, LogChunk]] = []
        async with stage.client.tail(job, after=tail.after) as tail:
            gate.touch()
            await collect(tail, rest)
            assert tail.is_over
    whole = await stage.client.log(job)
    assert texts(first) + texts(rest) == whole
    assert whole.count(":") == 4 * 40
    stored = [await stage.client.log(job)]
    assert stored == [whole]
    chunks = [chunk for _, chunk in first + rest]
    assert [chunk.attempt for chunk in chunks] == sorted(chunk.attempt for chunk in chunks)
    assert not any(chunk.is_gap for chunk in chunks)
    late = []
    for seen, chunk in first:
        late += [seen - float(line.split(":")[2]) for line in chunk.text.splitlines() if line.count(":") == 2]
    assert sorted(late)[len(late) * 95 // 100] < 10.0, late  # 0.2 on a quiet machine: bench/scenarios/live.py
    for seen, chunk in first:
        assert chunk.times[0][0] - chunk.at in (0, 1)  # a line feed belongs to the line before
        assert seen - 20 < chunk.times[-1][1] / 1000 < seen + 0.5
    async with stage.client.tail(job) as tail:
        again: list[tuple[float, LogChunk]] = []
        await collect(tail, again)
    assert texts(again) == whole
    times = [when for _, chunk in again for _, when in chunk.times]
    assert times == sorted(times)
    assert len(times) > 40  # a line each 20 ms


async def test_a_job_that_keeps_the_gil_is_followed_and_keeps_what_it_said(stage: Stage):
    """Code in C that never comes back does not stop its log, and the log of a killed job has its positions
    and times.
    """
    (stage.workspace / "stuck.py").write_text(
        "import ctypes, time\ndef main() -> None:\n    print('before')\n    time.sleep(0.1)\n"
        "    print('now')\n    ctypes.PyDLL(None).sleep(60)\n"
    )
    job = await stage.client.enqueue("stuck", {})
    await stage.dedicate("stuck", "--grace", "0.1")
    chunks: list[tuple[float, LogChunk]] = []
    with trio.fail_after(60):
        async with stage.client.tail(job) as tail:
            await collect(tail, chunks, "now")
            assert (await stage.client.job(job)).state == "running"
            assert await stage.client.cancel(job)  # it can only be killed
            await collect(tail, chunks)
    assert texts(chunks) == "before\nnow\n"
    (chunk,) = (await read_log(stage.connection, job)).chunks
    (_, began), (position, then) = chunk.times
    assert position == len("before\n")
    assert 90 < then - began < 20_000


# ---------------------------------------------------------------- the publisher alone


@attrs.define
class Hand:
    """A worker, as far as its output is concerned."""

    board: Board


@pytest.fixture
def board():
    """A board of its own, with a lease: 5, of the hand 1, whose first job has the token 65536."""
    board = Board.create()
    board.set_lease(1, 5)
    yield board
    board.close()


async def test_nothing_is_read_or_said_while_nobody_watches(board, autojump_clock):
    """No statement and no look, however much is printed: a database, or a board, would be touched."""

    def touched():
        raise AssertionError("somebody looked")

    board.write_log(65536, "x", 0, 0)
    live = Live(None, touched)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(live.run)
        for _ in range(20):
            live.heard(0)
            await trio.sleep(0.5)
        nursery.cancel_scope.cancel()


async def test_what_the_board_holds_is_said_when_somebody_comes(stage: Stage, board, monkeypatch):
    """A viewer who comes late gets what the board has, behind a gap for what it has no more; then each piece
    once, also when a statement failed; and nothing when he has gone.
    """
    job, viewer = uuid.uuid4(), uuid.uuid4()
    failing = [False, True, False, False]
    questions = []

    async def watched(connection, workers):
        questions.append(list(workers))
        return [Watched(job, 7, 5, 0, 1, 100)], time.time_ns() // 1000

    async def say_live(*args):
        if failing and failing.pop(0):
            raise OSError("weather")
        await logs.say_live(*args)

    monkeypatch.setattr(live_module, "watched", watched)
    monkeypatch.setattr(live_module, "say_live", say_live)
    position = 0
    for n in range(3 * HALF // 1000):
        board.write_log(65536 + n % 2, f"{n:999}\n", position, time.perf_counter_ns())
        position += 1000 * (1 - n % 2)
    board.write_log(65536, "last é\n", position, time.perf_counter_ns())
    position += 7
    config = stage.client.config
    async with open_database(config) as database, trio.open_nursery() as nursery:
        live = Live(database, lambda: {7: Hand(board)})
        nursery.start_soon(live.run)
        live.hint()

        async def said():
            return (await live_after(stage.connection, [(job, 1, 0)])).get(job)

        (chunk,) = await stage.until(said)
        assert chunk.at > 100 + HALF // 1000 * 1000 // 2
        assert chunk.end == 100 + position
        assert len(chunk.text) == chunk.end - chunk.at <= MOST
        assert chunk.text.endswith("\nlast é\n")
        for n in range(20):
            board.write_log(65536, f"{n}\n", position, time.perf_counter_ns())
            board.write_log(65536, "a step's", -1, time.perf_counter_ns())
            position += len(f"{n}\n")
            await trio.sleep(TICK / 4)

        async def all_said():
            return (await said())[-1].end == 100 + position

        await stage.until(all_said)
        news = (await said())[1:]
        assert "".join(chunk.text for chunk in news) == "".join(f"{n}\n" for n in range(20))
        assert all(before.end == after.at for before, after in itertools.pairwise(news))
        assert len(questions) == 1  # the leases have not changed
        board.set_lease(2, 6)
        live.heard(1)
        with trio.fail_after(20):
            while len(questions) < 2:  # noqa: ASYNC110 - of another task
                await trio.sleep(0.01)
        # Another viewer gets what was said to the first, too: that goes after a minute.
        await stage.connection.execute("delete from hotpath.live_log")
        live.hint(str(job))
        (again,) = await stage.until(said)
        assert again.end == 100 + position
        assert len(again.text) == MOST
        await trio.sleep(live_module.SURE)
        live.heard(0)
        await trio.sleep(2 * TICK)
        board.write_log(65536, "unseen", position, time.perf_counter_ns())
        await trio.sleep(2 * TICK)
        assert (await said())[-1].end == 100 + position
        nursery.cancel_scope.cancel()
    assert viewer


async def test_a_question_that_a_claim_overtakes_is_asked_again(stage: Stage, board, monkeypatch):
    """A supervisor that asks what is watched while a claim is on its way, before the database knows of it,
    asks again when it has come: that job is followed, though nothing more happens on the board.
    """
    asked = []

    async def watched(connection, workers):
        found = await logs.watched(connection, workers)
        asked.append(len(found[0]))
        return found

    monkeypatch.setattr(live_module, "watched", watched)
    board.set_lease(1, 0)
    job = await stage.client.enqueue("double", {"x": 1})
    version = await stage.client.current("double")
    connection = stage.connection
    tag = await connection.fetchval("select id from hotpath.tag where name = 'double'")
    worker = await register_worker(
        connection, name="w", group=None, script=version.script, version=version.id, tags=[tag], host="here",
        pid=1, concurrency=1, lease=60.0,
    )  # fmt: skip
    held: list = []
    async with (
        open_database(stage.client.config) as database,
        open_link(stage.url, worker, None) as link,
        database.connection() as lock,
        trio.open_nursery() as nursery,
    ):
        pace = Pace()
        ledger = Ledger(link, InHand(None, pace, board), pace)

        async def claim():
            claim = Claim(1, tag, "double", version.script, Positions())
            held.append((await ledger.cycle([], claim)).hand)

        async def claims():
            return await connection.fetchval("select exists (select from pg_locks where not granted)")

        async def said():
            return (await live_after(connection, [(job, 1, 0)])).get(job)

        live = Live(database, lambda: {worker: Hand(board)})
        nursery.start_soon(live.run)
        async with lock.transaction():
            await lock.execute("lock table hotpath.job_queue in share mode")  # it may be read
            nursery.start_soon(claim)
            await stage.until(claims)
            await logs.watch(connection, [job], uuid.uuid4(), 60.0)
            live.hint(str(job))
            with trio.fail_after(20):
                while not asked:  # noqa: ASYNC110 - of another task
                    await trio.sleep(0.01)
            assert not held
        with trio.fail_after(20):
            while not held:  # noqa: ASYNC110 - of another task
                await trio.sleep(0.01)
        board.write_log(held[0].number, "hello\n", 0, time.perf_counter_ns())
        (chunk,) = await stage.until(said)
        assert chunk.text == "hello\n"
        assert (asked[0], asked[-1]) == (0, 1)
        nursery.cancel_scope.cancel()


def test_pieces_become_as_few_chunks_as_there_are_gaps():
    """Pieces that follow each other go together, in their order, whoever wrote them first; what was published
    is not again; marks are not closer than 10 ms.
    """
    follow = _Follow(Watched(uuid.uuid4(), 1, 5, 0, 2, 10), 65536, 12)
    ms = 1_000_000
    pieces = [
        Piece(0, 0, "ab"),  # published
        Piece(4, 30 * ms, "ef"),
        Piece(2, 20 * ms, "cd"),
        Piece(6, 35 * ms, "g"),
        Piece(9, 90 * ms, "j"),
    ]
    first, second = follow.chunks(pieces)
    assert (first.attempt, first.at, first.end, first.text) == (2, 12, 17, "cdefg")
    assert first.times == [(12, 20_000), (14, 30_000)]
    assert (second.at, second.end, second.text, second.times) == (19, 20, "j", [(19, 90_000)])
    (huge,) = follow.chunks([Piece(2, ms, "x" * MOST), Piece(2 + MOST, 40 * ms, "tail")])
    assert (huge.end, len(huge.text)) == (16 + MOST, MOST)
    assert huge.times == [(16, 1000), (12 + MOST, 40_000)]


def test_what_was_published_in_part_is_not_lost():
    """A line feed that was published by itself, and comes again at the head of the next line when a board is
    read anew, takes nothing of that line with it.
    """
    follow = _Follow(Watched(uuid.uuid4(), 1, 5, 0, 1, 10), 65536, 14)
    (chunk,) = follow.chunks([Piece(0, 0, "bar"), Piece(3, 2000, "\nfoo"), Piece(7, 3000, "\nbaz")])
    assert (chunk.at, chunk.end, chunk.text) == (14, 21, "foo\nbaz")


async def test_a_worker_ends_while_it_is_asked_what_is_watched(stage: Stage, monkeypatch):
    """A worker whose board is gone when the answer comes is passed over: the supervisor goes on."""
    hands = {7: Hand(Board.create()), 8: Hand(Board.create())}
    for hand in hands.values():
        hand.board.set_lease(1, 5)
    asked = trio.Event()

    async def watched(connection, workers):
        if 7 in workers:
            hands.pop(7).board.close()
        asked.set()
        return [Watched(uuid.uuid4(), worker, 5, 0, 1, 0) for worker in (7, 8)], 0

    monkeypatch.setattr(live_module, "watched", watched)
    async with open_database(stage.client.config) as database, trio.open_nursery() as nursery:
        live = Live(database, lambda: dict(hands))
        nursery.start_soon(live.run)
        live.hint()
        with trio.fail_after(20):
            await asked.wait()
            while not hands[8].board.words[WATCHED]:  # noqa: ASYNC110 - of another task
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    hands[8].board.close()
