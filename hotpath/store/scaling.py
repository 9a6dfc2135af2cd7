"""How many workers each group needs: its scale, and what is measured of it; `core/scaling.py` is the rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from hotpath.core.scaling import Load, Need, Scale, check_group, check_scale, need, reasons
from hotpath.errors import UsageError
from hotpath.store.complete import Connection
from hotpath.store.queries import query

DEFAULT_GROUP = "default"
"""The group of workers that say none."""


@attrs.frozen(kw_only=True)
class Scaling:
    """One group: how many workers it has, how many it needs and why."""

    group: str
    workers: int
    """Those that live."""
    is_set: bool
    """Whether it has a scale of its own; if not, it has the defaults."""
    scale: Scale
    load: Load
    need: Need
    is_cut: bool
    """Whether more jobs wait than were counted."""
    patterns: list[str] | None
    """Of the tags that count; None: no worker of the group was ever seen, and nothing names its tags."""
    tags: list[dict[str, Any]]
    """Tags of jobs that wait, the fullest first: `tag`, `waiting`, `service_seconds`."""
    ended: int
    """Attempts that have ended, from the beginning."""

    @property
    def why(self) -> list[str]:
        """Everything that went into the number."""
        found = reasons(self.load, self.scale, self.need)
        if self.patterns is None:
            found.insert(0, f"nothing names its tags: hotpath autoscale set {self.group} --tags a,b")
        return found


async def read_groups(connection: Connection) -> list[str]:
    """Names of the groups that have a scale, a configuration or live workers."""
    return [row["name"] for row in await connection.fetch(query("scale_groups"))]


async def read_scaling(connection: Connection, group: str) -> Scaling:
    """Look at one group now; one that nobody knows has the defaults and no workers."""
    row = await connection.fetchrow(query("scale_facts"), group)
    assert row is not None
    scale = Scale(
        min_workers=row["min_workers"], max_workers=row["max_workers"], target_seconds=row["target_seconds"],
        cooldown_seconds=row["cooldown_seconds"], utilisation=row["utilisation"], processes=row["processes"],
    )  # fmt: skip
    load = Load(
        waiting=row["waiting"], held=row["held"], work_seconds=row["work_seconds"],
        service_seconds=row["service_seconds"], arrivals=row["arrivals"], concurrency=row["concurrency"],
        occupied=row["occupied"],
    )  # fmt: skip
    return Scaling(
        group=group, workers=row["workers"], is_set=row["is_set"], scale=scale, load=load,
        need=need(load, scale), is_cut=row["is_cut"], patterns=row["patterns"], tags=_tags(row["tags"]),
        ended=row["ended"],
    )  # fmt: skip


def _tags(found: str | None) -> list[dict[str, Any]]:
    import msgspec

    tags: list[dict[str, Any]] = msgspec.json.decode(found) if found else []
    return tags


@attrs.frozen(kw_only=True)
class GroupGauge:
    """What a scrape tells of a group that has a scale."""

    name: str
    workers: int
    wanted: int
    waiting: int
    is_cut: bool
    held: int
    work_seconds: float | None
    arrivals: float | None
    service_seconds: float | None
    min_workers: int
    max_workers: int


async def read_group_gauges(connection: Connection) -> list[GroupGauge]:
    """Groups that have a scale, a hundred at most."""
    return [GroupGauge(**dict(row)) for row in await connection.fetch(query("scale_gauges"))]


async def read_scale(connection: Connection, group: str, *, lock: bool = False) -> Scale | None:
    """What is wanted of a group, if need be locked till the end of the transaction; None: it has the
    defaults.
    """
    row = await connection.fetchrow(query("scale_lock" if lock else "scale_get"), group)
    if row is None:
        return None
    tags = row["tags"]
    return Scale(**(dict(row) | {"tags": None if tags is None else tuple(tags)}))


async def set_scale(connection: Connection, group: str, change: Callable[[Scale], Scale]) -> Scale:
    """Change what is wanted of a group; supervisors hear of it. Raises `UsageError` for what cannot be."""
    check_group(group)
    async with connection.transaction():
        scale = check_scale(change(await read_scale(connection, group, lock=True) or Scale()))
        tags = None if scale.tags is None else list(scale.tags)
        await connection.execute(
            query("scale_set"), group, scale.min_workers, scale.max_workers, scale.target_seconds,
            scale.cooldown_seconds, scale.utilisation, scale.processes, tags,
        )  # fmt: skip
        await connection.execute(query("config_changed"), f"group:{group}")
    return scale


async def unset_scale(connection: Connection, group: str) -> None:
    """Have a group use the defaults. Raises `UsageError` if it does."""
    async with connection.transaction():
        if await connection.fetchval(query("scale_unset"), group) is None:
            raise UsageError(f"the group {group!r} has no scale; see `hotpath autoscale --dry-run`")
        await connection.execute(query("config_changed"), f"group:{group}")


async def look_at(connection: Connection, group: str) -> None:
    """Remember how the group looks now: the next look tells by it how many jobs arrive."""
    await connection.execute(query("scale_look"), group)


async def look_at_all(connection: Connection) -> int:
    """The same for every group that has a scale, if nobody has done so just now; return for how many."""
    looked: int = await connection.fetchval(query("scale_look_at_all"))
    return looked


def scaling_document(found: Scaling) -> dict[str, Any]:
    """A group as `--json` and the HTTP API show it."""
    scale = attrs.asdict(found.scale)
    del scale["tags"]
    return {
        "group": found.group,
        "workers": found.workers,
        "wanted": found.need.wanted,
        "why": found.why,
        "is_set": found.is_set,
        "patterns": found.patterns,
        "more_waiting": found.is_cut,
        "scale": scale,
        "load": attrs.asdict(found.load),
        "need": attrs.asdict(found.need),
        "tags": found.tags,
    }
