"""One worker from its start to its burial, and the next one after it."""

from __future__ import annotations

import logging
import secrets
import socket
import time
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.core.restart import Restarts
from hotpath.core.watch import SECOND, Watch
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.store.workers import register_worker
from hotpath.worker.assignment import Assignment
from hotpath.worker.burial import Remains, remains_of
from hotpath.worker.child import Child, spawn
from hotpath.worker.facts import Facing
from hotpath.worker.runtimes import runtime_of

if TYPE_CHECKING:
    from hotpath.worker.supervisor import Supervisor

log = logging.getLogger("hotpath.worker")

REGISTER_WITHIN = 10.0
"""Seconds that one try to register a worker may take."""
REGISTER_AGAIN = 0.25
"""Seconds between two tries: a worker that waits for the database is to start as soon as that is back."""


@attrs.define(eq=False)
class Life:
    """One worker process: registered, told what to do, followed to its end."""

    team: Supervisor
    child: Child
    watch: Watch
    name: str = attrs.field(factory=lambda: f"{socket.gethostname()}-{secrets.token_hex(3)}")
    facing: Facing = attrs.field(init=False)
    """How it was seen over time."""
    worker: int = 0
    """Id of its row, once it is registered."""
    was_ready: bool = False
    ready: trio.Event = attrs.field(factory=trio.Event)
    """It takes jobs, or never will."""
    changed: trio.Event = attrs.field(factory=trio.Event)
    """It is over, or worn."""
    is_over: bool = False
    is_worn: bool = False
    """Whether it has run as many jobs, or taken as much memory, as it may."""
    retired: bool = False
    """Whether another one has taken its place."""
    lost_at: int | None = None
    """`time.perf_counter_ns()` when its lease was found to be lost."""

    def __attrs_post_init__(self) -> None:
        self.facing = Facing(self.child.pid, [tag for _, tag in self.team.tags], self.team.concurrency)

    async def run(self) -> None:
        """From the registration to the end of the process; then it is buried, beside all else."""
        try:
            if await self._register():
                await self.child.assign(self._assignment())
                if self.team.stop.count:
                    self.child.stop()
                    if self.team.stop.count > 1:
                        self.child.stop_at_once()
                await self.child.wait_over(self._is_ready)
        finally:
            self.child.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await self.child.process.wait()
            self.team.lives.pop(self.worker, None)
            self.team.keeper.ended(self.worker)
            self.team.past.append(attrs.evolve(self.child.statistics, in_hand=0))
            remains = self._remains() if self.worker else None
            self.child.close()
            self.is_over = True
            self.ready.set()
            self.changed.set()
            if remains is not None:
                self.team.bury(remains)

    async def _register(self) -> bool:
        """Wait for the database as long as it takes; False if the worker is to stop before it began."""
        team = self.team
        while not team.stop.count and team.failure is None and self.child.returncode is None:
            asked = time.perf_counter_ns()
            try:
                async with team.database.connection(within=REGISTER_WITHIN) as connection:
                    self.worker = await register_worker(
                        connection,
                        name=self.name,
                        group=team.options.group,
                        script=team.version.script,
                        version=team.version.id,
                        tags=[tag for tag, _ in team.tags],
                        host=socket.gethostname(),
                        pid=self.child.pid,
                        concurrency=team.concurrency,
                        lease=team.options.lease,
                    )
            except ANY_TROUBLE as error:
                team.weather.bad(error)
                with trio.move_on_after(REGISTER_AGAIN):
                    await team.stop.asked.wait()
            else:
                self.child.renewed(asked + round(team.options.lease * SECOND))
                team.lives[self.worker] = self
                team.keeper.follow(self.worker, lambda: self.child.tallies)
                return True
        return False

    def _assignment(self) -> Assignment:
        team = self.team
        return Assignment(
            dsn=team.database.dsn,
            listen_dsn=team.database.listen_dsn,
            worker=self.worker,
            name=self.name,
            version=team.version,
            file=str(team.located.file),
            workspace=str(team.located.workspace),
            tags=team.tags,
            concurrency=team.options.concurrency,
            drain=team.options.drain,
            runtime=runtime_of(team.located, team.version.description),
            secret=team.secret,
        )

    def _is_ready(self) -> None:
        self.was_ready = True
        self.ready.set()
        self.team.reporter.ready(self.name, self.child.rss)
        log.info("worker %s is ready, process %d", self.name, self.child.pid, extra={"worker": self.name})

    def _remains(self) -> Remains:
        job = self.child.job_in_hand()
        return remains_of(
            self.child,
            self.team.version,
            worker=self.worker,
            name=self.name,
            several=self.watch.several,
            started_ns=self.watch.since(job) if job is not None else None,
        )

    def wear(self) -> None:
        """Look whether another one should take its place."""
        options = self.team.options
        if self.is_worn or not self.was_ready:
            return
        jobs, rss = self.child.statistics.jobs, 0
        known = {"worker": self.name}
        if options.max_rss is not None:
            rss = self.child.rss_now()
        if options.max_jobs is not None and jobs >= options.max_jobs:
            log.info("worker %s has run %d jobs: another one takes its place", self.name, jobs, extra=known)
        elif options.max_rss is not None and rss > options.max_rss:
            log.warning(
                "worker %s takes %d MiB: another one takes its place", self.name, rss >> 20, extra=known
            )
        else:
            return
        self.is_worn = True
        self.changed.set()

    def lose(self) -> None:
        """Its lease is lost: whatever it still runs may run elsewhere, too."""
        if self.lost_at is None:
            log.warning(
                "worker %s has lost its lease: it is ended and another one started",
                self.name,
                extra={"worker": self.name},
            )
            self.lost_at = time.perf_counter_ns()
            self.child.stop_at_once()


async def keep_worker(team: Supervisor) -> None:
    """One worker, again and again, until the command ends. A worn one makes room when the next is warm."""
    restarts = Restarts()
    async with trio.open_nursery() as nursery:
        life: Life | None = None
        while not team.stop.count and team.failure is None:
            if life is None:
                life = await _begin(team, nursery)
            await life.changed.wait()
            if not life.is_over:
                life = await _succeed(team, life, nursery)
                continue
            if team.is_done(life):
                return
            restarts = restarts.after(ready=life.was_ready, jobs=life.child.statistics.jobs)
            life = None
            with trio.move_on_after(restarts.wait):
                await team.stop.asked.wait()


async def _begin(team: Supervisor, nursery: trio.Nursery) -> Life:
    child = team.early.pop() if team.early else await spawn()
    # Of async code even a single job may be unknown: while it waits, nothing is marked.
    several = team.version.description.is_async
    life = Life(team, child, Watch(round(team.options.lease * SECOND), several=several))
    nursery.start_soon(life.run)
    return life


async def _succeed(team: Supervisor, old: Life, nursery: trio.Nursery) -> Life:
    """Start another one beside a worn worker; when it is ready, or the old one is over, the old one is done
    with. Returns the one to go on with.
    """
    new = await _begin(team, nursery)
    await new.ready.wait()
    if new.was_ready or old.is_over:
        old.retired = True
        old.child.stop()
        return new
    # The new one did not come up: the old one is better than none, and is looked at again after a while.
    old.changed = trio.Event()
    old.is_worn = False
    with trio.move_on_after(1.0):
        await team.stop.asked.wait()
    return old
