"""The notebook: what a worker's runtime has noted of the jobs in hand and nobody has written yet.

Any thread adds to it; the worker's loop takes notes out in bulk, as the columns of one statement. It knows of
no database, and of no clock but the one it is given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import attrs

from hotpath.core.notes import Entry, Note, Notes, OnWritten, Recalled, columns, weight_of

if TYPE_CHECKING:
    from hotpath.core.hand import Hand

MAX_NOTES_BYTES = 8 << 20
"""Args, outcomes and logs of one write of notes, together; a note with more goes alone."""
MAX_NOTES = 5_000
"""Notes of one write."""


class Desk(Protocol):
    """Where a hand's notes go, and what it asks about its jobs: the worker's side."""

    def add(self, hand: Hand, index: int, note: Note, on_written: OnWritten) -> None:
        """Have this written before the job's outcome; callable from any thread."""

    def park(self, hand: Hand) -> None:
        """The hand has jobs that were parked; callable from any thread."""

    async def recall(self, runs: Sequence[UUID]) -> Mapping[UUID, Recalled]:
        """What was noted of these jobs before; those without are left out."""

    async def cached(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Results under these keys that are still good: JSON."""

    async def admit(self, script: int, most: int, runs: Sequence[UUID]) -> Container[UUID]:
        """Those of the jobs that have one of the script's `most` places."""

    def now_us(self) -> int:
        """The database's clock, microseconds since the epoch."""


class Nowhere:
    """The desk of a hand that no worker has: what is noted there is gone."""

    def add(self, hand: Hand, index: int, note: Note, on_written: OnWritten) -> None:
        """Nothing is written."""

    def park(self, hand: Hand) -> None:
        """Nobody comes for it."""

    async def recall(self, runs: Sequence[UUID]) -> Mapping[UUID, Recalled]:
        """Nothing is known."""
        return {}

    async def cached(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Nothing is kept."""
        return {}

    async def admit(self, script: int, most: int, runs: Sequence[UUID]) -> Container[UUID]:
        """There is place for all."""
        return frozenset(runs)

    def now_us(self) -> int:
        """It is the beginning of time."""
        return 0


class Notebook:
    """Notes and parks that wait to be written. `add` and `park` may be called from any thread, all else by
    one.
    """

    __slots__ = (
        "_again", "clock", "dropped", "entries", "parks", "since", "urge", "urgent", "used",
    )  # fmt: skip

    def __init__(
        self,
        clock: Callable[[], float] = float,
        urge: Callable[[], object] = bool,
    ) -> None:
        self.clock = clock
        """Seconds; what `since` is in."""
        self.urge = urge
        """Called, in whichever thread, when a note must not wait for company."""
        self.entries: deque[Entry] = deque()
        self.parks: deque[Hand] = deque()
        """Hands with parked jobs, as often as one was parked."""
        self.since = 0.0
        """When the first of what waits was added, or before."""
        self.urgent = False
        """Whether something must not wait for company."""
        self.used = False
        """Whether anything was ever noted or parked here."""
        self.dropped = 0
        """Notes that came too late: their lease was lost, or something noted before was refused."""
        self._again: deque[Notes] = deque()

    @property
    def noted(self) -> bool:
        """Whether notes wait."""
        return bool(self.entries or self._again)

    @property
    def waiting(self) -> bool:
        """Whether notes or parks wait."""
        return bool(self.entries or self.parks or self._again)

    def add(self, hand: Hand, index: int, note: Note, on_written: OnWritten = None) -> None:
        """Have this written before the job's outcome; `on_written` is called once it is durable."""
        if not self.entries and not self.parks:
            self.since = self.clock()
        self.used = True
        self.entries.append((hand, index, note, on_written))
        if on_written is not None:
            self.urgent = True
            self.urge()

    def park(self, hand: Hand) -> None:
        """Have the hand's parked jobs leave it, behind their notes."""
        if not self.entries and not self.parks:
            self.since = self.clock()
        self.used = True
        self.parks.append(hand)

    def put_back(self, notes: Sequence[Notes]) -> None:
        """These could not be written, as far as is known: they come first, as they were."""
        self._again.extendleft(attrs.evolve(each, again=True) for each in reversed(notes))

    def take(self, max_bytes: int = MAX_NOTES_BYTES, max_notes: int = MAX_NOTES) -> Notes | None:
        """What is to be written next, in the order it was noted; None if nothing.

        A note comes out once: keep the value, or put it back, until it is durable.
        """
        if self._again:
            return self._again.popleft()
        entries = self.entries
        taken: list[Entry] = []
        size = 0
        self.urgent = False  # before the look: what is added meanwhile sets it again
        while entries and len(taken) < max_notes:
            hand, index, note, _ = entries[0]
            if hand.gone or index in hand.spoiled:
                entries.popleft()
                self.dropped += 1
                continue
            weight = weight_of(note)
            if taken and size + weight > max_bytes:
                break
            size += weight
            taken.append(entries.popleft())
        return columns(taken, size) if taken else None

    def take_parks(self) -> list[Hand]:
        """The hands with parked jobs that are still held; each once."""
        found: dict[int, Hand] = {}
        while self.parks:
            hand = self.parks.popleft()
            if not hand.gone:
                found[id(hand)] = hand
        return list(found.values())
