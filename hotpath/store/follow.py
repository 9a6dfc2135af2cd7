"""What the hub of `hotpath serve` reads again and again while somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import attrs

from hotpath import asyncpg_trio
from hotpath.model import State
from hotpath.store.flows import RunStep, Wait, read_steps, suspended
from hotpath.store.queries import query
from hotpath.store.secrets import masked_steps

ENDED = frozenset((State.SUCCESS, State.FAILURE, State.CANCELED))
RUN_STEPS = 100_000
"""Steps of a run that are followed."""


@attrs.frozen
class Look:
    """How a job stands; another one means that it has changed."""

    state: State
    attempt: int
    scheduled_for: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    priority: int
    kind: str

    @property
    def has_ended(self) -> bool:
        """Whether it has its outcome; it may be retried nevertheless."""
        return self.state in ENDED


async def look_at(connection: asyncpg_trio.Connection, jobs: Sequence[UUID]) -> dict[UUID, Look]:
    """How these jobs stand; those that nobody knows are left out."""
    return {
        UUID(int=row["id"].int): Look(
            state=State(row["state"]),
            attempt=row["attempt"],
            scheduled_for=row["scheduled_for"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            worker=row["worker"],
            priority=row["priority"],
            kind=row["kind"],
        )
        for row in await connection.fetch(query("hub_jobs"), list(jobs))
    }


async def read_run(connection: asyncpg_trio.Connection, run: UUID) -> tuple[list[RunStep], list[Wait]]:
    """The steps of a run as they may be shown, and what it waits for, in one snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        steps = await masked_steps(connection, run, await read_steps(connection, run, RUN_STEPS))
        return steps, await suspended(connection, run)
