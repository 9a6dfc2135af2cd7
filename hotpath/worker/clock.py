"""The database's clock as a worker sees it: what to add to `perf_counter` microseconds."""

from __future__ import annotations

import attrs

WINDOW_US = 5_000_000
"""Samples older than two of these are forgotten: clocks drift, and an administrator may set one back."""


@attrs.define
class DatabaseClock:
    """The reply to a statement says what the database's clock was before it arrived: of the last seconds'
    samples the largest difference is the truest.
    """

    offset_us: int | None = None
    _since_us: int = 0
    _best: int = 0
    """The largest sample since `_since_us`."""
    _before: int = 0
    """The largest of the window before."""

    def observe(self, clock_us: int, received_us: int) -> None:
        """A reply that carried `clock_us` arrived at `received_us` of `perf_counter`."""
        sample = clock_us - received_us
        age = received_us - self._since_us
        if self.offset_us is None or age > WINDOW_US:
            is_next = self.offset_us is not None and age <= 2 * WINDOW_US
            self._before = self._best if is_next else sample
            self._best, self._since_us = sample, received_us
        elif sample > self._best:
            self._best = sample
        self.offset_us = max(self._best, self._before)
