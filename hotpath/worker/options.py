"""What a worker is asked to be: values, checked where they are set."""

from __future__ import annotations

from pathlib import Path

import attrs

from hotpath.errors import UsageError

LEASE = 15.0
"""Seconds without a heartbeat after which a worker's jobs may be taken back."""
GRACE = 30.0
"""Seconds that running jobs get to finish after SIGTERM."""


@attrs.frozen(kw_only=True)
class DedicateOptions:
    """Options of `hotpath dedicate`. Raises UsageError naming the flag."""

    name: str
    workspace: Path
    processes: int = 1
    concurrency: int | None = None
    """Jobs at a time in one process, for an async `main`; None: the script's own setting, else 100."""
    tags: tuple[str, ...] = ()
    """Tags to listen to; none: the script's own."""
    group: str | None = None
    drain: bool = False
    grace: float = GRACE
    json: bool = False
    quiet: bool = False

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.processes <= 1000:
            raise UsageError(f"--processes must be from 1 to 1000, not {self.processes}")
        if self.concurrency is not None and not 1 <= self.concurrency <= 100_000:
            raise UsageError(f"--concurrency must be from 1 to 100000, not {self.concurrency}")
        if self.grace < 0:
            raise UsageError(f"--grace must not be negative, not {self.grace:g}")
        for tag in self.tags:
            if not tag or len(tag.encode()) > 255 or "\0" in tag:
                raise UsageError(f"--tag must be 1 to 255 bytes long, without NUL, not {tag!r}")
