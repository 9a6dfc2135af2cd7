"""The supervisor: starts worker processes, says in the database that they live, starts them again when they
die.

It never runs user code, so nothing that a script does can stop the heartbeat. What a dead worker held it
gives back at once, since it knows of the death before any lease runs out.
"""

from __future__ import annotations

import logging
import secrets
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.errors import HotpathError, ScriptImportError
from hotpath.model import Description, ScriptVersion
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import Located, locate
from hotpath.store.database import Database, open_database
from hotpath.store.scripts import register_version
from hotpath.store.trouble import TROUBLE
from hotpath.store.workers import (
    heartbeat,
    make_partitions,
    reap,
    register_tags,
    register_worker,
    stop_worker,
)
from hotpath.worker.assignment import Assignment
from hotpath.worker.child import Child, spawn
from hotpath.worker.options import LEASE, DedicateOptions
from hotpath.worker.report import Reporter
from hotpath.worker.statistics import WorkerStatistics

if TYPE_CHECKING:
    from hotpath.config import Config

log = logging.getLogger("hotpath.worker")

HEARTBEAT = 1.0
REAP_EVERY = 5.0
PARTITIONS_EVERY = 3600.0
FIRST_RESTART, LONGEST_RESTART = 0.1, 10.0
"""Seconds before a dead worker is started again; doubled each time that it dies within HEALTHY seconds."""
HEALTHY = 30.0
RELEASE = 5.0
"""Seconds that a worker told to stop at once gets to give back what it holds, before it is killed."""


async def supervise(config: Config, options: DedicateOptions) -> int:
    """Run a dedicated worker, of as many processes as asked, until SIGTERM or, to drain, until nothing is
    left.

    Returns the exit code. Raises HotpathError for a script that cannot be found or loaded, or a database that
    cannot be used.
    """
    located = locate(options.name, config.workspace)
    async with trio.open_nursery() as nursery:
        # The processes start while the script is described and the database opened: half of the
        # time to readiness.
        early = [await spawn() for _ in range(min(options.processes, 8))]
        try:
            found: list[Description] = []

            async def look() -> None:
                found.append(await describe(located))

            async with trio.open_nursery() as both:
                both.start_soon(look)
                database = await nursery.start(_hold_database, config)
            async with database.connection() as connection:
                version = await register_version(connection, found[0])
                tags = await register_tags(
                    connection, options.tags or (version.description.settings.tag or located.name,)
                )
            supervisor = Supervisor(database, options, located, version, tags, early)
            code = await supervisor.run()
        finally:
            for child in early:
                child.kill()
            nursery.cancel_scope.cancel(reason="the supervisor is done")
    return code


async def _hold_database(config: Config, task_status: trio.TaskStatus[Database]) -> None:
    async with open_database(config, application_name="hotpath supervisor") as database:
        task_status.started(database)
        await trio.sleep_forever()


