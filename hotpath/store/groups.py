"""Worker groups in the database: read, changed, deleted; what there is to remark about one; who runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.core.group_document import check_name, read_config
from hotpath.core.groups import GroupConfig, is_name, masked
from hotpath.errors import GroupChangedError, GroupInUseError, UnknownGroupError
from hotpath.store.queries import query

_encode = msgspec.json.encode


@attrs.frozen
class Group:
    """A group as it is stored."""

    name: str
    config: GroupConfig
    revision: int
    """Of all configurations, the one that this is: a changed one is another."""
    updated_at: datetime
    updated_by: str | None = None


@attrs.frozen
class GroupWorker:
    """A live worker of a group."""

    name: str
    group: str
    host: str
    pid: int
    script: str | None
    revision: int | None
    """Of the configuration that it runs with; None: with none."""
    trouble: str | None
    """Why it does not run with the newest."""
    is_part: bool = False
    """Whether it is a process that a normal worker keeps warm, and no worker of its own."""


@attrs.frozen
class Remark:
    """Something about a configuration that is allowed, and perhaps not meant."""

    field: str
    text: str


@attrs.frozen
class Put:
    """What came of a change."""

    group: Group
    before: Group | None
    """As it was; None: it was not there."""

    @property
    def is_changed(self) -> bool:
        """Whether it is another one now."""
        return self.before is None or self.before.revision != self.group.revision


async def find_group(connection: asyncpg_trio.Connection, name: str) -> Group | None:
    """The group of that name, if it is configured."""
    row = await connection.fetchrow(query("group_get"), name)
    return None if row is None else _group(row)


async def get_group(connection: asyncpg_trio.Connection, name: str) -> Group:
    """The same. Raises `UnknownGroupError`."""
    found = await find_group(connection, check_name(name))
    if found is None:
        raise UnknownGroupError(
            f"no group {name!r} is configured; `hotpath group list` shows them, `hotpath group set` makes one"
        )
    return found


async def list_groups(connection: asyncpg_trio.Connection) -> list[Group]:
    """All groups that are configured, by name."""
    return [_group(row) for row in await connection.fetch(query("group_list"))]


async def put_groups(
    connection: asyncpg_trio.Connection,
    changes: Mapping[str, Callable[[GroupConfig | None], GroupConfig]],
    by: str | None,
    revisions: Mapping[str, int] = MappingProxyType({}),
) -> list[Put]:
    """Give each of these groups, made if it is not there, the configuration that its function makes of the
    one that it has. One transaction, all or nothing; who is the same afterwards is not written. Raises
    `GroupChangedError` where one has another revision than `revisions` says; 0: it is not there.
    """
    done = []
    async with connection.transaction():
        # In one order: two who change the same groups do not wait for each other.
        for name in sorted(changes):
            row = await connection.fetchrow(query("group_lock"), check_name(name))
            before = None if row is None else _group(row)
            _check_revision(name, before, revisions.get(name))
            config = changes[name](None if before is None else before.config)
            if before is not None and before.config == config:
                done.append(Put(before, before))
                continue
            document = _encode(config.document()).decode()
            row = await connection.fetchrow(query("group_put"), name, document, by)
            done.append(Put(_group(row), before))
        for put in done:
            if put.is_changed:
                await connection.execute(query("config_changed"), f"group:{put.group.name}")
    return done


def _check_revision(name: str, before: Group | None, expected: int | None) -> None:
    found = 0 if before is None else before.revision
    if expected is None or expected == found:
        return
    if before is None:
        raise GroupChangedError(f"the group {name!r} is not configured any more: somebody has deleted it")
    by = before.updated_by or "somebody"
    raise GroupChangedError(
        f"the group {name!r} has revision {found}, which {by} made at {before.updated_at:%Y-%m-%d %H:%M:%S} "
        f"UTC, not {expected}: read it again, then change it"
    )


async def delete_group(
    connection: asyncpg_trio.Connection, name: str, *, force: bool = False
) -> list[GroupWorker]:
    """Delete a group; returns the live workers that belong to it, which go on as they are.

    Raises `UnknownGroupError`, and `GroupInUseError` if there are any, unless `force`.
    """
    async with connection.transaction():
        await get_group(connection, name)
        workers = [worker for worker in await group_workers(connection, name) if not worker.is_part]
        if workers and not force:
            some = ", ".join(worker.name for worker in workers[:3])
            some += f" and {len(workers) - 3} more" if len(workers) > 3 else ""
            count = len(workers)
            belong = "1 live worker belongs" if count == 1 else f"{count} live workers belong"
            raise GroupInUseError(
                f"{belong} to the group {name!r} ({some}): stop what runs it first, or force it: it "
                "goes on then with the configuration that it has"
            )
        await connection.execute(query("group_delete"), name)
        await connection.execute(query("config_changed"), f"group:{name}")
    return workers


async def group_workers(connection: asyncpg_trio.Connection, name: str | None = None) -> list[GroupWorker]:
    """Live workers of a group, or of any."""
    return [
        GroupWorker(
            row["name"], row["worker_group"], row["host"], row["pid"], row["script"], row["revision"],
            row["trouble"], row["is_part"],
        )
        for row in await connection.fetch(query("group_workers"), name)
    ]  # fmt: skip


async def say_applied(
    connection: asyncpg_trio.Connection, revisions: Mapping[int, int | None], trouble: str | None
) -> None:
    """Note with which revision these workers run, and why not with the newest."""
    text = None if trouble is None else trouble.replace("\0", "")[:2000]
    await connection.execute(query("group_said"), list(revisions), list(revisions.values()), text)


async def retag_workers(
    connection: asyncpg_trio.Connection, workers: Sequence[int], tags: Sequence[int]
) -> None:
    """These workers listen to other tags from now on."""
    await connection.execute(query("retag_workers"), list(workers), list(tags))


async def unknown_tags(connection: asyncpg_trio.Connection, patterns: Sequence[str]) -> list[str]:
    """Those of these names, patterns and exclusions that fit no tag which a script or a job has so far."""
    return [pattern for (pattern,) in await connection.fetch(query("group_tags_unknown"), list(patterns))]


async def remarks(connection: asyncpg_trio.Connection, name: str, config: GroupConfig) -> list[Remark]:
    """What is allowed in a configuration, and perhaps not meant."""
    found = []
    patterns = [tag.pattern for tag in config.tags]
    if patterns:
        for pattern in await unknown_tags(connection, patterns):
            what = "no script or job has this tag so far" if is_name(pattern) else "it fits no tag known here"
            found.append(Remark("tags", f"tags: {pattern!r}: {what}"))
    if config.dedicated:
        scripts = list(config.dedicated)
        for (script,) in await connection.fetch(query("group_scripts_unknown"), scripts):
            text = f"dedicated: nobody has registered {script!r}: its workers look for it in their workspace"
            found.append(Remark("dedicated", text))
        for other, script in await connection.fetch(query("group_shared"), name, scripts):
            text = f"dedicated: the group {other!r} is dedicated to {script!r} as well: both take its jobs"
            found.append(Remark("dedicated", text))
    return found


def _group(row: Any) -> Group:
    document = msgspec.json.decode(row["config"])
    return Group(row["name"], read_config(document), row["revision"], row["updated_at"], row["updated_by"])


def group_document(
    group: Group,
    workers: Sequence[GroupWorker] = (),
    remarks: Sequence[Remark] = (),
    *,
    reveal: bool = False,
) -> dict[str, Any]:
    """A group as `--json` and the HTTP API show it; the values of its environment only to `reveal` them."""
    config = group.config.document()
    return {
        "name": group.name,
        "revision": group.revision,
        "updated_at": group.updated_at.astimezone(UTC),
        "updated_by": group.updated_by,
        "config": config if reveal else masked(config),
        "workers": [
            {
                "name": worker.name,
                "host": worker.host,
                "pid": worker.pid,
                "script": worker.script,
                "revision": worker.revision,
                "is_part": worker.is_part,
                "is_current": worker.revision == group.revision and worker.trouble is None,
                "trouble": worker.trouble,
            }
            for worker in workers
        ],
        "remarks": [{"field": remark.field, "text": remark.text} for remark in remarks],
    }
