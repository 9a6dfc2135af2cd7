"""What a supervisor says to the database about its workers: they start, they live, they ended."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.core.logtext import pack
from hotpath.model import ErrorKind, OutcomeState
from hotpath.store.clocks import HostClock
from hotpath.store.queries import query
from hotpath.version import __version__

UNLISTED = 5.0
"""Seconds after its claim from which a lease that its worker does not list is given back."""
CRASHED = 5
"""State of a job in `end_jobs.sql` that killed its worker."""


async def register_tags(connection: asyncpg_trio.Connection, names: Sequence[str]) -> list[tuple[int, str]]:
    """Make the tags known by name, each in a short transaction of its own; return (key, name) of each."""
    tags = []
    for name in dict.fromkeys(names):
        await connection.execute(query("add_tag"), name)
        tags.append((await connection.fetchval(query("tag_id"), name), name))
    return tags


async def register_worker(
    connection: asyncpg_trio.Connection,
    *,
    name: str,
    group: str | None,
    script: int,
    version: int,
    tags: Sequence[int],
    host: str,
    pid: int,
    concurrency: int,
    lease: float,
) -> int:
    """A worker starts; return its id, new at every start. Its lease runs for `lease` seconds."""
    worker: int = await connection.fetchval(
        query("register_worker"), name, group, script, version, list(tags), host, pid, concurrency, lease,
        __version__,
    )  # fmt: skip
    return worker


async def register_normal(
    connection: asyncpg_trio.Connection,
    *,
    name: str,
    group: str | None,
    tags: Sequence[int],
    patterns: Sequence[str],
    pid: int,
    slots: int,
    lease: float,
) -> int:
    """A normal worker starts; return the id of its own row."""
    worker: int = await connection.fetchval(
        query("register_normal"),
        *(name, group, list(tags), list(patterns), socket.gethostname(), pid, slots, lease, __version__),
    )
    return worker


async def say_tags(
    connection: asyncpg_trio.Connection, worker: int, tags: Sequence[int], patterns: Sequence[str]
) -> None:
    """The normal worker listens to others from now on."""
    await connection.execute(query("listen_worker"), worker, list(tags), list(patterns))


@attrs.frozen
class Beat:
    """What the database answers to a heartbeat."""

    renewed: set[int]
    """Workers whose lease was still theirs; one that is not here has lost it."""
    cancels: dict[int, list[tuple[int, int]]]
    """By worker, the (lease, place) of each job in hand that somebody asked to cancel."""
    watching: int = 0
    """1: somebody watches the log of a job; 2: of one that waits."""


@attrs.frozen(kw_only=True)
class Facts:
    """What a worker says of itself, at most once a second."""

    worker: int
    rss: int | None = None
    """Resident bytes; None: the system does not say."""
    cpu_us: int | None = None
    """CPU time so far, microseconds."""
    lease: int | None = None
    """Of the job whose code runs; None: there is none, or nobody knows which."""
    place: int | None = None
    """Its place in that lease."""
    ago: float | None = None
    """Seconds since it was first seen."""
    under_way: int | None = None
    """Jobs that run; None: it runs none itself."""
    occupied: list[float] | None = None
    """Share of its time inside `main`, 0 to 1, over 15 seconds, 5 and 30 minutes; None: it loads."""
    rates: list[float] | None = None
    """Jobs a second over the last seconds, for each of its tags, in order; None: it runs none itself."""
    deaf: bool
    """Whether nothing can wake it."""


@attrs.frozen(kw_only=True)
class Counts:
    """What was counted of a script's jobs in one tag, since its keeper started."""

    keeper: int
    """Who counted: a number of 63 bits, new at every start."""
    script: int
    tag: int
    counts: list[int]
    """As in `core/tally.py`; they only grow."""


async def heartbeat(
    connection: asyncpg_trio.Connection,
    jobs: Mapping[int, int],
    lease: float,
    facts: Sequence[Facts] = (),
    counts: Sequence[Counts] = (),
    clock: HostClock | None = None,
) -> Beat:
    """Say that these workers live, and how many jobs each has run; their leases then run for `lease`
    seconds. Hear who still had one, and which jobs are to be canceled.

    In the same statement, what some of them say of themselves, and what was counted: all of it each time, so
    that saying it again after a lost reply counts nothing twice. And how `clock` differs from the database's,
    which the reply shows anew.
    """
    apart = None if clock is None else clock.apart
    renewed: set[int] = set()
    cancels: dict[int, list[tuple[int, int]]] = {}
    watching = 0
    asked = time.time()
    rows = await connection.fetch(
        query("heartbeat"), list(jobs), list(jobs.values()), lease, _records(facts), _records(counts),
        None if apart is None else apart.seconds, None if apart is None else apart.unsure,
    )  # fmt: skip
    if clock is not None and rows and rows[0]["clock_us"] is not None:
        clock.observe(rows[0]["clock_us"], asked, time.time())
    for worker, held, place, _ in rows:
        if worker is None:
            watching = place
        elif held is None:
            renewed.add(worker)
        else:
            cancels.setdefault(worker, []).append((held, place))
    return Beat(renewed, cancels, watching)


def _records(values: Sequence[Facts] | Sequence[Counts]) -> str | None:
    return msgspec.json.encode([attrs.asdict(one) for one in values]).decode() if values else None


