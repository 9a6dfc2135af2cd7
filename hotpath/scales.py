"""What a client does with how many workers a group needs: look, and say what is wanted."""

from __future__ import annotations

from typing import Any

import attrs

from hotpath.core.scaling import Scale, check_group
from hotpath.store import scaling as store
from hotpath.store.database import Database
from hotpath.store.scaling import Scaling


class Scales:
    """A part of `hotpath.client.Client`."""

    database: Database

    async def scaling(self, group: str) -> Scaling:
        """How many workers a group has, how many it needs and why; one that nobody knows has the defaults."""
        async with self.database.connection() as connection:
            return await store.read_scaling(connection, check_group(group))

    async def scalings(self) -> list[Scaling]:
        """The same of all groups that have a scale, a configuration or live workers."""
        async with self.database.connection() as connection:
            return [
                await store.read_scaling(connection, name) for name in await store.read_groups(connection)
            ]

    async def scale(self, group: str) -> Scale | None:
        """What was said is wanted of a group; None: it has the defaults."""
        async with self.database.connection() as connection:
            return await store.read_scale(connection, check_group(group))

    async def set_scale(self, group: str, **changes: Any) -> Scale:
        """Change what is wanted of a group, by the names of `Scale`; what is not named stays. Raises
        `UsageError` for what cannot be.
        """
        async with self.database.connection() as connection:
            return await store.set_scale(connection, group, lambda scale: attrs.evolve(scale, **changes))

    async def unset_scale(self, group: str) -> None:
        """Have a group use the defaults. Raises `UsageError` if it does."""
        async with self.database.connection() as connection:
            await store.unset_scale(connection, group)
