"""Why a job waits, told to people with evidence: what it waits for itself, who could run it, what is before
it.

The cost is bounded: jobs before it are counted up to a limit, by the index that claims use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.model import State
from hotpath.store.flows import Wait, suspended
from hotpath.store.pauses import Pause
from hotpath.store.queries import query
from hotpath.words import clock, span, wait_text

COUNTED = 10_000
"""Loose jobs of one priority, and batches, that are counted before a job."""
PACE_MINUTES = 15
"""Minutes over which the mean duration of a script's jobs is taken."""


@attrs.frozen
class Reason:
    """One reason why a job waits."""

    kind: str
    """`scheduled`, `retry`, `sleep`, `approval`, `child`, `limit`, `suspect`, `no_worker`, `other_script`,
    `busy`, `next` or `paused`: the tag is.
    """
    text: str
    """The whole of it, for people."""
    until: datetime | None = None
    """When it is over, if that is known."""
    step: str | None = None
    """Of a run: the step that it is about."""
    job: UUID | None = None
    """Of a `child`: the job that is waited for."""
    workers: int | None = None
    """Live workers that could run it."""


@attrs.frozen
class Waiting:
    """What there is to say of a job that waits."""

    state: State
    reasons: list[Reason]
    """The one that matters most first; empty for a job that does not wait."""
    ahead: int | None = None
    """Jobs that are claimed before it; None: it is not due."""
    more_ahead: bool = False
    """Whether the count stopped before the end."""
    eta_seconds: float | None = None
    """About how long the workers that are there need for those; None: nobody can tell."""


