"""The library: put jobs in, wait for results, look.

    async with hotpath.open_client() as client:
        job_id = await client.enqueue("f/team/score", {"x": 1})
        print(await client.result(job_id))

The same database rules as the command's. User code is never imported here: args are checked against the
schema that was stored when the script's version was registered.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs

from hotpath.config import Config, read_config
from hotpath.core.traceparent import current_traceparent
from hotpath.errors import (
    BadArgsError,
    JobCanceled,
    JobFailed,
    NotKeptError,
)
from hotpath.known import Knowing, Known
from hotpath.model import Job, State, Unique
from hotpath.scales import Scales
from hotpath.schedules import Schedules
from hotpath.shown import Shown
from hotpath.sources import Args, Encoded, Source, SourceFailed
from hotpath.store import approvals, listing
from hotpath.store import jobs as store
from hotpath.store.completions import Completions, open_completions
from hotpath.store.database import Database, open_database
from hotpath.store.load import enqueue_many
from hotpath.store.load_rows import RefusedJobError
from hotpath.store.seal import AsyncSeal, Contents, Sealer
from hotpath.tailing import Tail, open_tail


@attrs.frozen
class ClientStatistics:
    """What a client has done so far, and what it does now."""

    enqueued: int
    """Jobs that this client's calls have put in."""
    waiting: int
    """Jobs that somebody awaits the result of."""
    connections: int
    """Connections open in its pool."""


