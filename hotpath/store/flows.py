"""Runs of flows in the database: what workers note of them, how they wait and go on, what people say to them.

A run is an ordinary job. What is kept beside it, and why, stands in docs/data-model.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import attrs
import msgspec
from asyncpg.pgproto import pgproto

from hotpath import asyncpg_trio
from hotpath.core.logtext import pack
from hotpath.core.notes import Checkpoint, Child, Event, Notes, Parking, Recalled
from hotpath.errors import NotKeptError, NotSuspendedError, UsageError
from hotpath.model import Description, State
from hotpath.store.claimed import join
from hotpath.store.queries import query

STEPS = 10_000
"""Steps that `read_steps` brings unless it is told otherwise."""
_WAITS = 1_000  # jobs that `suspended` names; nobody reads more
_NOTHING = UUID(int=0)


class ResumeRefusedError(NotSuspendedError):
    """A run did not take an approval: the token was used, the run has ended, or it has its answer."""


# ---------------------------------------------------------------- what a worker says


async def write_notes(
    connection: asyncpg_trio.Connection, worker: int, notes: Notes, *, clock_offset_us: int, durable: bool
) -> list[bool]:
    """Write them in one transaction; for each of `notes.runs`, whether what was noted of it was taken: not
    when the worker has lost its lease, or the run has left it.

    `clock_offset_us` turns the worker's `perf_counter` microseconds into the database's time. `durable=False`
    does not wait for the disk: right where a commit that is waited for follows on this connection. May be
    sent again after a lost reply, with `notes.again` set.
    """
    accepted: list[bool] = await connection.fetchval(
        query("note_steps"),
        worker,
        clock_offset_us,
        durable,
        notes.again,
        notes.leases,
        notes.places,
        notes.runs,
        notes.step_of,
        notes.keys,
        _uuids(notes.ids),
        notes.scripts,
        notes.started,
        notes.durations,
        notes.states,
        notes.attempts,
        _array(notes.args),
        _array(notes.outcomes),
        notes.logs if any(notes.logs) else None,
        notes.mark_of,
        notes.mark_keys,
        _array(notes.mark_values),
        notes.child_of,
        notes.child_keys,
        _uuids(notes.child_ids),
        notes.child_scripts,
        notes.child_tags,
        notes.child_priorities,
        notes.child_timeouts,
        _array(notes.child_args),
        notes.early_of,
        _array(notes.early_values),
        notes.cache_keys,
        notes.cache_ttls,
        _array(notes.cache_values),
    )
    marks = [pack(log, clock_offset_us) for log in notes.logs]
    if any(marks):
        await connection.execute(query("mark_steps"), _uuids(notes.ids), notes.attempts, marks)
    return accepted


async def make_durable(connection: asyncpg_trio.Connection) -> None:
    """Wait until the disk has all that was committed on this connection."""
    await connection.execute(query("make_durable"))


async def prepare(connection: asyncpg_trio.Connection, worker: int) -> None:
    """Have the server plan, and the driver learn, what `write_notes` and `recall` need: the first run does
    not wait for it then. Writes nothing.
    """
    nobodys = Notes(
        entries=(), touched=(), leases=[0], places=[0], runs=[_NOTHING], step_of=[1], keys=[""],
        ids=[bytes(16)], scripts=[0], started=[0], durations=[0], states=[1], attempts=[1], args=[b"null"],
        outcomes=[b"null"], logs=["-"],
    )  # fmt: skip
    await write_notes(connection, worker, nobodys, clock_offset_us=0, durable=False)
    await recall(connection, [_NOTHING])


async def park(
    connection: asyncpg_trio.Connection, worker: int, parked: Sequence[tuple[int, int, UUID, Parking]]
) -> int:
    """Have runs in hand leave their leases without an outcome and wait in the queue: (lease, place in it,
    run, what it waits for) of each. One that somebody asked to cancel ends as canceled instead.

    Returns how many have left. What has left before, or is no longer the worker's, is not touched, so that
    it may be sent again.
    """
    left: int = await connection.fetchval(
        query("park_runs"),
        worker,
        [lease for lease, _, _, _ in parked],
        [place for _, place, _, _ in parked],
        [run for _, _, run, _ in parked],
        [parking.until_us for _, _, _, parking in parked],
        [_awaited(parking) for _, _, _, parking in parked],
    )
    return left


async def recall(connection: asyncpg_trio.Connection, runs: Sequence[UUID]) -> dict[UUID, Recalled]:
    """What was noted of these runs, by whichever worker; those of which nothing was are left out."""
    known: dict[UUID, Recalled] = {}
    for run, kind, key, step, number, value, args in await connection.fetch(query("recall"), list(runs)):
        run_id = UUID(int=run.int)
        it = known.get(run_id)
        if it is None:
            it = known[run_id] = Recalled()
        match kind:
            case "step":
                it.steps[key] = Checkpoint(number, value or b"null", args, step.bytes)
            case "checkpoint":
                it.steps.setdefault(key, Checkpoint(number, value or b"null", args, step.bytes))
            case "mark":
                it.marks[key] = value
            case "event":
                said = _said(value)
                it.events.setdefault(key, []).append(Event(said.approved, bytes(said.payload), said.approver))
            case "child":
                it.children[key] = Child(step.bytes, number, value or b"null")
            case _ if number:
                known[run_id] = attrs.evolve(it, generation=number, retried=True)
    return known


async def admit(
    connection: asyncpg_trio.Connection, script: int, most: int, runs: Sequence[UUID]
) -> set[UUID]:
    """Ask for a place for each of these runs of a flow, of which `most` may be under way at a time; those
    that have one. They hold it until they end; the others are woken when it is their turn.
    """
    granted = await connection.fetchval(query("admit_runs"), script, most, list(runs))
    return {UUID(int=run.int) for run in granted}


async def cache_get(connection: asyncpg_trio.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """Of these keys, the results (JSON) that were cached and whose time is not over."""
    return {row[0]: row[1] for row in await connection.fetch(query("cache_get"), list(keys))}


async def forget(connection: asyncpg_trio.Connection, runs: Sequence[UUID]) -> int:
    """Drop what was kept of those of these runs that have ended; return of how many nothing is kept.

    Runs that did not succeed keep it, so that they can be retried from a step. Some may be passed over, and
    of one that has much only a part may go: a keeper's sweep comes to it.
    """
    return (await _forget(connection, runs))[0]


async def forget_some(connection: asyncpg_trio.Connection, runs: Sequence[UUID]) -> list[UUID]:
    """The same; returns the runs of which there is more to drop."""
    return (await _forget(connection, runs))[1]


async def _forget(connection: asyncpg_trio.Connection, runs: Sequence[UUID]) -> tuple[int, list[UUID]]:
    row = await connection.fetchrow(query("forget_runs"), list(runs))
    assert row is not None, "it says how many"
    return row["forgotten"], [UUID(int=run.int) for run in row["more"]]


# ---------------------------------------------------------------- what people say


async def secret(connection: asyncpg_trio.Connection) -> bytes:
    """The 32 bytes that this database's tokens are signed with."""
    value: bytes = await connection.fetchval(query("secret"))
    return value


