"""What is counted of a script's jobs in one tag: how they ended, how long claims, flushes and runs took.

Everything is one list of integers that only grow, so that counts can be added, compared and sent as they are.
Durations go into buckets of powers of four microseconds: to find one takes no comparison.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hotpath.core.flush import LeaseFlush

BUCKETS: Final = 17
"""Buckets of a histogram: below 1 µs, 4 µs, 16 µs, … 1,074 s, and the rest."""
BOUNDS: Final = tuple(4**k / 1e6 for k in range(BUCKETS - 1))
"""Upper bounds of all but the last, in seconds."""

SUCCESS, FAILURE, CANCELED, RETRIED, LOST, BUSY, CLAIM, FLUSH = range(8)
"""Where each count is: outcomes of jobs, attempts that run again, leases that were lost; microseconds inside
`main`, in claims, in flushes.
"""
CLAIMS, FLUSHES, RUNS = 8, 8 + BUCKETS, 8 + 2 * BUCKETS
"""Where each histogram begins."""
SIZE: Final = 8 + 3 * BUCKETS
FEW: Final = 16
"""Durations that are looked at one by one."""
_OUTCOMES = {2: FAILURE, 3: CANCELED, 4: RETRIED}


def bucket(microseconds: int) -> int:
    """The bucket of a duration."""
    return min((microseconds.bit_length() + 1) // 2, BUCKETS - 1)


class Tally(list[int]):
    """The counts of one tag."""

    def __init__(self, counts: Iterable[int] = ()) -> None:
        super().__init__(counts or [0] * SIZE)

    def claimed(self, microseconds: int) -> None:
        """A claim that flushed nothing took this long, there and back."""
        self[CLAIM] += microseconds
        self[CLAIMS + bucket(microseconds)] += 1

    def flushed(self, microseconds: int) -> None:
        """A flush did, and what was claimed with it."""
        self[FLUSH] += microseconds
        self[FLUSHES + bucket(microseconds)] += 1

    def ended(self, flush: LeaseFlush) -> None:
        """This flush was written."""
        self[SUCCESS] += flush.jobs - flush.failed - len(flush.retries)
        self[BUSY] += flush.busy_us
        durations: Sequence[int] = flush.durations
        if flush.states is not None:
            for state in flush.states:
                if state in _OUTCOMES:
                    self[_OUTCOMES[state]] += 1
            durations = [us for us, state in zip(durations, flush.states, strict=True) if state]
        if len(durations) < FEW:
            for duration in durations:
                self[RUNS + bucket(duration)] += 1
            return
        # Two passes in C: 0.05 µs a job.
        for bits, count in Counter(map(int.bit_length, durations)).items():
            self[RUNS + min((bits + 1) // 2, BUCKETS - 1)] += count

    def settled(self, microseconds: int) -> None:
        """A job that took this long has ended by its own completion."""
        self[SUCCESS] += 1
        self[BUSY] += microseconds
        self[RUNS + bucket(microseconds)] += 1

    def add(self, counts: Sequence[int]) -> None:
        """Add another's."""
        for at, count in enumerate(counts):
            self[at] += count
