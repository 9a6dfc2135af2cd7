"""A team: the worker processes of one script. A supervisor has one, or several, and may take on more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.core.names import is_pin
from hotpath.core.tally import CANCELED, FAILURE
from hotpath.core.watch import Kill
from hotpath.errors import HotpathError, ScriptError, ScriptImportError
from hotpath.model import ErrorKind, ScriptVersion
from hotpath.scripts.locate import Located
from hotpath.store.choices import refuse_version
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.worker.assignment import Listening
from hotpath.worker.burial import Remains, tell
from hotpath.worker.child import Child
from hotpath.worker.facts import Keeper
from hotpath.worker.kit import Kit, Outfit
from hotpath.worker.lives import Life, Place, keep_worker
from hotpath.worker.options import DedicateOptions
from hotpath.worker.pins import Pins
from hotpath.worker.prepare import Edition, still
from hotpath.worker.report import Reporter
from hotpath.worker.spare import Spare
from hotpath.worker.statistics import WorkerStatistics
from hotpath.worker.stop import Stop
from hotpath.worker.swap import keep_current
from hotpath.worker.watching import watch

if TYPE_CHECKING:
    from hotpath.store.database import Database
    from hotpath.worker.pulse import Weather
    from hotpath.worker.supervisor import Supervisor

log = logging.getLogger("hotpath.worker")

WITHIN = 10.0
"""Seconds that saying why a version is not run may take."""
AGAIN = 0.25
"""Seconds until the database is asked again for a version's source."""
RELEASE = 5.0
"""Seconds that a worker told to stop at once gets to give back what it holds, before it is killed."""


def _keeper(team: Team) -> Keeper:
    return Keeper(team.version.script, team.tags)


