"""What viewers look at, each thing read once for all of them: the overview, jobs, runs.

A feed exists while somebody looks. It is read at most so often that reading takes a tenth of the time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol
from uuid import UUID

import attrs
import msgspec
import trio

from hotpath.documents import job_document
from hotpath.store.follow import Look, look_at
from hotpath.store.secrets import shown_job
from hotpath.web.outbox import Viewer
from hotpath.web.reads import Pause, Reads

GLANCE_SECONDS = 1.0
"""Seconds between two reads of what is read as a whole."""
JOB_SECONDS = 0.5
"""Seconds between two looks at jobs that have not ended."""
ENDED_SECONDS = 2.0
"""Seconds between two looks at jobs that have: they may be retried."""
SHARE = 10
"""A read that took long is not made again before so many times as long."""
JOB_LIMIT = 256 << 10
"""Characters of a job's document; one that is longer comes without its args and its result."""
_JOBS_AT_ONCE = 500
_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)


def to_text(value: Any) -> str:
    """JSON."""
    return _encode(value).decode()


def refusal(status: int, title: str, detail: str) -> str:
    """An event that says why a subscription has ended, or was never made."""
    said = to_text({"type": "error", "status": status, "title": title, "detail": detail})
    return said[1:-1]


FAULT = refusal(500, "The server failed", "the fault is the server's; its log says more")


def give_up(what: object, viewers: Iterable[Viewer], error: Exception) -> None:
    """End these viewers of what cannot be shown, and nothing else: no job may take the server down."""
    _log.error("%s cannot be shown", what, exc_info=error)
    for viewer in tuple(viewers):
        viewer.end(FAULT)


class Follower(Protocol):
    """Somebody within the hub who wants to know how a job stands."""

    def job_changed(self, look: Look | None) -> None:
        """It stands so now; None: there is no such job."""


class Glance:
    """What is read as a whole, once a second: the overview, and what `hotpath top` shows."""

    def __init__(self, name: str, reads: Reads, document: Callable[..., Awaitable[Any]]) -> None:
        self._name = name
        self._reads = reads
        self._document = document
        self._viewers: set[Viewer] = set()
        self._pause = Pause()
        self._body = ""
        self._read_at = -GLANCE_SECONDS * 2

    def join(self, viewer: Viewer) -> None:
        """Let this viewer see it from now on; what was just read at once."""
        self._viewers.add(viewer)
        if trio.current_time() - self._read_at < GLANCE_SECONDS * 2:
            viewer.replace(self._body)
        elif len(self._viewers) == 1:
            self._pause.wake()

    def leave(self, viewer: Viewer) -> None:
        """The viewer looks no longer."""
        self._viewers.discard(viewer)

    async def run(self) -> None:
        """Read it while somebody looks."""
        while True:
            if not self._viewers:
                await self._pause.sleep(float("inf"))
                continue
            begun = trio.current_time()
            try:
                data = to_text(await self._reads.read(self._document))
            except Exception as error:  # noqa: BLE001 - see `give_up`
                give_up(self._name, self._viewers, error)
                continue
            self._body = f'"type":"{self._name}","data":{data}'
            self._read_at = trio.current_time()
            for viewer in tuple(self._viewers):
                viewer.replace(self._body)
            cost = self._read_at - begun
            await trio.sleep(max(GLANCE_SECONDS - cost, SHARE * cost))


@attrs.define(eq=False)
class JobFeed:
    """One job that somebody looks at."""

    job: UUID
    viewers: set[Viewer] = attrs.field(factory=set)
    followers: list[Follower] = attrs.field(factory=list)
    look: Look | None = None
    body: str = ""
    """The event that says how it stands; empty: not read."""
    due: float = 0.0