class Client(Schedules, Knowing, Shown, Scales):
    """Made by `open_client`; may be used by any number of tasks."""

    def __init__(
        self, database: Database, completions: Completions, config: Config, *, registers: bool = True
    ) -> None:
        Knowing.__init__(self, database, config, registers=registers)
        self._completions = completions
        self._enqueued = 0

    async def enqueue(
        self,
        script: str,
        args: Args | None = None,
        *,
        tag: str | None = None,
        priority: int = 0,
        scheduled_for: datetime | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the job's, not this call's
        unique: Unique | str | None = None,
    ) -> UUID:
        """Put one job in; return its id once it is committed.

        `priority`: larger first, -32768 to 32767; 0 means the script's own. `scheduled_for`: not before
        then (with a time zone); None means now. `timeout`: seconds that one run of it may take; None means
        the script's own. `unique`: a key, or more about it; None means the script's own. If another job has
        the key, its id may be returned. `NAME@HASH` means one version of a script, by the first digits of its
        hash. A script that nobody has registered is registered if the workspace has it. Raises
        `UnknownScriptError`, `BadArgsError` that names the field, `UsageError` for the other values,
        `NotUniqueError`.
        """
        known = await self._know(script)
        raw = await self._check(known, script, {} if args is None else args)
        async with self.database.connection() as connection:
            job_id = await store.enqueue(
                connection,
                known.name,
                raw,
                tag=tag,
                priority=priority,
                scheduled_for=scheduled_for,
                timeout=timeout,
                traceparent=current_traceparent(),
                unique=unique,
            )
        self._enqueued += 1
        return job_id

    async def enqueue_many(
        self,
        script: str,
        args: Iterable[Args] | AsyncIterable[Args],
        *,
        tag: str | None = None,
        priority: int = 0,
        scheduled_for: datetime | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the job's, not this call's
    ) -> Sequence[UUID]:
        """Put many jobs in, all of them or none; return their ids in order.

        `args` is read as it is sent, in constant memory, so it may be a generator of ten million. What it
        raises comes out and leaves nothing behind; so does being cancelled. Raises `BadArgsError` that
        names the job (from 0) and the field, and what `enqueue` raises. Of a script with unique keys or
        debounce, jobs go in one by one, and those that another one stands for have its id.
        """
        known = await self._know(script, fresh=True)
        sealer = Sealer()
        batches: Iterable[Contents] | AsyncIterable[Contents]
        if isinstance(args, AsyncIterable):
            batches = AsyncSeal(Encoded(args, known.validator), sealer)
        else:
            batches = sealer.seal_args(args, known.validator)
        try:
            return await self._load(
                known, batches, tag=tag, priority=priority, scheduled_for=scheduled_for, timeout=timeout
            )
        except RefusedJobError:
            raise
        except BadArgsError as error:
            raise BadArgsError(f"job {sealer.count} of {script}: {error}") from None

    async def enqueue_json(
        self,
        script: str,
        raws: Iterable[bytes] | AsyncIterable[bytes],
        *,
        tag: str | None = None,
        priority: int = 0,
        scheduled_for: datetime | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the job's, not this call's
        traceparent: str | None = None,
    ) -> Sequence[UUID]:
        """`enqueue_many` for args that are JSON already, and have been through `validator(script)`.

        `traceparent`: the trace that the jobs are to belong to, if it is not the one of the current span.
        """
        known = await self._know(script)
        batches: Iterable[Contents] | AsyncIterable[Contents]
        batches = AsyncSeal(raws, Sealer()) if isinstance(raws, AsyncIterable) else Sealer().seal(raws)
        return await self._load(
            known, batches, tag=tag, priority=priority, scheduled_for=scheduled_for, timeout=timeout,
            traceparent=traceparent,
        )  # fmt: skip

    async def _load(
        self,
        known: Known,
        batches: Iterable[Contents] | AsyncIterable[Contents],
        *,
        traceparent: str | None = None,
        **options: Any,
    ) -> Sequence[UUID]:
        traceparent = traceparent or current_traceparent()
        source = batches if isinstance(batches, AsyncIterable) else Source(batches)
        try:
            async with self.database.connection() as connection:
                ids = await enqueue_many(connection, known.script, source, traceparent=traceparent, **options)
        except SourceFailed as failed:
            raise failed.error from None
        self._enqueued += len(ids)
        return ids

    async def result(self, job: UUID) -> Any:
        """Wait until the job has ended, and return its result; of a flow's run, its early result as soon as
        it has one.

        Raises `JobFailed` or `JobCanceled`, with the stored error in `.error`, `NotKeptError` when the result
        is not kept any more, and `UnknownJobError`.
        Give it a deadline with a scope outside; if cancelled, the job goes on.
        """
        ended = await self.wait(job, early=True)
        if "result" in ended.not_kept:
            raise NotKeptError(f"job {job} succeeded; its result is not kept any more")
        error = ended.error or {}
        message = f"{error.get('name', 'Error')}: {error.get('message', '')}"
        if ended.state is State.FAILURE:
            raise JobFailed(message, error)
        if ended.state is State.CANCELED:
            raise JobCanceled(message, error)
        return ended.result

    async def wait(self, job: UUID, *, early: bool = False) -> Job:
        """Wait until the job has ended, however it did, and return it. Raises `UnknownJobError`.

        `early`: a flow's run will do that has an early result; it is returned with that for its result, and
        goes on.
        """
        while True:
            found = await self.job(job)
            if found.state not in (State.QUEUED, State.RUNNING):
                return found
            may_answer = early and found.kind == "flow"
            if may_answer:
                async with self.database.connection() as connection:
                    answer = await approvals.early_result(connection, found)
                if answer is not None:
                    return answer
            await self._completions.wait(job, early=may_answer)

    async def jobs(
        self,
        *,
        state: State | str | None = None,
        script: str | None = None,
        tag: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        before: UUID | None = None,
        steps: bool = False,
        parent: UUID | None = None,
        payloads: bool = True,
    ) -> list[Job]:
        """Jobs, the newest first, at most `limit`; the next page is `before` the id of the last.

        Steps of runs are left out unless `steps`. `parent`: the steps of that run, the last begun first;
        raises `UnknownJobError`. `payloads=False` leaves out args and results, which may be large.
        """
        async with self.database.connection() as connection:
            found = await listing.list_jobs(
                connection, state=state, script=script, tag=tag, since=since, limit=limit, before=before,
                steps=steps, parent=parent, payloads=payloads,
            )  # fmt: skip
        if parent is not None and not found:
            await self.job(parent)
        return found

    async def page(
        self,
        *,
        state: State | str | None = None,
        script: str | None = None,
        tag: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        before: UUID | None = None,
        steps: bool = False,
        parent: UUID | None = None,
        payloads: bool = True,
    ) -> listing.Page:
        """The same as `jobs`, for somebody who waits for an answer: where a filter finds few among many, it
        comes with what the newest few hundred thousand had, and goes on `before` its `next`.
        """
        async with self.database.connection() as connection:
            found = await listing.list_page(
                connection, state=state, script=script, tag=tag, since=since, limit=limit, before=before,
                steps=steps, parent=parent, payloads=payloads,
            )  # fmt: skip
        if parent is not None and not found.jobs:
            await self.job(parent)
        return found

    async def log(self, job: UUID) -> str:
        """What the job printed and logged, over all its attempts. Raises `UnknownJobError`."""
        async with self.database.connection() as connection:
            chunks = await store.get_log(connection, job)
        if not chunks:
            await self.job(job)
        return "".join(text for _, text in chunks)

    @asynccontextmanager
    async def tail(self, job: UUID, after: tuple[int, int] | None = None) -> AsyncIterator[Tail]:
        """Follow a job's log: iterate what this gives for `LogChunk`s, of a job that waits, runs or has
        ended; the iteration ends when the job has ended and all of its log was given.

            async with client.tail(job_id) as tail:
                async for chunk in tail:
                    print(chunk.text, end="")

        What is printed comes within a fraction of a second. `after`: an earlier chunk's `(attempt, end)`, to
        go on from there; `tail.after` is that of the last one given. Raises `UnknownJobError`.
        """
        await self.job(job)
        async with open_tail(self.database, self._completions, job, after) as tail:
            yield tail

    async def cancel(self, job: UUID) -> bool:
        """Cancel a job: True when it waited and is canceled now, or runs and its worker has been asked to
        end it (which it does within a second, unless the job is done first); False when it has ended.

        Raises `UnknownJobError`.
        """
        async with self.database.connection() as connection:
            canceled = await store.cancel(connection, job)
        if not canceled:
            await self.job(job)
        return canceled

    async def retry(self, job: UUID, *, from_step: str | None = None) -> bool:
        """Run a job that has ended once more, under the same id: how it ended becomes an earlier attempt.
        False when it has not ended. Raises `UnknownJobError`.

        A flow's run begins anew or, with `from_step` (the key of a step, or its id if only one step has it),
        from that step: what ended before that did counts as it is. Raises `UsageError` for a step that is
        not there, or is one of several, and for a job that is a step; `NotKeptError` when its args are not
        kept any more.
        """
        async with self.database.connection() as connection:
            if from_step is None:
                again = await store.retry(connection, job)
            else:
                again = await approvals.retry_from(connection, job, from_step)
        if not again:
            await self.job(job)
        return again

    def statistics(self) -> ClientStatistics:
        """What this client has done so far."""
        return ClientStatistics(
            enqueued=self._enqueued,
            waiting=self._completions.waiting,
            connections=self.database.pool.statistics().size,
        )


@asynccontextmanager
async def open_client(
    database_url: str | None = None,
    *,
    workspace: str | Path | None = None,
    config: Config | None = None,
    registers: bool = True,
    connections: int = 4,
) -> AsyncIterator[Client]:
    """Open the database that the arguments, else the environment, name (CONTRACT: the command's own rules).

    `registers`: whether a script that the database does not know is sought in the workspace. `connections`:
    how many it may have to the database at a time.

    Raises `UsageError` for a URL or workspace that cannot be, `DatabaseUnavailableError` when there is no
    database.
    """
    chosen = config or read_config(workspace, database_url=database_url)
    async with (
        open_database(chosen, connections=connections) as database,
        open_completions(database) as completions,
    ):
        yield Client(database, completions, chosen, registers=registers)


@asynccontextmanager
async def tail(job: UUID, after: tuple[int, int] | None = None) -> AsyncIterator[Tail]:
    """`Client.tail` by a client of its own, for the database that the environment names."""
    async with open_client() as client, client.tail(job, after) as following:
        yield following
