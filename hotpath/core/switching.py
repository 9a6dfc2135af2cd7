"""What jobs of many scripts cost, and how much of them a normal worker claims ahead: rules without I/O and
without a clock.
"""

from __future__ import annotations

import attrs

BUDGET_US = 100_000.0
"""Work that one claim takes for each slot. Of a script that nobody has measured one job is as much."""
AHEAD_US = 50_000.0
"""Work that is claimed and has not begun, for each slot, above which nothing more is claimed."""
SEGMENT_US = 400.0
"""What it takes from the end of one segment to the start of the next, in another process."""
APART_US = 50_000.0
"""Work that is claimed at a time of a script with a limit."""
PATIENCE = 0.1
"""Seconds without a start or an end after which what has not begun goes back: a slow job is before it."""
PRESSED = 0.1
"""Seconds that jobs of a script find all its processes at work before another one is started for it."""
LEAST_US = 2.0
"""Of a job: what it costs to hand it over and to take its outcome, at least."""
MAX_AHEAD = 2_000
"""Jobs that a process which runs several at once holds beyond those."""
_WEIGHT, _WEIGHT_DOWN = 0.3, 0.7
"""A first job is often slow (lazy imports, cold caches): believe sooner that jobs are quick."""


@attrs.define
class Costs:
    """By script, microseconds that a job takes."""

    _known: dict[int, float] = attrs.field(factory=dict)

    def of(self, script: int) -> float:
        """What one job costs; a whole budget while nobody knows."""
        return self._known.get(script, BUDGET_US)

    def knows(self, script: int) -> bool:
        """Whether any job of it was seen to end."""
        return script in self._known

    def observe(self, script: int, jobs: int, took_us: float, concurrency: int) -> None:
        """So many jobs, run `concurrency` at a time, took so long together."""
        if not jobs:
            return
        cost = max(LEAST_US, took_us / jobs)
        if concurrency > 1:  # those that ran beside each other took that long each
            cost = max(LEAST_US, took_us / max(jobs, concurrency))
        known = self._known.get(script)
        if known is not None:
            cost = known + (_WEIGHT if cost > known else _WEIGHT_DOWN) * (cost - known)
        self._known[script] = cost

    def forget(self, script: int) -> None:
        """It is another version now."""
        self._known.pop(script, None)


def room(concurrency: int, in_hand: int, cost_us: float, most: int) -> int:
    """How many jobs more a process takes that has so many in hand."""
    if concurrency == 1:
        return most
    ahead = min(MAX_AHEAD, int(AHEAD_US / cost_us))
    return max(0, min(concurrency + ahead - in_hand, most))
