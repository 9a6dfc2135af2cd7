"""A worker inside somebody else's Trio program, with a runtime of their own if they like.

There is no supervisor here: a thread renews the lease, with a Trio of its own, so that it does not depend on
the program's loop. What it cannot cover: code that never gives up the GIL stops that thread too, and the
death of the process is noticed only when the lease ends.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.config import read_config
from hotpath.runtime.choose import choose
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import locate
from hotpath.store.database import connect, open_database
from hotpath.store.scripts import register_version
from hotpath.store.trouble import TROUBLE
from hotpath.store.workers import heartbeat, register_tags, register_worker, stop_worker
from hotpath.worker.assignment import Assignment
from hotpath.worker.engine import work
from hotpath.worker.options import GRACE, LEASE, DedicateOptions
from hotpath.worker.statistics import WorkerStatistics

if TYPE_CHECKING:
    from hotpath.runtime.protocol import Runtime
    from hotpath.worker.loop import Loop

log = logging.getLogger("hotpath.worker")

HEARTBEAT = 1.0
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


@attrs.frozen(eq=False)
class Worker:
    """A worker that serves; what `nursery.start(hotpath.serve_worker, ...)` returns."""

    name: str
    id: int
    _loop: Loop = attrs.field(repr=False)
    _scope: trio.CancelScope = attrs.field(repr=False)
    _grace: float

    def stop(self) -> None:
        """Claim nothing more; `serve_worker` returns when the jobs under way end, or after the grace."""
        self._loop.stop()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + self._grace)

    def statistics(self) -> WorkerStatistics:
        """Counts since the start."""
        return self._loop.statistics()


async def serve_worker(
    what: Dedicated, *, task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve jobs until stopped, cancelled or, to drain, until nothing is left. Started with a `Worker` once
    it is ready.

    Raises `ScriptError` for a script that cannot be found or loaded, `DatabaseUnavailableError` for a
    database that cannot be used. If cancelled, jobs under way are given up, what was reported is flushed and
    the rest goes back into the queue.
    """
    options = what.options
    config = read_config(workspace=options.workspace)
    if what.database_url is not None:
        config = attrs.evolve(config, database_url=what.database_url)
    located = locate(options.name, config.workspace)
    description = await describe(located)
    name = f"{socket.gethostname()}-{secrets.token_hex(3)}"
    async with open_database(config, application_name="hotpath worker") as database:
        runtime = what.runtime or choose(description, concurrency=options.concurrency)
        async with database.connection() as connection:
            version = await register_version(connection, description)
            tags = await register_tags(
                connection, options.tags or (description.settings.tag or located.name,)
            )
            worker = await register_worker(
                connection,
                name=name,
                group=options.group,
                script=version.script,
                version=version.id,
                tags=[tag for tag, _ in tags],
                host=socket.gethostname(),
                pid=os.getpid(),
                concurrency=runtime.concurrency,
                lease=LEASE,
            )
        assignment = Assignment(
            dsn=database.dsn,
            listen_dsn=database.listen_dsn,
            worker=worker,
            name=name,
            version=version,
            file=str(located.file),
            workspace=str(located.workspace),
            tags=tags,
            concurrency=options.concurrency,
            drain=options.drain,
        )
        jobs = 0
        try:
            async with _heartbeat_thread(database.dsn, worker) as pulse, trio.open_nursery() as nursery:
                done = trio.Event()

                async def run(task_status: trio.TaskStatus[Loop]) -> None:
                    try:
                        await work(assignment, runtime, task_status=task_status)
                    finally:
                        done.set()

                loop = await nursery.start(run)
                pulse.loop = loop
                task_status.started(Worker(name, worker, loop, nursery.cancel_scope, options.grace))
                await done.wait()
                jobs = loop.statistics().jobs
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL):
                try:
                    async with database.connection() as connection:
                        await stop_worker(connection, worker, jobs)
                except TROUBLE as error:
                    log.warning("the database was not told that worker %s ended: %s", name, error)


@attrs.define(eq=False)
class _Pulse:
    """What the heartbeat thread and the worker share."""

    over: threading.Event = attrs.field(factory=threading.Event)
    loop: Loop | None = None


class _heartbeat_thread:  # noqa: N801 - used as a context manager, named as one
    """Renews the lease from a thread with its own Trio, until left."""

    def __init__(self, dsn: str, worker: int) -> None:
        self._dsn, self._worker = dsn, worker
        self._pulse = _Pulse()
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread = threading.Thread(target=self._run, name="hotpath-heartbeat", daemon=True)

    async def __aenter__(self) -> _Pulse:
        self._token = trio.lowlevel.current_trio_token()
        self._thread.start()
        return self._pulse

    async def __aexit__(self, *_: object) -> None:
        self._pulse.over.set()

    def _run(self) -> None:
        trio.run(self._beat)

    async def _beat(self) -> None:
        lease_until = time.monotonic() + LEASE
        while not self._pulse.over.is_set():
            try:
                connection = await connect(self._dsn)
                try:
                    while not self._pulse.over.is_set():
                        loop = self._pulse.loop
                        jobs = loop.statistics().jobs if loop is not None else 0
                        asked = time.monotonic()
                        beat = await heartbeat(connection, {self._worker: jobs}, LEASE)
                        if self._worker not in beat.renewed:
                            self._lost()
                            return
                        lease_until = asked + LEASE
                        await trio.sleep(HEARTBEAT)
                finally:
                    connection.terminate()
            except TROUBLE as error:
                if time.monotonic() > lease_until:
                    self._lost()
                    return
                log.warning("the heartbeat does not reach the database: %s", error)
                await trio.sleep(HEARTBEAT / 2)

    def _lost(self) -> None:
        """The lease is gone: the worker stops, and its late outcomes will be refused."""
        log.warning("worker %d has lost its lease: it stops", self._worker)
        loop = self._pulse.loop
        if loop is not None and self._token is not None:
            try:
                self._token.run_sync_soon(loop.stop)
            except trio.RunFinishedError:
                pass
