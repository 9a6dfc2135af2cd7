"""Rows of a bulk enqueue as the bytes of a binary COPY: sealed batches, or loose jobs.

They are written here and not by the driver: an array of 500 small texts costs it 0.3 µs a job, and two joins
cost 0.1.
"""

from __future__ import annotations

import struct
import time
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from uuid import UUID

import trio

from hotpath.core.placeholders import FillError, decode, fill, key_hash, limit_key
from hotpath.errors import BadArgsError
from hotpath.store.seal import LARGE, Bases, Contents, JobIds

_COLUMNS: tuple[str, ...] = (
    "base",
    "scheduled_for",
    "tag",
    "script",
    "priority",
    "n",
    "open",
    "timeouts",
    "args",
)
_LARGE_AT_ONCE = 4 << 20  # bytes of large args held before they are copied in
_SEND_BYTES = 128 << 10  # what is handed to the driver at a time

# PostgreSQL's binary COPY: a signature, rows of (length, value) fields, a trailer.
_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
# The fields, and the first seven; the others apart.
_ROW = struct.Struct("!h i16s iq iq ii ih ih ih")
# An array: its length in bytes, dimensions, whether it has nulls, type, elements, lower bound.
_ARRAY = struct.Struct("!i iiIii")
_INT4, _INT8 = struct.Struct("!ii"), struct.Struct("!iq")
# The first five of a loose job.
_LOOSE_ROW = struct.Struct("!h i16s iq iq ii ih")
_JSON_OID, _INT4_OID = 114, 23
_LENGTHS = [struct.pack("!i", length) for length in range(LARGE + 1)]
_NULL = struct.pack("!i", -1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_LOOSE = ("id", "scheduled_for", "tag", "script", "priority", "timeout_ms", "limit_key", "expires_at", "args")
_TAG_BYTES = 255


class RefusedJobError(BadArgsError):
    """One of many jobs cannot be put in; the message names it, from 0."""


class Load:
    """The bytes of one COPY after the other, until `more` is false: large args are copied in between."""

    def __init__(
        self,
        ids: JobIds,
        bases: Bases,
        batches: Iterable[Contents] | AsyncIterable[Contents],
        head: tuple[datetime, int, int, int],
        timeout_ms: int | None,
        expires: float | None,
    ) -> None:
        self.more = True
        self.table, self.columns = "batch", _COLUMNS
        self.tags: set[str] = set()
        """Names of tags that were made of args."""
        self._fields, self._tail = len(_COLUMNS), b""
        when, self._tag, self._script, self._priority = head
        self._when = (when - _EPOCH) // timedelta(microseconds=1)
        if expires is not None:
            self.columns = (*_COLUMNS, "expires_at")
            self._fields, self._tail = len(self.columns), _INT8.pack(8, self._when + round(expires * 1e6))
        self._timeout = None if timeout_ms is None else _INT4.pack(4, timeout_ms)
        self._ids = ids
        self._bases = bases
        self._async = aiter(batches) if isinstance(batches, AsyncIterable) else None
        self._sync: Iterator[Contents] = iter(()) if isinstance(batches, AsyncIterable) else iter(batches)
        self._large: list[tuple[UUID, str]] = []
        self._large_bytes = 0
        self._ended = False

    def __aiter__(self) -> Load:
        """Begin a COPY."""
        self._begun = self._ended = False
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        await trio.lowlevel.checkpoint()  # the rest of the program has its turn, however long the source is
        parts = [] if self._begun else [_BEGIN]
        self._begun = True
        size = 0
        while size < _SEND_BYTES:
            contents = await anext(self._async, None) if self._async else next(self._sync, None)
            self.more = contents is not None
            if contents is not None:
                part = self._row(contents)
                parts.append(part)
                size += len(part)
            if contents is None or self._large_bytes > _LARGE_AT_ONCE:
                parts.append(_END)
                self._ended = True
                break
        return b"".join(parts)

    def _row(self, contents: Contents) -> bytes:
        """A row of `hotpath.batch`."""
        base = self._bases.make(time.monotonic())
        args = contents.args
        n = len(args)
        self._ids.add(base, n)
        if contents.large:
            self._large += [(UUID(int=base + k), raw.decode()) for k, raw in contents.large]
            self._large_bytes += contents.large_bytes
        body = _elements(args)
        timeouts = _NULL
        if self._timeout is not None:
            timeouts = _ARRAY.pack(8 * n + 20, 1, 0, _INT4_OID, n, 1) + self._timeout * n
        return b"".join(
            (
                _ROW.pack(
                    *(self._fields, 16, base.to_bytes(16, "big"), 8, self._when, 8, self._tag),
                    *(4, self._script, 2, self._priority, 2, n, 2, n),
                ),
                timeouts,
                _ARRAY.pack(len(body) + 20, 1, bool(contents.large), _JSON_OID, n, 1),
                body,
                self._tail,
            )
        )

    def take_large(self) -> list[tuple[UUID, str]]:
        """Large args of the batches so far, to be copied in now."""
        large, self._large, self._large_bytes = self._large, [], 0
        return large


class LooseLoad(Load):
    """The same for jobs that differ in their tag, or in the key of their limit: a row of `job_queue` each."""

    def __init__(
        self,
        ids: JobIds,
        bases: Bases,
        batches: Iterable[Contents] | AsyncIterable[Contents],
        head: tuple[datetime, int, int, int],
        timeout_ms: int | None,
        expires: float | None,
        name: str,
        key: str | None,
        tag: str | None,
        workspace: str,
    ) -> None:
        super().__init__(ids, bases, batches, head, timeout_ms, expires)
        self.table, self.columns = "job_queue", _LOOSE
        self._name, self._key, self._template, self._workspace = name, key, tag, workspace
        self._keys: dict[str, int] = {}
        """Of the tags, by name."""

    def _row(self, contents: Contents) -> bytes:
        """A row of `hotpath.job_queue` for each job. Their ids follow each other, as a batch's do."""
        base = self._bases.make(time.monotonic())
        first = len(self._ids)
        self._ids.add(base, len(contents.args))
        large = dict(contents.large)
        self._large += [(UUID(int=base + k), raw.decode()) for k, raw in contents.large]
        self._large_bytes += contents.large_bytes
        rows: list[bytes] = []
        for k, raw in enumerate(contents.args):
            try:
                tag, key = self._made_of(raw if raw is not None else large[k])
            except FillError as error:
                raise RefusedJobError(f"job {first + k} of {self._name}: {error}") from None
            rows += (
                _LOOSE_ROW.pack(
                    *(len(_LOOSE), 16, (base + k).to_bytes(16, "big"), 8, self._when, 8, tag),
                    *(4, self._script, 2, self._priority),
                ),
                self._timeout or _NULL,
                _NULL if key is None else _INT8.pack(8, key),
                self._tail or _NULL,
                _NULL if raw is None else _LENGTHS[len(raw)] + raw,
            )
        return b"".join(rows)

    def _made_of(self, raw: bytes) -> tuple[int, int | None]:
        """Tag and limit's key of the job with these args."""
        args = decode(raw)
        tag = self._tag
        if self._template is not None:
            name = fill(self._template, args, f"the tag {self._template}", workspace=self._workspace)
            if name not in self._keys:
                if not 0 < len(name.encode()) <= _TAG_BYTES:
                    raise FillError(
                        f"the tag {self._template} comes out as {len(name.encode())} bytes; it must be 1 to "
                        f"{_TAG_BYTES} bytes long"
                    )
                self._keys[name] = key_hash(name)
                self.tags.add(name)
            tag = self._keys[name]
        return tag, None if self._key is None else limit_key(self._key, args, workspace=self._workspace)


def _elements(args: Sequence[bytes | None]) -> bytes:
    """The elements of an array, each behind its length."""
    if None in args:
        return b"".join([_NULL if raw is None else _LENGTHS[len(raw)] + raw for raw in args])
    texts: Sequence[bytes] = args  # type: ignore[assignment] # none is None
    return b"".join(chain.from_iterable(zip(map(_LENGTHS.__getitem__, map(len, texts)), texts, strict=True)))