async def secret_for(connection: asyncpg_trio.Connection, description: Description) -> bytes:
    """That secret, for a worker that runs a flow; nothing for one that does not need it."""
    return await secret(connection) if description.kind == "flow" else b""


async def resume(
    connection: asyncpg_trio.Connection,
    run: UUID,
    key: str,
    *,
    approved: bool,
    nonce: bytes,
    payload: bytes = b"null",
    approver: str | None = None,
) -> None:
    """Say to a run that waits behind step `key` that it may go on, or not; `payload` is JSON. It may come
    before the run waits. A nonce counts once: that is what makes a token single-use.

    Whoever calls has checked the token. Raises `ResumeRefusedError` when the run does not take it, and
    `UsageError` for values that no approval can have.
    """
    with _refusals():
        await connection.fetchval(query("resume_run"), run, key, payload.decode(), approved, approver, nonce)


async def retry_from(connection: asyncpg_trio.Connection, run: UUID, key: str) -> bool:
    """Run a run that has ended once more, under its own id, from step `key` on: what ended before that step
    did counts as it is. False when the run is unknown or has not ended.

    Raises `UsageError` when it has no such step, or is no run of a flow.
    """
    with _refusals():
        return bool(await connection.fetchval(query("retry_from"), run, key))


# ---------------------------------------------------------------- what people ask


