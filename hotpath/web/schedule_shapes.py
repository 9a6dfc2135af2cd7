"""The documents of schedules as types: what `hotpath.documents` makes, and what the OpenAPI document says."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from hotpath.model import State


class ScheduleDocument(msgspec.Struct, kw_only=True):
    """A schedule. One of `cron`, `every` and `at` is not null."""

    name: str
    state: str
    """`active`, `paused`, or `over`: there is no tick to come."""
    script: str
    args: dict[str, Any]
    """Of its jobs, without secrets."""
    cron: str | None
    every: float | None
    """Seconds."""
    at: str | None
    """A time in UTC."""
    timezone: str
    catch_up: str
    """What of the ticks that nobody was there for becomes jobs: `none`, `last` or `all`."""
    catch_up_within: float
    """Seconds: none that is older."""
    overlap: str
    """What a tick does while the job before has not ended: `allow`, `skip` or `queue_one`."""
    tag: str | None
    """Null: the script's own; likewise `timeout`, in seconds, and a priority of 0."""
    priority: int
    timeout: float | None
    enabled: bool
    next_at: datetime | None
    held_at: datetime | None
    """A tick that waits for the job before to end."""
    last_at: datetime | None
    """The last tick that became a job."""
    last_job: UUID | None
    ticks: int
    """That became jobs."""
    missed: int
    """That were not caught up: at least so many."""
    skipped: int
    """That were not allowed to overlap."""
    refused: int
    """That could not become jobs."""
    last_error: str | None
    """Why the last tick could not."""
    last_error_at: datetime | None
    created_at: datetime
    updated_at: datetime
    next: list[datetime]
    """Ticks ahead, as many as were asked for."""


class ScheduleList(msgspec.Struct):
    """A page of schedules, by name."""

    schedules: list[ScheduleDocument]
    next: str | None
    """For `after`, to get the next page; null: there is none."""


class TickDocument(msgspec.Struct, kw_only=True):
    """A tick that became a job."""

    at: datetime
    by_hand: bool
    job: UUID | None
    state: State | None
    """Of the job; null: nobody knows it any more."""
    started_at: datetime | None
    duration_ms: float | None


class TickList(msgspec.Struct):
    """The last ticks of a schedule, the newest first."""

    ticks: list[TickDocument]


class Deleted(msgspec.Struct):
    """What was deleted."""

    deleted: str
