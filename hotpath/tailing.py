"""Following a job's log: what it prints as it comes, and then what was stored of it.

What is stored counts; what is said live are hints that come early. Both name the same positions, so that the
reader goes from one to the other, and somebody who was cut off goes on where they were.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self
from uuid import UUID, uuid4

import attrs
import trio

from hotpath.errors import DatabaseUnavailableError
from hotpath.store.completions import Completions
from hotpath.store.database import Database
from hotpath.store.listen import PooledError, open_listener
from hotpath.store.logs import (
    LOG_CHANNEL,
    START,
    LogChunk,
    Position,
    live_after,
    log_state,
    read_log,
    unwatch,
    watch,
)
from hotpath.store.trouble import ANY_TROUBLE

WATCH = 15.0
"""Seconds for which a watch is asked for; renewed at a third of it."""
LOOK = 1.0
"""Seconds between two looks while nothing is heard."""
DEAF_LOOK = 0.2
"""The same while there is no connection to listen on."""
AGAIN = 1.0
"""Seconds until the next try when the database was out of reach."""
PATIENCE = 30.0
"""Seconds without a database until the reader is told."""
FAREWELL = 2.0


@attrs.define(eq=False)
class Tail:
    """A job's log as it grows: iterate it, in one task. Made by `Client.tail`."""

    job: UUID
    after: Position
    """Attempt and position of the end of the last chunk that was given: where another `tail` would go on."""
    _database: Database
    _viewer: UUID = attrs.field(factory=uuid4)
    _found: deque[LogChunk] = attrs.field(factory=deque)
    _reached: Position = attrs.field(init=False)
    """The end of what was read, given or not."""
    _news: trio.Event = attrs.field(factory=trio.Event)
    _listens: bool = False
    _watched_until: float = float("-inf")
    _stored_read: bool = False
    """Whether what was stored at the start has been read."""
    _over: bool = False
    _lost_since: float | None = None

    def __attrs_post_init__(self) -> None:
        self._reached = self.after

    @property
    def is_over(self) -> bool:
        """Whether the job has ended and all of its log was given."""
        return self._over and not self._found

    @property
    def has_more(self) -> bool:
        """Whether the next chunk is at hand."""
        return bool(self._found)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LogChunk:
        """The next chunk. Raises `DatabaseUnavailableError` when the database stays away."""
        await trio.lowlevel.checkpoint()
        while not self._found:
            if self._over:
                raise StopAsyncIteration
            try:
                await self._more()
            except ANY_TROUBLE as error:
                await self._bear(error)
            else:
                self._lost_since = None
        chunk = self._found.popleft()
        self.after = (chunk.attempt, chunk.end)
        return chunk

    async def _bear(self, error: Exception) -> None:
        """A restart is weather; more is not."""
        now = trio.current_time()
        self._lost_since = self._lost_since or now
        if now - self._lost_since > PATIENCE:
            if isinstance(error, DatabaseUnavailableError):
                raise error
            raise DatabaseUnavailableError(str(error)) from error
        await trio.sleep(AGAIN)

    async def _more(self) -> None:
        if not self._stored_read:
            await self._read_stored()
            self._stored_read = not self._found
            return
        self._news = trio.Event()
        async with self._database.connection() as connection:
            if trio.current_time() > self._watched_until - WATCH * 2 / 3:
                await watch(connection, [self.job], self._viewer, WATCH)
                self._watched_until = trio.current_time() + WATCH
            attempt, position = self._reached
            live = (await live_after(connection, [(self.job, attempt, position)])).get(self.job, ())
            ended = not live and await log_state(connection, self.job) is not None
        if live:
            await self._take_in(live)
        elif ended:
            await self._read_stored()
        else:
            with trio.move_on_after(LOOK if self._listens else DEAF_LOOK):
                await self._news.wait()

    async def _take_in(self, live: Sequence[LogChunk]) -> None:
        """What was said live, behind what is stored and was not."""
        first = live[0]
        if first.attempt != max(self._reached[0], 1) or first.at > self._reached[1]:
            # The end of the attempt before, or what a run printed before it was parked.
            await self._read_stored()
        for chunk in live:
            attempt, position = self._reached
            if (chunk.attempt, chunk.end) <= (attempt, position):
                continue
            if chunk.attempt > attempt:
                position = 0
            if chunk.at > position:
                self._add(_gap(chunk.attempt, position, chunk.at))
            elif chunk.at < position:
                times = [(max(at, position), when) for at, when in chunk.times]
                chunk = attrs.evolve(chunk, at=position, text=chunk.text[position - chunk.at :], times=times)
            self._add(chunk)

    async def _read_stored(self) -> None:
        """A page of what is stored behind what was read, until there is none."""
        async with self._database.connection() as connection:
            page = await read_log(connection, self.job, self._reached)
        for chunk in page.chunks:
            self._add(chunk)
        self._over = page.complete

    def _add(self, chunk: LogChunk) -> None:
        self._found.append(chunk)
        self._reached = (chunk.attempt, chunk.end)

    # ------------------------------------------------------------ beside it

    async def listen(self) -> None:
        """Hear that there is something new. Without the connection there is the poll."""
        mine = str(self.job)
        while self._database.can_listen:
            try:
                async with open_listener(self._database.listen_dsn, LOG_CHANNEL) as listener:
                    self._listens = True
                    self._news.set()
                    async for notification in listener.notifications:
                        if notification.payload == "*" or mine in notification.payload:
                            self._news.set()
            except PooledError:
                return
            except ANY_TROUBLE:
                await trio.sleep(AGAIN)
            finally:
                self._listens = False

    async def await_end(self, completions: Completions) -> None:
        """Hear of the job's end, each time it ends: it may be run again."""
        while True:
            try:
                await completions.wait(self.job)
            except DatabaseUnavailableError:
                pass
            self._news.set()
            await trio.sleep(LOOK)

    async def leave(self) -> None:
        """Watch no longer."""
        if self._watched_until == float("-inf"):
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL):
            try:
                async with self._database.connection() as connection:
                    await unwatch(connection, [self.job], self._viewer)
            except ANY_TROUBLE:
                pass  # it ends by itself


def _gap(attempt: int, at: int, end: int) -> LogChunk:
    text = f"[hotpath: {end - at} characters of log were not seen live]\n"
    return LogChunk(attempt, at, end, text, is_gap=True)


@asynccontextmanager
async def open_tail(
    database: Database, completions: Completions, job: UUID, after: Position | None
) -> AsyncIterator[Tail]:
    """Follow a job's log while the context lasts."""
    tail = Tail(job, after or START, database)
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tail.listen)
        nursery.start_soon(tail.await_end, completions)
        try:
            yield tail
        except Exception as error:  # noqa: BLE001 - raised again below, as itself and not in a group of one
            raised = error
        finally:
            await tail.leave()
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised
