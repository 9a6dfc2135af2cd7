"""The text of one job's log, within bounds however much the job prints."""

from __future__ import annotations

import codecs
import io
import os
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from hotpath.core.logtext import LogText, Marks
from hotpath.core.storable import storable

HEAD_BYTES = TAIL_BYTES = 5 * 1024 * 1024 // 2
"""What is kept of a job's log: its first and its last 2.5 MiB."""

Tee: TypeAlias = "Callable[[int, str, int, int], object]"
"""Who is told, too, what a job prints, one write after the other: its token, the text, the text's position
in the job's log (-1 for what goes to the log of a step of the job) and the time, `time.perf_counter_ns()`.
"""

lock = threading.RLock()
"""Whoever writes to a log has it, one for all logs: taking one is a tenth of what a printed line costs, and
the tee need not take another. Re-entrant: a destructor or a signal handler may print in the middle of a
write.
"""


def _new_lock() -> None:
    """In a process that a job has forked: another thread may have had it."""
    global lock  # noqa: PLW0603 - see above
    lock = threading.RLock()


os.register_at_fork(after_in_child=_new_lock)


class JobLog:
    """The text of one job's log, bounded: the head and the tail are kept, the middle is counted."""

    __slots__ = (
        "_end",
        "_head",
        "_head_room",
        "_marks",
        "_older",
        "_recent",
        "_recent_bytes",
        "_tail_bytes",
        "_tee",
        "_token",
        "_when",
        "decoder",
    )

    def __init__(self, started: int = 0, tee: Tee | None = None, token: int = 0) -> None:
        """`started`: `time.perf_counter_ns()` as the job began. `tee`: who is told what is written, with this
        token.
        """
        self._tee = tee
        self._token = token
        self._when = started
        """When something was written last."""
        # Streams and not lists of pieces: a list of a log written a character at a time takes 60 bytes each.
        self._head = io.StringIO()
        self._head_room = HEAD_BYTES
        self._older = self._recent = io.StringIO()
        self._recent_bytes = 0
        self._tail_bytes = 0
        """What was written behind the head, kept or not."""
        self._end = 0
        """Characters written, kept or not: the position of what comes next."""
        self._marks = Marks(started)
        self.decoder: codecs.IncrementalDecoder | None = None

    def write(self, text: str) -> None:
        """Add to the log, and give it to the tee."""
        if text == "\n" and self._head_room > 0:  # what `print` writes by itself, right behind the line
            with lock:
                position = self._end
                self._end = position + 1
                self._head.write(text)
                self._head_room -= 1
                if self._tee is not None:
                    self._tee(self._token, text, position, self._when)
            return
        try:
            if text.isascii():
                if "\0" in text:
                    text = storable(text)
                size = len(text)
            else:
                if "\0" in text:
                    text = storable(text)
                size = len(text.encode())
        except UnicodeEncodeError:
            text = storable(text)
            size = len(text.encode())
        except AttributeError:
            raise TypeError(f"write() argument must be str, not {type(text).__name__}") from None
        now = time.perf_counter_ns()
        with lock:
            self._when = now
            position = self._end
            self._end = position + len(text)
            if now >= self._marks.due and text:
                self._marks.add(position, now)
            if size <= self._head_room:
                self._head.write(text)
                self._head_room -= size
            else:
                self._write_tail(text, size)
            if self._tee is not None:
                self._tee(self._token, text, position, now)

    def _write_tail(self, text: str, size: int) -> None:
        """Two streams in turn: together they hold the tail; the older goes when the recent one is full."""
        if self._head_room:
            kept = _cut(text, self._head_room)
            self._head.write(kept)
            self._head_room = 0
            text = text[len(kept) :]
            size = len(text.encode())
        self._tail_bytes += size
        if self._recent_bytes + size > TAIL_BYTES:
            self._older, self._recent = self._recent, io.StringIO()
            self._recent_bytes = 0
        text = text[-TAIL_BYTES:]  # characters: at least as many bytes as wanted, cut again when read
        self._recent.write(text)
        self._recent_bytes += len(text.encode())

    def text(self) -> str | None:
        """All that was kept, fit for a text column, with its positions if there is anything to say of them;
        None when nothing was written.
        """
        with lock:
            if self.decoder is not None:
                self.write(self.decoder.decode(b"", final=True))
            head = self._head.getvalue()
            marks = self._marks.found
            if not self._tail_bytes:
                return LogText(head, tuple(marks)) if marks else head or None
            tail = self._recent.getvalue()
            if self._older is not self._recent:
                tail = self._older.getvalue() + tail
            tail = _cut_end(tail, TAIL_BYTES)
            dropped = self._tail_bytes - len(tail.encode())
            if not dropped:
                return LogText(head + tail, tuple(marks)) if marks else head + tail
            notice = f"\n[hotpath: {dropped} bytes of log are not kept here]\n"
            gap = (len(head), self._end - len(head) - len(tail), len(notice))
            return LogText(head + notice + tail, tuple(marks), gap)


def _cut(text: str, size: int) -> str:
    """The longest start of the text that is no more than `size` bytes of UTF-8."""
    raw = text.encode()
    while 0 < size < len(raw) and raw[size] & 0xC0 == 0x80:  # in the middle of a character
        size -= 1
    return raw[:size].decode()


def _cut_end(text: str, size: int) -> str:
    """The longest end of the text that is no more than `size` bytes of UTF-8."""
    raw = text.encode()[-size:]
    start = 0
    while start < len(raw) and raw[start] & 0xC0 == 0x80:
        start += 1
    return raw[start:].decode()
