"""One worker from its start to its burial, and the next one after it."""

from __future__ import annotations

import logging
import math
import secrets
import socket
import time
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.core.restart import Restarts
from hotpath.core.watch import SECOND, Watch
from hotpath.scripts.priority import LOW_FOR, lower, restore
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.store.workers import register_worker
from hotpath.worker.assignment import Assignment
from hotpath.worker.burial import Remains, remains_of
from hotpath.worker.child import Child, spawn
from hotpath.worker.facts import Facing
from hotpath.worker.runtimes import runtime_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hotpath.model import ScriptVersion
    from hotpath.worker.kit import Kit
    from hotpath.worker.team import Team

log = logging.getLogger("hotpath.worker")

REGISTER_WITHIN = 10.0
"""Seconds that one try to register a worker may take."""
TRY_AGAIN = 15.0
"""Seconds until a worker is tried again that could not load what others of its team run."""
SLOWER = 3
"""Times as long as the one before it a worker may take to load, should that be more than is usual."""
REGISTER_AGAIN = 0.25
"""Seconds between two tries: a worker that waits for the database is to start as soon as that is back."""


@attrs.define(eq=False)
class Life:
    """One worker process: registered, told what to do, followed to its end."""

    team: Team
    child: Child
    watch: Watch
    kit: Kit
    """What it was started with."""
    name: str = attrs.field(factory=lambda: f"{socket.gethostname()}-{secrets.token_hex(3)}")
    version: ScriptVersion = attrs.field(init=False)
    facing: Facing = attrs.field(init=False)
    """How it was seen over time."""
    worker: int = 0
    """Id of its row, once it is registered."""
    was_ready: bool = False
    ready: trio.Event = attrs.field(factory=trio.Event)
    """It takes jobs, or never will."""
    over: trio.Event = attrs.field(factory=trio.Event)
    """It has ended."""
    changed: trio.Event = attrs.field(factory=trio.Event)
    """It is over, or worn, or another version is to run."""
    is_over: bool = False
    is_worn: bool = False
    """Whether it has run as many jobs, or taken as much memory, as it may."""
    retired: bool = False
    """Whether another one has taken its place, or it was ended before it took one."""
    tags: Sequence[tuple[int, str]] = ()
    """That it was last told to listen to."""
    within: float | None = None
    """Seconds that it may take to load; None: as many as it takes."""
    loaded_in: float = 0.0
    """Seconds that it took."""
    is_late: bool = False
    """Whether it was given up since it took too long."""
    lost_at: int | None = None
    """`time.perf_counter_ns()` when its lease was found to be lost."""

    def __attrs_post_init__(self) -> None:
        self.version = self.kit.edition.version
        self.tags = self.team.tags
        names = None if self.team.fed else [tag for _, tag in self.tags]
        self.facing = Facing(self.child.pid, names, self.kit.concurrency)

    async def run(self) -> None:
        """From the registration to the end of the process; then it is buried, beside all else."""
        try:
            if await self._register():
                await self.child.assign(self._assignment())
                self.team.retell(self)
                if self.team.stop.count:
                    self.child.stop()
                    if self.team.stop.count > 1:
                        self.child.stop_at_once()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._load_in_time)
                    await self.child.wait_over(self._is_ready)
                    nursery.cancel_scope.cancel(reason="it is over")
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
            self.over.set()
            self.ready.set()
            self.changed.set()
            self.team.hasten()
            self.team.on_news()
            if self.team.on_over is not None:
                self.team.on_over(self)
            if remains is not None:
                self.team.bury(self, remains)

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
                        script=self.version.script,
                        version=self.version.id,
                        tags=[] if team.fed else [tag for tag, _ in self.tags],
                        host=socket.gethostname(),
                        pid=self.child.pid,
                        concurrency=self.kit.concurrency,
                        lease=self.kit.lease,
                    )
            except ANY_TROUBLE as error:
                team.weather.bad(error)
                with trio.move_on_after(REGISTER_AGAIN):
                    await team.stop.asked.wait()
            else:
                self.child.renewed(asked + round(self.kit.lease * SECOND))
                team.lives[self.worker] = self
                team.keeper.follow(self.worker, lambda: self.child.tallies)
                team.on_news()
                return True
        return False

    async def _load_in_time(self) -> None:
        began = trio.current_time()
        with trio.move_on_after(math.inf if self.within is None else self.within):
            await self.ready.wait()
            self.loaded_in = trio.current_time() - began
            return
        self.is_late = True
        self.child.kill()

    def _assignment(self) -> Assignment:
        team, located = self.team, self.kit.edition.located
        return Assignment(
            dsn=team.database.dsn,
            listen_dsn=team.database.listen_dsn,
            worker=self.worker,
            name=self.name,
            version=self.version,
            file=str(located.file),
            workspace=str(located.workspace),
            root=None if located.root is None else str(located.root),
            tags=list(self.tags),
            ranks=dict(team.ranks),
            concurrency=self.kit.asked,
            drain=team.options.drain,
            runtime=runtime_of(located, self.version.description),
            secret=team.secret,
            fed=team.fed,
        )

    @property
    def takes_jobs(self) -> bool:
        """Whether it is ready, heard of or not."""
        return not self.is_over and (self.was_ready or any(self.child.board.leases()))

    def _is_ready(self) -> None:
        if self.retired:  # it said so, and was ended before that was read: nobody may leave for it
            return
        self.was_ready = True
        self.ready.set()
        self.team.on_news()
        if self.team.on_ready is not None:
            self.team.on_ready(self)
        self.team.reporter.ready(self.name, self.child.rss)
        log.info("worker %s is ready, process %d", self.name, self.child.pid, extra={"worker": self.name})
        if self.child.loaded_other and self.team.has_source:
            log.info("the file of worker %s was changed as it loaded it: another one follows", self.name)
            self.wear_out()

    def _remains(self) -> Remains:
        job = self.child.job_in_hand()
        return remains_of(
            self.child,
            self.version,
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
        self.wear_out()

    @property
    def why_over(self) -> str:
        """Why it could not work, or how it ended."""
        if self.is_late:
            return f"it cannot be loaded: that still went on after {self.within:g} s (HOTPATH_LOAD_TIMEOUT)"
        return self.child.error[0] if self.child.error is not None else f"its process {self.child.ending}"

    def wear_out(self) -> None:
        """Another one is to take its place."""
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


@attrs.define(eq=False)
class Place:
    """Where one worker after the other is, until the team needs one less."""

    life: Life | None = None
    """Who is there."""
    coming: Life | None = None
    """Who is about to take its place."""
    _is_closed: bool = False

    def is_closed(self) -> bool:
        """Whether the team needs one less."""
        return self._is_closed

    def close(self) -> None:
        """Whoever is there is the last: it ends when its jobs have."""
        self._is_closed = True
        for life in (self.life, self.coming):
            if life is not None:
                life.retired = True
                life.child.stop()


async def keep_worker(team: Team, place: Place) -> None:
    """One worker, again and again, until the command ends. One that is worn, or has another kit than it
    should, makes room when the next is warm.
    """
    restarts = Restarts()
    async with trio.open_nursery() as nursery:
        while not team.stop.count and team.failure is None and not place.is_closed():
            if place.life is None:
                await team.keep_intact(team.edition)
                place.life = await _begin(team, nursery, team.kit)
                if place.is_closed():
                    place.close()
            life = place.life
            await life.changed.wait()
            if place.is_closed():
                return
            if not life.is_over:
                place.life = await _succeed(team, life, place, nursery)
                continue
            if team.is_done(life):
                return
            restarts = restarts.after(ready=life.was_ready, jobs=life.child.statistics.jobs)
            place.life = None
            with trio.move_on_after(restarts.wait):
                await team.stop.asked.wait()


async def _begin(team: Team, nursery: trio.Nursery, kit: Kit, beside: Life | None = None) -> Life:
    """Start a worker; `beside` one that works, and goes first while this one loads."""
    edition = kit.edition
    if team.early and kit.environment is None and edition.python is None:
        child = team.early.pop()
    else:
        child = team.spare.take(kit) or await spawn(kit.environment, edition.python, fed=team.fed)
    # Of async code even a single job may be unknown: while it waits, nothing is marked.
    several = edition.version.description.is_async
    life = Life(team, child, Watch(round(kit.lease * SECOND), several=several), kit)
    if beside is not None:
        life.within = max(team.house.config.load_within, SLOWER * beside.loaded_in)
    nursery.start_soon(life.run)
    nursery.start_soon(_load_behind, life, beside)
    if kit != team.next_kit:
        life.changed.set()
    return life


async def _load_behind(new: Life, old: Life | None) -> None:
    """Have the new one at low priority until it is ready, the old one is over, or that has lasted long. Not
    if the old one has to go: it may have taken too much memory.
    """
    if old is not None and old.kit != new.kit:
        lower(new.child)
        with trio.move_on_after(LOW_FOR):
            await first_of(new.ready, old.over)
    await restore(new.child)


async def _succeed(team: Team, old: Life, place: Place, nursery: trio.Nursery) -> Life:
    """Start another one beside a worker that is worn, or has another kit than it should; when it is ready, or
    the old one is over, the old one is done with. Returns the one to go on with.
    """
    async with team.turn:
        if old.is_over or place.is_closed():
            return old
        if not old.is_worn and old.kit == team.next_kit:  # it is to stay as it is, after all
            old.changed = trio.Event()
            return old
        await team.keep_intact(team.candidate or team.edition)
        new = place.coming = await _begin(team, nursery, team.next_kit, beside=old)
        old = await _keep_filled(team, old, new, place, nursery)
        place.coming = None
        await team.tried(new)
    if place.is_closed():
        return old
    if new.was_ready or (old.is_over and new.kit == team.kit):
        old.retired = True
        old.child.make_room()
        if new.kit != team.next_kit:
            new.changed.set()
        return new
    team.refused(new)
    if old.is_over:  # whoever follows it is of what the team runs, and not of what was refused
        return old
    # The new one did not come up: the old one is better than none, and is looked at again after a while.
    old.changed = trio.Event()
    old.is_worn = False
    team.on_news()
    is_behind = old.kit != team.next_kit
    if not new.retired:
        with trio.move_on_after(TRY_AGAIN if is_behind else 1.0):
            await team.hastened.wait()
    if is_behind:
        old.changed.set()
    return old


async def _keep_filled(team: Team, old: Life, new: Life, place: Place, nursery: trio.Nursery) -> Life:
    """Wait until the new one is ready or over. What it loads may take long, and be another version: if the
    old one dies meanwhile, another of its version follows. Returns who is there then.
    """
    restarts = Restarts()
    while not new.ready.is_set():
        await first_of(new.ready, old.over)
        if new.ready.is_set() or new.kit == team.kit or place.is_closed() or team.is_done(old):
            await new.ready.wait()
            break
        restarts = restarts.after(ready=old.was_ready, jobs=old.child.statistics.jobs)
        with trio.move_on_after(restarts.wait):
            await first_of(team.stop.asked, new.ready)
        await team.keep_intact(team.edition)
        if not new.ready.is_set() and not place.is_closed() and not team.stop.count:
            old = place.life = await _begin(team, nursery, team.kit)
    return old


async def first_of(*events: trio.Event) -> None:
    """Wait until one of these is set."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel(reason="one of the events is set")

        for event in events:
            nursery.start_soon(wait, event)
