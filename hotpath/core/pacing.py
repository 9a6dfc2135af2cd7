"""How many jobs to claim, and when to look again: rules without I/O and without a clock.

A claim aims at a fixed slice of work, so that a batch of no-ops is hundreds of jobs and a slow job is claimed
alone. The first claims are small, since nobody knows yet how long a job takes.
"""

from __future__ import annotations

import attrs

SLICE_US = 100_000
"""Work that one batch should hold. At 1 ms a job a cycle of about 1 ms is then 1 % of the time."""
FIRST_CLAIM = 1
"""Nobody knows yet how long a job takes, and another worker may be free."""
MAX_CLAIM = 500
"""As many as a sealed batch holds; larger claims measured no faster."""
ALONE_US = 1_000_000
"""Jobs longer than this are not claimed ahead: the round trip is 0.3 % of them, and another worker may be
free.
"""
AHEAD_US = 50_000
"""Work that a concurrent worker holds beyond the jobs it can run at once."""
MAX_AHEAD = 4 * MAX_CLAIM
"""Jobs held beyond those that can run at once: 3,000 naps reach 0.84 of the ideal, with half of it 0.70."""
MAX_ARGS_BYTES = 4 << 20
MAX_RESULT_BYTES = 8 << 20
_WEIGHT = 0.3
_WEIGHT_DOWN = 0.7
"""A first call is often slow (lazy imports, cold caches): believe sooner that jobs are quick."""


@attrs.define
class Pace:
    """Measures what jobs take and says how many more to claim."""

    concurrency: int = 1
    service_us: float = 0.0
    """Microseconds a job spends in `main`, smoothed; meaningless until `measured`."""
    measured: bool = False
    args_bytes: float = 0.0
    result_bytes: float = 0.0

    def observe(self, jobs: int, busy_us: int, result_bytes: int) -> None:
        """Learn from jobs that ended: their number, their time in `main` together, and the size of
        their results.
        """
        mean = busy_us / jobs
        if self.measured:
            weight = _WEIGHT if mean > self.service_us else _WEIGHT_DOWN
            self.service_us += weight * (mean - self.service_us)
            self.result_bytes += _WEIGHT * (result_bytes / jobs - self.result_bytes)
        else:
            self.service_us, self.result_bytes, self.measured = mean, result_bytes / jobs, True

    def observe_args(self, jobs: int, size: int) -> None:
        """Learn from a claim: the bytes of its args."""
        self.args_bytes += _WEIGHT * (size / jobs - self.args_bytes) if self.args_bytes else size / jobs

    def want(self, jobs: int, batches: int) -> int:
        """How many jobs to claim now, with `jobs` in hand that have not ended, in `batches` batches;
        0 for none.
        """
        if self.concurrency == 1:
            if batches > 1 or (batches and (not self.measured or self.service_us > ALONE_US)):
                return 0
            size = int(SLICE_US / max(self.service_us, 1.0)) if self.measured else FIRST_CLAIM
            return self._bounded(max(1, size))
        ahead = 0
        if self.measured and self.service_us <= ALONE_US:
            ahead = max(1, int(AHEAD_US * self.concurrency / max(self.service_us, 1.0)))
            ahead = min(ahead, MAX_AHEAD)
        room = self.concurrency + ahead - jobs
        # A claim for every job that ends would be a round trip a job: wait until half of what is
        # ahead is used up.
        if room <= 0 or (jobs >= self.concurrency and room < (ahead + 1) // 2):
            return 0
        return self._bounded(room)

    @property
    def patience_us(self) -> float:
        """How long a job may take before those behind it go to other workers: the slice of its batch,
        and more where jobs are known to take longer.
        """
        if not self.measured:
            return SLICE_US
        return min(max(SLICE_US, 2 * self.service_us), ALONE_US)

    def _bounded(self, size: int) -> int:
        size = min(size, int(MAX_ARGS_BYTES / max(self.args_bytes, 1.0)))
        size = min(size, int(MAX_RESULT_BYTES / max(self.result_bytes, 1.0)))
        return max(1, min(size, MAX_CLAIM))


FIRST_WAIT = 0.002
LONGEST_WAIT = 1.0


@attrs.define
class IdlePolls:
    """Waits between looks while there is nothing to do: 2, 4, 8 ... 1,000 ms.

    An enqueue that was in flight as the worker fell asleep sends no other wake than these.
    """

    wait: float = FIRST_WAIT

    def next_wait(self) -> float:
        """Seconds to wait before the next look; each call doubles it."""
        wait = self.wait
        self.wait = min(wait * 2, LONGEST_WAIT)
        return wait

    def reset(self) -> None:
        """Something came: the next pause starts short again."""
        self.wait = FIRST_WAIT


LOOK_EVERY = 1.0
LOOK_SHARE = 50.0
"""A full look is worth 2 % of the time at most: behind a million dead entries one costs 100 ms."""


@attrs.define
class LookRation:
    """When a full look may be taken: once a second, or sooner when a hinted look came back empty, within
    its share.
    """

    last: float = -1e9
    cost: float = 0.0

    def due(self, now: float) -> bool:
        """Whether the regular look is due at `now` (seconds)."""
        return now - self.last >= max(LOOK_EVERY, LOOK_SHARE * self.cost)

    def affordable(self, now: float) -> bool:
        """Whether an extra look is within the share at `now`."""
        return now - self.last >= LOOK_SHARE * self.cost

    def taken(self, now: float, cost: float) -> None:
        """A full look ended at `now` and took `cost` seconds."""
        self.last, self.cost = now, cost
