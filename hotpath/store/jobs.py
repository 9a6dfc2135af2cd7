"""Jobs as clients see them: put in, one or ten million; looked up; canceled.

Args arrive here as JSON that was checked against the script's schema (`hotpath.core.schema`). The server
checks again what comes through `hotpath.enqueue`; `enqueue_many` goes past it, by COPY.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from hotpath import asyncpg_trio
from hotpath.errors import BadArgsError, UnknownScriptError, UsageError
from hotpath.model import Job, State
from hotpath.store.queries import query
from hotpath.store.scripts import Registered, is_text
from hotpath.store.seal import Bases, Contents, JobIds

TAG_BYTES = 255
_LARGE_AT_ONCE = 4 << 20  # bytes of large args held before they are copied in
_ANALYZE_ROWS = 1000  # batches in one load from which the planner is told
_COLUMNS = ("base", "scheduled_for", "tag", "script", "priority", "n", "open", "args")
_decode = msgspec.json.decode


def check_options(tag: object, priority: object, scheduled_for: object) -> None:
    """Refuse values that no job can have, naming the field. Raises `UsageError`."""
    if tag is not None:
        if not is_text(tag):
            raise UsageError(f"tag must be text without NUL and without lone surrogates, not {tag!r}")
        if not 0 < len(tag.encode()) <= TAG_BYTES:
            raise UsageError(f"tag must be 1 to {TAG_BYTES} bytes long")
    if not isinstance(priority, int) or isinstance(priority, bool) or not -32768 <= priority <= 32767:
        raise UsageError(f"priority must be an integer from -32768 to 32767, not {priority!r}")
    if scheduled_for is None:
        return
    if not isinstance(scheduled_for, datetime) or scheduled_for.tzinfo is None:
        raise UsageError(f"scheduled_for must be a datetime with a time zone, not {scheduled_for!r}")


@contextmanager
def _refusals(script: str) -> Iterator[None]:
    """Turn what `hotpath.enqueue` refuses into our own errors."""
    try:
        yield
    except asyncpg.PostgresError as error:
        message = str(error).splitlines()[0]
        match error.sqlstate:
            case "HP001":
                raise UnknownScriptError(message) from None
            case "HP002":
                raise BadArgsError(message) from None
            case "HP003":
                raise UsageError(message) from None
            case state if state.startswith(("22", "54")):  # data that jsonb cannot hold
                raise BadArgsError(f"the args of {script} cannot be stored: {message}") from None
        raise


async def enqueue(
    connection: asyncpg_trio.Connection,
    script: str,
    args: bytes,
    *,
    tag: str | None = None,
    priority: int = 0,
    scheduled_for: datetime | None = None,
) -> UUID:
    """Add one job; `args` is a JSON object. Returns its id once it is committed.

    Raises `UnknownScriptError`, `BadArgsError`, `UsageError` for a tag, priority or time that no job can
    have.
    """
    check_options(tag, priority, scheduled_for)
    with _refusals(script):
        job_id: Any = await connection.fetchval(
            query("enqueue"), script, args.decode(), tag, priority, scheduled_for
        )
    return _uuid(job_id)


async def enqueue_many(
    connection: asyncpg_trio.Connection,
    script: Registered,
    batches: Iterable[Contents] | AsyncIterable[Contents],
    *,
    tag: str | None = None,
    priority: int = 0,
    scheduled_for: datetime | None = None,
) -> JobIds:
    """Add jobs in sealed batches, by COPY, in one transaction: all of them or, when `batches` raises or we
    are cancelled, none.

    `batches`: what a `Sealer` makes of args. Memory stays constant however many they are. Raises what
    `batches` raises, and `UsageError` as `enqueue` does.
    """
    check_options(tag, priority, scheduled_for)
    ids = JobIds()
    async with connection.transaction():
        row = await connection.fetchrow(query("load_clock"))
        assert row is not None, "a query without a table has one row"
        key = script.tag if tag is None else await connection.fetchval(query("tag_id"), tag)
        when = row["now"] if scheduled_for is None else scheduled_for
        load = _Load(
            ids=ids,
            bases=Bases(row["clock"], time.monotonic()),
            head=(when, key, script.version.script, priority or script.priority),
            batches=batches,
        )
        while load.more:
            await connection.copy_records_to_table(
                "batch", schema_name="hotpath", columns=_COLUMNS, records=load.records()
            )
            if load.large:
                await connection.copy_records_to_table(
                    "payload", schema_name="hotpath", columns=("id", "args"), records=load.take_large()
                )
        if ids:
            await connection.fetchrow(query("load_end"), key, tag, when)
    if len(ids.bases) >= _ANALYZE_ROWS:
        await connection.execute("analyze hotpath.batch")
    return ids


class _Load:
    """The rows of one `enqueue_many`, for one COPY after the other: large args are copied in between."""

    def __init__(
        self,
        *,
        ids: JobIds,
        bases: Bases,
        head: tuple[datetime, int, int, int],
        batches: Iterable[Contents] | AsyncIterable[Contents],
    ) -> None:
        self.more = True
        self.large: list[tuple[UUID, str]] = []
        self._large_bytes = 0
        self._ids = ids
        self._bases = bases
        self._head = head
        self._sync = None if isinstance(batches, AsyncIterable) else iter(batches)
        self._async = aiter(batches) if isinstance(batches, AsyncIterable) else None

    def records(self) -> Iterator[tuple[Any, ...]] | AsyncIterator[tuple[Any, ...]]:
        return _AsyncRecords(self, self._async) if self._async is not None else self._records()

    def _records(self) -> Iterator[tuple[Any, ...]]:
        assert self._sync is not None
        for contents in self._sync:
            yield self.row(contents)
            if self._large_bytes > _LARGE_AT_ONCE:
                return
        self.more = False

    def row(self, contents: Contents) -> tuple[Any, ...]:
        base = self._bases.make(time.monotonic())
        args = contents.args
        self._ids.add(base, len(args))
        if contents.large:
            self.large += [(UUID(int=base + k), text) for k, text in contents.large]
            self._large_bytes += contents.large_bytes
        return (UUID(int=base), *self._head, len(args), len(args), args)

    def take_large(self) -> list[tuple[UUID, str]]:
        large, self.large, self._large_bytes = self.large, [], 0
        return large

    @property
    def is_heavy(self) -> bool:
        return self._large_bytes > _LARGE_AT_ONCE


class _AsyncRecords:
    """The rows of one COPY from a source that has to be awaited."""

    def __init__(self, load: _Load, source: AsyncIterator[Contents]) -> None:
        self._load = load
        self._source = source

    def __aiter__(self) -> _AsyncRecords:
        return self

    async def __anext__(self) -> tuple[Any, ...]:
        if self._load.is_heavy:
            raise StopAsyncIteration
        try:
            contents = await anext(self._source)
        except StopAsyncIteration:
            self._load.more = False
            raise
        return self._load.row(contents)


async def get_job(connection: asyncpg_trio.Connection, job_id: UUID) -> Job | None:
    """The job, wherever it is; None when nobody knows it."""
    row = await connection.fetchrow(query("job_get"), job_id)
    return None if row is None else job_of(row)


def job_of(row: Any) -> Job:
    """A row of the view `hotpath.job` as a value."""
    args, result, error = row["args"], row["result"], row["error"]
    return Job(
        id=_uuid(row["id"]),
        script=row["script"],
        tag=row["tag"],
        state=State(row["state"]),
        priority=row["priority"],
        scheduled_for=row["scheduled_for"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        duration_ms=row["duration_ms"],
        worker=row["worker"],
        attempt=row["attempt"],
        args={} if args is None else _decode(args),
        result=None if result is None else _decode(result),
        error=None if error is None else _decode(error),
    )


async def get_log(connection: asyncpg_trio.Connection, job_id: UUID) -> list[tuple[int, str]]:
    """What the job printed and logged: (attempt, text) in order; empty when it said nothing."""
    return [(row["attempt"], row["text"]) for row in await connection.fetch(query("job_log"), job_id)]


async def cancel(connection: asyncpg_trio.Connection, job_id: UUID) -> bool:
    """Cancel the job if it waits; False when it is unknown, done or running."""
    return bool(await connection.fetchval(query("cancel"), job_id))


def oldest_id(since: datetime) -> UUID:
    """The smallest id that a job made at `since` can have."""
    milliseconds = math.floor(
        (since.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)
    )
    return UUID(int=min(max(milliseconds, 0), (1 << 48) - 1) << 80)


def time_of(job_id: UUID) -> datetime:
    """When the id was made, to the millisecond; the oldest or youngest time there is for an id that is not
    ours.
    """
    milliseconds = min(max(job_id.int >> 80, 0), 253_000_000_000_000)  # year 9987: what datetime can hold
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def _uuid(value: Any) -> UUID:
    """A plain `uuid.UUID`: the driver's own subclass is no concern of users."""
    return UUID(int=value.int)
