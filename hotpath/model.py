"""Values that every layer shares: frozen, without behaviour, named as DESIGN section 2 names them."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs

MASK = "\N{BULLET}" * 6
"""What is shown in the place of a secret."""


class Secret(str):
    """A text that nobody is to see: as the type of a parameter of `main`, or of a part of one, it marks args
    that are masked wherever jobs are shown, and in the logs, results and errors of the job itself.

    It is a `str`, for a client to use as it is; only its `repr` does not show it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"


class State(enum.StrEnum):
    """The state of a job, as users see it; nothing else exists."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELED = "canceled"


class OutcomeState(enum.IntEnum):
    """How one attempt ended, as rows store it (`job_done.state`); 0 means not ended."""

    NONE = 0
    SUCCESS = 1
    FAILURE = 2
    CANCELED = 3
    RETRY = 4
    """Failed, and to run again: the job goes back to the queue. Never in `job_done`."""


class ErrorKind(enum.StrEnum):
    """`kind` of a stored error object (CONTRACT)."""

    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    CANCELED = "canceled"
    CRASH = "crash"
    BAD_ARGS = "bad_args"
    BAD_RESULT = "bad_result"
    EXPIRED = "expired"


@attrs.frozen
class Job:
    """One job as any client sees it: a row of the view `hotpath.job`."""

    id: UUID
    script: str
    tag: str
    state: State
    priority: int
    scheduled_for: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: float | None
    worker: str | None
    attempt: int
    args: dict[str, Any]
    result: Any
    error: dict[str, Any] | None
    kind: str = "script"
    """`script`, `flow`: a run, which has steps, or `step`: one of a run's."""
    parent: UUID | None = None
    """Of a step: the run."""
    step: str | None = None
    """Of a step: its key, which says where in the run it stands, such as `l[3]/b`."""
    iteration: str | None = None
    """Of a step: the numbers of the iterations and branches it is in, outermost first, such as `3.1`; empty
    for one that is in none.
    """
    not_kept: tuple[str, ...] = ()
    """Of a job that has ended and was looked up: what of `args` and `result` is not kept any more."""


def _names(on: object) -> tuple[Any, ...]:
    """Exception classes as names: that is how a version's settings are stored."""
    given = on if isinstance(on, list | tuple | set | frozenset) else (on,)
    return tuple(
        f"{one.__module__}.{one.__qualname__}"
        if isinstance(one, type) and issubclass(one, BaseException)
        else one
        for one in given
    )


@attrs.frozen
class Attempt:
    """One run of a job: an earlier one, its last, or the one under way."""

    attempt: int
    """Number of the run, from 1; 0: canceled before it first ran."""
    state: State
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: float | None
    worker: str | None
    error: dict[str, Any] | None


@attrs.frozen
class Ended:
    """How jobs ended over some time."""

    success: int = 0
    failure: int = 0
    canceled: int = 0
    busy_ms: float = 0.0
    """Time inside `main`, all together."""


@attrs.frozen
class Retry:
    """When a failed attempt runs again: up to `attempts` runs in all, `delay` seconds apart, growing as
    `backoff` says (`core/retry.py` has the rules).
    """

    attempts: int = 1
    """Runs in all, the first included; releases and lost leases are no runs."""
    delay: float = 1.0
    """Seconds between the first failure and the second run."""
    backoff: str = "exponential"
    """`constant`: always `delay`; `linear`: `delay` times the attempt; `exponential`: `factor` times
    longer each time.
    """
    factor: float = 2.0
    max_delay: float = 3600.0
    """Seconds that a delay does not exceed, before jitter."""
    jitter: float = 0.1
    """A delay varies at random by this share of it, up or down: 0 to 1."""
    on: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """Exception classes, or their names, that are worth another attempt, subclasses included; empty: all. A
    time-out counts as a `TimeoutError`.
    """


@attrs.frozen
class Retention:
    """For how long what is kept of a script's jobs after the day on which they ended: spans such as `"30d"`,
    `"12h"` or `"forever"`, or seconds. None: what the database says for all.
    """

    jobs: Any = None
    """The job itself: state, times, error, attempts. Nothing else outlives it."""
    results: Any = None
    args: Any = None
    """Without its args a job cannot be run again."""
    logs: Any = None


