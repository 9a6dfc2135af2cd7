"""What the runtime has in hand: which jobs have begun, which take long, and how to end one.

The runtime notes what it is about before it looks at `until` (`Batch.mark`, `Batch.begun`). So whoever stops
a batch first and then reads the note knows what will not begin any more: what the note does not name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import attrs

from hotpath.core.hand import FOREVER, Hand
from hotpath.core.lease import LeaseBook, hand_number
from hotpath.model import ErrorKind
from hotpath.runtime.protocol import Interruptible
from hotpath.worker import board as words
from hotpath.worker.feed import Given

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

    from hotpath.core.pacing import Pace
    from hotpath.runtime.protocol import Batch, Runtime
    from hotpath.worker.board import Board

log = logging.getLogger("hotpath.worker")

STUCK = 5.0
"""Seconds after which a job that was told to end and cannot be is the supervisor's."""


@attrs.define(eq=False)
class _Entry:
    """A hand, and what of it the runtime has been given: all of it, or a part at a time."""

    hand: Hand
    given: list[Given] = attrs.field(factory=list)

    def batch_of(self, index: int) -> tuple[Batch, int] | None:
        """The batch that the runtime knows this job in, and its index there; None if it has not got it
        yet.
        """
        for first, batch in self.given:
            if first <= index < first + len(batch):
                return batch, index - first
        return None


