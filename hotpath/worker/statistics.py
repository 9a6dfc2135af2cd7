"""What a worker has done so far."""

from __future__ import annotations

from collections.abc import Sequence

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
    parked: int = 0
    """How often a run was put aside that has to wait for something."""
    canceled: int = 0
    """Of those that failed, the ones that were canceled."""
    lost: int = 0
    """Leases that were found to be lost when their outcomes came."""
    busy: float = 0.0
    """Time inside `main`, all jobs together."""
    occupied: float = 0.0
    """The same, with what the jobs under way have taken so far."""
    under_way: int = 0
    """Jobs that were running at the last look, ten times a second."""
    deaf: bool = False
    """Whether nothing can wake it at present: it finds jobs by polling."""
    cycles: int = 0
    """Round trips that flushed or claimed."""
    in_hand: int = 0
    """Jobs claimed and not yet flushed."""
    first_claim: float | None = None
    """`time.perf_counter()` at the first job claimed."""
    last_flush: float | None = None
    """`time.perf_counter()` at the last outcome written."""


def added(several: Sequence[WorkerStatistics]) -> WorkerStatistics:
    """Counts of several workers, or of one worker's lives, together."""
    first = [one.first_claim for one in several if one.first_claim is not None]
    last = [one.last_flush for one in several if one.last_flush is not None]
    return WorkerStatistics(
        jobs=sum(one.jobs for one in several),
        failed=sum(one.failed for one in several),
        retried=sum(one.retried for one in several),
        refused=sum(one.refused for one in several),
        released=sum(one.released for one in several),
        parked=sum(one.parked for one in several),
        canceled=sum(one.canceled for one in several),
        lost=sum(one.lost for one in several),
        busy=sum(one.busy for one in several),
        occupied=sum(one.occupied for one in several),
        under_way=sum(one.under_way for one in several),
        deaf=any(one.deaf for one in several),
        cycles=sum(one.cycles for one in several),
        in_hand=sum(one.in_hand for one in several),
        first_claim=min(first, default=None),
        last_flush=max(last, default=None),
    )
