"""Bulk enqueue: sealed batches by binary COPY, as many jobs as there are, in one transaction and constant
memory.

The rows are written here and not by the driver: an array of 500 small texts costs it 0.3 µs a job, and
two joins cost 0.1.
"""

from __future__ import annotations

import struct
import time
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from uuid import UUID

import trio

from hotpath import asyncpg_trio
from hotpath.store.jobs import check_options, milliseconds
from hotpath.store.queries import query
from hotpath.store.scripts import Registered
from hotpath.store.seal import LARGE, Bases, Contents, JobIds

_COLUMNS = ("base", "scheduled_for", "tag", "script", "priority", "n", "open", "timeouts", "args")
_LARGE_AT_ONCE = 4 << 20  # bytes of large args held before they are copied in
_ANALYZE_ROWS = 1000  # batches in one load from which the planner is told
_SEND_BYTES = 128 << 10  # what is handed to the driver at a time

# PostgreSQL's binary COPY: a signature, rows of (length, value) fields, a trailer.
_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
# Nine fields, the last two apart.
_ROW = struct.Struct("!h i16s iq iq ii ih ih ih")
# An array: its length in bytes, dimensions, whether it has nulls, type, elements, lower bound.
_ARRAY = struct.Struct("!i iiIii")
_INT4 = struct.Struct("!ii")
_JSON_OID, _INT4_OID = 114, 23
_LENGTHS = [struct.pack("!i", length) for length in range(LARGE + 1)]
_NULL = struct.pack("!i", -1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


async def enqueue_many(
    connection: asyncpg_trio.Connection,
    script: Registered,
    batches: Iterable[Contents] | AsyncIterable[Contents],
    *,
    tag: str | None = None,
    priority: int = 0,
    scheduled_for: datetime | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - the job's, not this call's
    traceparent: str | None = None,
) -> JobIds:
    """Add jobs in sealed batches: all of them or, when `batches` raises or we are cancelled, none.

    `batches`: what a `Sealer` makes of args, read as it is sent. Raises what `batches` raises, and
    `UsageError` for a tag, priority, time or time-out (seconds) that no job can have.
    """
    check_options(tag, priority, scheduled_for, timeout)
    ids = JobIds()
    async with connection.transaction():
        row = await connection.fetchrow(query("load_clock"))
        assert row is not None, "a query without a table has one row"
        key: int = script.tag if tag is None else await connection.fetchval(query("tag_id"), tag)
        when: datetime = row["now"] if scheduled_for is None else scheduled_for
        bases = Bases(row["clock"], time.monotonic())
        head = (when, key, script.version.script, priority or script.priority)
        load = _Load(ids, bases, batches, head, milliseconds(timeout))
        while load.more:
            await connection.copy_to_table(
                "batch", schema_name="hotpath", columns=_COLUMNS, source=load, format="binary"
            )
            if large := load.take_large():
                await connection.copy_records_to_table(
                    "payload", schema_name="hotpath", columns=("id", "args"), records=large
                )
        if ids and traceparent is not None:
            await connection.fetch(query("carry_traces"), [UUID(int=base) for base in ids.bases], traceparent)
        if ids:
            await connection.fetchrow(query("load_end"), key, tag, when)
    if len(ids.bases) >= _ANALYZE_ROWS:
        await connection.execute("analyze hotpath.batch")
    return ids


class _Load:
    """The bytes of one COPY after the other, until `more` is false: large args are copied in between."""

    def __init__(
        self,
        ids: JobIds,
        bases: Bases,
        batches: Iterable[Contents] | AsyncIterable[Contents],
        head: tuple[datetime, int, int, int],
        timeout_ms: int | None,
    ) -> None:
        self.more = True
        when, self._tag, self._script, self._priority = head
        self._when = (when - _EPOCH) // timedelta(microseconds=1)
        self._timeout = None if timeout_ms is None else _INT4.pack(4, timeout_ms)
        self._ids = ids
        self._bases = bases
        self._async = aiter(batches) if isinstance(batches, AsyncIterable) else None
        self._sync: Iterator[Contents] = iter(()) if isinstance(batches, AsyncIterable) else iter(batches)
        self._large: list[tuple[UUID, str]] = []
        self._large_bytes = 0
        self._ended = False

    def __aiter__(self) -> _Load:
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
                    *(9, 16, base.to_bytes(16, "big"), 8, self._when, 8, self._tag, 4, self._script),
                    *(2, self._priority, 2, n, 2, n),
                ),
                timeouts,
                _ARRAY.pack(len(body) + 20, 1, bool(contents.large), _JSON_OID, n, 1),
                body,
            )
        )

    def take_large(self) -> list[tuple[UUID, str]]:
        """Large args of the batches so far, to be copied in now."""
        large, self._large, self._large_bytes = self._large, [], 0
        return large


def _elements(args: Sequence[bytes | None]) -> bytes:
    """The elements of an array, each behind its length."""
    if None in args:
        return b"".join([_NULL if raw is None else _LENGTHS[len(raw)] + raw for raw in args])
    texts: Sequence[bytes] = args  # type: ignore[assignment] # none is None
    return b"".join(chain.from_iterable(zip(map(_LENGTHS.__getitem__, map(len, texts)), texts, strict=True)))
