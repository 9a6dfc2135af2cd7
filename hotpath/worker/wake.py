"""Falling asleep and being woken: LISTEN, and the note in the database that somebody sleeps.

A NOTIFY takes one lock for the whole database at commit, so enqueuers send none unless a worker has said that
it dozes on the tag. Both are hints: the worker's loop polls as well.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

import attrs
import trio

from hotpath.store.listen import Listener, PooledError, open_listener
from hotpath.store.trouble import ANY_TROUBLE

log = logging.getLogger("hotpath.worker")

BELIEVED = 5.0
"""Seconds that a note of sleep counts, unless it is renewed."""
RENEW = 3.0
POLLS_ENOUGH = 0.016
"""Seconds between looks up to which the loop needs no waking: it is awake."""
STREAM, STREAM_FINDS = 0.008, 4
"""Finds so many times in a row within so many seconds of each other are a stream of jobs: looking often finds
the next one, and 16 clients that NOTIFY at every enqueue would be five times slower."""

RECONNECT = (0.05, 2.0)
"""Seconds before the first and before any later try to listen again; until then the loop polls, once a
second at least."""
POOLED = 60.0
"""Seconds before the next try where a pooler was in the way."""
SAY_EVERY = 10.0
"""Seconds between two lines in the log about the same bad weather."""


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
    wake_everywhere: Callable[[], None] = attrs.field(default=lambda: None)
    """What to call when jobs have come back, which lie before those that were claimed last."""
    deaf: bool = False
    """Whether it does not hear at present, and the loop finds jobs by polling; not before that has been
    tried, or each worker that starts would be told of.
    """
    _noted_at: float = -1e9
    _last_find: float = -1e9
    _finds: int = 0
    _wanted: bool = False
    """Whether the note should be there."""
    _change: trio.Event = attrs.field(factory=trio.Event)
    _keys: frozenset[str] = frozenset()
    _stale: bool = False
    """Whether the note that is there names tags that are no longer listened to."""

    def __attrs_post_init__(self) -> None:
        self.listen(self.tags)

    def listen(self, tags: Sequence[int]) -> None:
        """Be woken for these tags, and no others."""
        self.tags = tags
        self._keys = frozenset(map(str, tags))
        self._stale = self._noted_at > 0
        self._change.set()

    def idle(self, wait: float) -> None:
        """The loop found nothing to do, and will look again in `wait` seconds."""
        # While it looks every few milliseconds anyway, a note would only cost enqueuers.
        if self._wanted:
            if time.monotonic() - self._noted_at > RENEW:
                self._change.set()
        elif wait >= POLLS_ENOUGH:
            self._wanted = True
            self._change.set()

    @property
    def streaming(self) -> bool:
        """Whether jobs have been coming one find after the other."""
        return self._finds >= STREAM_FINDS

    def busy(self) -> None:
        """The loop found something to do."""
        now = time.monotonic()
        if now - self._last_find < STREAM:
            self._finds += 1
            if self._finds >= STREAM_FINDS and self._wanted:
                self._wanted = False
                self._change.set()
        else:
            self._finds = 0
        self._last_find = now

    async def run(self) -> None:
        """Listen, and connect again whenever that breaks or turns out deaf, until cancelled."""
        first, longest = RECONNECT
        wait, said_at = first, -1e9
        while True:
            try:
                async with open_listener(self.dsn, "hotpath") as listener, trio.open_nursery() as nursery:
                    wait, self.deaf = first, False
                    self._noted_at = -1e9
                    nursery.start_soon(self._keep_note, listener)
                    self.wake()  # what came while nobody listened
                    async for notification in listener.notifications:
                        tag, _, back = notification.payload.partition(" ")
                        if tag in self._keys:
                            (self.wake_everywhere if back else self.wake)()
            except* PooledError as group:
                self.deaf = True
                if wait != POOLED:
                    log.warning("jobs are found by polling alone: %s", _line(group))
                wait = POOLED
            except* ANY_TROUBLE as group:
                self.deaf = True
                if time.monotonic() - said_at > SAY_EVERY:
                    said_at = time.monotonic()
                    log.warning("listening broke, polling goes on: %s", _line(group))
            await trio.sleep(wait * random.uniform(0.5, 1.0))
            wait = wait if wait == POOLED else min(wait * 2, longest)

    async def _keep_note(self, listener: Listener) -> None:
        while True:
            self._change = trio.Event()
            if self._stale:
                self._stale = False
                await listener.awake(self.worker)
                self._noted_at = -1e9
            if self._wanted and time.monotonic() - self._noted_at > RENEW:
                tags = self.tags
                await listener.doze(self.worker, tags, BELIEVED)
                self._noted_at = time.monotonic()
                self._stale = self._stale or tags is not self.tags  # it listens to others since
                self.wake()  # an enqueue may have looked just before the note was there
            elif not self._wanted and self._noted_at > 0:
                await listener.awake(self.worker)
                self._noted_at = -1e9
            await self._change.wait()


def _line(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (str(error).splitlines() or [type(error).__name__])[0]
