"""What retention has to say loudly: that days went for the disk's sake, or that its bound does not hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hotpath import asyncpg_trio
from hotpath.core.retention import format_size
from hotpath.store.queries import query

LATELY = timedelta(days=7)
"""For which it is said that days went."""


async def disk_said(connection: asyncpg_trio.Connection) -> str | None:
    """That, as of the last round, for people; None: nothing."""
    row = await connection.fetchrow(query("prune_state"))
    if row is None:
        return None
    if row["disk_held"] is False:
        return (
            f"the tables take {format_size(row['disk_bytes'])}, above the bound of "
            f"{format_size(row['disk_bound'])}, and there is no old day left to drop"
        )
    if row["disk_at"] is None or datetime.now(UTC) - row["disk_at"] > LATELY:
        return None
    days = sorted({f"{name[-8:-4]}-{name[-4:-2]}-{name[-2:]}" for name in row["disk_dropped"]})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    bound = row["disk_bound"]
    # The bound of the last round, which may know of none any more.
    below = "within their bound of then" if bound is None else f"below {format_size(bound)}"
    return f"what ended on {span} was dropped to keep the tables {below}"
