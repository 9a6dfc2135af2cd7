"""A worker inside somebody else's Trio program, with a runtime of their own if they like.

There is no supervisor here. A thread with a Trio of its own renews the lease and hears cancels, so that
neither depends on the program's loop. What that cannot cover, and `hotpath dedicate` can:

- Code that never gives up the GIL stops the thread, too: once the lease has run out its jobs may be taken,
  and run elsewhere, beside it. Nothing kills it: time-outs and cancels reach async code and Python, not C.
- When the process dies, its jobs come back as the lease ends (15 s), and nobody knows which one it was: all
  that it held are suspects, and run in ever smaller company.
- A program that blocks Trio's thread blocks the worker: nothing is claimed or flushed meanwhile.

When the lease was lost (the database was away for longer than it lasts) what runs is interrupted, and the
worker goes on as a new one: under another id, with the script that it has loaded.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import msgspec
import trio

from hotpath.config import read_config
from hotpath.errors import ScriptError
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import locate
from hotpath.store.choices import refuse_version
from hotpath.store.complete import Connection
from hotpath.store.database import Database, open_database
from hotpath.store.flows import secret_for
from hotpath.store.own_tags import own_tags
from hotpath.store.trouble import TROUBLE
from hotpath.store.workers import heartbeat, register_tags, register_worker, stop_worker
from hotpath.worker.assignment import Assignment, ScriptInHand
from hotpath.worker.changes import Changes
from hotpath.worker.engine import live
from hotpath.worker.facts import Facing, Keeper
from hotpath.worker.heartbeat import open_pulse
from hotpath.worker.options import GRACE, LEASE, DedicateOptions
from hotpath.worker.prepare import settle
from hotpath.worker.runtimes import make_runtime, runtime_of
from hotpath.worker.statistics import WorkerStatistics, added

if TYPE_CHECKING:
    from hotpath.runtime.protocol import Runtime
    from hotpath.worker.loop import Loop

log = logging.getLogger("hotpath.worker")

FIRST_RESTART, LONGEST_RESTART = 0.1, 2.0
"""Seconds between two tries to go on after the lease was lost."""
STAYS = "it runs within a program, which has to be started again to run another version"
"""What is said of a worker that goes on with its version whatever is deployed."""
FAREWELL = 5.0
"""Seconds that saying goodbye to the database may take."""


@attrs.frozen(kw_only=True)
class Dedicated:
    """A worker dedicated to one script; made by `dedicated(...)`."""

    options: DedicateOptions
    runtime: Runtime | None
    database_url: str | None = attrs.field(repr=False)


def dedicated(
    name: str,
    *,
    runtime: Runtime | None = None,
    concurrency: int | None = None,
    tags: tuple[str, ...] | list[str] = (),
    group: str | None = None,
    drain: bool = False,
    grace: float = GRACE,
    workspace: str | Path | None = None,
    database_url: str | None = None,
) -> Dedicated:
    """Say what `serve_worker` should serve: the script `name`, run by `runtime` or by the built-in one that
    fits it.

    `grace` is how long, in seconds, jobs under way may take once the worker is stopped. Raises UsageError
    naming what is wrong.
    """
    config = read_config(workspace=workspace)
    options = DedicateOptions(
        name=name,
        workspace=config.workspace,
        concurrency=concurrency,
        tags=tuple(tags),
        group=group,
        drain=drain,
        grace=grace,
    )
    return Dedicated(options=options, runtime=runtime, database_url=database_url)


@attrs.define(eq=False)
class Worker:
    """A worker that serves; what `nursery.start(hotpath.serve_worker, ...)` returns."""

    name: str
    id: int
    """Id of its row in `hotpath.worker`; another one after its lease was lost."""
    _loop: Loop = attrs.field(repr=False)
    _scope: trio.CancelScope = attrs.field(repr=False)
    _grace: float
    _past: list[WorkerStatistics] = attrs.field(factory=list, repr=False)
    """Counts of the lives before this one."""
    stopping: bool = False

    def go_on(self, name: str, worker: int, loop: Loop) -> None:
        """The worker has another life: its lease was lost."""
        self._past.append(attrs.evolve(self._loop.statistics(), in_hand=0))
        self.name, self.id, self._loop = name, worker, loop
        if self.stopping:
            loop.stop()

    def heed(self) -> None:
        """What is configured in the database has changed: read it before the next claim."""
        self._loop.search.heed()
        self._loop.wake()

    def stop(self) -> None:
        """Claim nothing more; `serve_worker` returns when the jobs under way end, or after the grace."""
        self.stopping = True
        self._loop.stop()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + self._grace)

    def statistics(self) -> WorkerStatistics:
        """Counts since the start."""
        return added([*self._past, self._loop.statistics()])


async def serve_worker(
    what: Dedicated, *, task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve jobs until stopped, cancelled or, to drain, until nothing is left. Started with a `Worker` once
    it is ready.

    Raises `ScriptError` for a script that cannot be found or loaded, `DatabaseUnavailableError` for a
    database that cannot be used at the start; later it waits for it. If cancelled, jobs under way are given
    up, what was reported is flushed and the rest goes back into the queue.

    Cancels and time-outs end async code and Python, not code in C that never gives up the GIL: there is no
    supervisor to kill it. When the process dies, its jobs come back as its lease ends.

    It runs the version that was current as it began, to its end: to run another one, start it again.
    """
    options = what.options
    config = read_config(workspace=options.workspace)
    if what.database_url is not None:
        config = attrs.evolve(config, database_url=what.database_url)
    located = locate(options.name, config.workspace)
    description = await describe(located)
    async with open_database(config, application_name="hotpath worker") as database:
        edition = await settle(database, config, located, description)
        version, located = edition.version, edition.located
        description = version.description
        if edition.python is not None and what.runtime is None:
            raise ScriptError(
                f"{description.path} has dependencies of its own (`# /// script`), which this program "
                "has not: run it by `hotpath dedicate`"
            )
        factory = runtime_of(located, description)
        runtime = what.runtime or make_runtime(factory, description, concurrency=options.concurrency)
        async with database.connection() as connection:
            tags = await register_tags(connection, await own_tags(connection, description, options.tags))
            secret = await secret_for(connection, description)
        name = f"{socket.gethostname()}-{secrets.token_hex(3)}"
        assignment = Assignment(
            dsn=database.dsn,
            listen_dsn=database.listen_dsn,
            worker=0,
            name=name,
            version=version,
            file=str(located.file),
            workspace=str(located.workspace),
            root=None if located.root is None else str(located.root),
            tags=tags,
            concurrency=options.concurrency,
            drain=options.drain,
            runtime=factory,
            secret=secret,
        )
        async with runtime.open(ScriptInHand.of(assignment)), trio.open_nursery() as nursery:
            service = _Service(database, assignment, runtime, options)
            nursery.start_soon(service.changes.follow, database)
            nursery.start_soon(service.changes.heed, database, service.heed)
            await service.one_life(nursery.cancel_scope, task_status)
            while service.lost:
                await service.revive(nursery.cancel_scope)
            nursery.cancel_scope.cancel(reason="the worker is done")


