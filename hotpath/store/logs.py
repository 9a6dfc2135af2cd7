"""Logs of jobs: what is stored of them, and what watched ones print while they run.

Wherever somebody is in a log is a pair (attempt, position), both of which grow: the position is the number of
characters of the attempt's log that came before. It is the same in the log that is stored and in what is said
live, so a reader goes from one to the other without losing or repeating a character.

Supervisors publish only what somebody watches (`worker/live.py`), as hints: they may lack something, and go
after a minute. What they lack is in the stored log once the attempt has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias
from uuid import UUID

import attrs

from hotpath import asyncpg_trio
from hotpath.core.logtext import Gap, unpack
from hotpath.store.log_store import read_moved
from hotpath.store.queries import query

Position: TypeAlias = "tuple[int, int]"
"""An attempt, and how many characters of its log came before."""
START: Position = (0, 0)
WATCH_CHANNEL = "hotpath_watch"
"""Notified, with the job's id, when a viewer begins to watch."""
LOG_CHANNEL = "hotpath_log"
"""Notified when something was said live: ids of jobs with spaces between, or `*` for more than fit."""
MOST_WATCHED = 1000
"""Jobs that one supervisor publishes at a time."""
KEPT = 60.0
"""Seconds that what was said live stays."""
_IDS_IN_PAYLOAD = 200  # a payload takes 8000 bytes, an id 37


@attrs.frozen
class LogChunk:
    """Some of a job's log, from position `at` to position `end` of an attempt."""

    attempt: int
    at: int
    end: int
    text: str
    """What was printed; of a gap, a notice that says so."""
    times: Sequence[tuple[int, int]] = ()
    """(position, milliseconds since the epoch): what stands behind the position was written then or later.
    The first tells the chunk's start, if that is known.
    """
    is_gap: bool = False
    """Whether this was printed and is not there."""


@attrs.frozen
class LogPage:
    """Some of a job's log as it is stored, in order."""

    chunks: Sequence[LogChunk]
    next: Position | None
    """Where to go on; None when nothing more is stored."""
    complete: bool
    """Whether the job has ended and this is the last of its log."""


async def read_log(
    connection: asyncpg_trio.Connection,
    job: UUID,
    after: Position | None = None,
    limit_chars: int = 1 << 20,
) -> LogPage:
    """What is stored of a job's log behind `after` (an earlier chunk's attempt and end; None: from the
    start), about `limit_chars` characters of it. Empty for a job that said nothing, or is unknown.

    Raises `LogStoreError` for a log that has moved to a store that cannot be reached.
    """
    attempt, position = after or START
    # The state first: what the flush that ended the job wrote is there when it is asked for after that.
    state = await log_state(connection, job)
    rows = await connection.fetch(
        query("read_log"), job, min(attempt, 32_767), max(position, 0), max(limit_chars, 1)
    )
    chunks: list[LogChunk] = []
    more = False
    size = 0
    for row in rows:
        text = row["text"]
        if text is None:
            whole = await read_moved(row["store"], row["object"], row["place"], row["size"])
            text = whole[row["skip"] : row["skip"] + row["take"]]
        chunks += _chunks(row, text, position if row["attempt"] == attempt else 0)
        size += len(text)
        more = row["cut"]
    reached = (chunks[-1].attempt, chunks[-1].end) if chunks else None
    if not more and size >= limit_chars:
        more = True  # another row may follow
    return LogPage(chunks, reached if more else None, complete=state is not None and not more)


async def log_state(connection: asyncpg_trio.Connection, job: UUID) -> int | None:
    """How the job has ended: 1 success, 2 failure, 3 canceled; None: it has not, or is unknown."""
    state: int | None = await connection.fetchval(query("log_state"), job)
    return state


def _chunks(row: Any, text: str, wanted: int) -> list[LogChunk]:
    """The parts of a row of `read_log.sql`: up to three, if the log's middle was not kept."""
    gap, marks = unpack(row["marks"])
    base, skip = row["at"], row["skip"]
    if not marks or marks[0][0] > 0:
        marks = [(0, row["started"]), *marks]
    found = []
    for start, end, is_gap in _parts(len(text), skip, gap):
        part = text[start - skip : end - skip]
        first = gap[0] if is_gap and gap else _position(start, gap)
        last = gap[0] + gap[1] if is_gap and gap else first + len(part)
        if is_gap:
            first = max(first, wanted - base)
        found.append(
            LogChunk(
                row["attempt"], base + first, base + last, part, _times(marks, first, last, base), is_gap
            )
        )
    return found


def _parts(size: int, skip: int, gap: Gap | None) -> Iterable[tuple[int, int, bool]]:
    """Where the text from `skip` on is cut, and which part is the notice."""
    end = skip + size
    if gap is None:
        return [(skip, end, False)] if size else []
    notice, behind = gap[0], gap[0] + gap[2]
    parts = [
        (skip, min(end, notice), False),
        (max(skip, notice), min(end, behind), True),
        (max(skip, behind), end, False),
    ]
    return [part for part in parts if part[0] < part[1]]


