"""What a client does with retention: read what is said, say something else, drop what is not kept."""

from __future__ import annotations

import os
import socket

from hotpath.store import retention as store
from hotpath.store.database import Database
from hotpath.store.prune import Pruned, prune
from hotpath.store.prune_plan import Plan, make_plan
from hotpath.store.retention import Entry, Rules


class Retained:
    """A part of `hotpath.client.Client`."""

    database: Database

    async def retention(self) -> Rules:
        """For how long what is kept, for all and for each script."""
        async with self.database.connection() as connection:
            return await store.read_rules(connection)

    async def set_retention(
        self,
        script: str | None = None,
        *,
        jobs: str | float | None = None,
        results: str | float | None = None,
        args: str | float | None = None,
        logs: str | float | None = None,
        disk: str | int | None = None,
    ) -> Entry:
        """Say for how long things are kept, of a script or (None) of all: spans such as `"30d"` or
        `"forever"`, or seconds; `disk`: what all tables may take, such as `"20G"`, or `"forever"`. What is
        not given stays as it was said. Raises `UsageError` that names what cannot be.
        """
        spans = {"jobs": jobs, "results": results, "args": args, "logs": logs}
        async with self.database.connection() as connection:
            return await store.set_rule(connection, script, spans, disk=disk)

    async def clear_retention(self, script: str | None = None) -> bool:
        """Say nothing any more of a script, or of all; whether something was said."""
        async with self.database.connection() as connection:
            return await store.clear_rule(connection, script)

    async def prune_plan(self) -> Plan:
        """What is not kept any more, and would go now."""
        async with self.database.connection() as connection:
            return await make_plan(connection)

    async def prune(self, *, seconds: float = float("inf")) -> Pruned | None:
        """Drop what is not kept any more, for about so many seconds; None: somebody else is at it."""
        holder = f"{socket.gethostname()}:{os.getpid()} (client)"
        async with self.database.connection() as connection:
            return await prune(connection, holder, seconds=seconds, gently=False)