@attrs.define(eq=False)
class Team:
    """The workers of one script, and what they share."""

    house: Supervisor
    options: DedicateOptions
    edition: Edition
    """That workers run which start now; one that runs keeps its own (`Life.kit`)."""
    tags: list[tuple[int, str]]
    """Key and name of each."""
    secret: bytes = attrs.field(default=b"", repr=False)
    """What the database's tokens are signed with; empty unless the script is a flow."""
    early: list[Child] = attrs.field(factory=list)
    """Processes that wait for an assignment."""
    on_failure: Callable[[HotpathError], object] | None = None
    """Called when no worker of it can work; None: the whole command fails."""
    fed: bool = False
    """Whether its workers claim nothing, and are given what to run."""
    on_ready: Callable[[Life], object] | None = None
    """Called when a worker takes jobs."""
    on_over: Callable[[Life], object] | None = None
    """Called when a worker has ended."""
    keeper: Keeper = attrs.field(default=attrs.Factory(_keeper, takes_self=True))
    """Who counts what they do."""
    stop: Stop = attrs.field(init=False)
    """To end this team, of all that the command has."""
    reporter: Reporter = attrs.field(init=False)
    lives: dict[int, Life] = attrs.field(factory=dict)
    """By worker id, those that are registered and not yet buried."""
    past: list[WorkerStatistics] = attrs.field(factory=list)
    """What workers that have ended had done."""
    failure: HotpathError | None = None
    """Why no worker can work."""
    turn: trio.Lock = attrs.field(factory=trio.Lock)
    """Held while one worker takes another's place: they do so one after the other."""
    outfit: Outfit = attrs.field(default=attrs.Factory(lambda team: team.house.outfit, takes_self=True))
    """That workers get which start now."""
    ranks: Mapping[int, int] = attrs.field(factory=dict)
    """By key of a tag, what its jobs are worth to the group; else 0."""
    refusal: str | None = None
    """Why the last worker that was to take another's place could not work."""
    places: list[Place] = attrs.field(factory=list)
    spare: Spare = attrs.field(default=attrs.Factory(Spare, takes_self=True))
    hastened: trio.Event = attrs.field(factory=trio.Event)
    """Set when who could not be replaced is to be tried again with something else, is over, or is to stop."""
    candidate: Edition | None = None
    """What is to be run from now on, while nobody knows yet whether it can be."""
    rejected: Edition | None = None
    """The last one that could not be."""
    has_source: bool = True
    """Whether the database, as far as is known, has what a workspace may no longer have."""
    tells_rejected: bool = False
    """Whether the database may still say so: of what was rejected before what is being tried now, too."""
    _decided: trio.Event = attrs.field(factory=trio.Event)
    _pins: Pins = attrs.field(init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _workers: trio.Nursery | None = None

    def __attrs_post_init__(self) -> None:
        self.stop = self.house.stop.part()
        self.stop.told.append(self.hasten)
        if self.stop.count:
            self.hasten()
        self.reporter = Reporter(self.options, self.version, [name for _, name in self.tags])
        self._pins = Pins(self)

    @property
    def version(self) -> ScriptVersion:
        """That workers run which start now."""
        return self.edition.version

    @property
    def database(self) -> Database:
        """The command's."""
        return self.house.database

    @property
    def weather(self) -> Weather:
        """The command's."""
        return self.house.weather

    @property
    def located(self) -> Located:
        """Where that is."""
        return self.edition.located

    @property
    def concurrency(self) -> int:
        """Jobs at a time in one process."""
        return self.options.concurrency_of(self.version.description)

    async def run(self) -> None:
        """Until all its workers have ended and none is to be started again."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_in_time)
                if self.spare.is_wanted:
                    nursery.start_soon(self.spare.run)
                if not self.fed and not is_pin(
                    self.version.description.path
                ):  # a pin means one version for ever
                    nursery.start_soon(keep_current, self)
                    nursery.start_soon(self._pins.run)
                if self.options.watch:
                    nursery.start_soon(watch, self)
                async with trio.open_nursery() as self._workers:
                    self.resize()
                if self.options.drain and not self.fed and not self.stop.count:
                    with suppress(*ANY_TROUBLE):
                        await self._pins.look()
                nursery.cancel_scope.cancel(reason="all workers of the team have ended")
        finally:
            self.house.stop.forget(self.stop)
            if not self.options.drain:
                self._pins.leave()

    def statistics(self) -> list[WorkerStatistics]:
        """Counts of each worker it has had."""
        return [*self.past, *(life.child.statistics for life in self.lives.values())]

    def renew(self) -> None:
        """Have another one take the place of each worker, one after the other, each when it is warm."""
        for life in list(self.lives.values()):
            life.wear_out()

    # ------------------------------------------------------------ while it runs, what it is to be may change

    @property
    def kit(self) -> Kit:
        """What a worker is started with now."""
        return self._kit_of(self.edition)

    @property
    def next_kit(self) -> Kit:
        """The same, if what is to be run from now on can be."""
        return self._kit_of(self.candidate or self.edition)

    def _kit_of(self, edition: Edition) -> Kit:
        description, options = edition.version.description, self.options
        keys = tuple(sorted(key for key, _ in self.tags)) if description.kind == "flow" else ()
        concurrency = options.concurrency_of(description)
        return Kit(self.outfit, edition, concurrency, options.concurrency, options.lease, keys)

    def resize(self) -> None:
        """Start more workers, or let some go, until there are as many as the options say."""
        while len(self.places) > self.options.processes:
            self.places.pop().close()
        while len(self.places) < self.options.processes and not self.stop.count:
            assert self._workers is not None, "it runs"
            self.places.append(Place())
            self._workers.start_soon(keep_worker, self, self.places[-1])

    def hurry(self) -> int:
        """Have another one take the place of each worker that was started with another kit, one after the
        other, each when it is warm; returns how many places that is about.
        """
        kit, behind = self.kit, 0
        self.drop_coming()
        for place in self.places:
            if place.life is None or place.life.kit != kit or not place.life.was_ready:
                behind += 1
            if place.life is not None and place.life.kit != kit and not place.life.is_worn:
                place.life.wear_out()
                self.hasten()
        return behind

    def hasten(self) -> None:
        """Something has changed for workers that could not be replaced."""
        self.hastened.set()
        if not self.stop.count:
            self.hastened = trio.Event()

    async def refit(self) -> str | None:
        """The same, until it has come about; returns why that cannot be, if the new ones cannot work: the old
        ones that are left go on.
        """
        self.refusal = None
        while not self.stop.count:
            if not self.hurry():
                return None
            changed = self._changed
            await changed.wait()
            if (why := self._why_refused()) is not None:
                return why
        return None

    def _why_refused(self) -> str | None:
        return self.refusal

    def refused(self, life: Life) -> None:
        """This worker, which was to take another's place, could not work."""
        if life.kit == self.kit and not life.retired and not self.stop.count:
            name = self.version.description.path
            self.refusal = life.why_over if life.child.error is not None else f"{name}: {life.why_over}"
            log.warning("worker %s, which was to take another's place: %s", life.name, life.why_over)
            self.on_news()

    def on_news(self) -> None:
        """A worker is registered, ready or over."""
        self._changed.set()
        self._changed = trio.Event()
        if self.house.news is not None:
            self.house.news()

    def listen(self, tags: list[tuple[int, str]], ranks: Mapping[int, int]) -> None:
        """Have its workers claim from other tags from now on; what they have in hand goes on. The database is
        told by who calls this.
        """
        self.tags, self.ranks = tags, ranks
        self.reporter.tags = [name for _, name in tags]
        # What was counted on others is still to be said.
        self.keeper.tags = [*tags, *(known for known in self.keeper.tags if known not in tags)]
        for life in list(self.lives.values()):
            self.retell(life)

    def retell(self, life: Life) -> None:
        """Tell a worker what to listen to, if it was told otherwise."""
        if life.tags is self.tags:
            return
        life.tags = self.tags
        life.facing.tags = [name for _, name in self.tags]
        if not life.child.listen(Listening(self.tags, dict(self.ranks))):
            life.wear_out()

    # ------------------------------------------------------------ another version

    def adopt(self, edition: Edition) -> trio.Event:
        """Have all workers run this instead: the first that becomes warm takes another one's place, then the
        rest follow, one after the other. If it cannot be run, all stay as they are. Returns what is set when
        that is known.
        """
        self.candidate, self.rejected, self._decided = edition, None, trio.Event()
        self.drop_coming()
        for place in self.places:  # those that are not registered yet included
            if place.life is not None:
                place.life.changed.set()
        self.hasten()
        return self._decided

    def drop_coming(self) -> None:
        """End workers that are to take others' places, and load what is not to be run any more. One that
        takes jobs already is followed by another one instead.
        """
        for place in self.places:
            coming = place.coming
            if coming is None or coming.kit in (self.kit, self.next_kit) or coming.takes_jobs:
                continue
            coming.retired = True
            coming.child.kill(Kill(None, None, "what it was to run is not wanted any more"))

    async def tried(self, life: Life) -> None:
        """A worker was started: if it was to try another version, it is warm with it, or could not be."""
        edition = life.kit.edition
        if edition != self.candidate:
            return
        if life.was_ready:
            description = edition.version.description
            self.candidate, self.edition = None, edition
            self.reporter.swapped(edition.version)
            log.info("%s runs as version %s now", description.path, description.hash[:12])
        elif not self.stop.count:
            await self.reject(edition, life.why_over)
        self._decided.set()

    async def reject(self, edition: Edition, why: str) -> None:
        """What was to be run cannot be: the workers go on with what they have, and say so."""
        self.candidate, self.rejected = None, edition
        new, old = edition.version.description, self.version.description
        log.error(
            "%s: version %s cannot be run, the workers keep %s: %s",
            new.path,
            new.hash[:12],
            old.hash[:12],
            why,
        )
        await self.say_rejected(edition.version.id, why)

    async def say_rejected(self, version: int | None, why: str | None) -> None:
        """Say in the database why its workers do not run this version; None: all is well."""
        self.tells_rejected = True
        with suppress(*ANY_TROUBLE):  # it is in the log
            async with self.database.connection(within=WITHIN) as connection:
                await refuse_version(connection, list(self.lives), version, why)
                self.tells_rejected = version is not None

    async def keep_intact(self, edition: Edition) -> None:
        """See to it that what a worker is to load is there as it was: a workspace may have changed."""
        while not self.stop.count:
            try:
                intact = await still(self.database, self.house.config, edition)
            except ANY_TROUBLE as error:
                self.weather.bad(error)
                await trio.sleep(AGAIN)
            except ScriptError as error:
                log.warning("%s", error)
                self.has_source = False
                return
            else:
                if self.candidate == intact:
                    self.candidate = intact
                elif self.edition == intact:
                    self.edition = intact
                return

    def is_done(self, life: Life) -> bool:
        """Whether this worker, which has ended, needs no successor."""
        child = life.child
        if child.error is not None:
            message, code, traceback = child.error
            if any(other.was_ready and not other.is_over for other in self.lives.values()):
                log.error("worker %s cannot work: %s", life.name, message, extra={"worker": life.name})
            elif code == 1:
                self.fail(ScriptImportError(message, traceback=traceback))
            else:
                self.fail(HotpathError(message))
        if self.stop.count:
            return True
        if self.options.drain and child.has_drained and life.lost_at is None:
            return True  # how it ended then is nobody's business: another one would find nothing, too
        log.warning("worker %s %s: starting another", life.name, child.ending, extra={"worker": life.name})
        return False

    def fail(self, error: HotpathError) -> None:
        """None of its workers can work."""
        self.failure = error
        self.stop()
        if self.on_failure is not None:
            self.on_failure(error)
        else:
            self.house.fail(error)

    def bury(self, life: Life, remains: Remains) -> None:
        """Tell the database what became of a worker, beside all else."""
        self.house.start_burial(self._bury, life.version, remains)

    async def _bury(self, version: ScriptVersion, remains: Remains) -> None:
        ended = await tell(self.database, version, remains)
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
            if life.child.returncode is None and life.child.killed is None:
                kill = Kill(None, None, "its grace was over")
                log.warning("worker %s is killed: %s", life.name, kill.reason, extra={"worker": life.name})
                life.child.kill(kill)
