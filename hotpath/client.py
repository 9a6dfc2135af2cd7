"""The library: put jobs in, wait for results, look.

    async with hotpath.open_client() as client:
        job_id = await client.enqueue("f/team/score", {"x": 1})
        print(await client.result(job_id))

The same database rules as the command's. User code is never imported here: args are checked against the
schema that was stored when the script's version was registered.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs

from hotpath.config import Config, read_config
from hotpath.core.schema import ArgsValidator
from hotpath.core.traceparent import current_traceparent
from hotpath.errors import (
    BadArgsError,
    JobCanceled,
    JobFailed,
    ScriptError,
    UnknownScriptError,
)
from hotpath.model import Job, ScriptVersion, State
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import locate
from hotpath.shown import Shown
from hotpath.sources import Args, Encoded, Source, SourceFailed
from hotpath.store import approvals, listing
from hotpath.store import jobs as store
from hotpath.store.completions import Completions, open_completions
from hotpath.store.database import Database, open_database
from hotpath.store.load import enqueue_many
from hotpath.store.scripts import Registered, find_script, register_version
from hotpath.store.seal import AsyncSeal, Contents, JobIds, Sealer
from hotpath.tailing import Tail, open_tail

FRESH_SECONDS = 5.0
"""How long a client believes what it knows of a script before it asks again."""


@attrs.frozen
class _Known:
    """What a client remembers of a script."""

    script: Registered
    validator: ArgsValidator
    read_at: float


@attrs.frozen
class ClientStatistics:
    """What a client has done so far, and what it does now."""

    enqueued: int
    """Jobs that this client's calls have put in."""
    waiting: int
    """Jobs that somebody awaits the result of."""
    connections: int
    """Connections open in its pool."""


class Client(Shown):
    """Made by `open_client`; may be used by any number of tasks."""

    def __init__(
        self, database: Database, completions: Completions, config: Config, *, registers: bool = True
    ) -> None:
        self.database = database
        self.config = config
        self._completions = completions
        self._known: dict[str, _Known] = {}
        self._registers = registers
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
    ) -> UUID:
        """Put one job in; return its id once it is committed.

        `priority`: larger first, -32768 to 32767; 0 means the script's own. `scheduled_for`: not before
        then (with a time zone); None means now. `timeout`: seconds that one run of it may take; None means
        the script's own. A script that nobody has registered is registered if the
        workspace has it. Raises `UnknownScriptError`, `BadArgsError` that names the field, `UsageError`
        for the other values.
        """
        known = await self._know(script)
        raw = await self._check(known, {} if args is None else args)
        async with self.database.connection() as connection:
            job_id = await store.enqueue(
                connection,
                script,
                raw,
                tag=tag,
                priority=priority,
                scheduled_for=scheduled_for,
                timeout=timeout,
                traceparent=current_traceparent(),
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
        names the job (from 0) and the field, and what `enqueue` raises.
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
        known: _Known,
        batches: Iterable[Contents] | AsyncIterable[Contents],
        *,
        traceparent: str | None = None,
        **options: Any,
    ) -> JobIds:
        traceparent = traceparent or current_traceparent()
        source = batches if isinstance(batches, AsyncIterable) else Source(batches)
        try:
            async with self.database.connection() as connection:
                ids = await enqueue_many(connection, known.script, source, traceparent=traceparent, **options)
        except SourceFailed as failed:
            raise failed.error from None
        self._enqueued += len(ids)
        return ids

    async def validator(self, script: str) -> ArgsValidator:
        """What checks args of this script and encodes them, by the schema of its current version."""
        return (await self._know(script, fresh=True)).validator

    async def register(self, script: str) -> ScriptVersion:
        """Find the script in the workspace, read it in a child process and make that its current version.

        Raises `UnknownScriptError` if the workspace has no such script, `ScriptError` if it cannot be loaded.
        """
        located = locate(script, self.config.workspace)
        description = await describe(located)
        async with self.database.connection() as connection:
            version = await register_version(connection, description)
        self._known.pop(description.path, None)
        return version

    async def result(self, job: UUID) -> Any:
        """Wait until the job has ended, and return its result; of a flow's run, its early result as soon as
        it has one.

        Raises `JobFailed` or `JobCanceled`, with the stored error in `.error`, and `UnknownJobError`.
        Give it a deadline with a scope outside; if cancelled, the job goes on.
        """
        ended = await self.wait(job, early=True)
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
        not there, or is one of several, and for a job that is a step.
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

    async def _know(self, script: str, *, fresh: bool = False) -> _Known:
        """What is known of the script: remembered for a moment, then read, and registered from the workspace
        if need be.
        """
        known = self._known.get(script)
        now = time.monotonic()
        if known is not None and now - known.read_at < (1.0 if fresh else FRESH_SECONDS):
            return known
        try:
            found = await self._find(script)
        except UnknownScriptError as unknown:
            found = await self._register_unknown(script, unknown)
        known = self._known[script] = _Known(found, ArgsValidator(found.version.description.schema), now)
        return known

    async def _register_unknown(self, script: str, unknown: UnknownScriptError) -> Registered:
        if not self._registers:
            raise unknown
        try:
            located = locate(script, self.config.workspace)
        except ScriptError:
            raise unknown from None
        if located.name != script:
            raise unknown
        await self.register(script)
        return await self._find(script)

    async def _find(self, script: str) -> Registered:
        async with self.database.connection() as connection:
            return await find_script(connection, script)

    async def _check(self, known: _Known, args: Args) -> bytes:
        """The args as JSON. Refused ones are looked at again with the current schema, which may have changed
        since.
        """
        try:
            return known.validator.encode(args)
        except BadArgsError:
            script = known.script.version.description.path
            if time.monotonic() - known.read_at < 0.1:
                raise
            del self._known[script]
            return (await self._know(script)).validator.encode(args)


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
