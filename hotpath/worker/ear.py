"""What a normal worker listens to: its row in the database, the tags that its patterns mean, its wakes."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.core.groups import is_name
from hotpath.core.tags import EXCLUDES, WILD, Patterns
from hotpath.store import mixed
from hotpath.store.groups import unknown_tags
from hotpath.store.mixed import Places
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.store.workers import register_normal, register_tags, say_tags, stop_worker
from hotpath.worker.facts import Row
from hotpath.worker.wake import Waker

if TYPE_CHECKING:
    from hotpath.store.complete import Connection
    from hotpath.store.work import WorkerSession
    from hotpath.worker.options import NormalOptions
    from hotpath.worker.report import NormalReporter
    from hotpath.worker.supervisor import Supervisor

log = logging.getLogger("hotpath.worker")

AGAIN = 0.25
"""Seconds between two tries to register."""
WITHIN = 10.0
"""Seconds that one try may take."""
LAST_WORDS = 5.0
"""Seconds that saying goodbye may take."""
DOZING = 500
"""Tags that the worker can be woken by; jobs in others are found by polling, within a second."""


@attrs.define(eq=False)
class Ear:
    """One normal worker's row, tags and wakes."""

    house: Supervisor
    options: NormalOptions
    reporter: NormalReporter
    places: Places
    wake: Callable[[], None]
    """Called when there may be work."""
    wake_everywhere: Callable[[], None]
    """Called when jobs have come back."""
    patterns: Patterns = attrs.field(init=False)
    name: str = ""
    worker: int = 0
    """Id of its row."""
    lost: bool = False
    """Whether that row has lost its lease."""
    waker: Waker = attrs.field(init=False)
    _warned: set[str] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.patterns = self.options.patterns
        self.waker = Waker(self.house.database.listen_dsn, 0, [])
        self.waker.wake, self.waker.wake_everywhere = self.wake, self.wake_everywhere

    # ------------------------------------------------------------ its row

    async def register(self) -> bool:
        """Be known in the database, however long that takes; False: asked to stop meanwhile."""
        self.house.rows.pop(self.worker, None)
        self.lost = False
        while not self.house.stop.count:
            self.name = f"{socket.gethostname()}-{secrets.token_hex(3)}"
            try:
                async with self.house.database.connection(within=WITHIN) as connection:
                    await self.read_tags(connection)
                    self.worker = await register_normal(
                        connection,
                        name=self.name,
                        group=self.options.group,
                        tags=self._named(),
                        patterns=self.patterns.texts,
                        pid=os.getpid(),
                        slots=self.options.slots,
                        lease=self.options.lease,
                    )
            except ANY_TROUBLE as error:
                self.house.weather.bad(error)
                with trio.move_on_after(AGAIN):
                    await self.house.stop.asked.wait()
            else:
                self.waker.worker = self.worker
                self.house.rows[self.worker] = Row(self._lose, self._deaf)
                if self.house.news is not None:
                    self.house.news()
                return True
        return False

    def _lose(self) -> None:
        log.warning("worker %s has lost its lease: it goes on under another name", self.name)
        self.lost = True
        self.wake()

    def _deaf(self) -> bool:
        return self.waker.deaf

    async def leave(self) -> None:
        """The worker has ended."""
        self.house.rows.pop(self.worker, None)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WORDS):
            try:
                async with self.house.database.connection(within=LAST_WORDS) as connection:
                    await stop_worker(connection, self.worker, 0)
            except ANY_TROUBLE as error:
                log.warning("the database was not told that worker %s ended: %s", self.name, error)

    # ------------------------------------------------------------ tags

    async def listen(self, patterns: Patterns) -> None:
        """Listen to these from now on. What has been claimed runs all the same."""
        self.patterns = patterns
        async with self.house.database.connection(within=WITHIN) as connection:
            await self.read_tags(connection)
            await say_tags(connection, self.worker, self._named(), patterns.texts)
        self.wake_everywhere()

    async def read_tags(self, connection: Connection) -> None:
        """Find out which tags the patterns mean."""
        names = await mixed.listened_tags(connection, self.patterns.texts)
        unknown = await unknown_tags(connection, self.patterns.texts)
        if self.patterns.names is not None:
            names |= dict(await register_tags(connection, self.patterns.names))
        self._know(names)
        for text in unknown:
            if text not in self._warned and text != WILD and not text.startswith(EXCLUDES):
                self._warned.add(text)
                what = "no script or job has this tag" if is_name(text) else "it fits no tag that is known"
                self.reporter.warn(f"tags: {text}: {what} so far")

    async def find_tags(self, session: WorkerSession) -> Container[int] | None:
        """Look for tags that nobody had used before. Returns those in which jobs wait; None: not known."""
        if self.patterns.names is not None:
            return None
        waiting = await mixed.waiting_tags(session)
        new = {
            key: name
            for key, name in waiting.items()
            if key not in self.places.names and self.patterns.listens(name)
        }
        if new:
            self._know({**self.places.names, **new})
        return None if len(waiting) >= mixed.TAGS else waiting

    async def read_pauses(self, connection: Connection) -> None:
        """Find out which tags are paused."""
        self.places.paused = await mixed.paused_tags(connection)

    def _know(self, names: Mapping[int, str]) -> None:
        self.places.know(names)
        self.waker.listen(list(names)[-DOZING:])

    def _named(self) -> list[int]:
        """Keys of the tags that it listens to by name."""
        wanted = set(self.patterns.names or ())
        return [key for key, name in self.places.names.items() if name in wanted]