@attrs.frozen
class Limit:
    """How many jobs of a script may run at a time, or start within a time; docs/limits.md has the rules."""

    concurrency: int | None = None
    """Jobs at a time, whichever workers have them."""
    rate: tuple[int, float] | None = None
    """(jobs, seconds): no more start within any such time."""
    key: str | None = None
    """Text with `$args[field]` in it: each value has the limit for itself; None: all jobs together."""


@attrs.frozen
class Unique:
    """One job at a time for a key, whoever puts it in."""

    key: str
    """Text, with `$args[field]` in it or without."""
    while_: str | float = "unfinished"
    """How long a job has its key: while it is `queued`, `unfinished`, or so many seconds from when it was put
    in.
    """
    on_conflict: str = "existing"
    """What becomes of a second one: `reject` it with an error, take the `existing` one for it, or `replace`:
    the earlier one is canceled.
    """


@attrs.frozen
class Debounce:
    """Jobs with the same key that follow each other closely become one, which runs when it is quiet."""

    seconds: float
    """How long it has to be quiet."""
    key: str | None = None
    """Text with `$args[field]` in it; None: all jobs of the script."""
    longest: float | None = None
    """Seconds after which the job runs although it is not quiet; None: it waits."""


@attrs.frozen
class Settings:
    """What a script says of itself in `hotpath.settings(...)` or `NAME.script.yaml`; None: not said."""

    tag: str | None = None
    priority: int = 0
    timeout: float | None = None
    retry: Retry | None = None
    concurrency: int | None = None
    flow: bool | None = None
    """Whether its calls are steps; None: if its source mentions `hotpath.step` or the like."""
    retention: Retention | None = None
    """For how long its jobs are kept, in seconds; the database's own entry for the script comes first."""
    limit: Limit | None = None
    unique: Unique | None = None
    debounce: Debounce | None = None
    expires: float | None = None
    """Seconds from when it is due after which a job that nobody has begun ends."""
    on_expire: str | None = None
    """How it ends then: `fail` (None is this) or `cancel`."""


@attrs.frozen
class Description:
    """What one immutable version of a script is: read once in a child process, stored with the version."""

    path: str
    """Name of the script, such as `f/team/score`."""
    hash: str
    """Hex SHA-256 of the module's source and of its settings file; of a flow file, of all that it consists
    of.
    """
    is_async: bool
    schema: dict[str, Any]
    """JSON Schema of the args: an object, `additionalProperties: false` unless `main` takes `**kwargs`."""
    settings: Settings
    summary: str = ""
    """First line of `main`'s (or the module's) docstring, or the flow's own."""
    kind: str = "script"
    """`script`, or `flow`: one whose jobs are runs that have steps, be it a flow file or code."""
    steps: tuple[Description, ...] = attrs.field(default=(), eq=False)
    """Of a flow file, the scripts that it runs: each is a version of its own, and not stored with the flow's.
    """
    inline: bool = attrs.field(default=False, eq=False)
    """Whether it is written in a flow, and goes with that."""
    files: tuple[tuple[str, bytes], ...] = attrs.field(default=(), eq=False, repr=False)
    """What it consists of, by path from the workspace, the main file first; empty once it is stored."""
    remarks: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)
    """What its author may not have meant, of a flow that has just been read."""


@attrs.frozen
class ScriptVersion:
    """A `Description` that the database knows."""

    id: int
    """Id of this version (`script_version.id`)."""
    script: int
    """Id of the script (`script.id`), the same for all its versions."""
    description: Description
    created_at: datetime | None = None
    steps: tuple[ScriptVersion, ...] = attrs.field(default=(), eq=False)
    """Of `description.steps`, as the database knows them; empty for a version that was read from it."""


@attrs.frozen
class JobContext:
    """The job that is running here, as `hotpath.current_job()` gives it."""

    id: UUID
    script: str
    attempt: int
    args: dict[str, Any]
    tag: str
    worker: str
    deadline: float | None
    """`time.monotonic()` at which the job times out, or None."""
    cancel_requested: bool = False
    traceparent: str | None = None
    """W3C trace context of the span that this run of the job is; None where the worker makes none."""
