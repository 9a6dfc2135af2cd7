"""What the hub of `hotpath serve` reads again and again while somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
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


@attrs.frozen
class RunNews:
    """What was read of a run."""

    steps: list[RunStep]
    """As they may be shown."""
    waits: list[Wait]
    at: datetime
    """When it was read, by the database's clock."""


async def read_run(connection: asyncpg_trio.Connection, run: UUID, since: datetime | None) -> RunNews:
    """The steps of a run, and what it waits for, in one snapshot. `since`: of the steps that have ended, only
    such as were written since then.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        now: int = await connection.fetchval(query("clock"))
        steps = await read_steps(connection, run, RUN_STEPS, since=since)
        return RunNews(
            steps=await masked_steps(connection, run, steps),
            waits=await suspended(connection, run),
            at=datetime.fromtimestamp(now / 1_000_000, UTC),
        )
