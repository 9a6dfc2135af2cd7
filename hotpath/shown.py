"""What a client sees of attempts, waits and workers; and jobs as they can be shown, without their secrets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from hotpath.errors import UnknownJobError
from hotpath.model import Attempt, Job
from hotpath.runs import Runs
from hotpath.store import jobs as store
from hotpath.store import secrets
from hotpath.store.flows import RunStep
from hotpath.store.status import Status, WorkerStatus, read_status, read_workers
from hotpath.store.waiting import Waiting, why_waiting


class Shown(Runs):
    """A part of `hotpath.client.Client`."""

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

    async def attempts(self, job: UUID) -> list[Attempt]:
        """The runs of a job in order: those that ended, with their errors, and the one under way. Empty for
        a job that waits for its first run. Raises `UnknownJobError`.
        """
        async with self.database.connection() as connection:
            found = await store.get_attempts(connection, job)
        if not found:
            await self.job(job)
        return found

    async def waiting(self, job: UUID) -> Waiting:
        """Why a job waits: what it waits for itself, who could run it, how many are before it. No reasons for
        one that does not wait. Raises `UnknownJobError`.
        """
        async with self.database.connection() as connection:
            found = await why_waiting(connection, job)
        if found is None:
            raise UnknownJobError(f"no job has the id {job} in this database")
        return found

    async def workers(self) -> list[WorkerStatus]:
        """Workers by name, those too that have stopped within the hour."""
        async with self.database.connection() as connection:
            return await read_workers(connection)

    async def status(self) -> Status:
        """Tags, workers and rates as they are now."""
        async with self.database.connection() as connection:
            return await read_status(connection)
