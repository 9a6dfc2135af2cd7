"""The board: memory that a worker process and its supervisor share.

The worker notes on it what it is about, a plain memory store each time: no system call, no lock, no message
that waits for the GIL. So the supervisor knows which job was in hand when the process died, which one is
overdue though its code never gives up the GIL, which leases are held, and what a killed job had printed.

Layout: the numbered words, of 8 bytes each, then the table of leases, then the two halves of the log.

A *token* names a job in hand: the number of its hand (1 to 65535) above 16 bits of its index in that hand.
Numbers are used again, so a log record carries the lease beside the token: what another hand of that number
printed is never taken for this job's.

The log is two halves filled in turn. A record is published by the store of `used` that follows its bytes, so
a writer that is killed half-way leaves nothing behind, and a reader needs no lock: it copies, and looks
whether the half was begun anew meanwhile.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import weakref
from collections.abc import Container
from typing import Final, Self

import attrs

from hotpath.core.logtext import Piece

MARK: Final = 0
"""Token of the job in hand; 0: none."""
DEADLINE: Final = 1
"""Its deadline, nanoseconds of `time.perf_counter_ns`; 0: none."""
BEAT: Final = 2
"""Last progress of the worker's I/O side, same clock."""
LEASE_UNTIL: Final = 3
"""Until when the worker's lease holds for sure, same clock; the supervisor writes it. 0: not renewed yet."""
_HIGHEST: Final = 4
_GENERATION: Final = 5
"""How often a half of the log was begun; the last bit says which one is being filled."""
_USED: Final = 6
"""Two words: bytes published in each half."""
_CHANGES: Final = 8
"""How often something was said of a lease: that a claim is on its way, has come, or that it is over."""
_LINE: Final = 12
"""Behind which record (counted in bytes since the board was made) a line feed belongs that is in no record,
but will be the first character of the next one: `print` writes it by itself, and a word is quicker.
"""
OUTPUT: Final = 9
"""Two words: in which of the files of `runtime/below.py`, from 1, what jobs write below Python stands now (0:
in none); and up to where it is in somebody's log.
"""
WATCHED: Final = 11
"""Whether somebody watches a job of this worker; the supervisor writes it."""
LEASES: Final = 64
"""First word of the table: entry h is the lease of hand number h, 0 where there is none."""
NUMBERS: Final = 65_536
"""Size of the table."""
HALF: Final = 1 << 20
"""Bytes in each half of the log."""
MAX_LOG: Final = HALF
"""Characters of one job's log that are read back."""

_LOGS = (LEASES + NUMBERS) * 8
_SIZE = _LOGS + 2 * HALF
_RECORD = struct.Struct("<qqqqI")
"""Token, lease, position in the job's log, time, length of the text."""


@attrs.frozen
class Printed:
    """One thing that a job printed."""

    token: int
    lease: int
    piece: Piece


@attrs.frozen
class Cursor:
    """Up to where somebody has read what was printed."""

    generation: int = 0
    at: int = 0
    """In that filling of a half."""
    token: int = 0
    lease: int = 0
    end: int = -1
    """Whose the last record was, and the position behind it; -1: not known."""
    when: int = 0
    ended: bool = False
    """Whether the line feed behind it was read, too."""


START: Final = Cursor()


