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
import threading
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
"""How often the table of leases has changed."""
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
        self._lock = threading.Lock()
        self._writer: int | None = None
        self._waiting: list[tuple[int, str, int, int]] = []
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
        """Hand `number` (1 to 65535) holds this lease, or with 0 none any more."""
        self.words[LEASES + number] = lease
        self.words[_CHANGES] += 1
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

    # ------------------------------------------------------------ logs

    def write_log(self, token: int, text: str, position: int, at: int) -> None:
        """Keep what the job has printed, at which position of its log (-1: not known) and when
        (`time.perf_counter_ns()`); only the newest 1 to 2 MiB of all jobs are kept. From any thread.
        """
        if self._mute:
            return
        me = threading.get_ident()
        if self._writer == me:
            self._waiting.append(
                (token, text, position, at)
            )  # a signal handler or a destructor printed during a write
            return
        with self._lock:
            self._writer = me
            try:
                self._write(token, text, position, at)
                while self._waiting:
                    self._write(*self._waiting.pop(0))
            finally:
                self._writer = None

    def _write(self, token: int, text: str, position: int, when: int) -> None:
        words = self.words
        raw = text.encode("utf-8", "surrogatepass")
        if len(raw) > HALF - _RECORD.size:
            raw = raw[-(HALF - _RECORD.size) :]
            while raw[0] & 0xC0 == 0x80:  # in the middle of a character
                raw = raw[1:]
            if position >= 0:
                position += len(text) - len(raw.decode("utf-8", "surrogatepass"))
        size = _RECORD.size + len(raw)
        generation = words[_GENERATION]
        used = words[_USED + (generation & 1)]
        if used + size > HALF:
            generation += 1
            words[_USED + (generation & 1)] = used = 0
            words[_GENERATION] = generation
        at = _LOGS + (generation & 1) * HALF + used
        _RECORD.pack_into(self._bytes, at, token, self.lease(token), position, when, len(raw))
        self._bytes[at + _RECORD.size : at + size] = raw
        words[_USED + (generation & 1)] = used + size

    def read_log(self, token: int) -> list[Piece]:
        """What the job in hand of this token has printed, as far as it is kept, in order."""
        lease = self.lease(token)
        printed, _ = self.new_logs(tokens=(token,))
        return [one.piece for one in printed if one.lease == lease]

    def new_logs(
        self, cursor: tuple[int, int] = (0, 0), tokens: Container[int] | None = None
    ) -> tuple[list[Printed], tuple[int, int]]:
        """What was printed since `cursor`, by these jobs (None: by all), and the cursor for the next call.

        Start with `(0, 0)`. Who reads too seldom misses what was overwritten.
        """
        generation, at = cursor
        now = self.words[_GENERATION]
        if not now - 1 <= generation <= now:
            generation, at = max(now - 1, 0), 0
        found = []
        for each in range(generation, now + 1):
            records, at = self._records(each, at if each == generation else 0, tokens)
            found += records
        return found, (now, at)

    def has_news(self, cursor: tuple[int, int]) -> bool:
        """Whether `new_logs` has something for this cursor; costs next to nothing."""
        generation = self.words[_GENERATION]
        return cursor != (generation, self.words[_USED + (generation & 1)])

    def _records(self, generation: int, at: int, tokens: Container[int] | None) -> tuple[list[Printed], int]:
        """The records of one filling of a half from a position on, and the position behind them."""
        half = generation & 1
        used = min(max(self.words[_USED + half], 0), HALF)
        start, first = _LOGS + half * HALF, at
        raw = bytes(self._bytes[start + at : start + used])
        if generation < 0 or self.words[_GENERATION] - generation not in (0, 1):
            return [], at  # begun anew while it was read
        records = []
        while at + _RECORD.size <= used:
            token, lease, position, when, size = _RECORD.unpack_from(raw, at - first)
            end = at + _RECORD.size + size
            if end > used:
                break
            if tokens is None or token in tokens:
                text = raw[at - first + _RECORD.size : end - first].decode("utf-8", "replace")
                records.append(Printed(token, lease, Piece(position, when, text)))
            at = end
        return records, at
