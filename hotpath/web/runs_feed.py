"""Runs of flows, live: each read once for all who look, and only what has changed is sent.

A change has a number, `seq`, larger than all before it: milliseconds since 1970, or one more than the last. A
viewer who comes back with the last one that he has seen gets what has changed since, if the feed has been
there all the time, and otherwise the whole state (`full`).
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

import attrs
import trio

from hotpath.documents import step_document, wait_document
from hotpath.store.flows import RunStep
from hotpath.store.follow import Look, RunNews, read_run
from hotpath.web.feeds import SHARE, Jobs, give_up, to_text, unknown
from hotpath.web.outbox import Viewer
from hotpath.web.reads import Pause, Reads

RUN_SECONDS = 0.5
"""Seconds between two reads of a run that has not ended."""
WHOLE_SECONDS = 30.0
"""Seconds between two reads of all of a run's steps; between them, and while the job's state stays, only
those that have ended since are read.
"""
OVERLAP = timedelta(seconds=10)
"""By how much one such read goes back behind the last: what is written is seen when it is committed."""
PART = 200
"""Steps of one event."""


@attrs.frozen(eq=False)
class _Step:
    """A step as it was sent last."""

    row: RunStep
    text: str
    seq: int


class RunFeed:
    """One run that somebody looks at."""

    def __init__(self, run: UUID, reads: Reads, jobs: Jobs) -> None:
        self.run = run
        self.watching: set[Viewer] = set()
        """All who look; those who are up to date are in `_live` too."""
        self._scope = trio.CancelScope()
        self._live: set[Viewer] = set()
        self._reads = reads
        self._jobs = jobs
        self._pause = Pause()
        self._look: Look | None = None
        self._steps: dict[str, _Step] = {}  # by key, the last changed last
        self._told = ("", "[]", -1)  # state, waits, attempt as they were sent last
        self._seq = 0
        self._since = 0  # from this seq on every change is known; it is another after a retry
        self._ready = trio.Event()
        self._read_as: Look | None = None  # how the job stood when the steps were read last
        self._read_since: datetime | None = None
        self._whole_at = 0.0

    async def follow(self) -> None:
        """Read it until nobody looks."""
        with self._scope:
            self._jobs.follow(self, self.run)
            try:
                while True:
                    await self._read()
            except Exception as error:  # noqa: BLE001 - see `give_up`
                give_up(f"run {self.run}", self.watching, error)
            finally:
                self._jobs.unfollow(self, self.run)

    def job_changed(self, look: Look | None) -> None:
        """The run's own state is another."""
        if look is None:
            for viewer in tuple(self.watching):
                viewer.end(unknown(self.run))
            return
        self._look = look
        self._pause.wake()

    async def show(self, viewer: Viewer, after: int | None) -> None:
        """Bring a viewer up to date, at his pace, and then let him see what changes."""
        await self._ready.wait()
        since = self._since
        known = after if after is not None and since <= after <= self._seq else 0
        is_full = not known
        while not viewer.is_over:
            left = [step for step in self._steps.values() if step.seq > known]
            for k in range(0, len(left), PART):
                part = left[k : k + PART]
                if not viewer.put(self._event(part, full=is_full, seq=part[0].seq - 1)):
                    return
                is_full = False
                known = part[-1].seq
                await viewer.outbox.wait_room(viewer)
                if self._since != since:
                    break
            if self._since != since:  # it began anew meanwhile
                since, known, is_full = self._since, 0, True
            elif all(step.seq <= known for step in islice(reversed(self._steps.values()), 1)):
                if viewer.put(self._event([], full=is_full, seq=self._seq)):
                    self._live.add(viewer)
                return

    def leave(self, viewer: Viewer) -> None:
        """The viewer looks no longer."""
        self.watching.discard(viewer)
        self._live.discard(viewer)

    def close(self) -> None:
        """Nobody looks any more."""
        self._scope.cancel(reason="nobody looks at this run")
        self._ready.set()

    async def _read(self) -> None:
        begun = trio.current_time()
        look = self._look
        if look is None:
            await self._pause.sleep(float("inf"))
            return
        is_whole = look is not self._read_as or begun > self._whole_at + WHOLE_SECONDS
        news = await self._reads.read(read_run, self.run, None if is_whole else self._read_since)
        cost = trio.current_time() - begun
        self._take(look, news, is_whole=is_whole)
        self._ready.set()
        if look is self._look:
            every = float("inf") if look.has_ended else max(RUN_SECONDS - cost, SHARE * cost)
            await self._pause.sleep(every)

    def _take(self, look: Look, news: RunNews, *, is_whole: bool) -> None:
        """Note what was read, and send what of it is new."""
        rows, waits = news.steps, to_text([wait_document(wait) for wait in news.waits])
        self._read_as = look
        self._read_since = news.at - OVERLAP
        if is_whole:
            self._whole_at = trio.current_time()
        told = (look.state.value, waits, look.attempt)
        has_lost = is_whole and not self._steps.keys() <= {row.key for row in rows}
        is_anew = not self._since or has_lost
        old_steps = {} if is_anew else self._steps
        changed = [row for row in rows if (old := old_steps.get(row.key)) is None or old.row != row]
        if told == self._told and not changed and not is_anew:
            return
        self._steps = old_steps
        self._told = told
        first = max(self._seq + 1, int(time.time() * 1000))
        if is_anew:
            self._since = first
        for k in range(0, max(len(changed), 1), PART):
            self._seq = first + k // PART
            part = [_Step(row, to_text(step_document(row)), self._seq) for row in changed[k : k + PART]]
            for step in part:
                self._steps.pop(step.row.key, None)
                self._steps[step.row.key] = step
            event = self._event(part, full=is_anew and k == 0, seq=self._seq)
            for viewer in tuple(self._live):
                viewer.put(event)

    def _event(self, steps: list[_Step], *, full: bool, seq: int) -> str:
        state, waits, _ = self._told
        texts = ",".join(step.text for step in steps)
        return (
            f'"type":"run","seq":{seq},"full":{"true" if full else "false"},"state":"{state}",'
            f'"steps":[{texts}],"waits":{waits}'
        )


class Runs:
    """Runs that somebody looks at."""

    def __init__(self, reads: Reads, jobs: Jobs, nursery: trio.Nursery) -> None:
        self._reads = reads
        self._jobs = jobs
        self._nursery = nursery
        self._feeds: dict[UUID, RunFeed] = {}

    def __len__(self) -> int:
        return len(self._feeds)

    def join(self, viewer: Viewer, run: UUID, after: int | None) -> None:
        """Let this viewer see the run, from where he is."""
        feed = self._feeds.get(run)
        if feed is None:
            feed = self._feeds[run] = RunFeed(run, self._reads, self._jobs)
            self._nursery.start_soon(feed.follow)
        feed.watching.add(viewer)
        self._nursery.start_soon(feed.show, viewer, after)

    def leave(self, viewer: Viewer, run: UUID) -> None:
        """The viewer looks no longer."""
        if feed := self._feeds.get(run):
            feed.leave(viewer)
            if not feed.watching:
                del self._feeds[run]
                feed.close()
