"""The board: what a worker notes is there for its supervisor, whatever becomes of the worker."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hotpath.core.logtext import Piece
from hotpath.worker.board import BEAT, DEADLINE, HALF, LEASES, MARK, MAX_LOG, START, Board, Cursor, Printed

TOKEN = (7 << 16) | 3


@pytest.fixture
def board() -> Iterator[Board]:
    """A board of its own."""
    board = Board.create()
    yield board
    board.close()


def write(board: Board, token: int, text: str) -> None:
    """Text of which nobody asks where it stands."""
    board.write_log(token, text, 0, 0)


def read(board: Board, token: int) -> str:
    """What a job has printed."""
    return "".join(piece.text for piece in board.read_log(token))


def worker(board: Board, code: str) -> subprocess.Popen[bytes]:
    """A process that has the board and runs the code."""
    source = f"from hotpath.worker.board import *\nboard = Board.attach({board.fd})\n{code}"
    return subprocess.Popen([sys.executable, "-c", source], pass_fds=[board.fd], stdout=subprocess.PIPE)


def test_another_process_writes_what_this_one_reads(board: Board):
    """Words, leases and logs that the worker writes are the supervisor's to read, and the other way round."""
    board.words[3] = 99
    process = worker(
        board,
        "board.mark[0] = (7 << 16) | 3; board.mark[1] = 5; board.words[BEAT] = -1\n"
        "board.set_lease(7, -(1 << 63)); board.write_log((7 << 16) | 3, 'hé\\n', 4, 5)\n"
        "print(board.words[3])",
    )
    said, _ = process.communicate(timeout=30)
    assert said == b"99\n"
    assert (board.words[MARK], board.words[DEADLINE], board.words[BEAT]) == (TOKEN, 5, -1)
    assert board.leases() == [-(1 << 63)] == [board.lease(TOKEN)]
    assert board.read_log(TOKEN) == [Piece(4, 5, "hé\n")]


def test_leases_are_those_not_freed(board: Board):
    """`leases` names what hands hold, up to the last number there is."""
    for number, lease in ((1, 11), (2, 22), (65_535, 33), (2, 0)):
        board.set_lease(number, lease)
    assert board.leases() == [11, 33]
    assert [board.number(lease) for lease in (11, 22, 33, 0)] == [1, 0, 65_535, 0]
    assert board.words[LEASES] == 0


def test_a_job_gets_its_own_text_back(board: Board):
    """I9: no line of a neighbour, or of an earlier hand of the same number, is taken for a job's."""
    board.set_lease(7, 1)
    write(board, TOKEN, "an earlier hand")
    board.set_lease(7, 2)
    write(board, TOKEN, "one ")
    write(board, TOKEN + 1, "neighbour")
    write(board, TOKEN, "\ud800two")
    assert read(board, TOKEN) == "one ���two"
    assert read(board, TOKEN + 2) == ""


def test_the_end_of_a_line_is_not_the_next_hands(board: Board):
    """I9: a line feed that is in no record yet stays its own job's, whoever has its number next."""
    board.set_lease(7, 1)
    board.write_log(TOKEN, "before", 0, 1)
    board.write_log(TOKEN, "\n", 6, 2)
    board.set_lease(7, 2)
    board.write_log(TOKEN, "after", 0, 3)
    board.write_log(TOKEN, "\n", 5, 4)
    assert [(piece.position, piece.text) for piece in board.read_log(TOKEN)] == [(0, "after"), (5, "\n")]


def test_the_newest_of_a_long_log_is_kept(board: Board):
    """However much is printed, the end of it is there, unbroken, and at most a MiB."""
    for line in range(200_000):
        write(board, TOKEN, f"{line}\n")
    lines = read(board, TOKEN).splitlines()[1:]
    assert lines == [str(line) for line in range(200_000 - len(lines), 200_000)]
    assert len(lines) > 20_000
    board.set_lease(7, 1)
    write(board, TOKEN, "x" * (3 * HALF))
    assert set(read(board, TOKEN)) == {"x"}
    assert HALF - 100 < len(read(board, TOKEN)) <= MAX_LOG


def test_a_live_reader_gets_each_line_once(board: Board):
    """`new_logs` yields what came since the last call, in order, across the turn from half to half."""
    choice = random.Random(3)
    cursor, written, found = START, [], []
    for _ in range(300):
        for _ in range(choice.randrange(4)):
            text = str(choice.random()) * choice.randrange(1, 2000)
            write(board, TOKEN, text)
            written.append(Printed(TOKEN, 0, Piece(0, 0, text)))
        if choice.random() < 0.9:
            new, cursor = board.new_logs(cursor)
            found += new
    new, cursor = board.new_logs(cursor)
    assert found + new == written
    assert board.new_logs(cursor) == ([], cursor)


