"""How this host's clock differs from the database's: a reply that says what the time is there was on its way
back for no longer than the whole round trip took.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Apart:
    """What a round trip shows."""

    seconds: float
    """The database's clock less this host's."""
    unsure: float
    """By how much that may be wrong: half the round trip."""


@attrs.define(eq=False)
class HostClock:
    """This host's clock, as the last round trip shows it."""

    apart: Apart | None = None
    """None: nothing is known yet."""

    def observe(self, there_us: int, asked: float, answered: float) -> None:
        """The database's clock said `there_us`, microseconds since the epoch, at some time between `asked`
        and `answered` of this host's (`time.time()`).
        """
        if answered >= asked:  # else it was set back in between
            half = (answered - asked) / 2
            self.apart = Apart(there_us / 1e6 - asked - half, half)