class Jobs:
    """Jobs, however many, by one statement."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._feeds: dict[UUID, JobFeed] = {}
        self._pause = Pause()

    def __len__(self) -> int:
        return len(self._feeds)

    def join(self, viewer: Viewer, job: UUID) -> None:
        """Let this viewer see the job, now and whenever it changes."""
        feed = self._feed(job)
        feed.viewers.add(viewer)
        if feed.body:
            viewer.replace(feed.body)
        else:
            self._hurry(feed)

    def leave(self, viewer: Viewer, job: UUID) -> None:
        """The viewer looks no longer."""
        if feed := self._feeds.get(job):
            feed.viewers.discard(viewer)
            self._drop(feed)

    def follow(self, follower: Follower, job: UUID) -> None:
        """Tell the follower how the job stands, now and whenever that changes."""
        feed = self._feed(job)
        feed.followers.append(follower)
        if feed.look is not None:
            follower.job_changed(feed.look)
        else:
            self._hurry(feed)

    def unfollow(self, follower: Follower, job: UUID) -> None:
        """Tell him no longer."""
        feed = self._feeds.get(job)
        if feed is not None and follower in feed.followers:
            feed.followers.remove(follower)
            self._drop(feed)

    def hurry(self, job: UUID) -> None:
        """Look at this job soon: something is known to have happened."""
        if feed := self._feeds.get(job):
            self._hurry(feed)

    async def run(self) -> None:
        """Look at them, each when it is due."""
        while True:
            now = trio.current_time()
            due = [feed for feed in self._feeds.values() if feed.due <= now][:_JOBS_AT_ONCE]
            if not due:
                nearest = min((feed.due for feed in self._feeds.values()), default=float("inf"))
                await self._pause.sleep(nearest - now)
                continue
            looks = await self._reads.read(look_at, [feed.job for feed in due])
            cost = trio.current_time() - now
            for feed in due:
                look = looks.get(feed.job)
                every = ENDED_SECONDS if look is not None and look.has_ended else JOB_SECONDS
                feed.due = trio.current_time() + max(every - cost, SHARE * cost)
                if look is None:
                    self._vanish(feed)
                elif look != feed.look or (feed.viewers and not feed.body):
                    await self._publish(feed, look)

    async def _publish(self, feed: JobFeed, look: Look) -> None:
        changed = look != feed.look
        feed.look = look
        feed.body = ""
        if feed.viewers:
            try:
                job = await self._reads.read(shown_job, feed.job)
                body = "" if job is None else f'"type":"job","job":{_job_text(job)}'
            except Exception as error:  # noqa: BLE001 - see `give_up`
                give_up(f"job {feed.job}", feed.viewers, error)
            else:
                feed.body = body
                for viewer in tuple(feed.viewers) if body else ():
                    viewer.replace(body)
        if changed:
            for follower in list(feed.followers):
                follower.job_changed(look)

    def _vanish(self, feed: JobFeed) -> None:
        """There is no such job, or no longer."""
        self._feeds.pop(feed.job, None)
        for viewer in tuple(feed.viewers):
            viewer.end(unknown(feed.job))
        for follower in list(feed.followers):
            follower.job_changed(None)

    def _feed(self, job: UUID) -> JobFeed:
        feed = self._feeds.get(job)
        if feed is None:
            feed = self._feeds[job] = JobFeed(job)
        return feed

    def _hurry(self, feed: JobFeed) -> None:
        feed.due = 0.0
        self._pause.wake()

    def _drop(self, feed: JobFeed) -> None:
        if not feed.viewers and not feed.followers:
            self._feeds.pop(feed.job, None)


def unknown(job: UUID) -> str:
    """The event that ends a subscription to a job that nobody knows."""
    return refusal(404, "Unknown job", f"no job has the id {job} in this database")


def _job_text(job: Any) -> str:
    document = job_document(job)
    text = to_text(document)
    if len(text) > JOB_LIMIT:
        cut = (
            ["args", "result", "error"] if len(to_text(document["error"])) > JOB_LIMIT else ["args", "result"]
        )
        text = to_text(document | dict.fromkeys(cut) | {"cut": cut})
    return text