def test_a_reader_that_was_away_misses_only_the_oldest(board: Board):
    """A cursor of long ago continues with what is still kept."""
    _, cursor = board.new_logs()
    for line in range(100_000):
        write(board, TOKEN, f"{line:>100}")
    new, _ = board.new_logs(cursor)
    assert [int(one.piece.text) for one in new] == list(range(100_000 - len(new), 100_000))


@pytest.mark.slow
def test_a_writer_killed_in_the_middle_leaves_whole_records(board: Board):
    """I9: whenever the writer is killed, reading never raises, and gives whole lines in their order."""
    pause = random.Random(5)
    for _ in range(8):
        process = worker(
            board,
            "import itertools\nprint('go', flush=True)\n"
            "for n in itertools.count():\n"
            "    board.write_log(n % 2 + (7 << 16), f'{n}:' + 'x' * (n * 7919 % 5000) + '\\n', n, 0)",
        )
        assert process.stdout is not None
        process.stdout.read(1)
        cursor, last = board.new_logs()[1], -1
        for _ in range(pause.randrange(300)):  # a reader beside it never sees half a record either
            new, cursor = board.new_logs(cursor)
            for one in new:
                number = _check(one.token, one.piece.text)
                assert number == one.piece.position
                assert number > last
                last = number
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        for token in (7 << 16, (7 << 16) + 1):
            lines = read(board, token).splitlines(keepends=True)[1:]
            numbers = [_check(token, line) for line in lines]
            assert not numbers or numbers == list(range(numbers[0], numbers[-1] + 1, 2))
        board.words[4:64] = memoryview(bytes(60 * 8)).cast("q")  # a board anew


def _check(token: int, text: str) -> int:
    number = int(text.partition(":")[0])
    assert token == number % 2 + (7 << 16)
    assert text == f"{number}:" + "x" * (number * 7919 % 5000) + "\n"
    return number


def test_printing_in_the_middle_of_a_write_waits_its_turn(board: Board):
    """A signal handler or destructor may print while its thread writes: no deadlock, no broken record."""

    class Text(str):
        __slots__ = ()

        def encode(self, *args: str) -> bytes:
            write(board, TOKEN, "inner")
            return super().encode(*args)

    write(board, TOKEN, Text("outer "))
    assert read(board, TOKEN) == "outer inner"


def test_a_forked_process_is_not_heard(board: Board):
    """I9: what a job's forked child prints does not touch the board."""
    process = worker(
        board,
        "import os\n"
        "if os.fork() == 0:\n    board.write_log(1 << 16, 'child', 0, 0); os._exit(0)\n"
        "os.wait(); board.write_log(1 << 16, 'parent', 0, 0)",
    )
    process.communicate(timeout=30)
    assert read(board, 1 << 16) == "parent"


def test_nothing_on_the_board_makes_reading_raise(board: Board):
    """A worker's wild pointer may write anything: reading gives something, and never raises."""
    choice = random.Random(9)
    for _ in range(50):
        for word in range(4, 12):
            board.words[word] = choice.choice(
                [0, 1, -1, HALF, choice.getrandbits(62), -choice.getrandbits(63)]
            )
        board._bytes[-2 * HALF : -HALF] = choice.randbytes(HALF)
        board.read_log(choice.getrandbits(62))
        board.read_log(-1)
        board.leases()
        board.new_logs(Cursor(choice.getrandbits(3), choice.randrange(HALF)))


def test_attaching_to_something_else_is_refused():
    """A descriptor that is no board raises, it does not map somebody's file."""
    read, write = os.pipe()
    with pytest.raises((OSError, ValueError)):
        Board.attach(read)
    os.close(read)
    os.close(write)


def test_the_end_of_a_line_may_come_after_its_reader(board: Board):
    """A line feed that `print` writes by itself is in no record of its own: whenever a reader looks, he gets
    each character once, at its position, and the line with its end if both are there.
    """
    choice = random.Random(11)
    cursor, position, whole = START, {TOKEN: 0, TOKEN + 1: 0}, {TOKEN: "", TOKEN + 1: ""}
    seen = {TOKEN: "", TOKEN + 1: ""}

    def look() -> None:
        nonlocal cursor
        had_news = board.has_news(cursor)
        new, cursor = board.new_logs(cursor)
        assert had_news or not new  # it may be a line feed that was read before
        assert not board.has_news(cursor)
        for one in new:
            assert one.piece.position == len(seen[one.token])
            seen[one.token] += one.piece.text

    for _ in range(5000):
        token = TOKEN + choice.randrange(2)
        for text in choice.choice((["é" * choice.randrange(300), "\n"], ["\n"], ["x"], ["a\n", "\n", "\n"])):
            board.write_log(token, text, position[token], 0)
            position[token] += len(text)
            whole[token] += text
            if choice.random() < 0.1:
                look()
    look()
    assert seen == whole
    board.write_log(TOKEN, "line", position[TOKEN], 7)
    board.write_log(TOKEN, "\n", position[TOKEN] + 4, 8)
    assert [piece.text for piece in board.read_log(TOKEN)[-2:]] == ["line", "\n"]
