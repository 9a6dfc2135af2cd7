"""A script of a group while it runs: shown as a job, ended when somebody cancels it, and what it prints told
to who watches it.

The database hears of it once it has run for a moment: most periodic scripts are over by then, and cost one
statement at their end. From then on whoever runs it says each second that it still does.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import attrs
import trio

from hotpath.runtime.joblog import JobLog
from hotpath.store.complete import Connection
from hotpath.store.database import Database
from hotpath.store.logs import LogChunk, say_live
from hotpath.store.records import Asked, Run, begin_aside, end_aside, record, see_aside
from hotpath.store.trouble import ANY_TROUBLE

log = logging.getLogger("hotpath.worker")

MOMENT = 0.3
"""Seconds after which it is shown."""
EVERY, WATCHED_EVERY = 1.0, 0.2
"""Seconds between two words that it still runs; and while somebody watches what it prints."""
WITHIN = 10.0
"""Seconds that one word may take."""
FAREWELL = 2.0
"""Seconds to say how it ended where it is stopped."""
MOST = 256 * 1024
"""Characters, about, that a viewer who begins late gets of what was printed before."""
RECORD_AGAIN = 1.0
TRIES = 30
"""After so many a run is not recorded: the log of the worker has said how it ended."""


@attrs.define(eq=False)
class Aside:
    """One run."""

    database: Database
    script: str
    """Under this name it is found."""
    args: Mapping[str, Any]
    """About it, for people."""
    log: JobLog = attrs.field(init=False)
    """Where it prints."""
    limit: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Within which it has to run; cancelled when somebody cancels the job."""
    is_canceled: bool = False
    began: float = attrs.field(factory=time.time)
    _began_ns: int = attrs.field(factory=time.perf_counter_ns)
    _job: UUID | None = None
    _pieces: deque[tuple[int, str, int]] = attrs.field(factory=deque)
    """What it has printed last: position, text, time."""
    _kept: int = 0
    """Characters of these."""
    _said: int = 0
    """Position up to which it was told to viewers."""
    _viewers: int = 0

    def __attrs_post_init__(self) -> None:
        self.log = JobLog(self._began_ns, self._heard)

    async def run(self, work: Callable[[], Awaitable[tuple[str, str] | None]]) -> tuple[Run, UUID | None]:
        """Have `work` run, which gives its error, if it has one: kind and words. Returns what became of it,
        and the id of its job; None: it could not be recorded. If cancelled, it is recorded as that.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_shown)
                error = await work()
                nursery.cancel_scope.cancel(reason="it has ended")
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL):
                if self._job is not None:
                    await self._record(self._ended(("canceled", "it was stopped with its worker")), tries=1)
            raise
        ended = self._ended(error)
        return ended, await self._record(ended)

    def _ended(self, error: tuple[str, str] | None) -> Run:
        seconds = (time.perf_counter_ns() - self._began_ns) / 1e9
        text = self.log.text()
        return Run(
            script=self.script, began=self.began, seconds=seconds, error=error, log=text, args=self.args
        )

    def _heard(self, _token: int, text: str, position: int, at: int) -> None:
        self._pieces.append((position, text, at))
        self._kept += len(text)
        while self._kept > MOST and len(self._pieces) > 1:
            self._kept -= len(self._pieces.popleft()[1])

    async def _keep_shown(self) -> None:
        """Until cancelled, or until somebody has ended it."""
        await trio.sleep(MOMENT)
        while True:
            try:
                async with self.database.connection(within=WITHIN) as connection:
                    if self._job is None:
                        await self._begin(connection)
                    elif (asked := await see_aside(connection, self._job)) is None:
                        log.warning("%s: its job %s was ended by somebody else", self.script, self._job)
                        return
                    else:
                        if asked.canceled:
                            self.is_canceled = True
                            self.limit.cancel(reason="it was canceled")
                        await self._tell(connection, self._job, asked)
            except ANY_TROUBLE as error:
                log.debug("%s cannot be shown: %s", self.script, error)
            await trio.sleep(WATCHED_EVERY if self._viewers else EVERY)

    async def _begin(self, connection: Connection) -> None:
        ago = (time.perf_counter_ns() - self._began_ns) / 1e9
        # Who is cancelled in between would not know that it is there.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL):
            self._job = await begin_aside(connection, self.script, ago, self.args)

    async def _tell(self, connection: Connection, job: UUID, asked: Asked) -> None:
        """Tell viewers what it has printed since; one who is new, all that is kept."""
        if asked.viewers > self._viewers:
            self._said = 0
        self._viewers = asked.viewers
        fresh = [piece for piece in self._pieces if piece[0] >= self._said] if asked.viewers else []
        if not fresh:
            return
        chunks = [LogChunk(1, at, at + len(text), text, [(at, when // 1000)]) for at, text, when in fresh]
        await say_live(
            connection, [(job, chunk) for chunk in chunks], asked.clock - time.perf_counter_ns() // 1000
        )
        self._said = chunks[-1].end

    async def _record(self, run: Run, tries: int = TRIES) -> UUID | None:
        """Record a run, however long the database is away, within bounds; returns the id of its job."""
        for _ in range(tries):
            try:
                async with self.database.connection(within=WITHIN) as connection:
                    if self._job is None:
                        self._job = await record(connection, run)
                    else:
                        # Where it is not there any more, it was ended: by a try before, or by a keeper.
                        await end_aside(connection, self._job, run)
            except ANY_TROUBLE as error:
                log.debug("%s cannot be recorded yet: %s", run.script, error)
            else:
                return self._job
            await trio.sleep(RECORD_AGAIN)
        log.warning("%s could not be recorded: the database was away", run.script)
        return None