@attrs.define(eq=False)
class _Service:
    """A worker's lives, one after the other."""

    database: Database
    assignment: Assignment
    runtime: Runtime
    options: DedicateOptions
    worker: Worker | None = None
    lost: bool = False
    """Whether the last life ended by the loss of its lease."""
    keeper: Keeper = attrs.field(init=False)
    changes: Changes = attrs.field(factory=Changes)

    def __attrs_post_init__(self) -> None:
        self.keeper = Keeper(self.assignment.version.script, self.assignment.tags)

    async def heed(self, _connection: Connection) -> None:
        """What is configured has changed: the worker reads what it needs of it."""
        if self.worker is not None:
            self.worker.heed()

    async def revive(self, scope: trio.CancelScope) -> None:
        """The life after one whose lease was lost, as soon as the database can be used."""
        wait = FIRST_RESTART
        while True:
            name = f"{socket.gethostname()}-{secrets.token_hex(3)}"
            self.assignment = msgspec.structs.replace(self.assignment, name=name)
            try:
                await self.one_life(scope)
            except TROUBLE as error:
                log.warning("the worker cannot start again yet: %s", error)
                await trio.sleep(wait)
                wait = min(wait * 2, LONGEST_RESTART)
            else:
                return

    async def one_life(
        self, scope: trio.CancelScope, task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Register as a worker, and work until that is over."""
        began = time.perf_counter_ns()
        async with self.database.connection() as connection:
            worker = await register_worker(
                connection,
                name=self.assignment.name,
                group=self.options.group,
                script=self.assignment.version.script,
                version=self.assignment.version.id,
                tags=[tag for tag, _ in self.assignment.tags],
                host=socket.gethostname(),
                pid=os.getpid(),
                concurrency=self.runtime.concurrency,
                lease=LEASE,
            )
            await refuse_version(connection, [worker], None, STAYS)
        self.assignment = msgspec.structs.replace(self.assignment, worker=worker)
        jobs = 0
        facing = Facing(os.getpid(), [tag for _, tag in self.assignment.tags], self.runtime.concurrency)
        try:
            async with (
                open_pulse(self.database.dsn, worker, began, facing, self.keeper) as pulse,
                trio.open_nursery() as nursery,
            ):
                done = trio.Event()

                async def run(task_status: trio.TaskStatus[Loop]) -> None:
                    try:
                        await live(self.assignment, self.runtime, task_status=task_status)
                    finally:
                        done.set()

                loop = await nursery.start(run)
                self.keeper.follow(worker, loop.tallies)
                pulse.follow(loop)
                self._present(loop, scope, task_status)
                await done.wait()
                jobs = loop.statistics().jobs
        finally:
            self.keeper.ended(worker)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL):
                try:
                    async with self.database.connection() as connection:
                        await stop_worker(connection, worker, jobs)
                        if counts := self.keeper.due(finally_=True):
                            await heartbeat(connection, {}, LEASE, counts=counts)
                            self.keeper.heard()
                except TROUBLE as error:
                    log.warning(
                        "the database was not told that worker %s ended: %s", self.assignment.name, error
                    )
        self.lost = pulse.lost and self.worker is not None and not self.worker.stopping

    def _present(self, loop: Loop, scope: trio.CancelScope, task_status: trio.TaskStatus[Worker]) -> None:
        """Show this life to whoever holds the worker."""
        name, worker = self.assignment.name, self.assignment.worker
        if self.worker is None:
            self.worker = Worker(name, worker, loop, scope, self.options.grace)
            task_status.started(self.worker)
            return
        self.worker.go_on(name, worker, loop)
        log.warning("the worker goes on as %s, worker %d", name, worker)
