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


CROWDED = 0.001
"""Seconds until the next try when others hold what is due: they are done in a moment."""
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

    def next_try(self, blocked: float | None) -> float:
        """Seconds to wait while others hold what is due, or a limit does, which may have room in `blocked`
        seconds.
        """
        return CROWDED if blocked is None else min(blocked, self.next_wait())

    def reset(self) -> None:
        """Something came: the next pause starts short again."""
        self.wait = FIRST_WAIT


LOOK_EVERY = 1.0
LOOK_SHARE = 50.0
"""A full look is worth 2 % of the time at most: behind a million dead entries one costs 100 ms."""
LOOKS = 4
"""Looks of which the quickest says what one costs."""
LOOK_LATEST = 10.0
"""Seconds after which there is another one, whatever it costs: while a worker gets jobs, what was passed is
found by nothing else.
"""
CROWDED_FOR = 0.02
"""Seconds after which others should be done with what is due: else it was passed."""


@attrs.define
class LookRation:
    """When a full look may be taken: once a second, or sooner when a hinted look came back empty, within
    its share; and within a second when due jobs are there that no claim gets, since those were passed.

    A look costs what the quickest of the last few took: one that a busy machine or a lock holds up for half a
    second would else leave no other for the better part of a minute.
    """

    last: float = -1e9
    _took: tuple[float, ...] = (0.0,) * LOOKS
    _missed_since: float | None = None
    """Since when due jobs have been there that claims do not get."""
    _asked: float = -1e9

    def due(self, now: float) -> bool:
        """Whether a look is due at `now` (seconds): the regular one, or one for jobs that were missed. Each
        claim that comes back with nothing but those has cost about as much: once a second is affordable.
        """
        if self._missed_since is not None and now - self._missed_since >= CROWDED_FOR:
            return now - self.last >= min(LOOK_EVERY, self._pause)
        return now - self.last >= max(LOOK_EVERY, self._pause)

    def affordable(self, now: float) -> bool:
        """Whether an extra look is within the share at `now`."""
        return now - self.last >= self._pause

    def missed(self, now: float) -> None:
        """Due jobs are there at `now`, and a claim got none of them: others hold them, or it passed them."""
        if self._missed_since is None:
            self._missed_since = now

    def got(self) -> None:
        """A claim got jobs, or none is there that it might have got."""
        self._missed_since = None

    def doubtful(self, now: float) -> bool:
        """Whether one whose claims do not see what they passed should ask at `now` if due jobs are there:
        once a second, where no look has told; more often while there are.
        """
        return self._missed_since is not None or now - max(self.last, self._asked) >= LOOK_EVERY

    def asked(self, now: float) -> None:
        """That was asked at `now`."""
        self._asked = now

    def taken(self, now: float, cost: float) -> None:
        """A full look ended at `now` and took `cost` seconds."""
        self.last, self._took = now, (*self._took[1:], cost)
        self._missed_since = None

    @property
    def cost(self) -> float:
        """Seconds that a look costs, as far as is known."""
        return min(self._took)

    @property
    def _pause(self) -> float:
        return min(LOOK_SHARE * self.cost, LOOK_LATEST)
