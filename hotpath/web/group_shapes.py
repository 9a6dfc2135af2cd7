"""Worker groups as the API takes and shows them; `hotpath.core.group_document` checks the fields."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from hotpath.core.groups import FIELDS
from hotpath.web.hints import hint

Count = int | UnsetType | None
Span = float | str | UnsetType | None
"""Seconds, or text."""
SUCH_AS = "such as 90s, 10m or 2h"


class TagWithPriority(msgspec.Struct, forbid_unknown_fields=True):
    """A pattern of tags, and what its jobs are worth."""

    tag: str
    priority: int = 0
    """Tags of a larger one come first."""


class ScriptDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A script of a few lines."""

    text: str
    language: str | None = None
    """`shell` or `python`; by default what its `#!` says, else `shell`."""


class PeriodicDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A script that runs again and again beside the workers."""

    name: str
    every: float | str
    """Seconds from one start to the next, 10 or more; or text such as `5m`."""
    text: str
    language: str | None = None
    timeout: float | str | None = None
    """Seconds that one run may take; by default 300."""


class GroupFields(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The configuration of a group. What is null or not there: the workers' own default."""

    tags: Annotated[
        list[str | TagWithPriority] | UnsetType | None,
        hint("names, etl-*, !etl-slow; jobs of vip:5 come first", format="lines"),
    ] = UNSET
    dedicated: Annotated[
        list[str] | UnsetType | None, hint("scripts or flows that have workers of their own", format="lines")
    ] = UNSET
    processes: Annotated[Count, hint("worker processes of each dedicated script", minimum=1)] = UNSET
    concurrency: Annotated[Count, hint("jobs at a time in one process, for an async main", minimum=1)] = UNSET
    slots: Annotated[Count, hint("jobs at a time of a normal worker", minimum=1)] = UNSET
    warm: Annotated[Count, hint("scripts that a normal worker keeps warm", minimum=1)] = UNSET
    env: Annotated[
        dict[str, str] | UnsetType | None,
        hint("values are masked; what stays masked stays as it is", format="pairs"),
    ] = UNSET
    env_from_host: Annotated[
        list[str] | UnsetType | None,
        hint("variables of who starts the workers: for secrets", format="lines"),
    ] = UNSET
    path: Annotated[list[str] | UnsetType | None, hint("directories more on sys.path", format="lines")] = (
        UNSET
    )
    grace: Annotated[Span, hint(f"what jobs get to finish when workers stop, {SUCH_AS}", format="line")] = (
        UNSET
    )
    lease: Annotated[
        Span, hint(f"without a sign of life, then others take the jobs, {SUCH_AS}", format="line")
    ] = UNSET
    max_jobs: Annotated[Count, hint("jobs after which a process makes room for a new one", minimum=1)] = UNSET
    max_rss: Annotated[
        int | str | UnsetType | None,
        hint("memory above which it does so, such as 512M or 2G", format="size"),
    ] = UNSET
    alert_min_workers: Annotated[Count, hint("fewer live workers make the alert “short” fire", minimum=1)] = (
        UNSET
    )
    init: Annotated[
        str | ScriptDocument | UnsetType | None,
        hint("runs once, before any worker: shell, or what its #! names", format="text"),
    ] = UNSET
    init_timeout: Annotated[Span, hint(f"what it may take, by default 300 s, {SUCH_AS}", format="line")] = (
        UNSET
    )
    periodic: Annotated[
        list[PeriodicDocument] | UnsetType | None,
        hint("scripts that run again and again beside the workers"),
    ] = UNSET

    def document(self) -> dict[str, Any]:
        """The fields that were given, as the core reads them; null stays."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        return shown


assert set(GroupFields.__struct_fields__) == set(FIELDS), "one document everywhere"


class GroupMember(msgspec.Struct, kw_only=True):
    """A live worker of a group."""

    name: str
    host: str
    pid: int
    script: str | None
    revision: int | None
    """Of the configuration that it runs with; null: with none."""
    is_part: bool
    """Whether it is a process that a normal worker keeps warm, and no worker of its own."""
    is_current: bool
    """Whether that is the newest."""
    trouble: str | None
    """Why it is not."""


class RemarkDocument(msgspec.Struct):
    """Something about a configuration that is allowed, and perhaps not meant."""

    field: str
    text: str


class ConfiguredGroup(msgspec.Struct, kw_only=True):
    """A group's configuration, and who runs it."""

    name: str
    revision: int
    """Of all configurations, the one that this is."""
    updated_at: datetime
    updated_by: str | None
    config: GroupFields
    workers: list[GroupMember]
    remarks: list[RemarkDocument]


class DeletedGroup(msgspec.Struct, kw_only=True):
    """A group that is no longer configured."""

    name: str
    workers: list[str]
    """Live workers that go on with the configuration that they have."""
