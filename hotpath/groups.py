"""What a client does with worker groups: read their configuration, change it, see who runs it."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hotpath.core.group_document import merged, read_config
from hotpath.core.groups import GroupConfig
from hotpath.store import groups as store
from hotpath.store.database import Database
from hotpath.store.groups import Group, GroupWorker, Put, Remark


def changing(
    changes: Mapping[str, Any], unset: Iterable[str] = ()
) -> Callable[[GroupConfig | None], GroupConfig]:
    """Changes these fields of a configuration, takes out those of `unset`, and leaves the others."""
    return lambda before: merged(before or GroupConfig(), changes, unset)


def replacing(document: Mapping[str, Any]) -> Callable[[GroupConfig | None], GroupConfig]:
    """Puts this configuration in the place of another."""
    return lambda before: read_config(document, before)


def whoami() -> str:
    """Who makes a change, where nobody says: the user and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


class Groups:
    """A part of `hotpath.client.Client`."""

    database: Database

    async def groups(self) -> list[Group]:
        """The groups that are configured, by name."""
        async with self.database.connection() as connection:
            return await store.list_groups(connection)

    async def group(self, name: str) -> Group:
        """One of them. Raises `UnknownGroupError`."""
        async with self.database.connection() as connection:
            return await store.get_group(connection, name)

    async def group_workers(self, name: str | None = None) -> list[GroupWorker]:
        """Live workers of a group, or of any."""
        async with self.database.connection() as connection:
            return await store.group_workers(connection, name)

    async def group_remarks(self, group: Group) -> list[Remark]:
        """What is allowed in its configuration, and perhaps not meant."""
        async with self.database.connection() as connection:
            return await store.remarks(connection, group.name, group.config)

    async def set_group(
        self, name: str, *, unset: Iterable[str] = (), by: str | None = None, **changes: Any
    ) -> Put:
        """Change these fields of a group, which is made if it is not there; its workers heed it within a
        second. `env` and `periodic` are changed by name, all else as a whole; `unset` takes out fields, or
        `env.NAME`. Raises `UsageError` that names the field.
        """
        return (await self.put_groups({name: changing(changes, unset)}, by))[0]

    async def put_groups(
        self,
        changes: Mapping[str, Callable[[GroupConfig | None], GroupConfig]],
        by: str | None = None,
        *,
        revisions: Mapping[str, int] | None = None,
    ) -> list[Put]:
        """Change several groups, all or none. Raises `GroupChangedError` where one has another revision than
        `revisions` says; 0: it is not there.
        """
        async with self.database.connection() as connection:
            return await store.put_groups(connection, changes, by or whoami(), revisions or {})

    async def delete_group(self, name: str, *, force: bool = False) -> list[GroupWorker]:
        """Delete a group; returns the live workers that go on with the configuration that they have. Raises
        `UnknownGroupError`, and `GroupInUseError` if there are any, unless `force`.
        """
        async with self.database.connection() as connection:
            return await store.delete_group(connection, name, force=force)
