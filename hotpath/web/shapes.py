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
    args: dict[str, Any]
    result: Any
    error: dict[str, Any] | None
    kind: str
    """`script`, `flow`: a run, which has steps, or `step`: one of a run's."""
    parent: UUID | None
    """Of a step: the run."""
    step: str | None
    """Of a step: its key, such as `l[3]/b`."""
    iteration: str | None


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
    args: dict[str, Any] | UnsetType = UNSET
    result: Any = UNSET
    error: dict[str, Any] | UnsetType | None = UNSET
    kind: str | UnsetType = UNSET
    parent: UUID | UnsetType | None = UNSET
    step: str | UnsetType | None = UNSET
    iteration: str | UnsetType | None = UNSET


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


class FlowNode(msgspec.Struct, kw_only=True):
    """One box of a flow's graph."""

    id: str
    """The key that the step has in a run, with `[*]` for the number of a loop's iteration."""
    label: str
    kind: str
    """`script`, `inline`, `flow`, `identity`, `forloop`, `whileloop`, `branchone`, `branchall`, or `branch`:
    one of a step's branches, which is no step itself.
    """
    parent: str | None
    """The box that it is in."""
    summary: str
    does: str
    """What it runs or goes through, for people."""
    around: list[str]
    """What happens before and behind it, for people."""
    role: str
    """`step`, `preprocessor` or `failure`."""


class FlowEdge(msgspec.Struct, kw_only=True, rename={"source": "from", "target": "to"}):
    """What comes behind what, within one box."""

    source: str
    target: str
    label: str


class FlowGraph(msgspec.Struct, kw_only=True):
    """A flow as a graph."""

    script: str
    hash: str
    """Of the version that new runs have."""
    summary: str
    nodes: list[FlowNode] = []
    edges: list[FlowEdge] = []
    reason: str | None = None
    """Why there is no graph, or why it may not be that of the version that runs."""


class StepDocument(msgspec.Struct, kw_only=True):
    """One step of a run; it is a job, with args and a result."""

    step: str
    """Its key, such as `l[3]/b`."""
    iteration: str
    id: UUID
    script: str | None
    state: State
    attempt: int
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: float | None
    worker: str | None
    error: dict[str, Any] | None


class WaitDocument(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that a run waits for."""

    kind: str
    """`sleep`, `retry`, `suspend`: an approval, or `child`: a job."""
    step: str
    since: datetime | UnsetType | None = UNSET
    until: datetime | UnsetType | None = UNSET
    required: int | UnsetType = UNSET
    """Approvals that it needs."""
    answers: int | UnsetType = UNSET
    """Approvals that it has."""
    form: Any = UNSET
    """JSON Schema of an approval's payload."""
    job: UUID | UnsetType | None = UNSET
    script: str | UnsetType | None = UNSET
    tag: str | UnsetType | None = UNSET
    state: str | UnsetType | None = UNSET


class RunDocument(msgspec.Struct, kw_only=True):
    """A run of a flow."""

    job: JobDocument
    steps: list[StepDocument]
    more_steps: bool
    """Whether it has more steps than these."""
    waits: list[WaitDocument]


class Resumed(msgspec.Struct):
    """What was said to a run."""

    id: UUID
    step: str
    approved: bool


class TagDocument(msgspec.Struct, kw_only=True):
    """One tag."""

    tag: str
    waiting: int
    """Jobs that wait, later ones included."""
    more_waiting: bool
    """Whether the count stopped before the end."""
    running: int
    oldest_due: datetime | None
    """Since when the oldest job that may run now has been due."""
    oldest_due_age_ms: float | None
    jobs_per_second: float
    workers: int
    """Live workers that listen to it."""


class TagList(msgspec.Struct):
    """The tags."""

    tags: list[TagDocument]


class WorkerDocument(msgspec.Struct, kw_only=True):
    """One worker. What it has not said is null."""

    id: int
    name: str
    group: str | None
    script: str | None
    """The script or flow that it is dedicated to."""
    kind: str
    """`script` or `flow`."""
    tags: list[str]
    host: str
    pid: int
    concurrency: int
    """Jobs at a time."""
    started_at: datetime
    last_ping: datetime
    stopped_at: datetime | None
    state: str
    """`running`, `idle`, `lost`: past its lease, its jobs go to others; or `stopped`."""
    running: int
    """Jobs that it holds."""
    under_way: int | None
    """Of these, the jobs that run."""
    jobs: int
    """Jobs it has run."""
    jobs_per_second: float | None
    program: str | None
    """Version of the program."""
    rss: int | None
    """Resident bytes."""
    cpu_seconds: float | None
    current_job: UUID | None
    """The job whose code runs; of several at a time, one that does."""
    current_since: datetime | None
    occupancy: dict[str, float] | None
    """Share of its time inside `main`, 0 to 1, over `15s`, `5m` and `30m`."""
    deaf: bool | None
    """Whether nothing can wake it: it finds jobs by polling."""


class WorkerList(msgspec.Struct):
    """Workers, by name."""

    workers: list[WorkerDocument]


class GroupDocument(msgspec.Struct, kw_only=True):
    """Workers of one group."""

    group: str | None
    """Null: those that belong to none."""
    workers: int
    lost: int
    running: int
    """Jobs that they run."""
    jobs: int
    """Jobs that they have run."""
    scripts: list[str]
    tags: list[str]


class GroupList(msgspec.Struct):
    """The groups."""

    groups: list[GroupDocument]


class WorkerCounts(msgspec.Struct):
    """Workers, and what they have in hand."""

    alive: int
    running: int
    lost: int


class EndedCounts(msgspec.Struct, kw_only=True):
    """How jobs ended over some time, as workers told it."""

    success: int
    failure: int
    canceled: int
    busy_ms: float
    """Time inside `main`, all together."""


class GlanceTag(TagDocument, kw_only=True):
    """One tag, and how its jobs ended."""

    hour: EndedCounts
    """Over the last hour."""


class Series(msgspec.Struct, kw_only=True):
    """How jobs ended by minute, over the last hour; the last minute is under way."""

    minute: list[datetime]
    """When each minute began."""
    success: list[int]
    failure: list[int]
    canceled: list[int]
    busy_ms: list[float]
    """Time inside `main`, all together."""


class Overview(msgspec.Struct, kw_only=True):
    """How the queue is doing."""

    now: datetime
    jobs_per_second: float
    """Over the last seconds."""
    tags: list[GlanceTag]
    workers: WorkerCounts
    series: Series
    occupancy: dict[str, float | None]
    """Share of live workers' time inside `main`, 0 to 1, over `15s`, `5m` and `30m`; null: nobody says it."""


class WaitingReason(msgspec.Struct, kw_only=True):
    """One reason why a job waits."""

    kind: str
    """`scheduled`, `retry`, `sleep`, `approval`, `child`, `limit`, `suspect`, `no_worker`, `other_script`,
    `busy` or `next`.
    """
    text: str
    """The whole of it, for people."""
    until: datetime | None
    """When it is over, if that is known."""
    step: str | None
    """Of a run: the step that it is about."""
    job: UUID | None
    """Of a `child`: the job that is waited for."""
    workers: int | None
    """Live workers that could run it."""


class WaitingDocument(msgspec.Struct, kw_only=True):
    """Why a job waits; the reason that matters most first."""

    state: State
    reasons: list[WaitingReason]
    ahead: int | None
    """Jobs that are claimed before it; null: it is not due."""
    more_ahead: bool
    """Whether the count stopped before the end."""
    eta_seconds: float | None
    """About how long the workers that are there need for those; null: nobody can tell."""


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
