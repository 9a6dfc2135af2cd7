"""Token buckets. No I/O and no clock: time is an argument, in seconds."""

from __future__ import annotations

_CALLERS = 10_000  # whose buckets are kept


class RateLimiter:
    """Each caller may do `burst` at once and `rate` a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self._full_at: dict[str, float] = {}  # when each caller's bucket will be full again

    def wait(self, caller: str, now: float) -> float:
        """Seconds until the caller may do one more; 0: now."""
        used = (max(self._full_at.get(caller, now), now) - now) * self.rate
        return max(used + 1 - self.burst, 0.0) / self.rate

    def take(self, caller: str, now: float) -> float:
        """Count one if the caller may do it now; returns what `wait` does."""
        wait = self.wait(caller, now)
        if wait == 0:
            if caller not in self._full_at and len(self._full_at) >= _CALLERS:
                self._forget(now)
            self._full_at[caller] = max(self._full_at.get(caller, now), now) + 1 / self.rate
        return wait

    def _forget(self, now: float) -> None:
        """Forget full buckets; when too many are not, all: a flood of addresses is not held up by this."""
        self._full_at = {caller: full_at for caller, full_at in self._full_at.items() if full_at > now}
        if len(self._full_at) >= _CALLERS:
            self._full_at.clear()
