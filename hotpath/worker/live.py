"""What jobs print, for those who watch it as it comes.

A supervisor reads it off its workers' boards, so that neither code that keeps the GIL nor a slow viewer has
a say in it, and publishes ten times a second what the watched ones of its jobs have printed since: one
statement for all of them. While nobody watches anything there is no statement and no look.

Who begins to watch is heard by NOTIFY, and each heartbeat says whether anybody does. Which of its jobs they
are the supervisor asks when it hears of a viewer, and again when its workers have other leases than before:
soon, if one of the watched jobs still waits to be claimed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import attrs
import trio

from hotpath.core.logtext import MARK_EVERY, Piece
from hotpath.store.database import Database
from hotpath.store.logs import LogChunk, Watched, say_live, watched
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.worker.board import START, WATCHED, Board, Cursor

log = logging.getLogger("hotpath.worker")

TICK = 0.1
"""Seconds between two looks at what watched jobs have printed."""
SOON, SELDOM = 0.2, 0.5
"""Seconds between two questions which jobs are watched, if one of them waits to be claimed and if none
does.
"""
SURE = 1.0
"""Seconds for which a viewer's notification counts more than a heartbeat, which may have been on its way."""
MOST = 256 * 1024
"""Characters of one job that are published at a time; of more the last, and a gap."""
WITHIN = 5.0
"""Seconds that one statement may take."""


class Source(Protocol):
    """A worker process, as far as its output is concerned."""

    @property
    def board(self) -> Board:
        """Where its jobs print."""