async def give_back_unlisted(
    connection: asyncpg_trio.Connection,
    listed: Mapping[int, Sequence[int]],
    *,
    older: float = UNLISTED,
    also: Sequence[int] = (),
) -> int:
    """Put back what these workers hold without knowing: leases claimed more than `older` seconds ago that
    neither their lists (read before this call) nor `also` name, because the reply to the claim was lost.
    Returns how many jobs.
    """
    known = [*also, *(lease for leases in listed.values() for lease in leases)]
    lost: dict[int, list[int]] = {}
    for worker, lease in await connection.fetch(query("unlisted"), list(listed), known, older):
        lost.setdefault(worker, []).append(lease)
    back = 0
    for worker, leases in lost.items():
        back += await connection.fetchval(query("give_back"), leases, worker, False)
    return back


async def stop_worker(connection: asyncpg_trio.Connection, worker: int, jobs: int) -> int:
    """A worker has ended as it should: what it still holds goes back into the queue at once, uncharged;
    return how many jobs. One transaction.
    """
    return (await bury(connection, worker, jobs, [])).released


@attrs.frozen(kw_only=True)
class Verdict:
    """How a job ended that was in hand as its worker died, or was killed because of it."""

    lease: int
    place: int
    """From 0 at the lease's first job."""
    kind: ErrorKind
    """`CRASH`: the attempt counts, and the job runs again alone, or fails if this was its third crash.
    `CANCELED`: it is canceled. Anything else, such as `TIMEOUT`: it failed.
    """
    error: bytes
    """The error object, JSON."""
    retry_after: float | None = None
    """Seconds after which a failed one runs again; None: not."""
    log: str | None = None
    """What it had printed."""
    started_ago: float | None = None
    """Seconds since it started; None: not known."""
    ended_ago: float = 0.0
    """Seconds since its worker died."""
    now_us: int = 0
    """`time.perf_counter_ns() // 1000` as this was put together: what the marks of `log` are relative to."""


@attrs.frozen
class Burial:
    """What became of a dead worker's jobs."""

    released: int
    """Jobs that are back in the queue, those that are to run again included."""
    ended: int
    """Jobs that have a final state now."""


async def bury(
    connection: asyncpg_trio.Connection,
    worker: int,
    jobs: int,
    verdicts: Sequence[Verdict],
    *,
    suspects: Sequence[int] = (),
) -> Burial:
    """A worker is dead, and nothing of it runs any more: say how the jobs ended that it had in hand, and put
    back the rest, uncharged. Jobs of the leases in `suspects` may have killed it: each is a suspect from now
    on, and one that ran alone has crashed.

    `jobs` is how many it has run. One transaction; what is no longer the worker's is left alone, so that
    burying it twice changes nothing.
    """
    counts: list[Any] = []
    async with connection.transaction():
        row = await connection.fetchrow(query("stop_worker"), worker, jobs)
        assert row is not None, "a query without a table has one row"
        leases: list[int] = list(row["leases"])
        if leases and verdicts:
            counts.append(await _end(connection, worker, verdicts, row["clock"]))
        suspected = [lease for lease in leases if lease in suspects]
        rest = [lease for lease in leases if lease not in suspects]
        for some, suspect in ((suspected, True), (rest, False)):
            if some:
                counts.append(await connection.fetchrow(query("give_back"), some, worker, suspect))
    return Burial(sum(count["jobs"] for count in counts), sum(count["ended"] for count in counts))


async def _end(
    connection: asyncpg_trio.Connection, worker: int, verdicts: Sequence[Verdict], clock_us: int
) -> Any:
    """The counts that `end_jobs.sql` returns."""
    began = [None if one.started_ago is None else round(one.started_ago * 1e6) for one in verdicts]
    return await connection.fetchrow(
        query("end_jobs"),
        worker,
        [one.lease for one in verdicts],
        [one.place for one in verdicts],
        [_state(one) for one in verdicts],
        [None if ago is None else clock_us - ago for ago in began],
        [
            None if ago is None else max(0, ago - round(one.ended_ago * 1e6))
            for one, ago in zip(verdicts, began, strict=True)
        ],
        b"[" + b",".join(one.error for one in verdicts) + b"]",
        [one.retry_after for one in verdicts],
        [one.log for one in verdicts],
        [pack(one.log, clock_us - one.now_us) for one in verdicts],
    )


def _state(verdict: Verdict) -> int:
    match verdict.kind:
        case ErrorKind.CRASH:
            return CRASHED
        case ErrorKind.CANCELED:
            return OutcomeState.CANCELED
    return OutcomeState.FAILURE if verdict.retry_after is None else OutcomeState.RETRY


async def attempt_of(
    connection: asyncpg_trio.Connection, lease: int, place: int
) -> tuple[int, Sequence[str]]:
    """Number of the run, from 1, of the job at this place of a lease, and the steps that it, if it is a
    flow's, is known to have had under way; 0 when the lease is gone or the job has ended.
    """
    row = await connection.fetchrow(query("attempt_of"), lease, place)
    return (0, ()) if row is None else (row["attempt"], row["steps"])


async def reap(connection: asyncpg_trio.Connection) -> int:
    """Take back what dead workers of any host hold, by the database's clock; return how many jobs that is.
    Nobody saw what they died of: each job that had not ended is a suspect (I7).
    """
    orphans = [row[0] for row in await connection.fetch(query("orphans"))]
    if not orphans:
        return 0
    row = await connection.fetchrow(query("give_back"), orphans, None, True)
    assert row is not None, "counts come back"
    return int(row["jobs"] + row["ended"])


async def make_partitions(connection: asyncpg_trio.Connection, days: int = 7) -> int:
    """Attach the partitions of the coming days; return how many were made."""
    made: int = await connection.fetchval(query("make_partitions"), days)
    return made
