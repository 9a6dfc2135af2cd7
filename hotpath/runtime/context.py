"""The job that is running here: what the hot loop sets, and what `hotpath.current_job()` makes of it.

The loop sets one small `RunningJob` per job in one context variable, and nothing else. Everything a user may
ask about the job (its id, its args, its deadline) is worked out only when asked, since most jobs never ask.

Being a context variable it follows the job into Trio tasks and into `trio.to_thread.run_sync`. A bare
`threading.Thread` starts with an empty context: what it prints belongs to no job. Run its target through
`contextvars.copy_context().run` to change that.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from hotpath.core.elements import elements_of
from hotpath.errors import HotpathError
from hotpath.model import JobContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import TrioToken

    from hotpath.core.secrets import Places
    from hotpath.model import ErrorKind
    from hotpath.runtime.interrupt import Press
    from hotpath.runtime.joblog import JobLog
    from hotpath.runtime.masking import Masking
    from hotpath.runtime.protocol import Batch, Outcome, Script
    from hotpath.runtime.tracing import Spans

CLOSED = False
"""`RunningJob.log` once the job has ended: what it still prints goes to the real stream."""

Log: TypeAlias = "JobLog | bool | None"
"""`RunningJob.log`: None before the first write, then the log, then `CLOSED`."""


class BatchInHand:
    """What the jobs of one batch share while they run."""

    __slots__ = (
        "_raw", "again", "batch", "disturbed", "given_up", "lock", "masking", "press", "refused", "report",
        "retry", "script", "spans", "timed", "timeout", "trio_token",
    )  # fmt: skip

    def __init__(self, batch: Batch, script: Script, places: Places | None = None) -> None:
        settings = script.version.description.settings
        self.batch = batch
        self.script = script
        self.timeout = settings.timeout
        self.retry = settings.retry
        self.timed = settings.timeout is not None or batch.timeouts is not None
        """Whether any of its jobs may have a time-out."""
        self.refused: dict[int, str | ErrorKind] = {}
        """Jobs that must not begin: what is wrong with their args, or the kind of their end."""
        self.given_up = False
        """True once `run` was cancelled: no further job starts, nothing more is reported."""
        self.disturbed = False
        """True once `given_up`, or an interrupt is on its way: one thing for the loop to look at."""
        self.press: Press | None = None
        self.lock = threading.RLock()
        """Held while a press is sent or called off."""
        self.trio_token: TrioToken | None = None
        """Where Trio runs, for a `main` in another thread; only `LaneRunner.run` says it."""
        self._raw: list[msgspec.Raw] | None = None
        self.report: Callable[[Outcome], object] = batch.report
        self.again: Callable[[Outcome, float], object] = batch.retry
        self.spans: Spans | None = None
        """None: nobody wants spans of its jobs."""
        if _tracing is not None:
            self.spans = _tracing(batch, script)
            self.report, self.again = self.spans.report, self.spans.retry
        self.masking: Masking | None = None
        """None: no job of it has secrets."""
        given = getattr(batch, "maskers", None)
        if places is not None or given is not None:
            from hotpath.runtime.masking import Masking  # here: what other scripts need not pay for

            self.mask(Masking(self, places, given))

    def mask(self, masking: Masking) -> None:
        """Let nothing out that has a secret in it."""
        self.masking, self.report, self.again = masking, masking.report, masking.retry

    def give_up(self) -> None:
        """Nothing more of it starts or is reported."""
        self.given_up = self.disturbed = True

    def limit(self, index: int) -> float | None:
        """Seconds that this job may run; None: as long as it takes."""
        own = self.batch.timeouts
        seconds = None if own is None else own[index]
        return self.timeout if seconds is None else seconds

    def args(self, index: int) -> dict[str, Any]:
        """The args of one job as they were enqueued."""
        if self._raw is None:
            self._raw = elements_of(self.batch.args)
        args: dict[str, Any] = msgspec.json.decode(self._raw[index])
        return args


class RunningJob(msgspec.Struct, gc=False, eq=False):
    """One job while it runs. A msgspec struct because making one costs 60 ns."""

    of: BatchInHand
    index: int
    log: Log = None
    started: int = 0
    """`time.perf_counter_ns()` as `main` was entered."""
    fraction: float | None = None


_tracing: Callable[[Batch, Script], Spans] | None = None


def set_tracing(make: Callable[[Batch, Script], Spans] | None) -> None:
    """Have each batch's jobs traced by what this makes; None: have none traced."""
    global _tracing  # noqa: PLW0603 - one worker a process
    _tracing = make


def tracing() -> Callable[[Batch, Script], Spans] | None:
    """What makes the spans of a batch's jobs; None where nobody wants them."""
    return _tracing


current: ContextVar[RunningJob | None] = ContextVar("hotpath_job", default=None)


def running_job() -> RunningJob:
    """The job that this code runs in; `HotpathError` outside one."""
    job = current.get()
    if job is None:
        raise HotpathError(
            "no job is running here: call this from `main`, or from a task that it started (no bare thread)"
        )
    return job


def current_job() -> JobContext:
    """The running job: its id, script, attempt, args, tag, worker, deadline, and whether somebody asked it to
    stop.

    Raises `HotpathError` outside a job. Each call looks anew, so `cancel_requested` is up to date.
    """
    job = running_job()
    hand = job.of
    batch = hand.batch
    limit = hand.limit(job.index)
    return JobContext(
        id=batch.ids[job.index],
        script=hand.script.version.description.path,
        attempt=batch.attempts[job.index],
        args=hand.args(job.index),
        tag=batch.tag,
        worker=hand.script.worker,
        # perf_counter and monotonic are one clock on Linux and macOS, which spares the loop a second reading.
        deadline=None if limit is None else job.started / 1e9 + limit,
        cancel_requested=hand.given_up or job.index in batch.canceling,
        traceparent=None if hand.spans is None else hand.spans.traceparent(job.index),
    )


def progress(fraction: float) -> None:
    """Say how far the running job is, from 0 to 1.

    Raises `HotpathError` outside a job and `ValueError` for anything but a number from 0 to 1.
    """
    job = running_job()
    given: object = fraction  # whatever the caller's types promise
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
        raise ValueError(f"progress takes a number from 0 to 1, not {fraction!r}")
    job.fraction = float(fraction)
