"""Waiting for jobs to end: any number of waits share one listening connection and one poll.

Polling is the guarantee (5 ms, then ever longer, up to 1 s); a NOTIFY on `hotpath_done` is the hint that
makes it quick. A flush notifies only for jobs that stand in `hotpath.waiter`, so a wait puts its job
there and then looks once more.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import asyncpg
import attrs
import trio

from hotpath.asyncpg_trio import Connection
from hotpath.errors import DatabaseUnavailableError
from hotpath.store.database import Database, translated
from hotpath.store.jobs import time_of
from hotpath.store.listen import PooledError, open_listener
from hotpath.store.queries import query
from hotpath.store.trouble import ANY_TROUBLE

CHANNEL = "hotpath_done"
FIRST_POLL = 0.005
"""Seconds to the first poll of a wait; each later one takes twice as long, up to `LAST_POLL`."""
LAST_POLL = 1.0
AT_ONCE = 1000
"""Jobs that one statement asks for."""
_HOLD = 60.0  # seconds that a mark in hotpath.waiter holds; renewed at half of it
_RECONNECT = 1.0
_CLEAN_SECONDS = 2.0


@attrs.define(eq=False)
class _Wait:
    """One job that somebody waits for."""

    job: UUID
    due: float
    early: bool = False
    """Whether a result that a run has before its end will do."""
    interval: float = FIRST_POLL
    marked: float = -1.0
    waiting: int = 0
    ended: trio.Event = attrs.Factory(trio.Event)


class Completions:
    """Made by `open_completions`; `wait` from any number of tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._client = uuid.uuid4()
        self._waits: dict[tuple[UUID, bool], _Wait] = {}
        self._left: list[UUID] = []
        self._wake = trio.Event()
        self._failure: DatabaseUnavailableError | None = None

    @property
    def waiting(self) -> int:
        """Jobs that somebody waits for."""
        return len(self._waits)

    async def wait(self, job: UUID, *, early: bool = False) -> None:
        """Return when the job has ended or, if `early`, has a result before its end; it may be a false alarm.

        Raises `DatabaseUnavailableError` when the database stays away.
        """
        key = (job, early)
        wait = self._waits.get(key)
        if wait is None:
            wait = self._waits[key] = _Wait(job, trio.current_time(), early)
            self._wake.set()
        wait.waiting += 1
        try:
            await wait.ended.wait()
        finally:
            wait.waiting -= 1
            if not wait.waiting and self._waits.get(key) is wait:
                del self._waits[key]
                if wait.marked >= 0 and (job, not early) not in self._waits:
                    self._left.append(job)
        if self._failure is not None:
            raise self._failure

    async def listen(self) -> None:
        """Hear of ends as they happen; without the connection, or while it is lost, there is the poll."""
        while self._database.can_listen:
            while not self._waits:
                await self._pause(LAST_POLL)
            try:
                async with open_listener(self._database.listen_dsn, CHANNEL) as listener:
                    for wait in self._waits.values():
                        wait.due = 0.0  # what ended before we listened
                    self._wake.set()
                    async for notification in listener.notifications:
                        self._end(notification.payload)
            except PooledError:
                return
            except ANY_TROUBLE:
                await trio.sleep(_RECONNECT)

    def _end(self, payload: str) -> None:
        try:
            job = UUID(payload)
        except ValueError:
            return  # somebody else's use of our channel
        for early in (False, True):
            if (wait := self._waits.get((job, early))) is not None:
                wait.ended.set()

    async def poll(self) -> None:
        """Look, for each job that somebody waits for, whether it has ended."""
        lost_since: float | None = None
        while True:
            now = trio.current_time()
            due = [wait for wait in self._waits.values() if wait.due <= now and not wait.ended.is_set()]
            try:
                with translated(self._database.dsn):
                    await self._look(due[:AT_ONCE], now)
                lost_since = None
            except DatabaseUnavailableError as error:
                lost_since = lost_since or now
                if now - lost_since > self._patience:
                    self._failure = error
                    for wait in self._waits.values():
                        wait.ended.set()
                await trio.sleep(_RECONNECT)
            if len(due) <= AT_ONCE:
                next_due = min((wait.due for wait in self._waits.values()), default=now + LAST_POLL)
                await self._pause(max(0.0, next_due - trio.current_time()))

    _patience = 30.0
    """Seconds without a database until waits fail: a restart is weather, more is not."""

    async def _pause(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._wake.wait()
        self._wake = trio.Event() if self._wake.is_set() else self._wake

    async def _look(self, waits: list[_Wait], now: float) -> None:
        if not waits and not self._left:
            return
        async with self._database.pool.acquire() as connection:
            fresh = [wait for wait in waits if wait.marked < now - _HOLD / 2 or wait.marked < 0]
            if fresh:
                jobs = {wait.job for wait in fresh}  # one may be waited for in both ways
                await connection.execute(query("await_jobs"), self._client, list(jobs), _HOLD)
                for wait in fresh:
                    wait.marked = now
            if waits:
                await self._see(connection, waits)
            if self._left:  # last: nobody waits for it
                again = {job for job, _ in self._waits}
                left, self._left = [job for job in self._left if job not in again], []
                await connection.execute(query("forget_jobs"), self._client, left)

    async def _see(self, connection: Connection, waits: list[_Wait]) -> None:
        """Look which of the jobs have ended."""
        jobs = [wait.job for wait in waits]
        oldest = time_of(min(jobs)) - timedelta(minutes=5)
        ended = {
            UUID(int=row["job"].int) for row in await connection.fetch(query("ended_jobs"), jobs, oldest)
        }
        runs = [wait.job for wait in waits if wait.early and wait.job not in ended]
        rows = await connection.fetch(query("early_runs"), runs) if runs else []
        answered = {UUID(int=row["job"].int) for row in rows}
        for wait in waits:
            wait.due = trio.current_time() + wait.interval
            wait.interval = min(wait.interval * 2, LAST_POLL)
            if wait.job in ended or (wait.early and wait.job in answered):
                wait.ended.set()

    async def clean(self) -> None:
        """Take our marks away, as far as a moment allows; what stays behind goes stale and is removed by
        others.
        """
        jobs = [*self._left, *(wait.job for wait in self._waits.values() if wait.marked >= 0)]
        if not jobs:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLEAN_SECONDS):
            try:
                async with self._database.connection() as connection:
                    await connection.execute(query("forget_jobs"), self._client, jobs)
                    await connection.execute(query("forget_stale"))
            except (DatabaseUnavailableError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pass


@asynccontextmanager
async def open_completions(database: Database) -> AsyncIterator[Completions]:
    """Watch for the ends of jobs while the context lasts; idle, and unconnected, until somebody waits."""
    completions = Completions(database)
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(completions.poll)
        nursery.start_soon(completions.listen)
        try:
            yield completions
        except Exception as error:  # noqa: BLE001 - raised again below, as itself and not in a group of one
            raised = error
        nursery.cancel_scope.cancel()
    await completions.clean()
    if raised is not None:
        raise raised
