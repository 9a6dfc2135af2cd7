"""What a worker is asked to be: values, checked where they are set."""

from __future__ import annotations

import math
import re
from pathlib import Path

import attrs

from hotpath.core.tags import Patterns
from hotpath.errors import UsageError
from hotpath.model import Description

LEASE = 15.0
"""Seconds without a heartbeat after which a worker's jobs may be taken back."""
HEARTBEAT = 0.5
"""Seconds between two heartbeats."""
SHORTEST_LEASE, LONGEST_LEASE = 2 * HEARTBEAT, 86_400.0
GRACE = 30.0
"""Seconds that running jobs get to finish after SIGTERM."""
DEFAULT_CONCURRENCY = 100
"""Jobs at a time in one process, where `main` is async and nobody says otherwise."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
SMALLEST_RSS = 16 << 20


def parse_size(text: str, flag: str) -> int:
    """Bytes that a size such as `512M`, `1.5GiB` or `1073741824` means; K, M, G and T are powers of 1024.

    Raises UsageError naming the flag.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(text) > 32:
        raise UsageError(f"{flag} must be a size such as 512M or 2G, not {text!r}")
    return int(float(match[1]) * 2.0 ** (10 * _POWERS[match[2].upper()]))


@attrs.frozen(kw_only=True)
class WorkerOptions:
    """What all commands that run jobs are asked. Raises UsageError naming the flag."""

    workspace: Path
    group: str | None = None
    drain: bool = False
    grace: float = GRACE
    """Seconds that jobs under way may take after the first SIGTERM."""
    lease: float = LEASE
    """Seconds without a heartbeat after which others take back what a worker holds."""
    max_jobs: int | None = None
    """Jobs after which a process makes room for a new one; None: any number."""
    max_rss: int | None = None
    """Resident bytes above which a process makes room for a new one; None: any number."""
    json: bool = False
    quiet: bool = False
    given: frozenset[str] = frozenset()
    """Names of those that somebody chose, by flag or environment: they go before what the group says."""

    def __attrs_post_init__(self) -> None:
        if not self.grace >= 0:  # not a number is neither
            raise UsageError(f"--grace must not be negative, not {self.grace:g}")
        if not SHORTEST_LEASE <= self.lease <= LONGEST_LEASE or math.isnan(self.lease):
            raise UsageError(
                f"--lease must be from {SHORTEST_LEASE:g} s (two heartbeats) to {LONGEST_LEASE:g} s, "
                f"not {self.lease:g}"
            )
        if self.max_jobs is not None and self.max_jobs < 1:
            raise UsageError(f"--max-jobs must be 1 or more, not {self.max_jobs}")
        if self.max_rss is not None and self.max_rss < SMALLEST_RSS:
            raise UsageError(
                f"--max-rss must be {SMALLEST_RSS >> 20}M or more, less than that is no process, "
                f"not {self.max_rss}"
            )


@attrs.frozen(kw_only=True)
class DedicateOptions(WorkerOptions):
    """Options of `hotpath dedicate`. Raises UsageError naming the flag."""

    name: str
    processes: int = 1
    concurrency: int | None = None
    """Jobs at a time in one process, for an async `main`; None: the script's own setting, else 100."""
    tags: tuple[str, ...] = ()
    """Tags to listen to; none: the script's own."""
    watch: bool = False
    """Whether a change of the script's file is deployed, and swapped in, as it is saved."""

    def concurrency_of(self, description: Description) -> int:
        """Jobs at a time in one process that runs this version."""
        if not description.is_async:
            return 1
        return self.concurrency or description.settings.concurrency or DEFAULT_CONCURRENCY

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.processes <= 1000:
            raise UsageError(f"--processes must be from 1 to 1000, not {self.processes}")
        if self.concurrency is not None and not 1 <= self.concurrency <= 100_000:
            raise UsageError(f"--concurrency must be from 1 to 100000, not {self.concurrency}")
        WorkerOptions.__attrs_post_init__(self)
        for tag in self.tags:
            if not tag or len(tag.encode()) > 255 or "\0" in tag:
                raise UsageError(f"--tag must be 1 to 255 bytes long, without NUL, not {tag!r}")


WARM, MOST_WARM = 32, 1000


@attrs.frozen(kw_only=True)
class NormalOptions(WorkerOptions):
    """Options of `hotpath worker`. Raises UsageError naming the flag."""

    patterns: Patterns
    """What it listens to."""
    slots: int = 1
    """Processes that run jobs at the same time."""
    warm: int = WARM
    """Processes that are kept warm, those that run jobs included."""
    warm_memory: int | None = None
    """Resident bytes that they may take together; None: half of the memory there is."""

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.slots <= MOST_WARM:
            raise UsageError(f"--slots must be from 1 to {MOST_WARM}, not {self.slots}")
        if not self.slots <= self.warm <= MOST_WARM:
            raise UsageError(
                f"--warm must be from {self.slots} (as many as --slots) to {MOST_WARM}, not {self.warm}"
            )
        if self.warm_memory is not None and self.warm_memory < SMALLEST_RSS:
            raise UsageError(
                f"--warm-memory must be {SMALLEST_RSS >> 20}M or more, less than that is no process, "
                f"not {self.warm_memory}"
            )
        WorkerOptions.__attrs_post_init__(self)
