"""Values that every layer shares: frozen, without behaviour, named as DESIGN section 2 names them."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs


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


class ErrorKind(enum.StrEnum):
    """`kind` of a stored error object (CONTRACT)."""

    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    CANCELED = "canceled"
    CRASH = "crash"
    BAD_ARGS = "bad_args"
    BAD_RESULT = "bad_result"


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


@attrs.frozen
class Retry:
    """When a failed attempt runs again: up to `attempts` runs, `delay` seconds apart, growing as
    `backoff` says.
    """

    attempts: int = 1
    delay: float = 1.0
    backoff: str = "exponential"
    factor: float = 2.0
    max_delay: float = 3600.0
    jitter: float = 0.1


@attrs.frozen
class Settings:
    """What a script says of itself in `hotpath.settings(...)` or `NAME.script.yaml`; None: not said."""

    tag: str | None = None
    priority: int = 0
    timeout: float | None = None
    retry: Retry | None = None
    concurrency: int | None = None


@attrs.frozen
class Description:
    """What one immutable version of a script is: read once in a child process, stored with the version."""

    path: str
    """Name of the script, such as `f/team/score`."""
    hash: str
    """Hex SHA-256 of the module's source and of its settings file."""
    is_async: bool
    schema: dict[str, Any]
    """JSON Schema of the args: an object, `additionalProperties: false` unless `main` takes `**kwargs`."""
    settings: Settings
    summary: str = ""
    """First line of `main`'s (or the module's) docstring."""


@attrs.frozen
class ScriptVersion:
    """A `Description` that the database knows."""

    id: int
    """Id of this version (`script_version.id`)."""
    script: int
    """Id of the script (`script.id`), the same for all its versions."""
    description: Description
    created_at: datetime | None = None


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
