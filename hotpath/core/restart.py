"""How long to wait before a worker that has died is started again.

A worker that had become ready and had ended jobs is started again at once, however it died. Waits grow only
while one life after the other brings nothing: a script that no longer loads, a database that refuses the
worker, a job that kills each process it runs in.
"""

from __future__ import annotations

import attrs

FIRST = 0.1
"""Seconds before the second barren life in a row is followed by a third; the first is followed at once."""
LONGEST = 10.0
"""Seconds between lives that do not even become ready."""
LONGEST_READY = 1.0
"""Seconds between lives that become ready and end no job: the next one may find better jobs."""


@attrs.frozen
class Restarts:
    """How the lives of one worker went so far."""

    barren: int = 0
    """Lives in a row that brought nothing."""
    wait: float = 0.0
    """Seconds to wait before the next life."""

    def after(self, *, ready: bool, jobs: int) -> Restarts:
        """The same after one more life."""
        if ready and jobs:
            return Restarts()
        longest = LONGEST_READY if ready else LONGEST
        # Capped before it is a power: a worker may fail for months.
        wait = min(FIRST * 2.0 ** min(self.barren - 1, 30), longest) if self.barren else 0.0
        return Restarts(self.barren + 1, wait)
