"""Jobs put in with a key of the caller's own, so that a request which is sent again after a lost reply gives
the same job. Key and job are written in one transaction; keys are kept for 24 hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import attrs

from hotpath import asyncpg_trio
from hotpath.errors import HotpathError
from hotpath.model import Unique
from hotpath.store.jobs import check_options, milliseconds, refusals, unique_values
from hotpath.store.queries import query

HOURS = 24
"""How long a key is remembered."""


class KeyReusedError(HotpathError):
    """The key was used for another request."""


@attrs.frozen
class Once:
    """What came of it."""

    job: UUID
    replayed: bool
    """Whether the job had been put in before, by the same request."""


async def enqueue_once(
    connection: asyncpg_trio.Connection,
    key: str,
    request: bytes,
    script: str,
    args: bytes,
    *,
    owner: str = "",
    tag: str | None = None,
    priority: int = 0,
    scheduled_for: datetime | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - the job's, not this call's
    traceparent: str | None = None,
    unique: Unique | Mapping[str, Any] | str | None = None,
) -> Once:
    """`hotpath.store.jobs.enqueue`, once for this key of this owner.

    `request`: all that was asked for, in a form that is the same each time. Raises `KeyReusedError` when
    the key stands for another request, and what `enqueue` raises.
    """
    check_options(tag, priority, scheduled_for, timeout)
    values = (
        sha256(f"{owner}\0{key}".encode()).digest(),
        sha256(request).digest(),
        *(script, args.decode(), tag, priority, scheduled_for, milliseconds(timeout)),
        *unique_values(unique),
    )
    async with nullcontext() if traceparent is None else connection.transaction():  # both, or neither
        with refusals(script):
            row = await connection.fetchrow(query("enqueue_once"), *values)
        assert row is not None, "it says what came of it"
        if row["verdict"] == "other":
            raise KeyReusedError(
                f"this key was used for another request within the last {HOURS} hours: give a new job a new "
                "one"
            )
        if traceparent is not None and row["verdict"] == "new":
            await connection.fetch(query("carry_traces"), [row["job"]], traceparent)
    return Once(UUID(int=row["job"].int), row["verdict"] == "again")
