"""Whose fault the death of a worker process is: what its supervisor says when it buries it.

- A worker that had said that its work is settled, or was killed for something that no job has done, leaves
  nobody to blame: what it held goes back uncharged.
- A worker that was killed because of a job: that job ends with the reason, unless it ended in the meantime.
- A worker that died of itself: the job in hand is charged a crash.
- With no job in hand (it died between two, or while all of several waited), and for one that was stopped or
  wedged, nobody knows, and a job may have left behind what did it, a thread, say: all that it held are
  suspects, uncharged, to be run in ever smaller company, at last alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from hotpath.core.watch import JobInHand, Kill
from hotpath.model import ErrorKind


@attrs.frozen(kw_only=True)
class Death:
    """What is known of a worker process that has ended."""

    ending: str
    """In words, behind "the worker process": "was killed by SIGSEGV"."""
    killed: Kill | None = None
    """Why its supervisor killed it, if that is what ended it."""
    settled: bool = False
    """Whether it had said that its work is settled."""
    several: bool = False
    """Whether it ran several jobs at a time."""
    job: JobInHand | None = None
    """The job that was in hand."""
    leases: Sequence[int] = ()
    """What it held."""


@attrs.frozen
class Judgement:
    """What to write: how `job` ends (None: none does), and which leases hold suspects."""

    job: JobInHand | None = None
    kind: ErrorKind = ErrorKind.CRASH
    message: str = ""
    suspects: tuple[int, ...] = ()


def judge(death: Death) -> Judgement:
    """The rules above."""
    if death.settled:
        return Judgement()
    if (kill := death.killed) is not None:
        if kill.kind is None:
            return _unknown(death, kill.job) if kill.suspects else Judgement()
        if kill.job is None or not (death.several or kill.job == death.job):
            return Judgement()  # the job ended between the decision and the signal
        why = f"{kill.reason}: the worker process was killed"
        if kill.kind is ErrorKind.TIMEOUT:
            return Judgement(kill.job, kill.kind, f"the job ran longer than its timeout; {why}")
        return Judgement(kill.job, kill.kind, f"canceled while it ran; {why}")
    if death.job is not None:
        # Of several, one that waits for a thread of its own may have done it as well.
        suspects = tuple(death.leases) if death.several else ()
        return Judgement(
            *(death.job, ErrorKind.CRASH, f"the worker process {death.ending} in the middle of the job"),
            suspects=suspects,
        )
    return _unknown(death, None)


def _unknown(death: Death, job: JobInHand | None) -> Judgement:
    """The lease of the job in hand, if that is known, else all leases."""
    return Judgement(suspects=tuple(death.leases) if job is None else (job[0],))
