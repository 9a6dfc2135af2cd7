"""What a client does so that jobs can be shown: it takes the secrets out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from hotpath.model import Attempt, Job
from hotpath.store import secrets
from hotpath.store.database import Database
from hotpath.store.flows import RunStep


class Shown:
    """A part of `hotpath.client.Client`."""

    database: Database

    async def masked(self, jobs: Iterable[Job], *, payloads: bool = True) -> list[Job]:
        """These jobs as they may be shown: `MASK` for each secret in their args, results and errors.
        `payloads`: as they were asked for.
        """
        async with self.database.connection() as connection:
            return await secrets.masked(connection, jobs, payloads=payloads)

    async def masked_steps(self, run: UUID, steps: Sequence[RunStep]) -> list[RunStep]:
        """Steps of this run as they may be shown."""
        async with self.database.connection() as connection:
            return await secrets.masked_steps(connection, run, steps)

    async def masked_attempts(self, job: Job, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Runs of this job as they may be shown. `job` is as it was read."""
        async with self.database.connection() as connection:
            return await secrets.masked_attempts(connection, job, attempts)
