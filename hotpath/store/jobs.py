"""Jobs as clients see them: put in, one or ten million; looked up; canceled.

Args arrive here as JSON that was checked against the script's schema (`hotpath.core.schema`). The server
checks again what comes through `hotpath.enqueue`; bulk loads go past it, by COPY (`hotpath.store.load`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from hotpath import asyncpg_trio
from hotpath.core.limit_settings import make_unique
from hotpath.errors import (
    BadArgsError,
    NotKeptError,
    NotUniqueError,
    ScriptError,
    UnknownScriptError,
    UsageError,
)
from hotpath.model import Attempt, Job, State, Unique
from hotpath.store.log_store import read_moved
from hotpath.store.queries import query
from hotpath.store.scripts import is_text

TAG_BYTES = 255
MAX_TIMEOUT = 2_147_483
"""Seconds: as many as an int4 holds in milliseconds, almost 25 days."""
_decode = msgspec.json.decode


def check_options(tag: object, priority: object, scheduled_for: object, timeout: object = None) -> None:
    """Refuse values that no job can have, naming the field. Raises `UsageError`."""
    milliseconds(timeout)
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


def milliseconds(timeout: Any) -> int | None:
    """A job's time-out in seconds as rows keep it; None: the script's own. Raises `UsageError`."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise UsageError(f"timeout must be a number of seconds, not {timeout!r}")
    if not 0 < timeout <= MAX_TIMEOUT:
        raise UsageError(f"timeout must be above 0 and at most {MAX_TIMEOUT} seconds, not {timeout!r}")
    return max(1, round(timeout * 1000))


@contextmanager
def refusals(script: str) -> Iterator[None]:
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
            case "HP005":
                raise NotKeptError(message) from None
            case "HP006":
                raise NotUniqueError(message) from None
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
    timeout: float | None = None,  # noqa: ASYNC109 - the job's, not this call's
    traceparent: str | None = None,
    unique: Unique | Mapping[str, Any] | str | None = None,
) -> UUID:
    """Add one job; `args` is a JSON object. Returns its id once it is committed, or that of the job that has
    its unique key. `traceparent`: the trace that it is to belong to. `unique`: in the place of the script's;
    of a key alone, the rest is the script's.

    Raises `UnknownScriptError`, `BadArgsError`, `UsageError` for a tag, priority, time or time-out (seconds)
    that no job can have, `NotUniqueError`.
    """
    check_options(tag, priority, scheduled_for, timeout)
    key = unique_values(unique)
    with refusals(script):
        values = (script, args.decode(), tag, priority, scheduled_for, milliseconds(timeout))
        job_id: Any
        if key[0] is not None:
            async with connection.transaction():
                job_id = await connection.fetchval(query("enqueue_unique"), *values, *key)
                if traceparent is not None:
                    await connection.fetch(query("carry_traces"), [job_id], traceparent)
        elif traceparent is None:
            job_id = await connection.fetchval(query("enqueue"), *values)
        else:
            job_id = await connection.fetchval(query("enqueue_traced"), *values, traceparent)
    return _uuid(job_id)


def unique_values(
    unique: Unique | Mapping[str, Any] | str | None,
) -> tuple[str | None, str | None, str | None]:
    """Key, how long it counts and what becomes of another job, as `hotpath.enqueue` takes them; None: as the
    script says. Raises `UsageError`.
    """
    if unique is None:
        return None, None, None
    try:
        made = make_unique(dict(unique) if isinstance(unique, Mapping) else unique, "the job")
    except ScriptError as error:
        raise UsageError(str(error).removeprefix("the job: ")) from None
    assert made is not None, "something was given"
    if isinstance(unique, str):
        return made.key, None, None
    lasts = made.while_ if isinstance(made.while_, str) else f"{made.while_:.6f}"
    return made.key, lasts, made.on_conflict


async def get_job(connection: asyncpg_trio.Connection, job_id: UUID) -> Job | None:
    """The job, wherever it is; None when nobody knows it."""
    row = await connection.fetchrow(query("job_get"), job_id)
    return None if row is None else job_of(row)


def _not_kept(row: Any) -> tuple[str, ...]:
    """What of a job is not kept any more: every job has args, every success a result."""
    gone = [("args", row["finished_at"] is not None and row["args"] is None)]
    gone.append(("result", row["state"] == State.SUCCESS and row["result"] is None))
    return tuple(name for name, is_gone in gone if is_gone)


def decode_args(raw: str) -> Any:
    """Args as they are stored, as values; of such as are nested deeper than Python reads, which SQL can put
    in and no worker runs, a word that says so: one such job must not hide a list of others.
    """
    try:
        return _decode(raw)
    except RecursionError:
        return {"…": "nested too deeply to be shown"}


def job_of(row: Any, *, payloads: bool = True) -> Job:
    """A row of the view `hotpath.job` as a value. `payloads`: whether it was read with args and result."""
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
        args={} if args is None else decode_args(args),
        result=None if result is None else _decode(result),
        error=None if error is None else _decode(error),
        kind=row["kind"],
        parent=None if row["parent"] is None else _uuid(row["parent"]),
        step=row["step"],
        iteration=row["iteration"],
        not_kept=_not_kept(row) if payloads else (),
    )


async def get_log(connection: asyncpg_trio.Connection, job_id: UUID) -> list[tuple[int, str]]:
    """What the job printed and logged: (attempt, text) in order; empty when it said nothing.

    Raises `LogStoreError` for a log that has moved to a store that cannot be reached.
    """
    return [(row["attempt"], await text_of(row)) for row in await connection.fetch(query("job_log"), job_id)]


async def text_of(row: Any) -> str:
    """The text of a row of a log, wherever it is."""
    text: str | None = row["text"]
    return text if text is not None else await read_moved(row["store"], row["object"], row["at"], row["size"])


async def cancel(connection: asyncpg_trio.Connection, job_id: UUID) -> bool:
    """Cancel the job if it waits, ask for its end if it runs; False when it is unknown or has ended."""
    return bool(await connection.fetchval(query("cancel"), job_id))


async def retry(connection: asyncpg_trio.Connection, job_id: UUID) -> bool:
    """Run a job that has ended once more, under its own id; a run of a flow begins anew. False when it is
    unknown or has not ended. Raises `UsageError` for a step of a run, which cannot be retried alone,
    `NotKeptError` when its args are not kept any more.
    """
    with refusals(str(job_id)):
        return bool(await connection.fetchval(query("retry_job"), job_id))


async def get_attempts(connection: asyncpg_trio.Connection, job_id: UUID) -> list[Attempt]:
    """Every run of the job that has ended, and the one under way, in order."""
    return [
        Attempt(
            attempt=row["attempt"],
            state=State(row["state"]),
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            duration_ms=row["duration_ms"],
            worker=row["worker"],
            error=None if row["error"] is None else _decode(row["error"]),
        )
        for row in await connection.fetch(query("job_attempts"), job_id)
    ]


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
