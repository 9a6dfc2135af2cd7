"""The documents of tags, workers and the like as types: see `hotpath.web.shapes`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from hotpath.model import State


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
    stranded: str | None
    """Why jobs that are due here will not run: `no_worker` listens, or only workers of `other_script`s do."""
    stranded_scripts: list[str]
    """The scripts of those jobs."""
    paused: str | None
    """That it is paused, until when and why: no worker claims from it."""


class StrandedDocument(msgspec.Struct, kw_only=True):
    """Jobs of one script in one tag that are due and that nobody will run."""

    tag: str
    script: str
    waiting: int
    """As many as were looked at."""
    more: bool
    """Whether there may be more."""
    oldest: datetime
    """Since when the oldest has been due."""
    why: str
    """`no_worker` listens to the tag, or only workers of `other_script`s do."""
    text: str
    """The whole of it and how to mend it, for people."""


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
    patterns: list[str] | None
    """Tags that it listens to by pattern; null: those in `tags` alone."""
    version: str | None
    """Hash of the version that it runs, if it is dedicated to a script."""
    refused: str | None
    """Hash of the version that it was to run and could not."""
    refusal: str | None
    """Why; without a version: why it never runs another one."""


class WorkerList(msgspec.Struct):
    """Workers, by name."""

    workers: list[WorkerDocument]


class GroupDocument(msgspec.Struct, kw_only=True):
    """Workers of one group."""

    group: str | None
    """Null: those that belong to none."""
    revision: int | None
    """Of its configuration; null: the group is not configured."""
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
    stranded: list[StrandedDocument]
    """Jobs that are due and that nobody will run."""


class WaitingReason(msgspec.Struct, kw_only=True):
    """One reason why a job waits."""

    kind: str
    """`scheduled`, `retry`, `sleep`, `approval`, `child`, `limit`, `suspect`, `no_worker`, `other_script`,
    `busy`, `next` or `paused`: the tag is.
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