async def why_waiting(connection: asyncpg_trio.Connection, job: UUID) -> Waiting | None:
    """Why this job waits, in one snapshot; None when nobody knows it."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        row = await connection.fetchrow(query("waiting_job"), job)
        if row is None:
            found = await connection.fetchrow(query("job_get"), job)
            return None if found is None else Waiting(State(found["state"]), [])
        waits = await suspended(connection, job) if row["kind"] == "flow" else []
        is_due = row["scheduled_for"] <= row["now"]
        workers = await connection.fetch(query("waiting_workers"), row["tag_key"], row["script_id"])
        held = await connection.fetchrow(query("waiting_held"), row["tag_key"], row["script_id"], job)
        before = pace = None
        if is_due:
            place = (row["priority"], row["scheduled_for"], job, row["base"])
            before = await connection.fetchrow(
                query("waiting_ahead"), row["tag_key"], row["script_id"], *place, COUNTED
            )
            pace = await connection.fetchrow(
                query("waiting_pace"), row["script_id"], row["tag_key"], PACE_MINUTES
            )
    fit = [worker for worker in workers if worker["live"] and worker["fits"]]
    ahead = None if before is None else before["ahead"] + row["before"]
    more = before is not None and before["cut"]
    eta = None if ahead is None or pace is None else _eta(ahead, fit, pace)
    back = [] if held is None else list(_held(row, held, is_due=is_due))
    reasons = [*_own(row, waits, is_due=is_due), *back, *_nobody(row, workers, fit)]
    if is_due and fit and not back:
        reasons.append(_queue(row, fit, ahead or 0, eta, more=more))
    return Waiting(State.QUEUED, reasons, ahead, more, eta)


def _own(row: Any, waits: Sequence[Wait], *, is_due: bool) -> Iterator[Reason]:
    """What the job itself waits for."""
    due, now = row["scheduled_for"], row["now"]
    for wait in waits:
        kind = "approval" if wait.kind == "suspend" else wait.kind
        yield Reason(kind, wait_text(wait), wait.until, wait.key, wait.job)
    if row["most"] is not None:
        queue = f"{row['slot_ahead']:,} were first" if row["slot_ahead"] else "it is the next"
        yield Reason(
            "limit", f"flow {row['script']} runs {row['most']:,} at a time, and all places are taken; {queue}"
        )
    if not is_due and not waits and row["most"] is None:
        when = f"{clock(due)}, in {span((due - now).total_seconds() * 1000)}"
        if row["attempt"]:
            yield Reason("retry", f"failed{_error(row)}; attempt {_attempt(row)} is due at {when}", due)
        else:
            yield Reason("scheduled", f"scheduled for {when}", due)
    if row["suspect"]:
        company = "alone" if row["suspect"] >= 3 else "in small company"
        yield Reason("suspect", f"its worker died with it in hand: it runs {company}, when a worker has room")


def _held(row: Any, held: Any, *, is_due: bool) -> Iterator[Reason]:
    """What holds it back although workers are there: a pause, a limit."""
    if held["paused"]:
        pause = Pause(row["tag"], held["until"], held["reason"], held["paused_by"], held["paused_at"])
        yield Reason("paused", f"tag {pause.tag} is {pause.text}", pause.until)
    if held["limits"] is None or not is_due:
        return
    limits = msgspec.json.decode(held["limits"])
    whose = "jobs with its key" if "key" in limits else f"jobs of {row['script']}"
    if held["used"] is not None and held["used"] >= limits["concurrency"]:
        yield Reason(
            "limit", f"{limits['concurrency']:,} {whose} may run at a time, and {held['used']:,} do so"
        )
    if held["started"] is not None and held["started"] >= limits["rate"]:
        yield Reason(
            "limit",
            f"{limits['rate']:,} {whose} may start in {limits['seconds']:g} s, and {held['started']:,} have",
            held["free_at"],
        )


def _error(row: Any) -> str:
    if row["error"] is None:
        return ""
    # Its message may tell what the script's arguments keep to themselves; whoever may see it finds it there.
    return f" with {msgspec.json.decode(row['error']).get('name')}"


def _attempt(row: Any) -> str:
    number = row["attempt"] + 1
    return f"{number}" if row["attempts"] is None else f"{number} of {row['attempts']}"


def _nobody(row: Any, workers: Sequence[Any], fit: Sequence[Any]) -> Iterator[Reason]:
    """That nobody is there who could run it."""
    if fit:
        return
    others = [worker for worker in workers if worker["live"]]
    gone = next((worker for worker in workers if not worker["live"]), None)
    if gone is None:
        last = f"; start one with: hotpath dedicate {row['script']}"
        if row["tag"] != row["script"]:
            last += f" --tag {row['tag']}"
    else:
        ago = span((row["now"] - gone["last_ping"]).total_seconds() * 1000)
        ended = "it was stopped" if gone["stopped"] else "it was last heard of"
        last = f"; {gone['name']} did last, {ended} {ago} ago"
    if others:
        names = sorted({worker["script"] or "any script" for worker in others})
        shown = ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
        yield Reason(
            "other_script",
            f"no live worker on tag {row['tag']} runs {row['script']}: those there are dedicated to "
            f"{shown}{last}",
            workers=0,
        )
    else:
        yield Reason("no_worker", f"no live worker listens to tag {row['tag']}{last}", workers=0)


def _queue(row: Any, fit: Sequence[Any], ahead: int, eta: float | None, *, more: bool) -> Reason:
    """Where it stands in the queue of those who are there."""
    busy = sum(worker["busy"] for worker in fit)
    count = len(fit)
    if not ahead and busy < count:
        idle = "a worker is idle" if count - busy == 1 else f"{count - busy:,} workers are idle"
        return Reason("next", f"it is the next on tag {row['tag']}, and {idle}", workers=count)
    if busy < count:
        listen = f"tag {row['tag']} has {count:,} workers, {busy:,} of them busy"
    elif count == 1:
        listen = f"the worker of tag {row['tag']} is busy"
    else:
        listen = f"all {count:,} workers of its tag are busy"
    jobs = "it is the next" if not ahead else f"{_number(ahead, more=more)} before it"
    about = "" if eta is None else f", for about {span(eta * 1000)}"
    return Reason("busy", f"{listen}, and {jobs}{about}", workers=count)


def _number(ahead: int, *, more: bool) -> str:
    if more:
        return f"more than {ahead:,} jobs are"
    return "1 job is" if ahead == 1 else f"{ahead:,} jobs are"


def _eta(ahead: int, fit: Sequence[Any], pace: Any) -> float | None:
    """Seconds until those that are there have come to it: by what they get done now, else by what a job took
    lately.
    """
    rate: float = sum(worker["rate"] or 0.0 for worker in fit)
    if rate > 0:
        return round((ahead + 1) / rate, 3)
    places = sum(worker["concurrency"] for worker in fit)
    if not pace["jobs"] or not places:
        return None
    seconds: float = (ahead + 1) * pace["busy_us"] / pace["jobs"] / 1e6 / places
    return round(seconds, 3)
