"""The text of a log and the positions in it.

A *position* is the number of characters of an attempt's log that came before. Somebody who has read a log up
to a position while the job ran goes on from exactly there in the log that was stored, although that may lack
its middle. So a `LogText`, beside what was kept, knows where something is missing, and when what was written.

Wherever a log is a `str`, a plain one will do: nothing of it is missing, and its times are not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self, TypeAlias

import attrs

MARK_EVERY = 10_000_000
"""Nanoseconds between two marks of time, and from a job's start to the first."""
MAX_MARKS = 2048
"""Marks that a log has at most: then every other one goes, and the next come half as often."""

Gap: TypeAlias = "tuple[int, int, int]"
"""Position of what was not kept, how many characters it was, and how many the notice takes that stands in the
text in its place.
"""


class LogText(str):
    """What was kept of a log, with a notice where something was not."""

    __slots__ = ("gap", "marks")

    gap: Gap | None
    marks: Sequence[int]
    """Position and `time.perf_counter_ns() // 1000`, in turn, ascending: what stands behind the position was
    written then or later.
    """

    def __new__(cls, text: str, marks: Sequence[int] = (), gap: Gap | None = None) -> Self:
        """The text with its notice."""
        self = super().__new__(cls, text)
        self.marks = marks
        self.gap = gap
        return self


def span_of(log: str) -> int:
    """Position at the log's end."""
    gap = getattr(log, "gap", None)
    return len(log) if gap is None else len(log) - gap[2] + gap[1]


def offset_of(position: int, gap: Gap | None) -> int:
    """Where in the text a position is; at the notice for one of which nothing was kept."""
    if gap is None or position < gap[0]:
        return position
    if position < gap[0] + gap[1]:
        return gap[0]
    return position - gap[1] + gap[2]


def behind(log: str, position: int) -> str:
    """What a log has behind a position; its own positions begin at 0 again."""
    gap: Gap | None = getattr(log, "gap", None)
    marks: Sequence[int] = getattr(log, "marks", ())
    text = str.__getitem__(log, slice(offset_of(position, gap), None))
    if gap is not None:
        end = gap[0] + gap[1]
        start = max(gap[0], position)
        gap = (start - position, end - start, gap[2]) if position < end else None
    later: list[int] = []
    for at, time in zip(marks[::2], marks[1::2], strict=True):
        if at >= position:
            later += (at - position, time)
        elif not later or later[0] == 0:
            later = [0, time]
    return LogText(text, later, gap) if later or gap else text


def pack(log: str | None, offset_us: int) -> str | None:
    """What there is to know of a log beside its text, as `job_log.marks` has it (migration 0007): an array's
    literal; None for nothing. `offset_us` turns the marks' microseconds into those since the epoch.
    """
    gap: Gap | None = getattr(log, "gap", None)
    marks: Sequence[int] = getattr(log, "marks", ())
    if not marks and gap is None:
        return None
    numbers = list(gap or (0, 0, 0))
    for at, time in zip(marks[::2], marks[1::2], strict=True):
        numbers += (at, (time + offset_us) // 1000)
    return "{" + ",".join(map(str, numbers)) + "}"


def unpack(marks: Sequence[int] | None) -> tuple[Gap | None, list[tuple[int, int]]]:
    """The gap, and (position, milliseconds since the epoch) of each mark, of a `job_log.marks`."""
    if not marks:
        return None, []
    gap = (marks[0], marks[1], marks[2]) if marks[1] else None
    return gap, list(zip(marks[3::2], marks[4::2], strict=True))


class Marks:
    """Marks of time, gathered as a log is written."""

    __slots__ = ("due", "every", "found")

    def __init__(self, started: int = -MARK_EVERY) -> None:
        self.every = MARK_EVERY
        self.due = started + MARK_EVERY
        """`time.perf_counter_ns()` from which the next write is to be marked."""
        self.found: list[int] = []

    def add(self, position: int, now: int) -> None:
        """Something is written at a time that is not before `due`."""
        found = self.found
        found += (position, now // 1000)
        if len(found) >= 2 * MAX_MARKS:
            self.found = [number for at in range(0, len(found), 4) for number in found[at : at + 2]]
            self.every *= 2
        self.due = now + self.every


@attrs.frozen
class Piece:
    """A part of a log as it was written."""

    position: int
    """Below 0: not known."""
    at: int
    """`time.perf_counter_ns()`."""
    text: str

    @property
    def begins(self) -> int:
        """Position of what was written then: a line feed in front of it was written with the line before."""
        return self.position + (len(self.text) > 1 and self.text[0] == "\n")


def from_pieces(pieces: Iterable[Piece], limit: int) -> str:
    """The log that these pieces, in the order in which they were written, are the end of: at most `limit`
    characters. Those of unknown position stand where they were written, and make all positions behind them
    unknown.
    """
    told = list(pieces)
    while told and told[0].position > 0 and sum(len(piece.text) for piece in told) > limit:
        del told[0]
    if any(piece.position < 0 for piece in told):
        return "".join(piece.text for piece in told)[-limit:]
    told.sort(key=lambda piece: piece.position)
    marks = Marks()
    position = first = told[0].position if told else 0
    parts: list[str] = []
    for piece in told:
        if piece.position != position:  # a piece before it was lost: only what follows without a break counts
            parts, position, first, marks = [], piece.position, piece.position, Marks()
        if piece.at >= marks.due:
            marks.add(piece.begins, piece.at)
        parts.append(piece.text)
        position += len(piece.text)
    text = "".join(parts)
    if not first:
        return LogText(text, marks.found) if marks.found else text
    notice = f"[hotpath: {first} characters of log are not kept here]\n"
    return LogText(notice + text, marks.found, (0, first, len(notice)))
