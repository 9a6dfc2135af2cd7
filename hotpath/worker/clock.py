"""The database's clock as a worker sees it: what to add to `perf_counter` microseconds."""

from __future__ import annotations

import attrs

WINDOW_US = 5_000_000
"""For so long a sample is as good as when it was taken; after that clocks may have drifted apart."""
DRIFT = 20e-6
"""By how much of the time, at most: clocks of hosts that are kept right."""


@attrs.define
class DatabaseClock:
    """The reply to a statement says what the database's clock was after it was asked and before it arrived.
    Of all samples the largest difference is the truest, until a later reply shows that it is none any more:
    the clock was set back. So it is known well where each reply is late, on a busy machine.
    """

    offset_us: int | None = None
    """Not ahead of the truth."""
    _best: int = 0
    _best_at_us: int = 0

    def observe(self, clock_us: int, asked_us: int, received_us: int) -> None:
        """A reply that carried `clock_us` was asked for at `asked_us` of `perf_counter`, and arrived at
        `received_us`.
        """
        sample = clock_us - received_us
        aged = self._best - round(DRIFT * max(0, received_us - self._best_at_us - WINDOW_US))
        if self.offset_us is None or sample >= aged or aged > clock_us - asked_us:
            self._best, self._best_at_us = sample, received_us
            self.offset_us = sample
        else:
            self.offset_us = aged