def _position(offset: int, gap: Gap | None) -> int:
    return offset if gap is None or offset < gap[0] else offset - gap[2] + gap[1]


def _times(marks: Sequence[tuple[int, int]], first: int, last: int, base: int) -> list[tuple[int, int]]:
    times: list[tuple[int, int]] = []
    for at, time in marks:
        if at >= last:
            break
        if at <= first:
            times = [(base + first, time)]
        else:
            times.append((base + at, time))
    return times


# ---------------------------------------------------------------- live


async def watch(
    connection: asyncpg_trio.Connection, jobs: Sequence[UUID], viewer: UUID, seconds: float
) -> None:
    """Have what these jobs print be said live for some seconds from now, for a viewer with an id of its own;
    again before they are over to go on. Jobs that do not run yet, or are unknown, may be watched, too.
    """
    await connection.execute(query("watch_jobs"), list(jobs), viewer, seconds)


async def unwatch(connection: asyncpg_trio.Connection, jobs: Sequence[UUID], viewer: UUID) -> None:
    """This viewer watches these jobs no longer."""
    await connection.execute(query("unwatch_jobs"), list(jobs), viewer)


async def live_after(
    connection: asyncpg_trio.Connection, positions: Sequence[tuple[UUID, int, int]]
) -> dict[UUID, list[LogChunk]]:
    """What was said live of jobs behind (job, attempt, position) of each, in order; jobs of which nothing was
    are left out.

    A chunk that begins behind the position asked for, or behind the chunk before, follows something that was
    not said: `read_log` has it, at the latest when the attempt has ended.
    """
    found: dict[UUID, list[LogChunk]] = {}
    reached = {UUID(int=job.int): (attempt, position) for job, attempt, position in positions}
    rows = await connection.fetch(
        query("live_after"),
        [job for job, _, _ in positions],
        [min(attempt, 32_767) for _, attempt, _ in positions],
        [position for _, _, position in positions],
    )
    for row in rows:
        job = UUID(int=row["job"].int)
        attempt, position = reached[job]
        at, until, text = row["at"], row["until"], row["text"]
        if row["attempt"] == attempt and until <= position:
            continue  # said twice: two viewers began at different times
        times = list(zip(row["times"][::2], row["times"][1::2], strict=True))
        if row["attempt"] == attempt and at < position:
            text, times = text[position - at :], _times(times, position, until, 0)
            at = position
        found.setdefault(job, []).append(LogChunk(row["attempt"], at, until, text, times))
        reached[job] = (row["attempt"], until)
    return found


@attrs.frozen
class Watched:
    """A job that somebody watches, in a worker's hand."""

    job: UUID
    worker: int
    lease: int
    index: int
    """Which of the lease's jobs it is to its worker, from 0: those that were canceled before the claim do not
    count.
    """
    attempt: int
    at: int
    """Position at which what it prints in this hand begins."""


async def watched(connection: asyncpg_trio.Connection, workers: Sequence[int]) -> tuple[list[Watched], int]:
    """The jobs in these workers' hands that somebody watches, at most `MOST_WATCHED`, and the database's
    clock in microseconds since the epoch, 0 if there are none.
    """
    rows = await connection.fetch(query("watched"), list(workers), MOST_WATCHED)
    found = [Watched(UUID(int=row["job"].int), *row[1:6]) for row in rows]
    return found, rows[0]["clock"] if rows else 0


async def say_live(
    connection: asyncpg_trio.Connection, said: Sequence[tuple[UUID, LogChunk]], clock_offset_us: int
) -> None:
    """Publish what watched jobs have printed. The times of these chunks are in microseconds of
    `perf_counter`; `clock_offset_us` makes those of the database of them.
    """
    jobs = list(dict.fromkeys(job for job, _ in said))
    await connection.execute(
        query("say_live"),
        [job for job, _ in said],
        [chunk.attempt for _, chunk in said],
        [chunk.at for _, chunk in said],
        [chunk.end for _, chunk in said],
        [chunk.text for _, chunk in said],
        [_literal(chunk.times, clock_offset_us) for _, chunk in said],
        " ".join(map(str, jobs)) if len(jobs) <= _IDS_IN_PAYLOAD else "*",
    )


def _literal(times: Iterable[tuple[int, int]], offset_us: int) -> str:
    return "{" + ",".join(f"{at},{(time + offset_us) // 1000}" for at, time in times) + "}"


async def sweep_live(connection: asyncpg_trio.Connection) -> None:
    """Forget what was said more than a minute ago, and viewers that have gone without a word."""
    await connection.execute(query("sweep_live"), KEPT)
