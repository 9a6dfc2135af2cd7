"""What a client does with runs of flows, beyond what it does with any job: see their steps, answer those that
wait.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hotpath.core.flow.tokens import Token
from hotpath.errors import UnknownJobError
from hotpath.model import Job
from hotpath.store import approvals, flows
from hotpath.store import jobs as store
from hotpath.store.database import Database
from hotpath.store.flows import RunStep, Wait


class Runs:
    """A part of `hotpath.client.Client`."""

    database: Database

    async def job(self, job: UUID) -> Job:
        """The job as it is now. Raises `UnknownJobError`."""
        async with self.database.connection() as connection:
            found = await store.get_job(connection, job)
        if found is None:
            raise UnknownJobError(f"no job has the id {job} in this database")
        return found

    async def steps(self, run: UUID, *, limit: int = flows.STEPS) -> list[RunStep]:
        """The steps of a flow's run as they count now, by start, at most `limit`: those that have ended, and
        those that go through the queue. Raises `UnknownJobError`.
        """
        async with self.database.connection() as connection:
            found = await flows.read_steps(connection, run, limit)
        if not found:
            await self.job(run)
        return found

    async def waits(self, run: UUID) -> list[Wait]:
        """What a flow's run waits for: approvals, times, jobs; nothing once it has ended. Raises
        `UnknownJobError`.
        """
        if not approvals.is_open(await self.job(run)):
            return []
        async with self.database.connection() as connection:
            return await flows.suspended(connection, run)

    async def resume(
        self,
        run: UUID,
        payload: Any = None,
        *,
        step: str | None = None,
        approve: bool = True,
        approver: str = "",
    ) -> str:
        """Answer a run that waits for an approval; returns the key of the step it waits behind.

        `payload`: what the flow gets to see as `resume`. `step`: which one, if it waits for several. Raises
        `NotSuspendedError` when it waits for none or has its answer, `BadArgsError` that names the field for
        a payload that the step's form does not take, `UsageError`, `UnknownJobError`.
        """
        async with self.database.connection() as connection:
            return await approvals.resume(
                connection, run, payload, step=step, approve=approve, approver=approver
            )

    async def resume_token(self, run: UUID, step: str | None = None, *, expires: float | None = None) -> str:
        """A token with which somebody else may give that approval, once, and nothing else.

        `expires`: seconds that it is good; None: as long as the run waits, or 30 days if that has no
        end. Raises what `resume` raises.
        """
        return (await self.new_token(run, step, expires=expires))[0]

    async def new_token(
        self, run: UUID, step: str | None = None, *, expires: float | None = None
    ) -> tuple[str, Token]:
        """`resume_token`, and what it says: the step's key and when it expires."""
        async with self.database.connection() as connection:
            return await approvals.new_token(connection, run, step=step, expires=expires)

    async def resume_by_token(
        self, token: str, payload: Any = None, *, approve: bool = True, approver: str = ""
    ) -> Token:
        """Answer as whoever has the token may; returns what it says: the run, and the step's key.

        Raises `TokenError` for one that is forged, has expired or is none, and what `resume` raises.
        """
        async with self.database.connection() as connection:
            return await approvals.resume_by_token(
                connection, token, payload, approve=approve, approver=approver
            )
