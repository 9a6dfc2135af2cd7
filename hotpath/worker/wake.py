"""Falling asleep and being woken: LISTEN, and the note in the database that somebody sleeps.

A NOTIFY takes one lock for the whole database at commit, so enqueuers send none unless a worker has said that
it dozes on the tag. Both are hints: the worker's loop polls as well.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import attrs
import trio

from hotpath.store.listen import Listener, open_listener
from hotpath.store.trouble import CONNECTION_ERRORS

log = logging.getLogger("hotpath.worker")

BELIEVED = 5.0
"""Seconds that a note of sleep counts, unless it is renewed."""
RENEW = 3.0
BUSY = 0.1
"""Seconds of work after which the note is withdrawn; a job now and then is no reason to."""


@attrs.define(eq=False)
class Waker:
    """Listens for one worker and keeps its note of sleep. `idle` and `busy` are called by its loop, at no
    cost.
    """

    dsn: str
    worker: int
    tags: Sequence[int]
    wake: Callable[[], None] = attrs.field(default=lambda: None)
    """What to call when there may be work."""
    _noted_at: float = -1e9
    _busy_since: float | None = None
    _wanted: bool = False
    """Whether the note should be there."""
    _change: trio.Event = attrs.field(factory=trio.Event)

    def idle(self) -> None:
        """The loop found nothing to do."""
        self._busy_since = None
        if not self._wanted or time.monotonic() - self._noted_at > RENEW:
            self._wanted = True
            self._change.set()

    def busy(self) -> None:
        """The loop found something to do."""
        if not self._wanted:
            return
        now = time.monotonic()
        if self._busy_since is None:
            self._busy_since = now
        elif now - self._busy_since > BUSY:
            self._wanted = False
            self._change.set()

    async def run(self) -> None:
        """Listen, and connect again whenever that breaks, until cancelled."""
        wait = 0.05
        while True:
            try:
                async with open_listener(self.dsn, "hotpath") as listener, trio.open_nursery() as nursery:
                    wait = 0.05
                    self._noted_at = -1e9
                    nursery.start_soon(self._keep_note, listener)
                    self.wake()  # what came while nobody listened
                    keys = {str(tag) for tag in self.tags}
                    async for notification in listener.notifications:
                        if notification.payload in keys:
                            self.wake()
            except* CONNECTION_ERRORS as group:
                log.warning("listening broke, polling goes on: %s", group.exceptions[0])
            await trio.sleep(wait)
            wait = min(wait * 2, 5.0)

    async def _keep_note(self, listener: Listener) -> None:
        while True:
            self._change = trio.Event()
            if self._wanted and time.monotonic() - self._noted_at > RENEW:
                await listener.doze(self.worker, self.tags, BELIEVED)
                self._noted_at = time.monotonic()
                self.wake()  # an enqueue may have looked just before the note was there
            elif not self._wanted and self._noted_at > 0:
                await listener.awake(self.worker)
                self._noted_at = -1e9
            await self._change.wait()