@attrs.define(eq=False)
class _Follow:
    """A watched job in a worker's hand."""

    of: Watched
    token: int
    position: int
    """Up to where its log is published."""

    def chunks(self, pieces: Iterable[Piece]) -> list[LogChunk]:
        """What these pieces add to what is published, in order, with times in microseconds of
        `perf_counter`.
        """
        runs: list[list[Piece]] = []
        end = self.position
        for piece in sorted(pieces, key=_position):
            at = piece.position + self.of.at
            if at < end:  # it was read before, or its line feed was, by itself
                if at + len(piece.text) <= end:
                    continue
                rest = piece.text[end - at :]
                piece = attrs.evolve(piece, position=end - self.of.at, text=rest)
                at = end
            if not runs or at != end:
                runs.append([])
            runs[-1].append(piece)
            end = at + len(piece.text)
        return self._last([self._chunk(run) for run in runs])

    def _chunk(self, run: list[Piece]) -> LogChunk:
        at = run[0].position + self.of.at
        text = "".join([piece.text for piece in run])
        times: list[tuple[int, int]] = []
        due = 0
        for piece in run:
            if piece.at >= due:
                times.append((piece.begins + self.of.at, piece.at // 1000))
                due = piece.at + MARK_EVERY
        return LogChunk(self.of.attempt, at, at + len(text), text, times)

    @staticmethod
    def _last(chunks: list[LogChunk]) -> list[LogChunk]:
        """At most `MOST` characters of them, from the end."""
        room = MOST
        kept: list[LogChunk] = []
        for chunk in reversed(chunks):
            if len(chunk.text) > room:
                if room:
                    at = chunk.end - room
                    times = [(max(at, position), when) for position, when in chunk.times]
                    before = sum(position <= at for position, _ in times)
                    kept.append(
                        attrs.evolve(chunk, at=at, text=chunk.text[-room:], times=times[max(before - 1, 0) :])
                    )
                break
            room -= len(chunk.text)
            kept.append(chunk)
        return kept[::-1]


@attrs.define(eq=False)
class _Reading:
    """How far one worker's board was read, for the watched jobs in its hand."""

    follows: list[_Follow] = attrs.field(factory=list)
    cursor: Cursor = START


@attrs.define(eq=False)
class Live:
    """The task that publishes what watched jobs print."""

    database: Database
    sources: Callable[[], Mapping[int, Source]]
    """By worker id, those that live."""
    _watching: int = 0
    """What the last heartbeat said: 0 nobody watches, 1 somebody does, 2 and a watched job waits."""
    _hinted_at: float = float("-inf")
    _asked: bool = False
    """Whether somebody has begun to watch since we asked which jobs are watched."""
    _looked_at: float = float("-inf")
    _afresh: set[str] = attrs.field(factory=set)
    """Jobs that somebody has begun to watch: he is to have what was said before, too."""
    _seen: dict[int, int] = attrs.field(factory=dict)
    """By worker, how often its leases had changed as we asked."""
    _readings: dict[int, _Reading] = attrs.field(factory=dict)
    """By worker that has watched jobs."""
    _offset_us: int = 0
    """What makes microseconds since the epoch, by the database's clock, of those of `perf_counter`."""
    _stir: trio.Event = attrs.field(factory=trio.Event)

    def hint(self, job: str = "") -> None:
        """Somebody begins to watch this job: of ours, for all we know."""
        self._asked = True
        self._afresh.add(job)
        self._hinted_at = trio.current_time()
        self._watching = max(self._watching, 1)
        self._stir.set()

    def heard(self, watching: int) -> None:
        """What a heartbeat said: 0 nobody watches, 1 somebody does, 2 and a watched job waits."""
        if not watching and trio.current_time() < self._hinted_at + SURE:
            return
        if watching and not self._watching:
            self._asked = True
        self._watching = watching
        if watching:
            self._stir.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._stir.wait()
            self._stir = trio.Event()
            while self._watching:
                try:
                    await self._tick()
                except ANY_TROUBLE as error:
                    log.debug("what watched jobs print is not published: %s", error)
                await trio.sleep(TICK)
            self._readings.clear()
            self._say_watched()

    async def _tick(self) -> None:
        if self._asked or self._moved():
            await self._look()
        read = [reading for worker in self._readings if (reading := self._read(worker)) is not None]
        said = [(follow.of.job, chunk) for _, news in read for follow, chunk in news]
        if said:
            async with self.database.connection(within=WITHIN) as connection:
                await say_live(connection, said, self._offset_us)
        # What could not be said is read again.
        for then, news in read:
            then()
            for follow, chunk in news:
                follow.position = chunk.end

    def _moved(self) -> bool:
        """Whether it is time to ask again: our workers have other leases."""
        now = trio.current_time()
        if now < self._looked_at + (SOON if self._watching > 1 else SELDOM):
            return False
        return {worker: one.board.changes for worker, one in self.sources().items()} != self._seen

    async def _look(self) -> None:
        """Ask which of the jobs in our workers' hands are watched."""
        self._asked = False
        afresh, self._afresh = self._afresh, set()
        sources = self.sources()
        self._seen = {worker: one.board.changes for worker, one in sources.items()}
        try:
            async with self.database.connection(within=WITHIN) as connection:
                found, clock = await watched(connection, list(sources))
        except BaseException:
            self._asked = True
            self._afresh |= afresh
            raise
        self._looked_at = trio.current_time()
        self._offset_us = clock - time.perf_counter_ns() // 1000
        known = {
            (follow.of.lease, follow.of.index): follow
            for reading in self._readings.values()
            for follow in reading.follows
        }
        readings: dict[int, _Reading] = {}
        sources = self.sources()  # as they are now: one may have ended meanwhile, and its board be gone
        for one in found:
            source = sources.get(one.worker)
            token = source.board.token(one.lease, one.index) if source is not None else 0
            if not token:
                continue  # it has ended meanwhile
            before = self._readings.get(one.worker)
            reading = readings.setdefault(one.worker, _Reading(cursor=before.cursor if before else START))
            follow = known.get((one.lease, one.index))
            if follow is None or str(one.job) in afresh:
                follow = _Follow(one, token, one.at)
                reading.cursor = START  # what the board still holds of it
            reading.follows.append(follow)
        self._readings = readings
        self._say_watched()

    def _say_watched(self) -> None:
        """Let the workers know that what their jobs' child processes write is to be seen soon, or need not
        be.
        """
        for worker, one in self.sources().items():
            one.board.words[WATCHED] = worker in self._readings

    def _read(self, worker: int) -> tuple[Callable[[], None], list[tuple[_Follow, LogChunk]]] | None:
        """What the watched jobs of one worker have printed since the last look, and what to do when that is
        said; None for nothing.
        """
        reading, source = self._readings[worker], self.sources().get(worker)
        if source is None or not source.board.has_news(reading.cursor):
            return None
        by_token = {follow.token: follow for follow in reading.follows}
        printed, cursor = source.board.new_logs(reading.cursor, by_token)
        pieces: dict[int, list[Piece]] = {}
        for one in printed:
            if one.lease == by_token[one.token].of.lease and one.piece.position >= 0:
                pieces.setdefault(one.token, []).append(one.piece)

        def then() -> None:
            reading.cursor = cursor

        return then, [
            (by_token[token], chunk)
            for token, some in pieces.items()
            for chunk in by_token[token].chunks(some)
        ]


def _position(piece: Piece) -> int:
    return piece.position
