"""What a client sees of attempts, waits and workers; and jobs as they can be shown, without their secrets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from hotpath.errors import UnknownJobError
from hotpath.groups import Groups
from hotpath.model import Attempt, Job
from hotpath.retained import Retained
from hotpath.runs import Runs
from hotpath.store import jobs as store
from hotpath.store import secrets
from hotpath.store.alerts import Alert, list_alerts
from hotpath.store.flows import RunStep
from hotpath.store.history import History, read_history
from hotpath.store.status import Status, WorkerStatus, read_status, read_workers
from hotpath.store.stranded import Stranded, stranded
from hotpath.store.waiting import Waiting, why_waiting


class Shown(Runs, Groups, Retained):
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

    async def stranded(self) -> list[Stranded]:
        """Jobs that are due and that nobody will run, by tag and script."""
        async with self.database.connection() as connection:
            return await stranded(connection)

    async def alerts(self) -> list[Alert]:
        """Alerts by name, and where each stands."""
        async with self.database.connection() as connection:
            return await list_alerts(connection)

    async def history(
        self,
        *,
        tags: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        step: float | None = None,
        limit: int = 20,
    ) -> History:
        """What queues were like from `since` (6 hours ago) to `until` (now), at most 14 days ago, in steps of
        `step` seconds (60, 300, 900, 1800, 3600 and so on; None: what suits).

        `tags`: names or patterns such as `etl-*`; of those that match, the `limit` with the most jobs are
        told one by one. Raises `UsageError`.
        """
        async with self.database.connection() as connection:
            return await read_history(connection, tags=tags, since=since, until=until, step=step, limit=limit)

    async def status(self) -> Status:
        """Tags, workers and rates as they are now."""
        async with self.database.connection() as connection:
            return await read_status(connection)
