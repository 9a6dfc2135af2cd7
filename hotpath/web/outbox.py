"""What waits to be sent to one WebSocket: bounded, so that a viewer who does not keep up costs nobody but
himself.

An event is one string, made once for all of its viewers; what differs for each, the id of his subscription,
is put before it when a frame is made. What does not fit is dropped, with all that the viewer had waiting, and
he is told to ask again from where he is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import trio

VIEWER_LIMIT = 1 << 20
"""Characters that may wait for one subscription."""
SOCKET_LIMIT = 4 << 20
"""Characters that may wait for all subscriptions of one connection."""
FRAME_LIMIT = 256 << 10
"""Characters of one frame; an event that is longer goes alone."""


FRAME_SECONDS = 0.05
"""Seconds from one frame to the next, at the least: what comes between goes together."""
LATE_TIMES = 4
"""Frames are further apart by so many times what the server is late with them on average ..."""
SLOWEST_FRAMES = 1.0
"""... up to this."""


class Pace:
    """How far apart the frames of a server's connections are: further when it has so many to send, or so
    little of the machine, that it is late with them. Then each holds more, and there is time for others.
    """

    def __init__(self) -> None:
        self._late = 0.0

    def note(self, late: float) -> None:
        """A frame was sent so many seconds after it could have been."""
        self._late += (late - self._late) / 64

    @property
    def seconds(self) -> float:
        """From one frame of a connection to the next."""
        return min(FRAME_SECONDS + LATE_TIMES * self._late, SLOWEST_FRAMES)


@attrs.define(eq=False)
class Viewer:
    """One subscription of one connection."""

    id: int
    outbox: Outbox
    waiting: int = 0
    """Characters that wait to be sent."""
    latest: str | None = None
    """What waits of a feed of which only the newest counts."""
    is_over: bool = False
    """Whether nothing comes any more."""
    left: Callable[[Viewer], None] = lambda _viewer: None
    """Called once, when it is over."""

    def put(self, body: str) -> bool:
        """Have this event sent; False when it does not fit, and the viewer is over."""
        return self.outbox.put(self, body)

    def replace(self, body: str) -> None:
        """Have this event sent in place of the one that waits, if one does."""
        self.outbox.replace(self, body)

    def end(self, body: str) -> None:
        """Have this event sent, and nothing after it."""
        if not self.is_over:
            self.outbox.end(self, body)


@attrs.frozen
class OutboxStatistics:
    """What waits in an outbox."""

    events: int
    characters: int
    resyncs: int
    """Viewers that were told to ask again."""


RESYNC = '"type":"resync"'


class Outbox:
    """Events on their way to one connection."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Viewer | None, str | None]] = deque()
        self._characters = 0
        self._resyncs = 0
        self._changed = trio.Event()
        self._room = trio.Event()
        self.since = 0.0
        """Since when there has been something to send."""

    def put(self, viewer: Viewer, body: str) -> bool:
        """Add an event for a viewer; False when it does not fit, and he is over. One that is alone fits,
        however long.
        """
        if viewer.is_over:
            return False
        size = len(body)
        if (viewer.waiting and viewer.waiting + size > VIEWER_LIMIT) or (
            self._characters and self._characters + size > SOCKET_LIMIT
        ):
            self._drop(viewer)
            self._resyncs += 1
            self.end(viewer, RESYNC)
            return False
        self._add(viewer, body, size)
        return True

    def replace(self, viewer: Viewer, body: str) -> None:
        """Add an event that makes older ones of this viewer worthless."""
        if viewer.is_over:
            return
        if viewer.latest is None:
            self._add(viewer, None, len(body))
        else:
            grown = len(body) - len(viewer.latest)
            viewer.waiting += grown
            self._characters += grown
        viewer.latest = body

    def end(self, viewer: Viewer, body: str) -> None:
        """Add the last event of a viewer. It always fits: it is short, and no other comes after it."""
        self._add(viewer, body, len(body))
        self._over(viewer)

    def say(self, event: str) -> None:
        """Add an event that belongs to no subscription. Whoever calls sees to it that there are few."""
        self._add(None, event, len(event))

    def forget(self, viewer: Viewer) -> None:
        """Send nothing more of this viewer."""
        self._drop(viewer)
        if not viewer.is_over:
            self._over(viewer)

    def fits(self, viewer: Viewer) -> bool:
        """Whether a viewer who reads what was has room for another page."""
        return viewer.waiting < VIEWER_LIMIT // 4 and self._characters < SOCKET_LIMIT // 2

    async def wait_room(self, viewer: Viewer) -> None:
        """Return when `fits`, or when the viewer is over."""
        await trio.lowlevel.checkpoint()
        while not (viewer.is_over or self.fits(viewer)):
            await self._room.wait()

    async def wait(self) -> None:
        """Return when there is something to send."""
        await self._changed.wait()

    def take(self) -> str:
        """The next frame: all that waits, up to FRAME_LIMIT; empty when nothing does any more."""
        events: list[str] = []
        size = 0
        while self._waiting and (not size or size < FRAME_LIMIT):
            viewer, body = self._waiting[0]
            if viewer is None:
                assert body is not None, "only a viewer's event may be replaced"
                event = body
            else:
                text = viewer.latest if body is None else body
                assert text is not None, "it waits"
                event = f'{{"id":{viewer.id},{text}}}'
                if size and size + len(event) > FRAME_LIMIT:
                    break
                viewer.waiting -= len(text)
                self._characters -= len(text)
                if body is None:
                    viewer.latest = None
            self._waiting.popleft()
            events.append(event)
            size += len(event)
        if self._waiting:
            self.since = trio.current_time()
        else:
            self._changed = trio.Event()
        self._wake_readers()
        return f'{{"events":[{",".join(events)}]}}' if events else ""

    def statistics(self) -> OutboxStatistics:
        """What waits now."""
        return OutboxStatistics(len(self._waiting), self._characters, self._resyncs)

    def _add(self, viewer: Viewer | None, body: str | None, size: int) -> None:
        self._waiting.append((viewer, body))
        if viewer is not None:
            viewer.waiting += size
            self._characters += size
        if not self._changed.is_set():
            self.since = trio.current_time()
            self._changed.set()

    def _over(self, viewer: Viewer) -> None:
        viewer.is_over = True
        self._wake_readers()
        viewer.left(viewer)

    def _wake_readers(self) -> None:
        self._room.set()
        self._room = trio.Event()

    def _drop(self, viewer: Viewer) -> None:
        if viewer.waiting:
            self._waiting = deque(entry for entry in self._waiting if entry[0] is not viewer)
            self._characters -= viewer.waiting
            viewer.waiting = 0
            viewer.latest = None
        if not self._waiting and self._changed.is_set():
            self._changed = trio.Event()
