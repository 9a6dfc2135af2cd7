"""How many jobs become few rows: args, one after the other, into sealed batches. No I/O in here.

A sealed batch is one row of `hotpath.batch`: at most 500 jobs and 1 MiB of args. Its jobs' ids are not
stored but derived: the batch's base, a UUIDv7 whose last 16 bits are 0, plus the ordinal. So the ids of
ten million jobs are twenty thousand bases.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, overload
from uuid import UUID

import attrs

from hotpath.core.schema import ArgsValidator

MAX_JOBS = 500
MAX_BYTES = 1 << 20
LARGE = 8192
"""Args above this many bytes are stored once, in `hotpath.payload`, and referred to."""

_SMALL_BATCH = MAX_BYTES // 2
_TICKS = 4096  # per millisecond: what the 12 bits of rand_a divide it into


class Bases:
    """Bases of batches, strictly increasing: UUIDv7 by the database's clock, with microseconds."""

    def __init__(self, clock: float, monotonic: float) -> None:
        """`clock`: the database's time in seconds since the epoch when `time.monotonic()` was `monotonic`."""
        self._offset = clock - monotonic
        self._last = 0

    def make(self, monotonic: float) -> int:
        """The next base, as the integer of its UUID."""
        tick = max(int((self._offset + monotonic) * 1000 * _TICKS), self._last + 1)
        self._last = tick
        head = ((tick // _TICKS) << 16) | 0x7000 | (tick % _TICKS)
        tail = 1 << 63 | int.from_bytes(os.urandom(6)) >> 2 << 16  # variant 10, 46 random bits, ordinal 0
        return head << 64 | tail


class JobIds(Sequence[UUID]):
    """The ids of one `enqueue_many`, in the order of its args: a sequence that makes each id when asked for
    it.
    """

    def __init__(self) -> None:
        self.bases: list[int] = []
        """Base of each sealed batch, as the integer of its UUID."""
        self._starts: list[int] = []
        self._length = 0

    def add(self, base: int, count: int) -> None:
        """A sealed batch of `count` jobs comes next."""
        self.bases.append(base)
        self._starts.append(self._length)
        self._length += count

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[UUID]:
        ends = [*self._starts[1:], self._length]
        for base, start, end in zip(self.bases, self._starts, ends, strict=True):
            for k in range(end - start):
                yield UUID(int=base + k)

    @overload
    def __getitem__(self, index: int) -> UUID: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[UUID]: ...
    def __getitem__(self, index: int | slice) -> UUID | Sequence[UUID]:
        if isinstance(index, slice):
            return [self._at(k) for k in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError("index out of range")
        return self._at(index % self._length)

    def _at(self, index: int) -> UUID:
        row = bisect_right(self._starts, index) - 1
        return UUID(int=self.bases[row] + index - self._starts[row])

    def __repr__(self) -> str:
        return f"<JobIds of {self._length} jobs>"


@attrs.frozen
class Contents:
    """What goes into one sealed batch."""

    args: Sequence[bytes | None]
    """JSON of each job's args; None for large ones."""
    large: list[tuple[int, bytes]]
    """Ordinal and JSON of the large ones."""
    large_bytes: int


class Sealer:
    """Fills batches from JSON args, in order."""

    def __init__(self) -> None:
        self.count = 0
        """Jobs taken so far; when the source raises, the index of the one that it could not give."""

    def seal(self, raws: Iterable[bytes]) -> Iterator[Contents]:
        """Batch after batch, each as soon as it is full, holding no more than one. What `raws` raises comes
        out.
        """
        args: list[bytes | None] = []
        large: list[tuple[int, bytes]] = []
        room, large_bytes = MAX_BYTES - LARGE, 0
        try:
            for raw in raws:
                size = len(raw)
                if size > LARGE:
                    large.append((len(args), raw))
                    large_bytes += size
                    args.append(None)
                else:
                    room -= size
                    args.append(raw)
                if len(args) >= MAX_JOBS or room < 0 or large_bytes > MAX_BYTES:
                    full = Contents(args, large, large_bytes)
                    self.count += len(args)
                    args, large, room, large_bytes = [], [], MAX_BYTES - LARGE, 0
                    yield full
        finally:
            self.count += len(args)
        if args:
            yield Contents(args, large, large_bytes)

    def seal_args(self, items: Iterable[Mapping[str, Any]], validator: ArgsValidator) -> Iterator[Contents]:
        """`seal` for args that are still to be validated and written as JSON, many at a time where they are
        small.

        Raises `BadArgsError`; then `count` is the index of the job it speaks of.
        """
        source = iter(items)
        small = False
        while True:
            # How many may be held at once is known from those before: large ones go one by one.
            chunk: Iterable[Mapping[str, Any]] = islice(source, MAX_JOBS)
            if small:
                chunk = held = list(chunk)
                texts = validator.encode_many(held) if held else []
                if texts and max(map(len, texts)) <= LARGE and sum(map(len, texts)) <= MAX_BYTES:
                    self.count += len(texts)
                    yield Contents(texts, [], 0)
                    continue
            taken = size = 0
            for contents in self.seal(map(validator.encode, chunk)):
                taken += len(contents.args)
                size += contents.large_bytes + sum(len(text) for text in contents.args if text)
                yield contents
            if not taken:
                return
            small = size <= _SMALL_BATCH


class AsyncSeal:
    """`Sealer.seal` for a source that has to be awaited: a batch's worth at a time."""

    def __init__(self, raws: AsyncIterable[bytes], sealer: Sealer) -> None:
        self._source = aiter(raws)
        self._sealer = sealer
        self._ready: list[Contents] = []

    def __aiter__(self) -> AsyncSeal:
        return self

    async def __anext__(self) -> Contents:
        if not self._ready:
            chunk: list[bytes] = []
            room = MAX_BYTES - LARGE
            try:
                while len(chunk) < MAX_JOBS and room > 0:
                    raw = await anext(self._source)
                    room -= len(raw)
                    chunk.append(raw)
            except StopAsyncIteration:
                if not chunk:
                    raise
            except BaseException:
                self._sealer.count += len(chunk)
                raise
            self._ready = list(self._sealer.seal(chunk))[::-1]
        return self._ready.pop()