@attrs.define(eq=False)
class InHand:
    """The hands that the runtime has, in the order it got them."""

    runtime: Runtime
    pace: Pace
    board: Board | None = None
    until: int = FOREVER
    """`time.perf_counter_ns()` until which the worker's lease holds for sure."""
    book: LeaseBook = attrs.field(init=False)
    mark: MutableSequence[int] = attrs.field(init=False)
    _entries: dict[int, _Entry] = attrs.field(factory=dict)
    """By number."""
    _notes: bool = False
    """What `_counts` knows."""
    _taken: int = 0
    """How many hands the runtime was given: their numbers are used again."""
    _begun: int = 0
    """How many have begun in hands that the runtime has returned."""
    _stamp: int = 0
    """What `_reached` said at `_since`."""
    _since: int = 0
    _slow: bool = False
    _told: set[int] = attrs.field(factory=set)
    """Tokens of the jobs that were said to be stuck."""

    def __attrs_post_init__(self) -> None:
        self.book = LeaseBook() if self.board is None else LeaseBook(self.board.set_lease)
        self.mark = [0, 0] if self.board is None else cast("MutableSequence[int]", self.board.mark)

    # ------------------------------------------------------------ what is in hand

    def __len__(self) -> int:
        return len(self._entries)

    def hands(self) -> list[Hand]:
        """The hands that the runtime has not returned yet, in order."""
        return [entry.hand for entry in self._entries.values()]

    def take(self, hand: Hand) -> list[Given]:
        """The runtime is to run this hand; return the list that says what of it it was given."""
        hand.mark = self.mark
        hand.clock = time.perf_counter_ns
        hand.hold(self.until)
        self._taken += 1
        entry = self._entries[hand_number(hand.number)] = _Entry(hand)
        self.book.run(hand.number)
        return entry.given

    def returned(self, hand: Hand) -> None:
        """The runtime is through with it."""
        if self._entries.pop(hand_number(hand.number), None) is not None:
            self._begun += hand.begun
            self._notes = self._notes or hand.begun > 0
        self.book.returned(hand.number)

    @property
    def alone(self) -> bool:
        """Whether one of them must have no company."""
        return any(entry.hand.alone for entry in self._entries.values())

    def under_way(self) -> int:
        """How many jobs are running, as far as the runtime says."""
        if self._counts():
            hands = self.hands()
            return sum(max(0, hand.begun + hand.unreported - len(hand)) for hand in hands)
        return int(bool(self.mark[0]))

    def job(self) -> tuple[int, int] | None:
        """Lease and place of the job whose code runs; None if the runtime names none. From any thread."""
        token = self.mark[0]
        entry = self._entries.get(hand_number(token)) if token else None
        index = token - entry.hand.number if entry is not None else 0
        if entry is None or not 0 <= index < len(entry.hand):
            return None
        return entry.hand.lease, entry.hand.place(index)

    def unstarted(self) -> Iterator[tuple[Hand, list[int]]]:
        """Of each hand, the jobs that have surely not begun. They will not, if the hand was stopped before
        this is asked.
        """
        if self._counts():
            for hand in self.hands():
                yield hand, [index for index in hand.pending() if index >= hand.begun]
            return
        if self.runtime.concurrency > 1:
            return
        token = self.mark[0]
        number, reached = hand_number(token), False
        for hand in self.hands():
            if reached:
                yield hand, hand.pending()
            elif number and hand_number(hand.number) == number:
                reached = True
                yield hand, [index for index in hand.pending() if index > token - hand.number]

    def _counts(self) -> bool:
        """Whether the runtime is one that says how many have begun."""
        self._notes = self._notes or any(entry.hand.begun for entry in self._entries.values())
        return self._notes

    def running(self, hand: Hand) -> list[int]:
        """Jobs of it that may be under way."""
        waiting = {index for other, indexes in self.unstarted() if other is hand for index in indexes}
        return [index for index in hand.pending() if index not in waiting]

    # ------------------------------------------------------------ slow jobs

    def look(self, now: int) -> bool:
        """Whether jobs that have not begun have waited for a slow one long enough to go elsewhere; `now` is
        `time.perf_counter_ns()`.
        """
        reached = self._reached()
        if reached != self._stamp or not reached:
            self._stamp, self._since, self._slow = reached, now, False
            return False
        if now - self._since < self.pace.patience_us * 1000:
            return False
        self._slow = True
        return any(indexes for _, indexes in self.unstarted())

    @property
    def slow(self) -> bool:
        """Whether what is in hand takes so long that nothing should wait behind it."""
        return self._slow and self._reached() == self._stamp

    def _reached(self) -> int:
        """Changes whenever a job begins; 0 while nothing is known to run."""
        if self._counts():
            return self._begun + sum(entry.hand.begun for entry in self._entries.values())
        token = self.mark[0] if self.runtime.concurrency == 1 else 0
        # A later hand may have the number of an earlier one, and its job the same token.
        return token and self._taken << 32 | token

    # ------------------------------------------------------------ ending jobs

    def interrupt(self, hand: Hand, index: int, kind: ErrorKind) -> bool:
        """Tell the runtime to end this job; whether it is one that can be told."""
        entry = self._entries.get(hand_number(hand.number))
        found = entry.batch_of(index) if entry is not None else None
        if found is None or not isinstance(self.runtime, Interruptible):
            return False
        self.runtime.interrupt(*found, kind)
        return True

    def lose(self, hand: Hand) -> None:
        """Its lease is lost: nothing of it begins any more, and what runs is interrupted."""
        hand.stop()
        running = self.running(hand)
        hand.drop(range(len(hand)))
        for index in running:
            self.interrupt(hand, index, ErrorKind.CANCELED)

    def stuck(self) -> Sequence[tuple[int, int, str]]:
        """Lease, place and kind of the jobs that cannot be ended from in here; each is named once."""
        if not isinstance(self.runtime, Interruptible):
            return []
        found = []
        for batch, index, kind in self.runtime.stuck(STUCK):
            token = batch.number + index
            entry = self._entries.get(hand_number(token))
            if entry is None or token in self._told:
                continue
            self._told.add(token)
            hand = entry.hand
            lease = self.book.leases().get(hand_number(token), 0)
            if lease:
                found.append((lease, hand.place(token - hand.number), str(kind)))
        return found

    # ------------------------------------------------------------ the board

    def beat(self, now: int) -> bool:
        """Say that the worker makes progress, and hear how long its lease holds; whether it does."""
        if self.board is not None:
            self.board.words[words.BEAT] = now
            self.until = self.board.words[words.LEASE_UNTIL] or FOREVER
        for entry in self._entries.values():
            entry.hand.hold(self.until)
        return now < self.until
