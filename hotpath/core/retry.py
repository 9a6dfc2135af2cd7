"""Whether a failed attempt is worth another one, and when: the rules, with chance as an argument.

`attempts` counts runs in all. The delay before run n + 1 is, with `delay` d and `factor` f, d (constant),
n × d (linear) or d × f^(n-1) (exponential), at most `max_delay`, then varied by up to `jitter` of itself, up
or down: a thousand jobs that failed together because a server was down must not come back together.

Classes are told by the names in their method resolution order, since whoever decides about a job that was
killed has no exception object: a name with its module (`requests.exceptions.Timeout`) means that class and
its subclasses, a bare one (`Timeout`) any class of that name and its subclasses.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hotpath.model import Retry


def names_of(kind: type[BaseException]) -> frozenset[str]:
    """Names under which `Retry.on` may mean this class: its own and its bases', bare and with module."""
    bases = [base for base in kind.__mro__ if base is not object]
    return frozenset(
        name for base in bases for name in (base.__qualname__, f"{base.__module__}.{base.__qualname__}")
    )


TIMED_OUT = names_of(TimeoutError)
"""Names that a job's time-out goes by."""


def decide(retry: Retry | None, attempt: int, names: Collection[str], jitter: float) -> float | None:
    """Seconds until the next attempt, or None: no further one.

    `attempt` is the number of the one that failed, from 1; `names` those of what it failed with (`names_of`);
    `jitter` is a random number from 0 up to 1.
    """
    if retry is None or attempt >= retry.attempts:
        return None
    if retry.on and not any(name in names for name in retry.on):
        return None
    return delay_after(retry, attempt, jitter)


def delay_after(retry: Retry, attempt: int, jitter: float) -> float:
    """Seconds between the end of this attempt and the start of the next one."""
    delay = retry.delay
    if retry.backoff == "linear":
        delay *= attempt
    elif retry.backoff == "exponential" and delay:
        try:
            delay *= retry.factor ** (attempt - 1)
        except OverflowError:
            delay = retry.max_delay
    return min(delay, retry.max_delay) * (1 + retry.jitter * (2 * jitter - 1))
