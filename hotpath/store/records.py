"""Runs that were never enqueued, such as a group's init script: jobs beside the work, shown while they run
and recorded when they have ended.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.core.logtext import pack
from hotpath.model import OutcomeState
from hotpath.store.queries import query

_NAMES = {"timeout": "TimeoutError", "canceled": "JobCanceled"}


@attrs.frozen(kw_only=True)
class Run:
    """Something that ran and has ended."""

    script: str
    """Under this name it is found."""
    began: float
    """`time.time()`."""
    seconds: float
    error: tuple[str, str] | None = None
    """Kind and message, if it failed."""
    log: str | None = None
    """What it printed, within the bounds of any log."""
    args: Mapping[str, Any] = attrs.field(factory=dict)
    """About it, for people."""

    @property
    def state(self) -> OutcomeState:
        """How it ended."""
        if self.error is None:
            return OutcomeState.SUCCESS
        return OutcomeState.CANCELED if self.error[0] == "canceled" else OutcomeState.FAILURE

    @property
    def told(self) -> str | None:
        """Its error as rows have it."""
        if self.error is None:
            return None
        kind, message = self.error
        name = _NAMES.get(kind, "ScriptFailed")
        error = {"name": name, "message": message, "traceback": "", "kind": kind}
        return msgspec.json.encode(error).decode()


@attrs.frozen
class Asked:
    """What is asked of a run that goes on."""

    canceled: bool
    """Whether somebody wants it to end."""
    viewers: int
    """How many watch what it prints."""
    clock: int
    """The database's, in microseconds since the epoch."""


async def begin_aside(
    connection: asyncpg_trio.Connection, script: str, seconds: float, args: Mapping[str, Any]
) -> UUID:
    """Show that this runs, and has for so many seconds; returns the id of its job.

    It is in no queue and no lease: nobody claims it, nobody waits for it. Whoever runs it says so each second
    (`see_aside`) until it has ended (`end_aside`); else keepers end it.
    """
    tag = script.partition("/")[0]
    await connection.execute(query("add_tag"), tag)
    found: UUID | None = None
    while found is None:
        about = msgspec.json.encode(args).decode()
        found = await connection.fetchval(query("aside_begin"), script, tag, seconds, about)
    return UUID(int=found.int)


async def see_aside(connection: asyncpg_trio.Connection, job: UUID) -> Asked | None:
    """Say that it still runs; None: it was ended by somebody else."""
    row = await connection.fetchrow(query("aside_seen"), job)
    return None if row is None else Asked(**dict(row))


async def end_aside(connection: asyncpg_trio.Connection, job: UUID, run: Run) -> bool:
    """Write how it ended; False: somebody has ended it already."""
    row = await connection.fetchrow(
        query("aside_end"), job, round(run.seconds * 1e6), run.state, run.told, run.log,
        pack(run.log, _offset()),
    )  # fmt: skip
    return row is not None


async def silent_asides(connection: asyncpg_trio.Connection, seconds: float) -> dict[UUID, datetime]:
    """Those that were not heard of for so long, and when they were last."""
    rows = await connection.fetch(query("asides_silent"), seconds)
    return {row["id"]: row["seen_at"] for row in rows}


async def end_silent_asides(connection: asyncpg_trio.Connection, silent: Mapping[UUID, datetime]) -> int:
    """End as crashed those that were not heard of since then; returns how many."""
    return len(await connection.fetch(query("asides_end"), list(silent), list(silent.values())))


async def record(connection: asyncpg_trio.Connection, run: Run) -> UUID:
    """Write it as a job that has ended; returns the job's id."""
    tag = run.script.partition("/")[0]
    await connection.execute(query("add_tag"), tag)
    found: UUID | None = None
    while found is None:
        ago = time.time() - run.began
        found = await connection.fetchval(
            query("record_run"),
            run.script,
            tag,
            max(ago, run.seconds),
            round(run.seconds * 1e6),
            run.state,
            msgspec.json.encode(run.args).decode(),
            run.told,
            run.log,
            pack(run.log, _offset()),
        )
    return found


def _offset() -> int:
    """What makes microseconds since the epoch of those of `perf_counter`."""
    return time.time_ns() // 1000 - time.perf_counter_ns() // 1000
