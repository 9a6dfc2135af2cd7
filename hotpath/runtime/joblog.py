"""The text of one job's log, within bounds however much the job prints."""

from __future__ import annotations

import codecs
import io
import threading

from hotpath.core.storable import storable

HEAD_BYTES = TAIL_BYTES = 5 * 1024 * 1024 // 2
"""What is kept of a job's log: its first and its last 2.5 MiB."""


class JobLog:
    """The text of one job's log, bounded: the head and the tail are kept, the middle is counted."""

    __slots__ = (
        "_head",
        "_head_room",
        "_lock",
        "_older",
        "_recent",
        "_recent_bytes",
        "_tail_bytes",
        "decoder",
    )

    def __init__(self) -> None:
        # Streams and not lists of pieces: a list of a log written a character at a time takes 60 bytes each.
        self._head = io.StringIO()
        self._head_room = HEAD_BYTES
        self._older = self._recent = io.StringIO()
        self._recent_bytes = 0
        self._tail_bytes = 0
        """What was written behind the head, kept or not."""
        # Re-entrant: a destructor or a signal handler may print in the middle of a write.
        self._lock = threading.RLock()
        self.decoder: codecs.IncrementalDecoder | None = None

    def write(self, text: str) -> None:
        """Add to the log."""
        size = _size(text)
        with self._lock:
            if size <= self._head_room:
                self._head.write(text)
                self._head_room -= size
            else:
                self._write_tail(text, size)

    def _write_tail(self, text: str, size: int) -> None:
        """Two streams in turn: together they hold the tail; the older goes when the recent one is full."""
        if self._head_room:
            kept = _cut(text, self._head_room)
            self._head.write(kept)
            self._head_room = 0
            text = text[len(kept) :]
            size = _size(text)
        self._tail_bytes += size
        if self._recent_bytes + size > TAIL_BYTES:
            self._older, self._recent = self._recent, io.StringIO()
            self._recent_bytes = 0
        text = text[-TAIL_BYTES:]  # characters: at least as many bytes as wanted, cut again when read
        self._recent.write(text)
        self._recent_bytes += _size(text)

    def text(self) -> str | None:
        """All that was kept, fit for a text column; None when nothing was written."""
        with self._lock:
            if self.decoder is not None:
                self.write(self.decoder.decode(b"", final=True))
            head = self._head.getvalue()
            if not self._tail_bytes:
                return storable(head) or None
            tail = self._recent.getvalue()
            if self._older is not self._recent:
                tail = self._older.getvalue() + tail
            tail = _cut_end(tail, TAIL_BYTES)
            dropped = self._tail_bytes - _size(tail)
            notice = f"\n[hotpath: {dropped} bytes of log are not kept here]\n" if dropped else ""
            return storable(head + notice + tail)


def _size(text: str) -> int:
    """Bytes of UTF-8 that the text takes."""
    try:
        return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    except AttributeError:
        raise TypeError(f"write() argument must be str, not {type(text).__name__}") from None


def _cut(text: str, size: int) -> str:
    """The longest start of the text that is no more than `size` bytes of UTF-8."""
    raw = text.encode("utf-8", "surrogatepass")
    while 0 < size < len(raw) and raw[size] & 0xC0 == 0x80:  # in the middle of a character
        size -= 1
    return raw[:size].decode("utf-8", "surrogatepass")


def _cut_end(text: str, size: int) -> str:
    """The longest end of the text that is no more than `size` bytes of UTF-8."""
    raw = text.encode("utf-8", "surrogatepass")[-size:]
    start = 0
    while start < len(raw) and raw[start] & 0xC0 == 0x80:
        start += 1
    return raw[start:].decode("utf-8", "surrogatepass")
