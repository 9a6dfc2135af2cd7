"""What a worker has done so far."""

from __future__ import annotations

import attrs


@attrs.frozen
class WorkerStatistics:
    """Counts since the worker started; durations in seconds."""

    jobs: int = 0
    """Jobs whose outcome was written."""
    failed: int = 0
    """Of those, the ones that did not succeed."""
    retried: int = 0
    """Attempts that failed and run again; they are not among `jobs`."""
    refused: int = 0
    """Jobs whose outcome came after the lease was lost; they run again elsewhere."""
    released: int = 0
    """Jobs given back unrun."""
    busy: float = 0.0
    """Time inside `main`, all jobs together."""
    cycles: int = 0
    """Round trips that flushed or claimed."""
    in_hand: int = 0
    """Jobs claimed and not yet flushed."""
    first_claim: float | None = None
    """`time.perf_counter()` at the first job claimed."""
    last_flush: float | None = None
    """`time.perf_counter()` at the last outcome written."""