class Board:
    """One worker's board; made by `create` in the supervisor, by `attach` in the worker."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        """Descriptor of the memory, for the worker process to inherit."""
        self._map = mmap.mmap(fd, _SIZE)
        self._bytes = memoryview(self._map)
        self.words: memoryview[int] = self._bytes[:_LOGS].cast("q")
        """What is shared, by the constants of this module."""
        self.mark: memoryview[int] = self.words[MARK : DEADLINE + 1]
        """The two words that a runtime writes."""
        self.output: memoryview[int] = self.words[OUTPUT : OUTPUT + 2]
        """The two words that `Below` writes."""
        self._writes = False
        self._waiting: list[tuple[int, str, int, int]] = []
        # Of the last record, for its writer.
        self._last_token = 0
        self._last_end = -1
        self._filled = 0
        """Bytes written so far, in all."""
        self._line: tuple[int, int, int, int] | None = None
        """A line feed that is in no record yet: token, position, time, and the lease that the token had."""
        self._lease = 0
        """Of that token, unless the table has changed."""
        self._lease_known = False
        self._mute = False

    @classmethod
    def create(cls) -> Self:
        """A new board, all zeros. Raises OSError where there is no memory left."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("hotpath-board")
        else:
            fd, path = tempfile.mkstemp(prefix="hotpath-board-")
            os.unlink(path)
        try:
            os.ftruncate(fd, _SIZE)
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int) -> Self:
        """The board behind an inherited descriptor. Raises OSError or ValueError if it is none."""
        board = cls(fd)
        os.set_inheritable(fd, False)
        # A process that a job forks shares the memory, too: what it prints is not the job's to keep.
        silence = weakref.WeakMethod(board._silence)
        os.register_at_fork(after_in_child=lambda: (found := silence()) is not None and found())
        return board

    def _silence(self) -> None:
        self._mute = True

    def close(self) -> None:
        """Let go of the memory; the board must not be used afterwards."""
        for view in (self.mark, self.output, self.words, self._bytes):
            view.release()
        self._map.close()
        os.close(self.fd)

    # ------------------------------------------------------------ leases

    def set_lease(self, number: int, lease: int) -> None:
        """Hand `number` (1 to 65535) holds this lease, or with 0 none any more. Said when its claim is sent,
        and again when that has come.
        """
        self.words[LEASES + number] = lease
        self.words[_CHANGES] += 1
        self._lease_known = False
        self.words[_HIGHEST] = max(self.words[_HIGHEST], number)

    def lease(self, token: int) -> int:
        """Lease of the hand that the token names; 0 if it has none."""
        return self.words[LEASES + (token >> 16) % NUMBERS]

    @property
    def changes(self) -> int:
        """How often `set_lease` was called."""
        return self.words[_CHANGES]

    def leases(self) -> list[int]:
        """All leases held."""
        highest = min(max(self.words[_HIGHEST], 0), NUMBERS - 1)
        return [lease for lease in self.words[LEASES + 1 : LEASES + 1 + highest] if lease]

    def number(self, lease: int) -> int:
        """Number of the hand that holds this lease; 0 if none does."""
        highest = min(max(self.words[_HIGHEST], 0), NUMBERS - 1)
        table = self.words[LEASES : LEASES + 1 + highest].tolist()
        return table.index(lease) if lease and lease in table else 0

    def token(self, lease: int, index: int) -> int:
        """Token of the job with this index in the hand that holds this lease; 0 if none does."""
        number = self.number(lease)
        return number << 16 | index if number else 0

    # ------------------------------------------------------------ logs

    def write_log(self, token: int, text: str, position: int, at: int) -> None:
        """Keep what the job has printed, at which position of its log (-1: not known) and when
        (`time.perf_counter_ns()`); only the newest 1 to 2 MiB of all jobs are kept. From any thread, but one
        at a time: who calls has the lock of all logs.
        """
        if self._mute:
            return
        if self._writes:  # a signal handler or a destructor printed during a write
            self._waiting.append((token, text, position, at))
            return
        self._writes = True
        try:
            if text == "\n" and position == self._last_end >= 0 and token == self._last_token:
                self.words[_LINE] = self._filled
                self._line = (token, position, at, self._lease)
                self._last_end = -1
            else:
                self._write(token, text, position, at)
            while self._waiting:
                self._write(*self._waiting.pop(0))
        finally:
            self._writes = False

    def _write(self, token: int, text: str, position: int, when: int, lease: int | None = None) -> None:
        if self._line is not None:
            whose, where, then, had = self._line
            self._line = None
            if whose == token and position == where + 1:
                text, position = "\n" + text, where
            else:
                # The next hand may have its number by now, and another lease.
                self._write(whose, "\n", where, then, had)
        words = self.words
        raw = text.encode("utf-8", "surrogatepass")
        if len(raw) > HALF - _RECORD.size:
            raw = raw[-(HALF - _RECORD.size) :]
            while raw[0] & 0xC0 == 0x80:  # in the middle of a character
                raw = raw[1:]
            if position >= 0:
                position += len(text) - len(raw.decode("utf-8", "surrogatepass"))
                text = text[-len(raw.decode("utf-8", "surrogatepass")) :]
        size = _RECORD.size + len(raw)
        generation, used = divmod(self._filled, HALF)
        if used + size > HALF:
            generation += 1
            used = 0
            words[_USED + (generation & 1)] = 0
            words[_GENERATION] = generation
        if lease is not None:
            self._lease, self._lease_known = lease, False
        elif token != self._last_token or not self._lease_known:
            self._lease_known = True  # first: the table may change meanwhile
            self._lease = self.lease(token)
        at = _LOGS + (generation & 1) * HALF + used
        self._map[at : at + size] = _RECORD.pack(token, self._lease, position, when, len(raw)) + raw
        words[_USED + (generation & 1)] = used + size
        self._filled = generation * HALF + used + size
        self._last_token, self._last_end = token, position + len(text) if position >= 0 else -1

    def read_log(self, token: int) -> list[Piece]:
        """What the job in hand of this token has printed, as far as it is kept, in order."""
        lease = self.lease(token)
        printed, _ = self.new_logs(tokens=(token,))
        return [one.piece for one in printed if one.lease == lease]

    def new_logs(
        self, cursor: Cursor = START, tokens: Container[int] | None = None
    ) -> tuple[list[Printed], Cursor]:
        """What was printed since `cursor`, by these jobs (None: by all), and the cursor for the next call.

        Begin with `START`. Who reads too seldom misses what was overwritten.
        """
        generation, at = cursor.generation, cursor.at
        now = self.words[_GENERATION]
        if not now - 1 <= generation <= now:
            generation, at, cursor = max(now - 1, 0), 0, START
        found: list[Printed] = []
        for each in range(generation, now + 1):
            at, cursor = self._records(each, at if each == generation else 0, cursor, tokens, found)
        if self.words[_LINE] == now * HALF + at and not cursor.ended and cursor.end >= 0:
            if tokens is None or cursor.token in tokens:
                found.append(Printed(cursor.token, cursor.lease, Piece(cursor.end, cursor.when, "\n")))
            cursor = attrs.evolve(cursor, ended=True)
        return found, attrs.evolve(cursor, generation=now, at=at)

    def has_news(self, cursor: Cursor) -> bool:
        """Whether `new_logs` has something for this cursor; costs next to nothing."""
        generation = self.words[_GENERATION]
        used = self.words[_USED + (generation & 1)]
        if (cursor.generation, cursor.at) != (generation, used):
            return True
        return not cursor.ended and cursor.end >= 0 and self.words[_LINE] == generation * HALF + used

    def _records(
        self, generation: int, at: int, cursor: Cursor, tokens: Container[int] | None, found: list[Printed]
    ) -> tuple[int, Cursor]:
        """Find the records of one filling of a half from a position on. Returns the position behind them, and
        a cursor that knows the last one.
        """
        half = generation & 1
        used = min(max(self.words[_USED + half], 0), HALF)
        start, first = _LOGS + half * HALF, at
        raw = self._map[start + at : start + used]
        if generation < 0 or self.words[_GENERATION] - generation not in (0, 1):
            return at, cursor  # begun anew while it was read
        head = _RECORD.size
        last = None
        ended, whose = cursor.ended, cursor.token
        while at + head <= used:
            token, lease, position, when, size = _RECORD.unpack_from(raw, at - first)
            end = at + head + size
            if end > used:
                break
            last = (token, lease, position, when, at - first + head, end - first)
            if tokens is None or token in tokens:
                text = raw[at - first + head : end - first].decode("utf-8", "replace")
                if ended and token == whose and text.startswith("\n"):  # which was read before
                    text, position = text[1:], position + 1
                if text:
                    found.append(Printed(token, lease, Piece(position, when, text)))
            at, ended = end, False
        if last is None:
            return at, cursor
        token, lease, position, when, begin, end = last
        behind = position + len(raw[begin:end].decode("utf-8", "replace")) if position >= 0 else -1
        return at, Cursor(token=token, lease=lease, end=behind, when=when)