@attrs.define(eq=False)
class Supervisor:
    """The workers of one command."""

    database: Database
    options: DedicateOptions
    located: Located
    version: ScriptVersion
    tags: list[tuple[int, str]]
    early: list[Child]
    """Processes that wait for an assignment."""
    reporter: Reporter = attrs.field(init=False)
    _children: dict[int, Child] = attrs.field(factory=dict)
    """By worker id, those that have an assignment and live."""
    _stopping: int = 0
    _failure: HotpathError | None = None
    _past: list[WorkerStatistics] = attrs.field(factory=list)
    """What workers that have ended had done."""
    _stop_asked: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.reporter = Reporter(self.options, self.version, [name for _, name in self.tags])

    async def run(self) -> int:
        """Until all workers have ended and none is to be started again."""
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._heed_signals)
            nursery.start_soon(self._beat)
            nursery.start_soon(self._keep_house)
            nursery.start_soon(self.reporter.run, self.statistics)
            async with trio.open_nursery() as workers:
                for _ in range(self.options.processes):
                    workers.start_soon(self._keep_worker)
            nursery.cancel_scope.cancel(reason="all workers have ended")
        if self._failure is not None:
            raise self._failure
        self.reporter.summary(
            self.statistics(), time.perf_counter() - began, drained=self.options.drain and not self._stopping
        )
        return 0

    def statistics(self) -> list[WorkerStatistics]:
        """Counts of each worker of this command, those that ended included."""
        return [*self._past, *(child.statistics for child in self._children.values())]

    # ------------------------------------------------------------ one worker, again and again

    async def _keep_worker(self) -> None:
        wait = FIRST_RESTART
        while not self._stopping and self._failure is None:
            began = time.monotonic()
            if await self._one_life():
                return
            if time.monotonic() - began > HEALTHY:
                wait = FIRST_RESTART
            with trio.move_on_after(wait):
                await self._stop_asked.wait()
            wait = min(wait * 2, LONGEST_RESTART)

    async def _one_life(self) -> bool:
        """Run a worker process from its start to its end; whether it ended as it should."""
        child = self.early.pop() if self.early else await spawn()
        name = f"{socket.gethostname()}-{secrets.token_hex(3)}"
        worker = 0
        try:
            async with self.database.connection() as connection:
                worker = await register_worker(
                    connection,
                    name=name,
                    group=self.options.group,
                    script=self.version.script,
                    version=self.version.id,
                    tags=[tag for tag, _ in self.tags],
                    host=socket.gethostname(),
                    pid=child.pid,
                    concurrency=self.options.concurrency
                    or self.version.description.settings.concurrency
                    or 1,
                    lease=LEASE,
                )
            self._children[worker] = child
            await child.assign(
                Assignment(
                    dsn=self.database.dsn,
                    listen_dsn=self.database.listen_dsn,
                    worker=worker,
                    name=name,
                    version=self.version,
                    file=str(self.located.file),
                    workspace=str(self.located.workspace),
                    tags=self.tags,
                    concurrency=self.options.concurrency,
                    drain=self.options.drain,
                )
            )
            if self._stopping:
                child.stop()
            await child.wait_over(lambda: self.reporter.ready(name, child.rss))
        except TROUBLE as error:
            log.warning("worker %s cannot be started yet: %s", name, error)
            return False
        finally:
            child.kill()
            self._children.pop(worker, None)
            self._past.append(attrs.evolve(child.statistics, in_hand=0))
            if worker:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + RELEASE):
                    await self._bury(worker, name, child)
        if child.error is not None:
            message, code, traceback = child.error
            self._failure = (
                ScriptImportError(message, traceback=traceback) if code == 1 else HotpathError(message)
            )
            return True
        if child.returncode == 0 and (self.options.drain or self._stopping):
            return True
        if not self._stopping:
            log.warning("worker %s ended (%s): starting another", name, child.ending)
        return False

    async def _bury(self, worker: int, name: str, child: Child) -> None:
        try:
            async with self.database.connection() as connection:
                released = await stop_worker(connection, worker, child.statistics.jobs)
            if released:
                log.warning("worker %s left %d jobs behind: they are back in the queue", name, released)
        except TROUBLE as error:
            log.warning(
                "what worker %s held comes back when its lease ends, in %g s at most: %s", name, LEASE, error
            )

    # ------------------------------------------------------------ what goes on beside

    async def _heed_signals(self, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                self.stop()

    def stop(self) -> None:
        """The first call lets jobs under way end within the grace; the second has them given back at once."""
        self._stopping += 1
        for child in self._children.values():
            child.stop()
        self._stop_asked.set()

    async def _beat(self) -> None:
        """Renew the leases; a worker that has lost its own stops. Also end what outlives its grace."""
        await self._while_weather(self._beats)

    async def _beats(self) -> None:
        stopped_at: float | None = None
        while True:
            if self._children:
                jobs = {worker: child.statistics.jobs for worker, child in self._children.items()}
                async with self.database.connection() as connection:
                    renewed = (await heartbeat(connection, jobs, LEASE)).renewed
                for worker in jobs.keys() - renewed:
                    if (child := self._children.get(worker)) is not None:
                        log.warning("worker %d has lost its lease: it is ended and another started", worker)
                        child.kill()
            if self._stopping:
                now = time.monotonic()
                stopped_at = stopped_at or now
                if now - stopped_at > self.options.grace + RELEASE:
                    for child in self._children.values():
                        child.kill()
                elif now - stopped_at > self.options.grace or self._stopping > 1:
                    for child in self._children.values():
                        child.stop_at_once()
            await trio.sleep(HEARTBEAT if not self._stopping else 0.1)

    async def _keep_house(self) -> None:
        await self._while_weather(self._housekeeping)

    async def _housekeeping(self) -> None:
        partitions_at = time.monotonic() + PARTITIONS_EVERY  # opening the database has just made them
        while True:
            await trio.sleep(REAP_EVERY)
            async with self.database.connection() as connection:
                taken = await reap(connection)
                if taken:
                    log.warning("%d jobs of dead workers are back in the queue", taken)
                if time.monotonic() >= partitions_at:
                    await make_partitions(connection)
                    partitions_at = time.monotonic() + PARTITIONS_EVERY

    async def _while_weather(self, task: Callable[[], object]) -> None:
        """Run a task that talks to the database for ever; trouble with it is waited out."""
        while True:
            try:
                await task()  # type: ignore[misc]
            except TROUBLE as error:
                log.warning("the database is out of reach: %s", error)
                await trio.sleep(HEARTBEAT)
