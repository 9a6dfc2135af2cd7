"""Logs that somebody looks at: which jobs are to say what they print, and what they say; by one statement
each, however many viewers there are.

A notification tells which jobs have said something. Where none can be heard, and in case one was lost, there
is the poll.
"""

from __future__ import annotations

import uuid
from uuid import UUID

import trio

from hotpath.store.database import Database
from hotpath.store.listen import PooledError, open_listener
from hotpath.store.logs import LOG_CHANNEL, START, Position, live_after, unwatch, watch
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.web.feeds import Jobs, give_up
from hotpath.web.logs_feed import LogFeed
from hotpath.web.outbox import Viewer
from hotpath.web.reads import Pause, Reads

WATCH_SECONDS = 60.0
"""How long a watch holds; it is renewed at a third of that."""
TICK = 0.03
"""Seconds between two reads of what was said, at the least."""
POLL = 1.0
"""Seconds between two polls while notifications are heard, ..."""
DEAF_POLL = 0.2
"""... and while they are not."""
RECONNECT = 1.0
_UNWATCH_SECONDS = 2.0


class Logs:
    """Logs that somebody looks at."""

    def __init__(
        self, database: Database, reads: Reads, stored: Reads, jobs: Jobs, nursery: trio.Nursery
    ) -> None:
        """`stored`: what reads logs that are stored."""
        self._database = database
        self._reads = reads
        # Apart: where logs have moved to a store that hangs, what is said live goes on.
        self._stored = stored
        self._jobs = jobs
        self._nursery = nursery
        self._viewer = uuid.uuid4()  # all of ours are one to the database
        self._feeds: dict[UUID, LogFeed] = {}
        self._watched: set[UUID] = set()
        self._again: set[UUID] = set()
        self._renew_at = 0.0
        self._watch_pause = Pause()
        self._said: set[UUID] = set()  # jobs that have said something since we read
        self._all_said = False
        self._said_pause = Pause()
        self._hears = False
        self._wanted = trio.Event()
        for task in (self._keep_watching, self._read, self._listen):
            nursery.start_soon(task)

    def __len__(self) -> int:
        return len(self._feeds)

    @property
    def hears(self) -> bool:
        """Whether notifications come in."""
        return self._hears

    def join(self, viewer: Viewer, job: UUID, after: Position | None) -> None:
        """Let this viewer see the log, from where he is."""
        feed = self._feeds.get(job)
        if feed is None:
            feed = self._feeds[job] = LogFeed(job, self._stored, self)
            self._jobs.follow(feed, job)
            self._said.add(job)  # before he came
            self._wanted.set()
            self._watch_pause.wake()
            self._said_pause.wake()
        feed.watching.add(viewer)
        self.start(feed, viewer, after or START)

    def leave(self, viewer: Viewer, job: UUID) -> None:
        """The viewer looks no longer."""
        if feed := self._feeds.get(job):
            feed.leave(viewer)
            if not feed.watching:
                del self._feeds[job]
                feed.close()
                self._jobs.unfollow(feed, job)
                self._watch_pause.wake()

    def start(self, feed: LogFeed, viewer: Viewer, after: Position) -> None:
        """Bring a viewer up to date."""
        self._nursery.start_soon(self._show, feed, viewer, after)

    async def _show(self, feed: LogFeed, viewer: Viewer, after: Position) -> None:
        try:
            await feed.show(viewer, after)
        except Exception as error:  # noqa: BLE001 - see `give_up`
            give_up(f"the log of job {feed.job}", [viewer], error)

    def hurry(self, job: UUID) -> None:
        """Have the job looked at soon."""
        self._jobs.hurry(job)

    def say_again(self, job: UUID) -> None:
        """Have the job's worker say again all that it has printed: it does for a watch that is new."""
        self._again.add(job)
        self._watch_pause.wake()

    async def _keep_watching(self) -> None:
        """Keep the rows of `hotpath.watch` as the viewers are."""
        try:
            while True:
                now = trio.current_time()
                wanted = set(self._feeds)
                again, self._again = self._again & wanted, set()
                if gone := (self._watched - wanted) | (again & self._watched):
                    await self._reads.read(unwatch, list(gone), self._viewer)
                    self._watched -= gone
                due = wanted if now >= self._renew_at else wanted - self._watched
                if due:
                    await self._reads.read(watch, list(due), self._viewer, WATCH_SECONDS)
                    self._watched |= due
                if now >= self._renew_at:
                    self._renew_at = now + WATCH_SECONDS / 3
                if wanted == set(self._feeds) and not self._again:
                    rest = self._renew_at - trio.current_time() if self._feeds else float("inf")
                    await self._watch_pause.sleep(rest)
        finally:
            if self._watched:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _UNWATCH_SECONDS):
                    await self._reads.once(unwatch, list(self._watched), self._viewer)

    async def _read(self) -> None:
        """Read what was said, when something was."""
        polled_at = 0.0
        while True:
            if not self._feeds:
                await self._said_pause.sleep(float("inf"))
                continue
            now = trio.current_time()
            poll = POLL if self._hears else DEAF_POLL
            if self._all_said or now - polled_at >= poll:
                wanted = list(self._feeds.values())
                polled_at = now
            else:
                wanted = [feed for job in self._said if (feed := self._feeds.get(job))]
            self._said.clear()
            self._all_said = False
            if wanted:
                await self._hear(wanted)
                await trio.sleep(TICK)
            if not self._said and not self._all_said:
                await self._said_pause.sleep(polled_at + poll - trio.current_time())

    async def _hear(self, feeds: list[LogFeed]) -> None:
        positions = [(feed.job, *feed.cursor) for feed in feeds]
        said = await self._reads.read(live_after, positions)
        for job, chunks in said.items():
            if feed := self._feeds.get(job):
                feed.hear(chunks)
        for feed in feeds:
            feed.begun.set()

    async def _listen(self) -> None:
        """Hear which jobs have said something."""
        while self._database.can_listen:
            await self._wanted.wait()
            try:
                async with open_listener(self._database.listen_dsn, LOG_CHANNEL) as listener:
                    self._hears = self._all_said = True
                    self._renew_at = 0.0  # the tables are unlogged: a server that crashed has forgotten them
                    self._watch_pause.wake()
                    self._said_pause.wake()
                    async for notification in listener.notifications:
                        self._note(notification.payload)
            except PooledError:
                return
            except ANY_TROUBLE:
                self._hears = False
                self._said_pause.wake()
                await trio.sleep(RECONNECT)

    def _note(self, payload: str) -> None:
        """Somebody has said something."""
        if payload == "*":
            self._all_said = True
        for text in payload.split():
            try:
                job = UUID(text)
            except ValueError:
                continue  # somebody else's use of our channel
            if job in self._feeds:
                self._said.add(job)
        if self._all_said or self._said:
            self._said_pause.wake()
