"""The database's clock as a worker sees it: what to add to `perf_counter` microseconds."""

from __future__ import annotations

import attrs

_DRIFT = 1e-4
"""Clocks drift apart by less than this; an old sample is believed less by as much."""


@attrs.define
class DatabaseClock:
    """The reply to a statement says what the database's clock was before it arrived: the largest
    difference is the truest.
    """

    offset_us: int | None = None
    _at_us: int = 0

    def observe(self, clock_us: int, received_us: int) -> None:
        """A reply that carried `clock_us` arrived at `received_us` of `perf_counter`."""
        sample = clock_us - received_us
        if self.offset_us is None or sample >= self.offset_us - int((received_us - self._at_us) * _DRIFT):
            self.offset_us, self._at_us = sample, received_us
