"""The supervisor: starts worker processes, keeps them alive in the database, replaces those that fail.

It never runs user code. What it is made of: `lives` (a worker from start to burial, and the next one),
`pulse` (heartbeat, requests to cancel, taking back what others left), `guard` (ends what must not go on),
`burial` (what becomes of a dead worker's jobs). The rules that they follow are in `core/watch.py`,
`core/verdict.py` and `core/restart.py`.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress

import attrs
import trio

from hotpath.config import Config
from hotpath.core.tally import CANCELED, FAILURE
from hotpath.core.watch import Kill
from hotpath.errors import HotpathError, ScriptImportError
from hotpath.model import Description, ErrorKind, ScriptVersion
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import Located, locate
from hotpath.store.database import Database, open_database
from hotpath.store.flows import secret_for
from hotpath.store.scripts import register_version
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.store.workers import register_tags
from hotpath.worker.burial import Remains, tell
from hotpath.worker.child import Child, spawn
from hotpath.worker.facts import Keeper
from hotpath.worker.guard import guard
from hotpath.worker.lives import Life, keep_worker
from hotpath.worker.options import DEFAULT_CONCURRENCY, DedicateOptions
from hotpath.worker.pulse import Pulse, Weather
from hotpath.worker.report import Reporter
from hotpath.worker.statistics import WorkerStatistics

log = logging.getLogger("hotpath.worker")

RELEASE = 5.0
"""Seconds that a worker told to stop at once gets to give back what it holds, before it is killed."""
LAST_WORDS = 2.0
"""Seconds that telling the database what became of the last workers may take."""


@attrs.define(eq=False)
class Stop:
    """How often somebody asked this command to end. The first time lets jobs under way end within the grace,
    the second has them given back at once.
    """

    count: int = 0
    is_preparing: bool = True
    """Whether nothing can have been claimed yet."""
    asked: trio.Event = attrs.field(factory=trio.Event)
    at_once: trio.Event = attrs.field(factory=trio.Event)

    def __call__(self) -> None:
        """Ask once more."""
        self.count += 1
        self.asked.set()
        if self.count > 1:
            self.at_once.set()
            if self.is_preparing:
                os._exit(0)  # a database that is being made cannot be interrupted otherwise

    async def heed_signals(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                self()


async def supervise(config: Config, options: DedicateOptions) -> int:
    """Run a dedicated worker, of as many processes as asked, until SIGTERM or, to drain, until nothing is
    left.

    Returns the exit code. Raises HotpathError for a script that cannot be found or loaded, or a database that
    cannot be used.
    """
    located = locate(options.name, config.workspace)
    stop, code = Stop(), 0
    async with trio.open_nursery() as nursery:
        await nursery.start(stop.heed_signals)
        # The processes start while the script is described and the database opened: half of the
        # time to readiness.
        early = [await spawn() for _ in range(min(options.processes, 8))]
        try:
            supervisor = await _prepare(config, options, located, stop, early, nursery)
            if supervisor is not None:
                code = await supervisor.run()
            else:
                Reporter(options).summary([], 0.0, drained=False)
        finally:
            for child in early:
                child.kill()
                child.close()
            nursery.cancel_scope.cancel(reason="the supervisor is done")
    return code


async def _prepare(
    config: Config,
    options: DedicateOptions,
    located: Located,
    stop: Stop,
    early: list[Child],
    nursery: trio.Nursery,
) -> Supervisor | None:
    """Describe the script and open the database; None if somebody asked to stop meanwhile."""
    found: list[Description] = []
    supervisor = None

    async def look() -> None:
        found.append(await describe(located))

    async with trio.open_nursery() as preparing:
        preparing.start_soon(_give_up, stop, preparing.cancel_scope)
        async with trio.open_nursery() as both:
            both.start_soon(look)
            database = await nursery.start(_hold_database, config)
        async with database.connection() as connection:
            version = await register_version(connection, found[0])
            tags = await register_tags(
                connection, options.tags or (version.description.settings.tag or located.name,)
            )
            secret = await secret_for(connection, version.description)
        supervisor = Supervisor(config, database, options, located, version, tags, early, stop, secret)
        preparing.cancel_scope.cancel(reason="prepared")
    stop.is_preparing = False
    return supervisor


async def _give_up(stop: Stop, scope: trio.CancelScope) -> None:
    await stop.asked.wait()
    scope.cancel(reason="asked to stop")


async def _hold_database(config: Config, task_status: trio.TaskStatus[Database]) -> None:
    # More than wait long at once (burials, the house, logs that move): the heartbeat must not wait for them.
    async with open_database(config, application_name="hotpath supervisor", connections=8) as database:
        task_status.started(database)
        await trio.sleep_forever()


@attrs.define(eq=False)
class Supervisor:
    """The workers of one command, and what they share."""

    config: Config
    database: Database
    options: DedicateOptions
    located: Located
    version: ScriptVersion
    tags: list[tuple[int, str]]
    early: list[Child]
    """Processes that wait for an assignment."""
    stop: Stop
    secret: bytes = attrs.field(repr=False)
    """What the database's tokens are signed with; empty unless the script is a flow."""
    reporter: Reporter = attrs.field(init=False)
    weather: Weather = attrs.field(factory=Weather)
    lives: dict[int, Life] = attrs.field(factory=dict)
    """By worker id, those that are registered and not yet buried."""
    past: list[WorkerStatistics] = attrs.field(factory=list)
    """What workers that have ended had done."""
    keeper: Keeper = attrs.field(init=False)
    failure: HotpathError | None = None
    """Why no worker can work."""
    _burials: trio.Nursery | None = None

    def __attrs_post_init__(self) -> None:
        self.reporter = Reporter(self.options, self.version, [name for _, name in self.tags])
        self.keeper = Keeper(self.version.script, self.tags)

    @property
    def concurrency(self) -> int:
        """Jobs at a time in one process."""
        description = self.version.description
        if not description.is_async:
            return 1
        return self.options.concurrency or description.settings.concurrency or DEFAULT_CONCURRENCY

    async def run(self) -> int:
        """Until all workers have ended and none is to be started again; returns the exit code."""
        began = time.perf_counter()
        pulse = Pulse(
            self.config, self.database, self.options.lease, self.weather, lambda: self.lives, self.keeper
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pulse.run)
            nursery.start_soon(guard, self.lives.values)
            nursery.start_soon(self.reporter.run, self.statistics)
            nursery.start_soon(self._end_in_time)
            if self.config.log_store is not None:
                from hotpath.store.archive import keep_moving  # imported by who has such a store

                nursery.start_soon(
                    keep_moving, self.database, self.config.log_store, self.config.log_store_after
                )
            async with trio.open_nursery() as self._burials:
                async with trio.open_nursery() as workers:
                    for _ in range(self.options.processes):
                        workers.start_soon(keep_worker, self)
                self._burials.cancel_scope.deadline = trio.current_time() + LAST_WORDS
            if self._burials.cancel_scope.cancelled_caught:
                log.warning(
                    "the database could not be told: what is left comes back when its lease ends, in %g s at "
                    "most",
                    self.options.lease,
                )
            with suppress(*ANY_TROUBLE), trio.move_on_after(LAST_WORDS):
                await pulse.say_last()
            nursery.cancel_scope.cancel(reason="all workers have ended")
        if self.failure is not None:
            raise self.failure
        drained = self.options.drain and not self.stop.count
        self.reporter.summary(self.statistics(), time.perf_counter() - began, drained=drained)
        return 0

    def statistics(self) -> list[WorkerStatistics]:
        """Counts of each worker of this command, those that ended included."""
        return [*self.past, *(life.child.statistics for life in self.lives.values())]

    def is_done(self, life: Life) -> bool:
        """Whether this worker, which has ended, needs no successor."""
        child = life.child
        if child.error is not None:
            message, code, traceback = child.error
            self.failure = (
                ScriptImportError(message, traceback=traceback) if code == 1 else HotpathError(message)
            )
            self.stop()
        if self.stop.count:
            return True
        if self.options.drain and child.has_drained and life.lost_at is None:
            return True  # how it ended then is nobody's business: another one would find nothing, too
        log.warning("worker %s %s: starting another", life.name, child.ending, extra={"worker": life.name})
        return False

    def bury(self, remains: Remains) -> None:
        """Tell the database what became of a worker, beside all else."""
        assert self._burials is not None, "workers live in it"
        self._burials.start_soon(self._bury, remains)

    async def _bury(self, remains: Remains) -> None:
        ended = await tell(self.database, self.version, remains)
        self.keeper.note(CANCELED if remains.judgement.kind is ErrorKind.CANCELED else FAILURE, ended)

    async def _end_in_time(self) -> None:
        """Pass on what somebody asked for; end what outlives its grace."""
        await self.stop.asked.wait()
        for life in list(self.lives.values()):
            life.child.stop()
        with trio.move_on_after(self.options.grace):
            await self.stop.at_once.wait()
        for life in list(self.lives.values()):
            life.child.stop_at_once()
        await trio.sleep(RELEASE)
        for life in list(self.lives.values()):
            life.child.kill(Kill(None, None, "its grace was over"))
