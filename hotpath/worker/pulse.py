"""What a supervisor and the database tell each other while workers live: they do, and who is to be canceled.

No user code runs here, so nothing that a script does can stop the heartbeat. Any supervisor takes back what
dead workers of any host have left; none is special.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.config import Config
from hotpath.core.tally import LOST
from hotpath.core.watch import SECOND
from hotpath.store.clocks import HostClock
from hotpath.store.database import Database
from hotpath.store.embedded import EmbeddedPostgres, database_name, default_home
from hotpath.store.listen import PooledError, open_listener
from hotpath.store.logs import WATCH_CHANNEL
from hotpath.store.trouble import ANY_TROUBLE, is_weather
from hotpath.store.workers import Facts, give_back_unlisted, heartbeat
from hotpath.worker.alerts import keep_alerts
from hotpath.worker.beside import keep_up
from hotpath.worker.changes import CHANNEL as CONFIG_CHANNEL
from hotpath.worker.changes import Changes
from hotpath.worker.facts import Keeper, Row
from hotpath.worker.house import keep_house
from hotpath.worker.keeping import Keeping
from hotpath.worker.live import Live, Source
from hotpath.worker.options import HEARTBEAT

if TYPE_CHECKING:
    from hotpath.worker.lives import Life

log = logging.getLogger("hotpath.worker")

CANCEL_CHANNEL = "hotpath_cancel"
AGAIN = 0.1
"""Seconds until the next try when a heartbeat did not get through."""
TOGETHER = 0.02
"""Seconds in which requests to cancel are gathered."""
UNLISTED_EVERY = 2.0
SAY_EVERY = 10.0
"""Seconds between two lines about the same bad weather."""


@attrs.define(eq=False)
class Weather:
    """Says once, and then from time to time, that the database is out of reach; and when it is back."""

    what: str = "the database is out of reach"
    _said_at: float | None = None

    def bad(self, error: BaseException) -> None:
        """A statement did not get through."""
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= SAY_EVERY:
            self._said_at = now
            log.warning("%s: %s", self.what, error)

    def good(self) -> None:
        """One did."""
        if self._said_at is not None:
            self._said_at = None
            log.warning("the database is back")


@attrs.define(eq=False)
class Pulse:
    """The tasks that keep a supervisor's workers alive in the database."""

    config: Config
    database: Database
    lease: float
    """Seconds."""
    weather: Weather
    lives: Callable[[], Mapping[int, Life]]
    keepers: Callable[[], Iterable[Keeper]]
    changes: Changes
    rows: Mapping[int, Row] = attrs.field(factory=dict)
    """Other rows to be kept alive."""
    claimed: Collection[int] = ()
    """Leases that are known, besides those on the boards."""
    _clock: HostClock = attrs.field(factory=HostClock)
    _hurry: trio.Event = attrs.field(factory=trio.Event)
    """Set when somebody asked to cancel a job of ours."""
    _unlisted_at: float = 0.0
    _server: EmbeddedPostgres | None = None
    _refusal: Weather = attrs.field(
        factory=lambda: Weather("the embedded server, which was killed, does not start")
    )
    _house: Weather = attrs.field(factory=lambda: Weather("some of the housekeeping cannot be done"))
    _killed: bool = False
    """Whether it was found killed, and is not up again."""
    _live: Live = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._live = Live(self.database, self._sources)

    def _sources(self) -> dict[int, Source]:
        return {worker: life.child for worker, life in self.lives().items() if not life.is_over}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat)
                nursery.start_soon(self._hear)
                nursery.start_soon(keep_up, "keeping house", self._keep_house)
                nursery.start_soon(keep_up, "retention", Keeping(self.database, self.changes).run)
                nursery.start_soon(keep_up, "keeping alerts", keep_alerts, self.database, self.changes)
                nursery.start_soon(keep_up, "showing logs", self._live.run)
        finally:
            if self._server is not None:
                self._server.close()

    async def _beat(self) -> None:
        """Renew the leases, twice a second and whenever somebody asks to cancel."""
        while True:
            self._hurry = trio.Event()
            began = trio.current_time()
            wait = HEARTBEAT
            try:
                await self._beat_once()
            except ANY_TROUBLE as error:
                self.weather.bad(error)
                await self._revive()
                wait = AGAIN
            else:
                self.weather.good()
            await trio.sleep(TOGETHER)
            with trio.move_on_at(began + wait):
                await self._hurry.wait()

    async def _beat_once(self) -> None:
        # Asked for nobody, too: it shows whether the database is there, and a killed one of ours is revived.
        lives = {worker: life for worker, life in self.lives().items() if life.child.killed is None}
        asked = time.perf_counter_ns()
        jobs = {worker: life.child.statistics.jobs for worker, life in lives.items()}
        rows = dict(self.rows)
        jobs |= dict.fromkeys(rows, 0)
        async with self.database.connection(within=self.lease / 2) as connection:
            facts = [fact for life in lives.values() if (fact := self._fact(life)) is not None]
            facts += [Facts(worker=worker, deaf=row.deaf()) for worker, row in rows.items()]
            keepers = list(self.keepers())
            counts = [each for keeper in keepers for each in keeper.due()]
            beat = await heartbeat(connection, jobs, self.lease, facts, counts, self._clock)
            for keeper in keepers:
                keeper.heard()
            self._live.heard(beat.watching)
            for worker, life in lives.items():
                if life.is_over:
                    continue
                if worker in beat.renewed:
                    life.child.renewed(asked + round(self.lease * SECOND))
                else:
                    if life.lost_at is None:
                        life.team.keeper.note(LOST)
                    life.lose()
                life.child.cancel(beat.cancels.get(worker, ()))
            for worker, row in rows.items():
                if worker not in beat.renewed:
                    row.lost()
            await self.changes.look(connection)
            if time.monotonic() < self._unlisted_at:
                return
            self._unlisted_at = time.monotonic() + UNLISTED_EVERY
            # Read before the question is asked: what is claimed meanwhile is too young to be meant.
            listed = {worker: life.child.board.leases() for worker, life in lives.items() if not life.is_over}
            given = await give_back_unlisted(connection, listed, also=list(self.claimed))
        if given:
            log.warning("%d jobs of claims whose reply was lost are back in the queue", given)

    def _fact(self, life: Life) -> Facts | None:
        child = life.child
        if life.is_over or child.returncode is not None:
            return None
        job = child.job_in_hand()
        began = life.watch.since(job) if job is not None else None
        since = None if began is None else (time.perf_counter_ns() - began) / SECOND
        return life.facing.look(
            life.worker, child.statistics, child.tallies, job, since, ready=life.was_ready
        )

    async def say_last(self) -> None:
        """What was counted and not said yet."""
        counts = [each for keeper in self.keepers() for each in keeper.due(finally_=True)]
        if counts:
            async with self.database.connection(within=self.lease / 2) as connection:
                await heartbeat(connection, {}, self.lease, counts=counts)

    async def _hear(self) -> None:
        """Requests to cancel, and viewers of logs, come at once this way; if they do not, the next heartbeat
        brings them.
        """
        while self.database.can_listen:
            try:
                channels = CANCEL_CHANNEL, WATCH_CHANNEL, CONFIG_CHANNEL
                async with open_listener(self.database.listen_dsn, *channels) as listener:
                    self._hurry.set()
                    self.changes.hint()
                    async for notification in listener.notifications:
                        if notification.channel == WATCH_CHANNEL:
                            self._live.hint(notification.payload)
                        elif notification.channel == CONFIG_CHANNEL:
                            self.changes.hint()
                        elif any(notification.payload == str(worker) for worker in self.lives()):
                            self._hurry.set()
            except PooledError:
                return
            except ANY_TROUBLE as error:
                log.debug("requests to cancel are not heard at once: %s", error)
            await trio.sleep(HEARTBEAT)

    async def _keep_house(self) -> None:
        await keep_house(self.database, self._house_trouble)

    def _house_trouble(self, error: BaseException) -> None:
        """Weather is over with the next heartbeat that gets through; what is refused is not."""
        (self.weather if is_weather(error) else self._house).bad(error)

    async def _revive(self) -> None:
        """Start the embedded server again if it was killed; one that was stopped on purpose is left alone."""
        if not self.database.is_embedded:
            return
        server = self._server or EmbeddedPostgres(self.config.home or default_home())
        # A server that is told to stop takes this file away, one that is killed leaves it; and a start that
        # fails takes it away, too, because sessions of the killed one are not gone yet.
        if not self._killed and not (server.data / "postmaster.pid").exists():
            return
        self._server, self._killed = server, True
        try:
            await trio.to_thread.run_sync(
                server.start, database_name(self.config.workspace), abandon_on_cancel=True
            )
        except ANY_TROUBLE as error:
            self._refusal.bad(error)
        else:
            self._killed = False
