"""What the API says of how many workers a group needs."""

from __future__ import annotations

from typing import Annotated

import msgspec

from hotpath.web.hints import hint


class ScaleSettings(msgspec.Struct, kw_only=True):
    """What is wanted of a group."""

    min_workers: int
    max_workers: int
    target_seconds: float
    """Within which what waits is to be done."""
    cooldown_seconds: float
    """For so long fewer workers must have been enough before some are stopped."""
    utilisation: float
    """Share of their time that workers are to be occupied by what arrives."""
    processes: int
    """Workers of one command or pod."""


class SaidScale(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is said that is wanted of a group; what is not given is as by default."""

    min_workers: Annotated[int, hint("workers at least; 0: none when idle")] = 1
    max_workers: Annotated[int, hint("workers at most")] = 10
    target_seconds: Annotated[float, hint("within which what waits is to be done")] = 60.0
    cooldown_seconds: Annotated[
        float, hint("the cool-down: for so long fewer must have been enough before some are stopped")
    ] = 120.0
    utilisation: Annotated[
        float, hint("share of their time that workers are to be occupied by what arrives")
    ] = 0.8
    processes: Annotated[
        int | None, hint("workers of one command or pod; left out: as the group is configured")
    ] = None
    tags: Annotated[
        list[str] | None, hint("tags that count, or patterns; left out: those of the group", format="lines")
    ] = None


class ScaleLoad(msgspec.Struct, kw_only=True):
    """What is asked of a group, as it was measured."""

    waiting: int
    """Jobs that are due and wait, counted as far as it could change the number."""
    held: int
    """Jobs that workers hold."""
    work_seconds: float | None
    """How long one job at a time would take for those that wait; null: nobody knows."""
    service_seconds: float | None
    """How long a job takes; null: none has ended yet."""
    arrivals: float | None
    """Jobs a second that come in; null: not known yet."""
    concurrency: float
    """Jobs at a time in one worker."""
    occupied: float
    """How many workers' time is spent inside `main`."""


class ScaleNeed(msgspec.Struct, kw_only=True):
    """How many workers are needed, and what of."""

    wanted: int
    exact: float
    """Before it was rounded up and put between the bounds."""
    arriving: float
    """Workers for what arrives."""
    draining: float
    """Workers for what waits."""
    stuck: float
    """Workers that will not be free within the target."""
    bound: str | None
    """`min`, `max`, `one` (something waits or runs), or null: the exact number, rounded up."""


class ScaleTag(msgspec.Struct, kw_only=True):
    """A tag with jobs that wait."""

    tag: str | None
    waiting: int
    service_seconds: float | None


class GroupScaling(msgspec.Struct, kw_only=True):
    """How many workers a group has and needs, and why."""

    group: str
    workers: int
    """Those that live."""
    wanted: int
    why: list[str]
    """Everything that went into the number, in words."""
    is_set: bool
    """Whether it has a scale of its own; if not, it has the defaults."""
    said: SaidScale | None
    """That scale as it was said."""
    patterns: list[str] | None
    """Of the tags that count; null: nothing names them."""
    more_waiting: bool
    """Whether the count stopped before the end."""
    scale: ScaleSettings
    load: ScaleLoad
    need: ScaleNeed
    tags: list[ScaleTag]
    """The 20 tags with most jobs that wait."""
