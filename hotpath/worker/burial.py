"""What becomes of a dead worker's jobs: the database is told, however long it takes to reach it."""

from __future__ import annotations

import logging
import random
import signal
import time
from collections.abc import Sequence

import attrs
import msgspec
import trio

from hotpath.core.flow.keys import iteration_of, step_of
from hotpath.core.retry import TIMED_OUT, decide
from hotpath.core.secrets import places_of
from hotpath.core.verdict import Death, Judgement, judge
from hotpath.core.watch import SECOND
from hotpath.model import ErrorKind, ScriptVersion
from hotpath.store.database import Database
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.store.workers import Verdict, attempt_of, bury
from hotpath.worker.child import Child

log = logging.getLogger("hotpath.worker")

SHOWN = 10
"""Steps that are named in the error of a run that died with several under way."""
WITHIN = 10.0
"""Seconds that one try to write it may take."""
FIRST_WAIT, LONGEST_WAIT = 0.05, 0.5
NAMES = {
    ErrorKind.CRASH: "WorkerDied",
    ErrorKind.TIMEOUT: "TimeoutError",
    ErrorKind.CANCELED: "JobCanceled",
}
"""`name` in the error of a job that could not say it itself."""


@attrs.frozen(kw_only=True)
class Remains:
    """What a dead worker leaves to be told; read from its board before that goes."""

    worker: int
    name: str
    jobs: int
    """How many it has run."""
    judgement: Judgement
    log: str | None
    """What the job in question had printed."""
    started_ns: int | None
    """`time.perf_counter_ns()` when that job was first seen in hand."""
    ended_ns: int
    """`time.perf_counter_ns()` when the worker was found dead; to tell it may take long."""


def remains_of(
    child: Child, version: ScriptVersion, *, worker: int, name: str, several: bool, started_ns: int | None
) -> Remains:
    """Look at a process that has ended, and judge."""
    by_us = child.killed is not None and child.returncode == -signal.SIGKILL
    judgement = judge(
        Death(
            ending=child.ending,
            killed=child.killed if by_us else None,
            settled=child.is_over,
            several=several,
            job=child.job_in_hand(),
            leases=child.board.leases(),
        )
    )
    masked = places_of(version.description.schema) is not None
    printed = child.log(judgement.job, masked=masked) if judgement.job is not None else ""
    return Remains(
        worker=worker,
        name=name,
        jobs=child.statistics.jobs,
        judgement=judgement,
        log=printed or None,
        started_ns=started_ns,
        ended_ns=time.perf_counter_ns(),
    )


async def tell(database: Database, version: ScriptVersion, remains: Remains) -> int:
    """Bury a worker, however often it takes; telling it twice changes nothing. Returns how many jobs have
    ended by that.
    """
    wait = FIRST_WAIT
    while True:
        try:
            return await _tell_once(database, version, remains)
        except ANY_TROUBLE as error:
            if wait == FIRST_WAIT:
                log.warning("what worker %s held cannot be given back yet: %s", remains.name, error)
        await trio.sleep(wait)
        wait = min(wait * 2, LONGEST_WAIT)


async def _tell_once(database: Database, version: ScriptVersion, remains: Remains) -> int:
    async with database.connection(within=WITHIN) as connection:
        verdicts = []
        judgement = remains.judgement
        if judgement.job is not None:
            lease, place = judgement.job
            attempt, steps = await attempt_of(connection, lease, place)
            if attempt:
                verdicts.append(_verdict(version, remains, attempt, steps))
        burial = await bury(connection, remains.worker, remains.jobs, verdicts, suspects=judgement.suspects)
    known = {"worker": remains.name}
    if verdicts:
        log.warning("worker %s: a job ended because %s", remains.name, judgement.message, extra=known)
    if burial.released:
        log.warning(
            "worker %s left %d jobs behind: they are back in the queue",
            *(remains.name, burial.released),
            extra=known,
        )
    return burial.ended


def _verdict(version: ScriptVersion, remains: Remains, attempt: int, steps: Sequence[str]) -> Verdict:
    judgement = remains.judgement
    assert judgement.job is not None
    lease, place = judgement.job
    error = {
        "name": NAMES[judgement.kind],
        "message": judgement.message,
        "traceback": "",
        "kind": judgement.kind.value,
    }
    if len(steps) == 1:
        error["message"] = f"step {steps[0]}: {judgement.message}"
        error["step"] = step_of(steps[0])
        if iteration := iteration_of(steps[0]):
            error["iteration"] = iteration
    elif steps:  # each of them may have done it
        error["message"] = f"{judgement.message}; steps under way: {', '.join(steps[:SHOWN])}"
    retry_after = None
    if judgement.kind is ErrorKind.TIMEOUT:
        chance = random.random()
        retry_after = decide(version.description.settings.retry, attempt, TIMED_OUT, chance)
    started, now = remains.started_ns, time.perf_counter_ns()
    return Verdict(
        lease=lease,
        place=place,
        kind=judgement.kind,
        error=msgspec.json.encode(error),
        retry_after=retry_after,
        log=remains.log,
        started_ago=(now - started) / SECOND if started is not None else None,
        ended_ago=(now - remains.ended_ns) / SECOND,
        now_us=now // 1000,
    )
