"""The tempers of the built-in jobs: how many there are of each, and how each has to end."""

from __future__ import annotations

import zlib

import attrs

PER = 100_000
"""Shares are counted per so many jobs."""
TIMEOUT = 1.0
"""Seconds that an `overrun` job may take; it would take ten minutes."""


@attrs.frozen
class Kind:
    """One temper."""

    name: str
    share: int
    """Of PER jobs."""
    ends: tuple[str, str | None] = ("success", None)
    """State and kind of error that a job of it has at last, unless faults kill it thrice."""


KINDS = (
    Kind("print", 2000),
    Kind("slow", 8000),
    Kind("long", 500),
    Kind("hold", 100),
    Kind("retry", 500),
    Kind("later", 300),
    Kind("fail", 300, ("failure", "exception")),
    Kind("discard", 200, ("failure", "exception")),
)
QUICK = Kind("quick", 0)
POISON = Kind("poison", 0, ("failure", "crash"))
OVERRUN = Kind("overrun", 0, ("failure", "timeout"))
BY_NAME = {kind.name: kind for kind in (*KINDS, QUICK, POISON, OVERRUN)}


@attrs.frozen
class Mix:
    """Says of what temper the job number n is; the checker asks the same."""

    seed: int
    poison_every: int
    """One job in so many kills its process, three times."""

    def kind(self, n: int) -> Kind:
        """The temper of job `n`."""
        drawn = zlib.crc32(b"%d/%d" % (self.seed, n))
        if drawn % self.poison_every == self.poison_every // 2:
            return POISON
        place = (drawn >> 7) % PER
        for kind in KINDS:
            if place < kind.share:
                return kind
            place -= kind.share
        return QUICK