@attrs.frozen
class RunStep:
    """One step of a run, as it counts now: of a run that was retried, what was kept and what came since."""

    key: str
    id: UUID
    """The job that it is."""
    state: State
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: float | None
    attempt: int
    """Number of its last attempt, from 1; 0: it never ran."""
    worker: str | None
    script: str | None
    error: dict[str, Any] | None


async def read_steps(
    connection: asyncpg_trio.Connection, run: UUID, limit: int = STEPS, *, since: datetime | None = None
) -> list[RunStep]:
    """The run's steps by start, at most `limit`: all that have ended, and those in the queue or with another
    worker. One that the run's own worker has under way is here once it has ended.

    `since`: of those that have ended, only such as were written since then.
    """
    return [
        RunStep(
            key=row["key"],
            id=UUID(int=row["id"].int),
            state=State(row["state"]),
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            duration_ms=row["duration_ms"],
            attempt=row["attempt"],
            worker=row["worker"],
            script=row["script"],
            error=None if row["error"] is None else msgspec.json.decode(row["error"]),
        )
        for row in await connection.fetch(query("run_steps"), run, limit, since)
    ]


@attrs.frozen
class Wait:
    """One thing that a run waits for."""

    kind: str
    """`sleep`, `retry` (the delay before another attempt), `suspend` (an approval) or `child` (a job)."""
    key: str
    """The step behind which, or for which, it waits."""
    until: datetime | None
    """When it waits no longer; None: no such time."""
    required: int = 0
    """Approvals that it needs."""
    said: int = 0
    """Approvals that it has."""
    form: Any = None
    """JSON Schema of an approval's payload, if it has one."""
    job: UUID | None = None
    script: str | None = None
    state: State | None = None
    """Of a `child`."""
    tag: str | None = None
    """Of a `child`: where it waits."""
    since: datetime | None = None
    """Since when it waits; None for a `child`, which says so itself."""


async def suspended(connection: asyncpg_trio.Connection, run: UUID) -> list[Wait]:
    """What the run waits for, as far as was noted; empty for one that does not wait, or is unknown."""
    return [
        Wait(
            kind=row["kind"],
            key=row["key"],
            until=row["until"],
            required=row["required"] or 0,
            said=row["said"] or 0,
            form=None if row["form"] is None else msgspec.json.decode(row["form"]),
            job=None if row["id"] is None else UUID(int=row["id"].int),
            script=row["script"],
            state=None if row["state"] is None else State(row["state"]),
            tag=row["tag"],
            since=row["since"],
        )
        for row in await connection.fetch(query("run_waits"), run, _WAITS)
    ]


# ---------------------------------------------------------------- values on the wire


class _Said(msgspec.Struct):
    approved: bool
    payload: msgspec.Raw
    approver: str | None


_decode_said = msgspec.json.Decoder(_Said)


def _said(value: bytes) -> _Said:
    return _decode_said.decode(value)


def _array(elements: Sequence[bytes]) -> bytes | None:
    return join(elements) if elements else None


def _uuids(ids: Iterable[bytes]) -> list[pgproto.UUID]:
    """The driver's own kind: made in a third of the time of a `uuid.UUID`, and sent as it is."""
    return [pgproto.UUID(one) for one in ids]


def _awaited(parking: Parking) -> str:
    children = [str(UUID(bytes=child)) for child in parking.children]
    return msgspec.json.encode({"children": children, "events": dict(parking.events)}).decode()


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what the database refuses into our own errors."""
    try:
        yield
    except asyncpg.PostgresError as error:
        message = str(error).splitlines()[0]
        match error.sqlstate:
            case "HP003":
                raise UsageError(message) from None
            case "HP004":
                raise ResumeRefusedError(message) from None
            case "HP005":
                raise NotKeptError(message) from None
            case state if state.startswith("22"):
                raise UsageError(f"it cannot be stored: {message}") from None
        raise
