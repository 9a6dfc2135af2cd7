"""Positions in logs: wherever a log was cut, a position names the same character."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.logtext import (
    MARK_EVERY,
    MAX_MARKS,
    LogText,
    Marks,
    Piece,
    behind,
    from_pieces,
    offset_of,
    pack,
    span_of,
    unpack,
)

NOTICE = "<gone>"


@st.composite
def gapped(draw):
    """The whole of a log, and what was kept of it."""
    whole = draw(st.text("ab\n€", min_size=1, max_size=40))
    at = draw(st.integers(0, len(whole) - 1))
    end = draw(st.integers(at + 1, len(whole)))
    positions = sorted(draw(st.sets(st.integers(0, len(whole) - 1), max_size=5)))
    marks = [number for position in positions for number in (position, position * 10)]
    return whole, LogText(whole[:at] + NOTICE + whole[end:], marks, (at, end - at, len(NOTICE)))


@given(gapped(), st.data())
def test_a_position_is_the_same_character_behind_a_gap(both, data):
    """What `behind` gives begins with the character at the position, or with the notice where that was not
    kept; its times are those of the whole log.
    """
    whole, log = both
    assert span_of(log) == len(whole)
    position = data.draw(st.integers(0, len(whole)))
    rest = behind(log, position)
    assert span_of(rest) == len(whole) - position
    at, length, _ = log.gap
    if at <= position < at + length:
        assert rest.startswith(NOTICE)
    elif position < len(whole):
        assert rest[0] == whole[position]
        assert log[offset_of(position, log.gap)] == whole[position]
    for later in range(position, len(whole)):
        assert time_at(log, later) == time_at(rest, later - position)


def time_at(log: str, position: int) -> int | None:
    """The time that the marks give a character."""
    marks = getattr(log, "marks", ())
    times = [time for at, time in zip(marks[::2], marks[1::2], strict=True) if at <= position]
    return times[-1] if times else None


@given(gapped())
def test_what_is_packed_is_unpacked(both):
    """The database gets the gap, and the marks by its own clock, in milliseconds."""
    _, log = both
    literal = pack(log, 5_000_000)
    gap, marks = unpack([int(number) for number in literal.strip("{}").split(",")])
    assert gap == log.gap
    assert marks == [
        (at, (time + 5_000_000) // 1000) for at, time in zip(log.marks[::2], log.marks[1::2], strict=True)
    ]
    assert pack("plain", 0) is None
    assert pack(None, 0) is None
    assert unpack(None) == (None, [])


def test_marks_of_a_long_job_are_bounded():
    """However long a job prints, its marks stay few, ascend, and reach from its start to its end."""
    marks = Marks(0)
    now = 0
    for position in range(20 * MAX_MARKS):
        now += MARK_EVERY
        if now >= marks.due:
            marks.add(position, now)
    assert MAX_MARKS // 2 < len(marks.found) // 2 <= MAX_MARKS
    assert marks.found[0] == 0
    assert marks.found[-2] > 19 * MAX_MARKS
    assert marks.found[::2] == sorted(marks.found[::2])


def test_pieces_of_a_killed_job_make_its_log():
    """They are put in order; what came before the first is a gap; behind a break only the end counts."""
    apart = [Piece(3, 0, "d"), Piece(0, 0, "abc"), Piece(4, 50_000_000, "e")]
    log = from_pieces(apart, 100)
    assert (log, log.marks, log.gap) == ("abcde", [0, 0, 4, 50_000], None)
    late = from_pieces([Piece(7, 0, "hi"), Piece(9, 0, "j")], 100)
    assert late == "[hotpath: 7 characters of log are not kept here]\nhij"
    assert span_of(late) == 10
    assert behind(late, 8) == "ij"
    broken = from_pieces([Piece(0, 0, "a"), Piece(5, 0, "f")], 100)
    assert (span_of(broken), broken[-1]) == (6, "f")
    assert from_pieces([Piece(2, 0, "b"), Piece(-1, 0, "a step's")], 100) == "ba step's"
    assert from_pieces([], 100) == ""
    assert span_of(from_pieces([Piece(1, 0, "x" * 80), Piece(81, 0, "y" * 80)], 100)) == 161
