"""What is configured in the database has changed: whoever heeds some of it reads it again.

A change is told by NOTIFY, which may be lost, and found by its revision, which is looked at with each
heartbeat.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

import attrs
import trio

from hotpath.store.complete import Connection
from hotpath.store.database import Database
from hotpath.store.listen import PooledError, open_listener
from hotpath.store.queries import query
from hotpath.store.trouble import ANY_TROUBLE

log = logging.getLogger("hotpath.worker")

CHANNEL = "hotpath_config"
LOOK_EVERY = 1.0
"""Seconds between two looks at the revision, where no heartbeat brings it."""
WITHIN = 10.0
"""Seconds that reading something again may take."""
AGAIN = 0.5
"""Seconds until the next try when it did not get through; varied by half."""


@attrs.define(eq=False)
class Changes:
    """Who heeds what is configured, and how it is told."""

    number: int = 0
    """Goes up with each change, as far as is known here."""
    _revision: int | None = None
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def hint(self) -> None:
        """Something has changed."""
        self.number += 1
        self._changed.set()
        self._changed = trio.Event()

    async def look(self, connection: Connection) -> None:
        """See whether something has changed that was not told."""
        revision = await connection.fetchval(query("config_revision"))
        if revision != self._revision:
            self._revision = revision
            self.hint()

    async def heed(self, database: Database, read: Callable[[Connection], Awaitable[object]]) -> None:
        """Have something read now and after each change, until cancelled. What `read` raises for the
        database's sake makes it be called again.
        """
        seen = -1
        while True:
            while seen == self.number:
                await self._changed.wait()
            seen = self.number
            try:
                async with database.connection(within=WITHIN) as connection:
                    await read(connection)
            except ANY_TROUBLE as error:
                log.debug("what has changed cannot be read yet: %s", error)
                seen = -1
                await trio.sleep(AGAIN * random.uniform(0.5, 1.5))

    async def follow(self, database: Database) -> None:
        """Hear of changes, and look for them, where no supervisor's pulse does; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, database)
            while True:
                try:
                    async with database.connection(within=WITHIN) as connection:
                        await self.look(connection)
                except ANY_TROUBLE as error:
                    log.debug("the revision of the configuration cannot be read: %s", error)
                await trio.sleep(LOOK_EVERY)

    async def _hear(self, database: Database) -> None:
        while database.can_listen:
            try:
                async with open_listener(database.listen_dsn, CHANNEL) as listener:
                    self.hint()
                    async for _ in listener.notifications:
                        self.hint()
            except PooledError:
                return
            except ANY_TROUBLE as error:
                log.debug("changes of the configuration are not heard at once: %s", error)
            await trio.sleep(LOOK_EVERY)
