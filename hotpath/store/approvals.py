"""What people say to runs that wait for them: which wait is meant, is the payload one that its form takes, is
the token good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.core.flow.keys import step_of
from hotpath.core.flow.tokens import Token, make_nonce, make_token, read_token
from hotpath.core.schema import ArgsValidator
from hotpath.core.storable import NUL, encode, find_fault
from hotpath.errors import BadArgsError, NotSuspendedError, UnknownJobError, UsageError
from hotpath.model import Job, State
from hotpath.store import flows
from hotpath.store.flows import Wait
from hotpath.store.jobs import get_job
from hotpath.store.queries import query

DAYS = 30
"""How long a token is good if the wait has no end and nobody says otherwise."""
MAX_SECONDS = 100 * 366 * 86400
_SHOWN = 10  # keys that a message names


async def resume(
    connection: asyncpg_trio.Connection,
    run: UUID,
    payload: Any,
    *,
    step: str | None,
    approve: bool,
    approver: str,
) -> str:
    """Answer the run that waits, as whoever may write to the database; returns the key of the step.

    Raises `NotSuspendedError`, `BadArgsError` for a payload that the form does not take, `UsageError` when it
    waits for several and `step` does not say which, `UnknownJobError`.
    """
    wait = await find_wait(connection, run, step)
    raw = check_payload(payload, wait.form if approve else None, wait.key)
    await flows.resume(
        connection,
        run,
        wait.key,
        approved=approve,
        nonce=make_nonce(),
        payload=raw,
        approver=approver or None,
    )
    return wait.key


async def resume_by_token(
    connection: asyncpg_trio.Connection, token: str, payload: Any, *, approve: bool, approver: str
) -> Token:
    """Answer as whoever has the token; returns what it says.

    It may come before the run waits: a step may send tokens while it runs. Raises what `read_token` and
    `resume` raise, and `ResumeRefusedError` when it has been used.
    """
    secret = await flows.secret(connection)
    said = read_token(secret, token, await connection.fetchval(query("clock")))
    waits = await _waits(connection, said.run)
    form = next((wait.form for wait in waits if wait.key == said.key), None)
    raw = check_payload(payload, form if approve else None, said.key)
    await flows.resume(
        connection, said.run, said.key,
        approved=approve, nonce=said.nonce, payload=raw,
        approver=approver or said.approver or None,
    )  # fmt: skip
    return said


@attrs.frozen
class Asked:
    """What a token asks whoever has it."""

    said: Token
    job: Job | None
    """The run; None: it is not there any more."""
    wait: Wait | None
    """The wait it is for; None: the run has not come there yet, or has gone on."""
    is_used: bool
    """Whether somebody has answered with this token."""

    @property
    def is_open(self) -> bool:
        """Whether an answer may still be taken."""
        return not self.is_used and self.job is not None and is_open(self.job)


async def ask_by_token(connection: asyncpg_trio.Connection, token: str) -> Asked:
    """What this token asks, answering nothing. Raises what `read_token` raises."""
    secret = await flows.secret(connection)
    said = read_token(secret, token, await connection.fetchval(query("clock")))
    job = await get_job(connection, said.run)
    waits = await _waits(connection, said.run)
    wait = next((wait for wait in waits if wait.key == said.key), None)
    is_used = await connection.fetchval(query("token_said"), said.run, said.key, said.nonce)
    return Asked(said, job, wait, is_used)


async def new_token(
    connection: asyncpg_trio.Connection, run: UUID, *, step: str | None, expires: float | None
) -> tuple[str, Token]:
    """A token for the approval that the run waits for, and what it says.

    `expires`: seconds from now; None: as long as the run waits, and if that has no end, `DAYS`. Raises what
    `find_wait` raises.
    """
    if expires is not None and not 0 < expires <= MAX_SECONDS:
        raise UsageError(f"expires must be above 0 and at most {MAX_SECONDS} seconds, not {expires!r}")
    wait = await find_wait(connection, run, step)
    now_us = await connection.fetchval(query("clock"))
    until_us = now_us + round((DAYS * 86400 if expires is None else expires) * 1_000_000)
    if expires is None and wait.until is not None:
        until_us = round(wait.until.timestamp() * 1_000_000)
    said = Token(run, wait.key, make_nonce(), until_us)
    secret = await flows.secret(connection)
    return make_token(secret, said.run, said.key, said.nonce, said.expires_us), said


async def find_wait(connection: asyncpg_trio.Connection, run: UUID, step: str | None) -> Wait:
    """The approval that the run waits for: the one of this step (its key, or the last part of it), else the
    only one.

    Raises `NotSuspendedError` that says what the run does instead, `UsageError` that names the steps if
    several are meant, `UnknownJobError`.
    """
    job = await get_job(connection, run)
    if job is None:
        raise UnknownJobError(f"no job has the id {run} in this database")
    # What a run waited for stands until it is forgotten, which may be after its end.
    waits = await _waits(connection, run) if is_open(job) else []
    if not waits:
        raise NotSuspendedError(_why_not(job))
    if step is None:
        if len(waits) == 1:
            return waits[0]
        raise UsageError(
            f"run {run} waits for approval of several steps: {_listed([wait.key for wait in waits])}; "
            "say which (--step)"
        )
    meant = [wait for wait in waits if wait.key == step] or [w for w in waits if step_of(w.key) == step]
    if not meant:
        raise NotSuspendedError(
            f"run {run} does not wait for approval of step {step}, but of {_listed([w.key for w in waits])}"
        )
    if len(meant) > 1:
        keys = _listed([wait.key for wait in meant])
        raise UsageError(f"run {run} waits for approval of several steps called {step}: {keys}; say which")
    return meant[0]


async def find_step(connection: asyncpg_trio.Connection, run: UUID, name: str) -> str:
    """The key of the step of the run that has ended and is meant by `name`: a key, or the last part of one.

    Raises `UsageError` that names the keys if there are several, or says that there is none.
    """
    rows = await connection.fetch(query("steps_named"), run, name, 100)
    for row in rows:
        if row["rank"] == 0:
            return str(row["key"])
    for rank, said in (
        (1, "several steps called {0} have ended: {1}; say which"),
        (2, "{0} is no step that ran itself; give one within it: {1}"),
    ):
        found = [row for row in rows if row["rank"] == rank]
        if rank == 1 and len(found) == 1:
            return str(found[0]["key"])
        if found:
            keys = _listed([row["key"] for row in found], found[0]["number"])
            raise UsageError(f"run {run}: " + said.format(name, keys))
    raise UsageError(f"run {run} has no step {name} that has ended; `hotpath job {run}` shows its steps")


async def retry_from(connection: asyncpg_trio.Connection, run: UUID, name: str) -> bool:
    """Run a run that has ended once more, from the step that is meant by `name`; False when it is unknown or
    has not ended. Raises what `find_step` raises.
    """
    job = await get_job(connection, run)
    if job is None or is_open(job):
        return False
    if job.kind != "flow":
        raise UsageError(f"job {run} is not a run of a flow: it has no step {name} to retry from")
    return await flows.retry_from(connection, run, await find_step(connection, run, name))


def check_payload(payload: Any, form: Any, key: str) -> bytes:
    """The payload as JSON. Raises `BadArgsError` that names the field if the form does not take it, and for a
    value that cannot be stored.
    """
    validator = _validator(form)
    if validator is not None:
        try:
            return validator.encode({} if payload is None else payload)
        except BadArgsError as error:
            raise BadArgsError(f"payload for step {key}: {error}") from None
    try:
        raw = encode(payload)
    except Exception as error:  # noqa: BLE001 - encoding runs code of the value, which raises what it likes
        raise BadArgsError(f"payload for step {key} has no JSON form: {error}") from None
    if (NUL in raw or b"null" in raw) and (fault := find_fault(payload, finite=True)):
        raise BadArgsError(f"payload for step {key}: `{fault.path.lstrip('.')}` {fault.reason}")
    return raw


def _validator(form: Any) -> ArgsValidator | None:
    if not isinstance(form, dict):
        return None
    try:
        return ArgsValidator(form)
    except Exception:  # noqa: BLE001 - a form is anybody's JSON Schema, with words that we do not know
        return None


async def _waits(connection: asyncpg_trio.Connection, run: UUID) -> list[Wait]:
    waits = await flows.suspended(connection, run)
    return sorted((wait for wait in waits if wait.kind == "suspend"), key=lambda wait: wait.key)


def is_open(job: Job) -> bool:
    """Whether the job has not ended."""
    return job.state in (State.QUEUED, State.RUNNING)


def _why_not(job: Job) -> str:
    if job.kind == "step":
        return f"job {job.id} is step {job.step} of run {job.parent}: resume that"
    if job.kind != "flow":
        return f"job {job.id} is not a run of a flow: nothing can suspend it"
    if not is_open(job):
        return f"run {job.id} is not suspended: it has ended ({job.state})"
    return f"run {job.id} is not suspended: it is {job.state} and waits for no approval, or has its answer"


async def early_result(connection: asyncpg_trio.Connection, run: Job) -> Job | None:
    """The run as it is, with the result that it has before its end; None when it has none yet."""
    raw = await connection.fetchval(query("early_result"), run.id)
    return None if raw is None else attrs.evolve(run, result=msgspec.json.decode(raw))


def _listed(keys: Sequence[str], number: int | None = None) -> str:
    more = (len(keys) if number is None else number) - _SHOWN
    return ", ".join(keys[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
