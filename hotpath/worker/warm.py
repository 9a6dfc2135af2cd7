"""The processes that a normal worker keeps warm: one script each, the least recently used ones go first.

A *seat* is such a process with what it has in hand. It is a team of one (`worker/team.py`), so that its
crash, its wear and its end are those of any worker; but it is fed by the dispatcher.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import attrs
import msgspec
import trio

from hotpath.core.pacing import IdlePolls
from hotpath.errors import HotpathError, ScriptError, ScriptImportError, UsageError
from hotpath.model import Description, ScriptVersion
from hotpath.store.flows import secret_for
from hotpath.store.own_tags import own_tags
from hotpath.store.scripts import version_by_id
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.store.workers import register_tags
from hotpath.worker.facts import Keeper
from hotpath.worker.lives import Life
from hotpath.worker.memory import memory_there
from hotpath.worker.options import DedicateOptions, NormalOptions
from hotpath.worker.prepare import key_of, prepare, with_steps
from hotpath.worker.report import NormalReporter
from hotpath.worker.team import Team

if TYPE_CHECKING:
    from collections.abc import Callable

    from hotpath.store.complete import Connection
    from hotpath.worker.supervisor import Supervisor

log = logging.getLogger("hotpath.worker")

DEATHS = 3
"""Times that a process may die while it loads a script until that is taken for the script's fault."""
AGAIN = (5.0, 60.0)
"""Seconds before a script that could not be loaded is tried again, at first and at last."""
WEATHER = 0.5
"""Seconds before the next try when the database could not be asked."""


async def _own(connection: Connection, description: Description) -> tuple[str, ...]:
    """The script's own tags; its name where they depend on the args."""
    try:
        return await own_tags(connection, description, ())
    except UsageError:
        return (description.path,)


