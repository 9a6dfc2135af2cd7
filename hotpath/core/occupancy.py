"""How full a worker is: the share of its time that it spends inside `main`, over some stretches of the past.

What a job took is known when it has ended. For one that takes minutes that is late, so time under way is
credited in advance, and what the job then took is set off against that.
"""

from __future__ import annotations

from collections import deque

import attrs

STRETCHES = (15.0, 300.0, 1800.0)
"""Seconds over which occupancy is told."""
GRAIN = 1.0
"""Seconds between two samples that are kept of the last minute; those before lie further apart."""
_COARSE_AFTER, _COARSE = 60.0, 10.0


@attrs.define(eq=False)
class Occupied:
    """Time of one worker inside `main`, jobs that have not ended included; microseconds."""

    several: bool = False
    """Whether it runs several jobs at a time."""
    total_us: int = 0
    _ahead_us: int = 0
    """How much of `total_us` no outcome has said yet."""

    def under_way(self, jobs: int, elapsed_us: int) -> None:
        """So many jobs have been under way for this time, as far as one look can tell."""
        if not jobs:
            self._take_back()
            return
        self._ahead_us += jobs * elapsed_us
        self.total_us += jobs * elapsed_us

    def ended(self, busy_us: int) -> None:
        """Jobs have ended that took this long together."""
        known = min(self._ahead_us, busy_us)
        self._ahead_us -= known
        self.total_us += busy_us - known
        if not self.several:
            self._take_back()  # the job that is under way now has begun since

    def _take_back(self) -> None:
        """What is credited beyond what was said belongs to nobody: a look found a job that had just begun."""
        self.total_us -= self._ahead_us
        self._ahead_us = 0


@attrs.define(eq=False)
class Window:
    """Samples of a number that only grows, as far back as the longest stretch; times in seconds."""

    _samples: deque[tuple[float, float]] = attrs.field(factory=deque)
    _old: deque[tuple[float, float]] = attrs.field(factory=deque)

    def add(self, at: float, value: float) -> None:
        """The number is `value` at that time."""
        if self._samples and at - self._samples[-1][0] < GRAIN and len(self._samples) > 1:
            self._samples[-1] = (at, max(value, self._samples[-1][1]))
        else:
            self._samples.append((at, value))
        while self._samples[0][0] < at - _COARSE_AFTER:
            sample = self._samples.popleft()
            if not self._old or sample[0] - self._old[-1][0] >= _COARSE:
                self._old.append(sample)
        while len(self._old) > 1 and self._old[1][0] <= at - STRETCHES[-1]:
            self._old.popleft()

    def rate(self, seconds: float) -> float:
        """By how much it grew a second over the last `seconds`, or since the first sample if that is less."""
        if len(self._samples) < 2 and not self._old:
            return 0.0
        at, value = self._samples[-1]
        before = self._samples[0] if self._samples[0][0] <= at - seconds or not self._old else self._old[0]
        for one in (*self._old, *self._samples):
            if one[0] > at - seconds:
                break
            before = one
        elapsed = at - before[0]
        return max(0.0, value - before[1]) / elapsed if elapsed > 0 else 0.0
