"""What a supervisor does about a worker that it watches: nothing, or kill it, and what to say of its job.

The worker ends overdue and canceled jobs itself, while it can. This is for when it cannot: code in C that
never gives up the GIL, a job that swallows every interrupt, a process that is stopped or stuck. The rules:

- A job past its deadline, or asked to cancel, has FINALLY to end. A worker whose I/O side does not move
  meanwhile cannot end it, since no Python runs in it: it is killed after DEAF.
- A worker that was told to give back at once, and whose I/O side does not move, is killed after LEAVE.
- An I/O side that stands still for a whole lease though no job is in hand is wedged; a process that somebody
  has stopped is as good as dead. Both are killed, and no job is charged.
- Only what was seen while watching counts: after a pause of the supervisor's own, all waits begin anew.

No clock in here: times are nanoseconds of one monotonic clock, given by the caller.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import attrs

from hotpath.model import ErrorKind

JobInHand: TypeAlias = "tuple[int, int]"
"""Lease, and place in it."""

SECOND = 1_000_000_000
DEAF = 3 * SECOND // 10
"""How long an I/O side may stand still before what it was asked is thought unheard; it beats every 0.1 s."""
LEAVE = SECOND
"""The same where it is to give back what it holds: it beats less often then."""
FINALLY = 5 * SECOND
"""How long a job's `finally` blocks may take when it is to end."""
STOPPED = SECOND
"""How long a process may be stopped (SIGSTOP)."""
PAUSE = SECOND // 2
"""A gap between two looks that means that the supervisor itself was not running."""


@attrs.frozen(kw_only=True)
class Sight:
    """One look at a worker."""

    job: JobInHand | None = None
    """The job in hand; None: none, or not known."""
    deadline: int = 0
    """When that job's time is over; 0: never."""
    beat: int = 0
    """Changes as the I/O side makes progress; 0 before it has begun."""
    held: bool = False
    """Whether any lease is held."""
    asked: Collection[JobInHand] = ()
    """Jobs that somebody asked to cancel."""
    stuck: Mapping[JobInHand, ErrorKind] = {}
    """Jobs that the worker itself says it cannot end."""
    leaving: bool = False
    """Whether it was told to give back what it holds at once."""
    is_stopped: bool = False
    """Whether the process is stopped."""


@attrs.frozen
class Kill:
    """End this worker; `kind` is how `job` ends, None: it is no fault of the job."""

    kind: ErrorKind | None
    job: JobInHand | None
    reason: str
    suspects: bool = False
    """Whether any job that the worker holds may have brought it to this."""


@attrs.define
class Watch:
    """The memory of one worker's looks."""

    lease: int
    """Nanoseconds."""
    several: bool
    """Whether it runs several jobs at a time, so that the job in hand may be unknown."""
    _looked_at: int | None = None
    _beat: int = 0
    _moved_at: int = 0
    _in_hand: tuple[JobInHand, int] | None = None
    _begun_at: int = 0
    _due: dict[tuple[JobInHand, ErrorKind], int] = attrs.field(factory=dict)
    """Since when a job is to end."""
    _leaving_at: int | None = None
    _stopped_at: int | None = None

    def since(self, job: JobInHand) -> int | None:
        """When this job was first seen in hand; None if it is not the one in hand."""
        return self._begun_at if self._in_hand is not None and self._in_hand[0] == job else None

    def look(self, now: int, sight: Sight) -> Kill | None:
        """Take a look into account, and decide."""
        self._remember(now, sight)
        for job, kind in sight.stuck.items():
            return Kill(kind, job, "the worker could not end the job")
        still = now - self._moved_at
        for (job, kind), since in self._due.items():
            # Another job's long step is no reason to end that one, and all that share its process.
            patience = DEAF if sight.job in (job, None) else FINALLY
            if min(still, now - since) >= patience:
                return Kill(kind, job, "no Python code ran in the worker any more")
            if job == sight.job and now - since >= FINALLY:
                return Kill(kind, job, "the job did not end when it was told to")
        if self._leaving_at is not None and min(still, now - self._leaving_at) >= LEAVE:
            return Kill(None, None, "it did not hear that it was to stop")
        if self._stopped_at is not None and now - self._stopped_at >= STOPPED:
            return Kill(None, sight.job, "its process was stopped", suspects=True)
        if sight.beat and still >= self.lease and sight.job is None and not (self.several and sight.held):
            return Kill(None, None, "it made no progress, with no job in hand", suspects=True)
        return None

    def _remember(self, now: int, sight: Sight) -> None:
        if self._looked_at is None or now - self._looked_at > PAUSE:
            self._moved_at = now
            self._due.clear()
            self._leaving_at = self._stopped_at = None
        if self._looked_at is None or sight.beat != self._beat:
            self._beat, self._moved_at = sight.beat, now
        self._looked_at = now
        in_hand = (sight.job, sight.deadline) if sight.job is not None else None
        if in_hand != self._in_hand:
            self._in_hand, self._begun_at = in_hand, now
        due = {key: self._due.get(key, now) for key in self._wanted(now, sight)}
        self._due = due
        self._leaving_at = (self._leaving_at or now) if sight.leaving else None
        self._stopped_at = (self._stopped_at or now) if sight.is_stopped else None

    def _wanted(self, now: int, sight: Sight) -> list[tuple[JobInHand, ErrorKind]]:
        """Which jobs are to end, and how."""
        wanted = []
        if sight.job is not None and sight.deadline and now > sight.deadline:
            wanted.append((sight.job, ErrorKind.TIMEOUT))
        # Where one runs at a time, a job that is not in hand cannot be what stands in the way.
        wanted += [
            (job, ErrorKind.CANCELED)
            for job in sight.asked
            if job == sight.job or (self.several and sight.held)
        ]
        return wanted