@attrs.define(eq=False)
class Seat:
    """A process that keeps one script warm."""

    script: int
    began_at: float
    """`trio.current_time()`."""
    replaces: Seat | None = None
    """One of an older version, which goes when this one is warm."""
    team: Team | None = None
    life: Life | None = None
    """The worker that takes jobs; None: none does yet."""
    running: dict[int, tuple[Life, int]] = attrs.field(factory=dict)
    """By lease, who has it and how many jobs it is."""
    alone: int = 0
    """A lease that nothing may run beside."""
    used_at: float = 0.0
    started_at: float = 0.0
    """When it last began something."""
    promised: bool = False
    """Whether it was told that more comes soon."""
    deaths: int = 0
    closed: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether it takes jobs."""
        return self.life is not None and not self.closed

    @property
    def is_open(self) -> bool:
        """Whether it can begin something at once."""
        if not self.running:
            return True
        return self.concurrency > 1 and self.in_hand < self.concurrency and self.alone not in self.running

    @property
    def concurrency(self) -> int:
        """Jobs that it runs at a time."""
        return self.team.concurrency if self.team is not None else 1

    @property
    def in_hand(self) -> int:
        """Jobs that it has been given and is not through with."""
        return sum(jobs for _, jobs in self.running.values())


@attrs.define(eq=False)
class Broken:
    """A script that could not be loaded."""

    version: ScriptVersion
    names: tuple[str, ...]
    """What its error goes by, for retries."""
    error: bytes
    """What its jobs end with, JSON."""
    until: float
    """`trio.current_time()` before which it is not tried again."""
    wait: float


@attrs.define(eq=False)
class Warm:
    """The seats of one normal worker."""

    house: Supervisor
    options: NormalOptions
    reporter: NormalReporter
    moved: Callable[[], object]
    """Called when a seat takes jobs, or is no more."""
    done: Callable[[Seat, int, int, int, bool], object]
    """Called when a seat is through with a lease: seat, and as `Child.on_done`."""
    needed: Callable[[Seat], bool]
    """Whether something is claimed for this seat that it has not begun."""
    seats: list[Seat] = attrs.field(factory=list)
    leaving: list[Seat] = attrs.field(factory=list)
    """Those that were let go and still have something in hand."""
    broken: dict[int, Broken] = attrs.field(factory=dict)
    """By script."""
    tags: dict[int, list[tuple[int, str]]] = attrs.field(factory=dict)
    """By script, the tags that its jobs came from, its own first."""
    later: dict[int, float] = attrs.field(factory=dict)
    """By script, when it may be tried again that the database could not be asked about."""
    held: dict[int, IdlePolls] = attrs.field(factory=dict)
    """Scripts whose limit holds back what is due, and how long to wait until it is asked again."""
    apart: set[int] = attrs.field(factory=set)
    """Scripts that were claimed apart."""
    versions: dict[int, ScriptVersion] = attrs.field(factory=dict)
    """By script, what was last read of it."""
    _keepers: dict[int, Keeper] = attrs.field(factory=dict)
    _by_worker: dict[int, tuple[Seat, Life]] = attrs.field(factory=dict)

    def of(self, script: int) -> Iterator[Seat]:
        """The seats of a script, those that are not warm yet included."""
        return (seat for seat in self.seats if seat.script == script)

    def seat(self, worker: int) -> tuple[Seat, Life] | None:
        """Whose worker this is; None: it is no more."""
        return self._by_worker.get(worker)

    def met(self, script: int, tag: int, name: str) -> None:
        """A job of this script came from this tag: it is counted there."""
        known = self.tags.setdefault(script, [])
        if (tag, name) not in known:
            known.append((tag, name))

    def keeper(self, script: int) -> Keeper:
        """Who counts the script's jobs."""
        keeper = self._keepers.get(script)
        if keeper is None:
            keeper = self._keepers[script] = Keeper(script, self.tags.setdefault(script, []))
            self.house.kept.append(keeper)
        return keeper

    # ------------------------------------------------------------ coming

    def make_room(self) -> bool:
        """Whether one more may be kept warm; the least recently used idle one goes if need be."""
        if len(self.seats) < self.options.warm:
            return True
        return self._evict_one()

    def begin(self, nursery: trio.Nursery, script: int, replaces: Seat | None = None) -> None:
        """Have a process load the script; `moved` is called when it takes jobs, or cannot."""
        seat = Seat(script, trio.current_time(), replaces)
        seat.used_at = seat.began_at
        self.seats.append(seat)
        nursery.start_soon(self._load, seat)

    async def _load(self, seat: Seat) -> None:
        script = seat.script
        try:
            async with self.house.database.connection(within=10.0) as connection:
                version = await version_by_id(connection, script)
            version = await with_steps(self.house.database, version)
            self.versions[script] = version
            name = version.description.path
            try:
                edition = await prepare(self.house.database, self.house.config, version)
            except ScriptError as error:
                self._break(seat, version, error)
                return
            async with self.house.database.connection(within=10.0) as connection:
                tags = await register_tags(connection, await _own(connection, version.description))
                secret = await secret_for(connection, version.description)
        except ANY_TROUBLE as error:
            self.house.weather.bad(error)
            self.later[script] = trio.current_time() + WEATHER
            self._drop(seat)
            return
        if seat.closed or self.house.stop.count:
            self._drop(seat)
            return
        seat.began_at = trio.current_time()  # what had to be installed is no loading
        options = DedicateOptions(
            name=name,
            workspace=self.options.workspace,
            group=self.options.group,
            grace=self.options.grace,
            lease=self.options.lease,
            max_jobs=self.options.max_jobs,
            max_rss=self.options.max_rss,
            quiet=True,
        )
        team = seat.team = Team(self.house, options, edition, tags, secret, fed=True)
        team.keeper = self.keeper(script)
        team.on_ready = lambda life: self._is_ready(seat, life)
        team.on_over = lambda life: self._is_over(seat, life)
        team.on_failure = lambda error: self._break(seat, version, error)
        self.house.start(team)

    def _is_ready(self, seat: Seat, life: Life) -> None:
        self._by_worker[life.worker] = (seat, life)
        seat.life, seat.deaths = life, 0
        life.child.on_done = partial(self.done, seat)
        self.broken.pop(seat.script, None)
        self.reporter.warm(self._name(seat), life.name, life.child.rss)
        if seat.replaces is not None:
            self.close(seat.replaces)
            seat.replaces = None
        self.moved()

    # ------------------------------------------------------------ going

    def _is_over(self, seat: Seat, life: Life) -> None:
        self._by_worker.pop(life.worker, None)
        for lease, (whose, _) in list(seat.running.items()):
            if whose is life:
                del seat.running[lease]
                self.house.claimed.discard(lease)
        if seat.life is life:
            seat.life = None
            self.close(seat)  # if it is needed, another one is started
        elif seat.life is None and not life.was_ready and life.child.error is None and not seat.closed:
            seat.deaths += 1
            if seat.deaths >= DEATHS and seat.team is not None:
                name = life.version.description.path
                error = ScriptError(f"{name} cannot be loaded: its process {life.child.ending} meanwhile")
                self._break(seat, life.version, error)
        self.moved()

    def _break(self, seat: Seat, version: ScriptVersion, error: HotpathError) -> None:
        """The script cannot be loaded: its jobs fail, until it is tried again or has another version; but
        processes of an older one go on, and say so.
        """
        before = self.broken.get(seat.script)
        first, longest = AGAIN
        wait = first if before is None or before.version.id != version.id else min(2 * before.wait, longest)
        name = version.description.path
        text = str(error)
        if name not in text:
            text = f"{name} cannot be loaded: {text}"
        said = {
            "name": type(error).__name__,
            "message": text,
            "traceback": error.traceback if isinstance(error, ScriptImportError) else "",
            "kind": "exception",
        }
        self.broken[seat.script] = Broken(
            version, (said["name"],), msgspec.json.encode(said), trio.current_time() + wait, wait
        )
        self._drop(seat)
        if kept := self._kept(seat.script):
            new = version.description.hash[:12]
            log.error("%s: version %s cannot be run, processes of an older one go on: %s", name, new, text)
            self._say_rejected(kept, version.id, text)
        else:
            log.warning("%s; its jobs fail, it is tried again in %g s", text, wait)

    def _kept(self, script: int) -> list[Team]:
        """Those that run it."""
        return [seat.team for seat in self.of(script) if seat.is_ready and seat.team is not None]

    def _say_rejected(self, teams: Iterable[Team], version: int | None, why: str | None) -> None:
        """Have the database know why these run another version than they should; None: all is well."""
        for team in teams:
            self.house.start_burial(team.say_rejected, version, why)

    def close(self, seat: Seat) -> None:
        """Let this one go; what it has in hand it ends."""
        if seat.closed:
            return
        seat.closed = True
        self.seats.remove(seat)
        self.leaving = [each for each in (*self.leaving, seat) if each.running]
        if seat.team is not None and not seat.team.stop.count:  # with the whole command it was asked already
            seat.team.stop()

    def taken(self) -> int:
        """Slots that are taken: by processes at work, and by those that load a script."""
        taken = 0
        for seat in self.seats:  # once a segment: no generators
            if seat.running:
                taken += 1
            if seat.life is None and seat.replaces is None:
                taken += 1
        return taken + len([seat for seat in self.leaving if seat.running])

    def _drop(self, seat: Seat) -> None:
        self.close(seat)
        self.moved()

    def _evict_one(self) -> bool:
        idle = self._idle()
        if idle:
            self.close(min(idle, key=lambda seat: seat.used_at))
        return bool(idle)

    def _idle(self) -> list[Seat]:
        return [seat for seat in self.seats if seat.is_ready and not seat.running and not self.needed(seat)]

    def trim(self) -> None:
        """Keep within the bound of memory, and end what does not come to an end loading."""
        bound = self.options.warm_memory or memory_there() // 2
        sizes = {id(seat): seat.life.child.rss_now() for seat in self.seats if seat.life is not None}
        total = sum(sizes.values())
        while total > bound and len(self.seats) > 1:
            idle = self._idle()
            if not idle:
                break
            seat = min(idle, key=lambda each: each.used_at)
            total -= sizes.get(id(seat), 0)
            log.info("%s is let go: what is kept warm takes %d MiB", self._name(seat), total >> 20)
            self.close(seat)
        within = self.house.config.load_within
        for seat in list(self.seats):
            if seat.life is None and seat.team is not None and trio.current_time() - seat.began_at > within:
                error = ScriptError(
                    f"{self._name(seat)} cannot be loaded: that still went on after {within:g} s"
                )
                for life in list(seat.team.lives.values()):
                    life.child.kill()
                self._break(seat, seat.team.version, error)

    def _name(self, seat: Seat) -> str:
        return self.versions[seat.script].description.path

    # ------------------------------------------------------------ versions

    def outdated(self, current: Mapping[int, tuple[int, ...]]) -> list[Seat]:
        """Seats of another version than the current one, or whose flow runs other versions of its scripts
        now, which nobody is about to replace. What could not be loaded may be tried again if that is so for
        it. `current`: as from `current_of`.
        """
        for script, broken in list(self.broken.items()):
            if _is_other(current.get(script), broken.version):
                del self.broken[script]
                self._say_rejected((team for team in self._kept(script) if team.tells_rejected), None, None)
        replaced = {id(seat.replaces) for seat in self.seats if seat.replaces is not None}
        return [
            seat
            for seat in self.seats
            if seat.is_ready
            and seat.team is not None
            and id(seat) not in replaced
            and seat.script not in self.broken
            and _is_other(current.get(seat.script), seat.team.version)
        ]


def _is_other(current: tuple[int, ...] | None, version: ScriptVersion) -> bool:
    """Whether what is current is another version than this, or has others of its scripts; None: nobody
    knows.
    """
    return current is not None and current != key_of(version)
