"""Logs, live: each read once for all who look, and each viewer from where he is.

A viewer is first brought up to date, at his own pace: from what is stored, and then from what was said live
before he came. From there on he gets what the feed gets, as it comes. When that does not follow on what he
has, as after a retry, or when the job has ended, he goes the first way again.

    behind:  stored log ─▶ said live (the feed's memory, else the database) ─▶ live ─┐
       ▲                                                                            │
       └── another attempt, something missing, the job's end ◀──────────────────────┘
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol
from uuid import UUID

import attrs
import trio

from hotpath.store.follow import Look
from hotpath.store.logs import START, LogChunk, Position, live_after, read_log
from hotpath.web.feeds import to_text, unknown
from hotpath.web.outbox import Viewer
from hotpath.web.reads import Reads

PAGE = 64 * 1024
"""Characters of the stored log that are read at a time, and that one event may have."""
MEMORY = 256 * 1024
"""Characters that a feed remembers of what was said live, for those who come later."""
PAGE_SECONDS = 0.5
"""How long a page that was read counts for others who want the same."""
SAY_AGAIN_SECONDS = 5.0
"""A job is asked to say all of its log again not more often than this, ..."""
HEAR_SECONDS = 1.0
"""... and whoever needs it waits so long for it."""
SOON = 0.05
"""Seconds to the next look when what is stored and the job's state do not fit together."""


@attrs.frozen
class Piece:
    """A part of a log as an event, made once for all who get it."""

    attempt: int
    at: int
    end: int
    body: str
    chunk: LogChunk

    @property
    def behind(self) -> Position:
        """Where whoever has it is."""
        return self.attempt, self.end


@attrs.frozen
class _Page:
    """A page of the stored log."""

    pieces: Sequence[Piece]
    more: bool
    complete: bool


@attrs.define(eq=False)
class _Reading:
    """A page that is being read, or was just now, by whoever wanted it first."""

    heard: int
    """The last attempt that was heard of when the reading began."""
    done: trio.Event = attrs.field(factory=trio.Event)
    page: _Page | None = None
    until: float = float("inf")


class Owner(Protocol):
    """What a feed needs of those around it."""

    def start(self, feed: LogFeed, viewer: Viewer, after: Position) -> None:
        """Have `feed.show` run in a task of its own."""

    def hurry(self, job: UUID) -> None:
        """Have the job looked at soon."""

    def say_again(self, job: UUID) -> None:
        """Have the job's worker say again all that it has printed."""


class LogFeed:
    """One job's log that somebody looks at."""

    def __init__(self, job: UUID, reads: Reads, owner: Owner) -> None:
        self.job = job
        self.watching: set[Viewer] = set()
        """All who look; those who are up to date are in `live` too."""
        self.cursor: Position = START
        """How far what was said live has been read."""
        self.live: dict[Viewer, Position] = {}
        self.look: Look | None = None
        self._reads = reads
        self._owner = owner
        self._said: deque[Piece] = deque()
        self._remembered = 0
        self._pages: dict[Position, _Reading] = {}
        self._known = trio.Event()
        self.begun = trio.Event()
        """Set when what was said before anybody looked has been read, by all alike: who were live by then
        would have it all at once, could not keep up, and would come back to the same.
        """
        self._news = trio.Event()
        self._asked_at = -SAY_AGAIN_SECONDS

    def job_changed(self, look: Look | None) -> None:
        """The job stands otherwise."""
        if look is None:
            for viewer in tuple(self.watching):
                viewer.end(unknown(self.job))
            return
        self.look = look
        self._known.set()
        if look.has_ended:
            for viewer in tuple(self.live):
                self._fall_behind(viewer)
        self._tell()

    def hear(self, chunks: Iterable[LogChunk]) -> None:
        """Something was said live."""
        for chunk in chunks:
            for piece in pieces_of(chunk):
                self._said.append(piece)
                self._remembered += len(piece.body)
                self.cursor = piece.behind
                for viewer, position in tuple(self.live.items()):
                    if _follows(piece, position):
                        self.live[viewer] = piece.behind
                        viewer.put(piece.body)
                    elif position < piece.behind:
                        self._fall_behind(viewer)
        while self._remembered > MEMORY and len(self._said) > 1:
            self._remembered -= len(self._said.popleft().body)
        self._tell()

    async def show(self, viewer: Viewer, after: Position) -> None:
        """Bring a viewer up to date, at his pace, and then let him see what is said."""
        await self._known.wait()
        await self.begun.wait()
        position = after
        patience = 2
        while not viewer.is_over:
            assert self.look is not None, "it is known"
            has_ended = self.look.has_ended
            page, heard = await self._page(position)
            for piece in page.pieces:
                position = piece.behind
                if not await _give(viewer, piece.body):
                    return
            if page.more:
                continue
            if has_ended and page.complete:
                state = to_text(self.look.state.value)
                viewer.end(f'"type":"end","state":{state},"result_known":true')
                return
            if has_ended or page.complete or self.look.has_ended:
                # One is older than the other: the job was retried, or has just ended.
                self._owner.hurry(self.job)
                await trio.sleep(SOON)
                continue
            if self._join(viewer, position, heard):
                return
            # Of what was said live something is gone from memory: the database may have it, or the worker.
            chunks = await self._reads.read(live_after, [(self.job, *position)])
            pieces = [piece for chunk in chunks.get(self.job, ()) for piece in pieces_of(chunk)]
            if pieces and (_follows(pieces[0], position) or not patience):
                for piece in pieces:
                    if not (await _give(viewer, _gap(position, piece)) and await _give(viewer, piece.body)):
                        return
                    position = piece.behind
            elif patience:
                patience -= 1
                await self._say_again()
            else:
                position = self._skip(viewer, position)

    def leave(self, viewer: Viewer) -> None:
        """The viewer looks no longer."""
        self.watching.discard(viewer)
        self.live.pop(viewer, None)

    def close(self) -> None:
        """Nobody looks any more."""
        self._known.set()
        self.begun.set()

    def _fall_behind(self, viewer: Viewer) -> None:
        position = self.live.pop(viewer)
        if not viewer.is_over:
            self._owner.start(self, viewer, position)

    def _join(self, viewer: Viewer, position: Position, heard: int) -> bool:
        """Give the viewer what the feed remembers behind his position, and all that comes; False when it does
        not reach back so far. `heard`: the last attempt that was heard of before he read what is stored.
        """
        newer = [piece for piece in self._said if piece.behind > position]
        if not newer:
            if position < self.cursor:
                return False
        # What an attempt printed is stored before the next one says anything.
        elif not _reaches(newer[0], position) and (
            newer[0].at > 0 or not position[0] < newer[0].attempt <= heard
        ):
            return False
        for piece in newer:
            overlaps = piece.attempt == position[0] and piece.at < position[1]
            gap = _gap(position, piece)
            if gap and not viewer.put(gap):
                return True
            if not viewer.put(_event(_behind(piece.chunk, position[1])) if overlaps else piece.body):
                return True
            position = piece.behind
        self.live[viewer] = position
        return True

    async def _page(self, position: Position) -> tuple[_Page, int]:
        """What is stored behind a position, read once for all who ask for the same; and the last attempt that
        was heard of before.
        """
        now = trio.current_time()
        self._pages = {at: reading for at, reading in self._pages.items() if reading.until > now}
        reading = self._pages.get(position)
        if reading is None:
            reading = self._pages[position] = _Reading(self.cursor[0])
            try:
                found = await self._reads.read(read_log, self.job, position, PAGE)
                pieces = [piece for chunk in found.chunks for piece in pieces_of(chunk)]
                reading.page = _Page(pieces, found.next is not None, found.complete)
                # What is stored stays as it is; where it ends, something may follow.
                reading.until = trio.current_time() + (PAGE_SECONDS if found.next is not None else 0.0)
            finally:
                if reading.page is None:
                    del self._pages[position]
                reading.done.set()
        await reading.done.wait()
        if reading.page is None:  # whoever read it was cancelled
            return await self._page(position)
        return reading.page, reading.heard

    async def _say_again(self) -> None:
        """Have the job's worker say again all that it has, and wait a moment for it; not, if it has just been
        asked.
        """
        news = self._news
        now = trio.current_time()
        if now - self._asked_at > SAY_AGAIN_SECONDS:
            self._asked_at = now
            self._owner.say_again(self.job)
        with trio.move_on_at(self._asked_at + HEAR_SECONDS):
            await news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _skip(self, viewer: Viewer, position: Position) -> Position:
        """Give up what nobody has: go on with what is remembered."""
        for piece in self._said:
            if piece.behind > position:
                if gap := _gap(position, piece):
                    viewer.put(gap)
                return piece.attempt, max(piece.at, position[1] if piece.attempt == position[0] else 0)
        return self.cursor


