"""Which built-in runtime fits a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hotpath.runtime.sync import SyncRuntime
from hotpath.runtime.trio_runtime import DEFAULT_CONCURRENCY, AsyncRuntime

if TYPE_CHECKING:
    from hotpath.model import Description
    from hotpath.runtime.lane import Lane
    from hotpath.runtime.protocol import Runtime


def choose(description: Description, *, lane: Lane | None = None, concurrency: int | None = None) -> Runtime:
    """`AsyncRuntime` for an async `main`, else `SyncRuntime`.

    `concurrency` (a flag, say) goes before the script's own setting. A synchronous `main` runs one job at a
    time whatever either says: run more processes for more.
    """
    if description.is_async:
        return AsyncRuntime(concurrency or description.settings.concurrency or DEFAULT_CONCURRENCY)
    return SyncRuntime(lane)
