"""Which jobs in hand leave something in the database that nobody needs once they have succeeded, and when to
have it dropped.

A courtesy: what is missed here, a keeper's sweep finds (`store/sweep.py`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

import attrs

from hotpath.model import OutcomeState

if TYPE_CHECKING:
    from hotpath.core.flush import LeaseFlush

EVERY = 1.0
"""Seconds between two times that something is dropped."""
SOONER = 0.1
"""The same where more wait than one statement takes."""
AT_ONCE = 100
"""Jobs of one statement: some 20 ms, in which no flush is written."""
MOST = 10_000
"""Jobs that may wait for it; the sweep has those that waited longest."""


@attrs.define(eq=False)
class Forgetting:
    """One worker's jobs that wait for it."""

    _over: deque[UUID] = attrs.field(factory=lambda: deque(maxlen=MOST))
    _next: float = 0.0
    """`time.monotonic()` when something is dropped next."""

    def ended(self, flush: LeaseFlush) -> None:
        """The flush is written."""
        hand, states = flush.hand, flush.states
        for index in list(hand.kept):  # a runtime's thread may note something of another job
            state = OutcomeState.SUCCESS if states is None else states[hand.place(index)]
            if state:
                hand.kept.discard(index)
            if state == OutcomeState.SUCCESS:
                self.add([hand.ids[index]])

    def add(self, runs: Iterable[UUID]) -> None:
        """These are to be dropped, too."""
        if not self._over:
            self._next = max(self._next, time.monotonic() + EVERY)  # they wait for company
        self._over.extend(runs)

    @property
    def wait(self) -> float:
        """Seconds until something is to be dropped; infinity: there is nothing."""
        return max(0.0, self._next - time.monotonic()) if self._over else float("inf")

    def take(self) -> list[UUID]:
        """What is to be dropped now, by one statement; it is not asked for again."""
        taken = [self._over.popleft() for _ in range(min(len(self._over), AT_ONCE))]
        self._next = time.monotonic() + (EVERY if len(self._over) < AT_ONCE else SOONER)
        return taken
