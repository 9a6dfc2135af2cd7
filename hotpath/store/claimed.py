"""What a claim brings, as values: the lease as a `Hand`, the position the next claim starts from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from hotpath.core.elements import elements_of
from hotpath.core.hand import Hand, SealedIds

if TYPE_CHECKING:
    from hotpath.core.positions import Positions


class _Ones(Sequence[int]):
    """The attempt of each job of a batch that has run none before: 1."""

    __slots__ = ("_size",)

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> int:  # type: ignore[override]  # a slice is never asked for
        if not -self._size <= index < self._size:
            raise IndexError(index)  # iteration ends by it
        return 1


def hand_of(
    lease: int,
    base: UUID,
    lo: int,
    hi: int,
    ids: Sequence[UUID] | None,
    attempts: list[int] | None,
    skip: bytes | None,
    args: bytes,
    tag: str,
    timeouts_ms: list[int | None] | None,
    *,
    alone: bool,
) -> Hand:
    """The lease as the runtime will see it: without the jobs that were canceled while they waited."""
    size = hi - lo
    runs: Sequence[int] = _Ones(size) if attempts is None else [attempt + 1 for attempt in attempts]
    timeouts = None
    if timeouts_ms is not None and any(timeouts_ms):
        timeouts = [None if timeout is None else timeout / 1000 for timeout in timeouts_ms]
    if skip is None or not any(_canceled(skip, ordinal) for ordinal in range(lo, hi)):
        return Hand(
            lease,
            base,
            lo,
            hi,
            ids=ids if ids is not None else SealedIds(base, range(lo, hi)),
            args=args,
            attempts=runs,
            tag=tag,
            timeouts=timeouts,
            alone=alone,
        )
    places = [place for place in range(size) if not _canceled(skip, lo + place)]
    elements = split(args)
    return Hand(
        lease,
        base,
        lo,
        hi,
        ids=SealedIds(base, [lo + place for place in places]),
        args=join([elements[place] for place in places]),
        attempts=[runs[place] for place in places],
        tag=tag,
        places=places,
        timeouts=None if timeouts is None else [timeouts[place] for place in places],
        alone=alone,
    )


def _canceled(skip: bytes, ordinal: int) -> bool:
    return bool(skip[ordinal >> 3] >> (ordinal & 7) & 1)


def split(document: bytes) -> list[bytes]:
    """The elements of a JSON array, as they are written."""
    return [bytes(element) for element in elements_of(document)]


def join(elements: Sequence[bytes]) -> bytes:
    """A JSON array of these elements."""
    return b"[" + b",".join(elements) + b"]"


def advance(
    positions: Positions,
    priority: int,
    priorities: list[int] | None,
    until: datetime | None,
    scheduled: list[datetime] | None,
    ids: list[UUID] | None,
    now: datetime,
) -> None:
    """Remember where the claim of loose jobs ended, in each priority it took from; of a batch, that its
    priority exists.
    """
    if until is None or ids is None:
        positions.know(priority)
    elif priorities is None or scheduled is None:
        positions.advance(priority, until, ids[-1], now)
    else:
        last = dict(zip(priorities, zip(scheduled, ids, strict=True), strict=True))
        for known, (time, job) in last.items():
            positions.advance(known, time, job, now)
