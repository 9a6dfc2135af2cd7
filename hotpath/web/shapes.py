"""The documents of the API as types: what `hotpath.documents` makes, and what the OpenAPI document says."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from hotpath.model import State


class JobDocument(msgspec.Struct, kw_only=True):
    """One job."""

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
    """Number of the attempt, from 1; 0: it has not run yet."""
    args: dict[str, Any] | None
    """Null: they are not kept any more."""
    result: Any
    error: dict[str, Any] | None
    kind: str
    """`script`, `flow`: a run, which has steps, or `step`: one of a run's."""
    parent: UUID | None
    """Of a step: the run."""
    step: str | None
    """Of a step: its key, such as `l[3]/b`."""
    iteration: str | None
    not_kept: tuple[str, ...] = ()
    """What of `args` and `result` is not kept any more."""


class ListedJob(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A job in a list: the fields that were asked for, by default all but `args` and `result`."""

    id: UUID | UnsetType = UNSET
    script: str | UnsetType = UNSET
    tag: str | UnsetType = UNSET
    state: State | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    scheduled_for: datetime | UnsetType = UNSET
    created_at: datetime | UnsetType = UNSET
    started_at: datetime | UnsetType | None = UNSET
    finished_at: datetime | UnsetType | None = UNSET
    duration_ms: float | UnsetType | None = UNSET
    worker: str | UnsetType | None = UNSET
    attempt: int | UnsetType = UNSET
    args: dict[str, Any] | UnsetType | None = UNSET
    result: Any = UNSET
    error: dict[str, Any] | UnsetType | None = UNSET
    kind: str | UnsetType = UNSET
    parent: UUID | UnsetType | None = UNSET
    step: str | UnsetType | None = UNSET
    iteration: str | UnsetType | None = UNSET
    not_kept: tuple[str, ...] | UnsetType = UNSET


class JobList(msgspec.Struct):
    """A page of jobs, the newest first."""

    jobs: list[ListedJob]
    next: UUID | None
    """For `before`, to get the next page; null: there is none."""
    partial: bool
    """Whether the search was stopped before the page was full: `next` goes on with it."""


class AttemptDocument(msgspec.Struct, kw_only=True):
    """One run of a job."""

    attempt: int
    state: State
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: float | None
    worker: str | None
    error: dict[str, Any] | None


class Attempts(msgspec.Struct):
    """All runs of a job, in order."""

    attempts: list[AttemptDocument]


class Canceled(msgspec.Struct):
    """Whether the job was canceled: false when it had ended."""

    canceled: bool


class Retried(msgspec.Struct):
    """Whether the job runs again: false when it has not ended."""

    retried: bool


class Enqueued(msgspec.Struct):
    """The job that was put in."""

    id: UUID


class EnqueuedMany(msgspec.Struct, omit_defaults=True):
    """The jobs that were put in."""

    enqueued: int
    ids: list[UUID] | UnsetType = UNSET
    """In the order of the lines, if they were asked for."""


class VersionDocument(msgspec.Struct, kw_only=True):
    """One version of a script."""

    script: str
    hash: str
    """Hex SHA-256 of its source."""
    current: bool
    """Whether new jobs are checked against it."""
    kind: str
    """`script` or `flow`."""
    is_async: bool
    tag: str
    created_at: datetime | None
    summary: str
    schema: dict[str, Any]
    """JSON Schema of the args."""
    settings: dict[str, Any]


class ScriptList(msgspec.Struct):
    """The current version of each script, by name."""

    scripts: list[VersionDocument]


class ScriptVersions(msgspec.Struct):
    """A script: its current version first, then the others, the newest first."""

    versions: list[VersionDocument]


class LogChunk(msgspec.Struct, kw_only=True):
    """Some of a log, from position `at` to position `end` of an attempt."""

    attempt: int
    at: int
    """Characters of the attempt's log that came before."""
    end: int
    text: str
    """What was printed; of a gap, a notice that says so."""
    times: list[tuple[int, int]]
    """(position, milliseconds since the epoch): what stands behind the position was written then or later."""
    gap: bool
    """Whether this was printed and not kept."""


class LogPage(msgspec.Struct):
    """Some of a job's log, in order."""

    chunks: list[LogChunk]
    next: tuple[int, int] | None
    """Attempt and position to go on from; null: nothing more is stored."""
    complete: bool
    """Whether the job has ended and this is the last of its log."""


class TokenDocument(msgspec.Struct, kw_only=True):
    """An API token, without its secret."""

    id: str
    name: str
    scopes: list[str]
    state: str
    """`good`, `expired` or `revoked`."""
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""
    revoked_at: datetime | None


class NewTokenDocument(TokenDocument, kw_only=True):
    """A token that was made."""

    token: str
    """The token itself, which nobody can find out again."""


class TokenList(msgspec.Struct):
    """The tokens, by age."""

    tokens: list[TokenDocument]