async def _give(viewer: Viewer, body: str) -> bool:
    """Let a viewer who reads what was have this, and wait for room for more; False when he is over."""
    if body and not viewer.put(body):
        return False
    await viewer.outbox.wait_room(viewer)
    return not viewer.is_over


def pieces_of(chunk: LogChunk) -> list[Piece]:
    """A chunk as events, none of them long."""
    if chunk.is_gap or len(chunk.text) <= PAGE:
        parts = [chunk]
    else:
        parts = []
        rest = chunk
        while len(rest.text) > PAGE:
            cut = rest.at + PAGE
            before = tuple(mark for mark in rest.times if mark[0] < cut)
            parts.append(attrs.evolve(rest, end=cut, text=rest.text[:PAGE], times=before))
            rest = _behind(rest, cut)
        parts.append(rest)
    return [Piece(part.attempt, part.at, part.end, _event(part), part) for part in parts]


def _behind(chunk: LogChunk, cut: int) -> LogChunk:
    """What of a chunk stands behind a position within it."""
    times = [mark for mark in chunk.times if mark[0] > cut]
    earlier = [time for at, time in chunk.times if at <= cut]
    if earlier:
        times.insert(0, (cut, earlier[-1]))
    return attrs.evolve(chunk, at=cut, text=chunk.text[cut - chunk.at :], times=times)


def _event(chunk: LogChunk) -> str:
    kind = "gap" if chunk.is_gap else "log"
    text = to_text(chunk.text)
    times = to_text(chunk.times)
    return (
        f'"type":"{kind}","attempt":{chunk.attempt},"at":{chunk.at},"end":{chunk.end},'
        f'"text":{text},"times":{times}'
    )


def _gap(position: Position, piece: Piece) -> str:
    """The event that says what is missing between a position and a piece; empty when nothing is."""
    at = position[1] if piece.attempt == position[0] else 0
    if piece.at <= at:
        return ""
    return f'"type":"gap","attempt":{piece.attempt},"at":{at},"end":{piece.at},"text":"","times":[]'


def _follows(piece: Piece, position: Position) -> bool:
    """Whether the piece begins where a viewer is: behind what he has, or at the start of everything."""
    return (piece.attempt, piece.at) == position or (
        position == START and (piece.attempt, piece.at) == (1, 0)
    )


def _reaches(piece: Piece, position: Position) -> bool:
    """Whether the piece begins there, or before it."""
    return _follows(piece, position) or (piece.attempt == position[0] and piece.at <= position[1])
