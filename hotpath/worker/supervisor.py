"""The supervisor: starts worker processes, keeps them alive in the database, replaces those that fail.

It never runs user code. What it is made of: `team` (the workers of one script), `lives` (a worker from start
to burial, and the next one), `pulse` (heartbeat, requests to cancel, taking back what others left), `changes`
(what is configured in the database), `guard` (ends what must not go on), `burial` (what becomes of a dead
worker's jobs). The rules that they follow are in `core/watch.py`, `core/verdict.py` and `core/restart.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
import trio

from hotpath.config import Config
from hotpath.core.names import fault_of, is_pin, plain_name, version_of_name
from hotpath.errors import HotpathError, UnknownScriptError, UsageError
from hotpath.model import Description, ScriptVersion
from hotpath.scripts.describe import describe
from hotpath.scripts.environment import wants_own
from hotpath.scripts.locate import Located, locate
from hotpath.store.choices import pin_version
from hotpath.store.complete import Connection
from hotpath.store.database import Database, open_database
from hotpath.store.flows import secret_for
from hotpath.store.own_tags import own_tags
from hotpath.store.scripts import find_script
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.store.workers import register_tags
from hotpath.worker.beside import keep_up
from hotpath.worker.changes import Changes
from hotpath.worker.child import Child, spawn
from hotpath.worker.facts import Keeper, Row
from hotpath.worker.groups import enlist
from hotpath.worker.guard import guard
from hotpath.worker.kit import Outfit
from hotpath.worker.lives import Life
from hotpath.worker.options import DedicateOptions, WorkerOptions
from hotpath.worker.outfit import describe_in
from hotpath.worker.prepare import Edition, prepare, settle
from hotpath.worker.pulse import Pulse, Weather
from hotpath.worker.report import Reporter
from hotpath.worker.signs import show_signs
from hotpath.worker.statistics import WorkerStatistics, added
from hotpath.worker.stop import Stop
from hotpath.worker.team import Team

log = logging.getLogger("hotpath.worker")

LAST_WORDS = 2.0
"""Seconds that telling the database what became of the last workers may take."""


async def supervise(config: Config, options: DedicateOptions) -> int:
    """Run a dedicated worker, of as many processes as asked, until SIGTERM or, to drain, until nothing is
    left.

    Returns the exit code. Raises HotpathError for a script that cannot be found or loaded, or a database that
    cannot be used.
    """
    located = sought(config, options)
    stop, code = Stop(is_preparing=True), 0
    async with trio.open_nursery() as nursery:
        await nursery.start(stop.heed_signals)
        # The processes start while the script is described and the database opened: half of the
        # time to readiness.
        # Those of a group have an environment of their own, which the database knows, and so may the script.
        has_own = options.group is not None or located is None or wants_own(located)
        early = [] if has_own else [await spawn() for _ in range(min(options.processes, 8))]
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


def sought(config: Config, options: DedicateOptions) -> Located | None:
    """The script in the workspace; None for what only the database can have: a pin, or a script that is not
    here.
    """
    if version_of_name(options.name) is not None:
        if options.watch:
            raise UsageError(f"--watch is for what changes: {options.name} means one version")
        return None
    try:
        return locate(options.name, config.workspace)
    except UnknownScriptError:
        if fault_of(options.name) is not None or options.watch:
            raise
        return None


async def _prepare(
    config: Config,
    options: DedicateOptions,
    located: Located | None,
    stop: Stop,
    early: list[Child],
    nursery: trio.Nursery,
) -> Supervisor | None:
    """Describe the script and open the database; None if somebody asked to stop meanwhile."""
    found: list[Description] = []
    prepared: list[Supervisor] = []

    async def look() -> None:
        if located is not None:
            found.append(await describe(located))

    async with trio.open_nursery() as preparing:
        preparing.start_soon(_give_up, stop, preparing.cancel_scope)
        async with trio.open_nursery() as both:
            if options.group is None:
                both.start_soon(look)
            database = await nursery.start(hold_database, config)
        crew = await enlist(config, database, options)
        supervisor = Supervisor(config, database, options, stop)
        edition: Edition | None = None
        if located is None:
            edition = await from_database(supervisor, options.name)
            found.append(edition.version.description)
        elif crew is not None:
            found.append(await describe_in(crew.outfit, located))
        if crew is not None:
            crew.enter(supervisor)
            options = supervisor.options = crew.options_of(found[0])
        if edition is not None:
            team = await team_of(supervisor, options, edition, early)
        else:
            assert located is not None, "else it came from the database"
            team = await make_team(supervisor, options, located, found[0], early)
        supervisor.teams.append(team)
        if crew is not None:
            crew.join(team)
        prepared.append(supervisor)
        preparing.cancel_scope.cancel(reason="prepared")
    stop.is_preparing = False
    return prepared[0] if prepared else None


async def from_database(house: Supervisor, name: str) -> Edition:
    """What the database knows by this name; where it knows none, what is wrong with the name here."""
    async with house.database.connection() as connection:
        if version_of_name(name) is not None:
            name = await pin_version(connection, name)
        try:
            version = (await find_script(connection, name)).version
        except UnknownScriptError:
            locate(name, house.config.workspace)
            raise
    return await prepare(house.database, house.config, version)


async def make_team(
    house: Supervisor,
    options: DedicateOptions,
    located: Located,
    description: Description,
    early: list[Child] | None = None,
) -> Team:
    """The team of a script that has been described; its version is registered. Where another one is
    deployed, that runs.
    """
    edition = await settle(house.database, house.config, located, description, deploy=options.watch)
    return await team_of(house, options, edition, early)


async def tags_of(connection: Connection, version: ScriptVersion, given: Sequence[str]) -> tuple[str, ...]:
    """The tags that a worker of this version listens to: those `given`, else its script's own; of a pin,
    those of the script that it means a version of. Raises `UsageError` where nobody can know them.
    """
    description = version.description
    if is_pin(description.path):
        description = (await find_script(connection, plain_name(description.path))).version.description
    return await own_tags(connection, description, given)


async def team_of(
    house: Supervisor, options: DedicateOptions, edition: Edition, early: list[Child] | None = None
) -> Team:
    """The team that runs this; its tags are registered."""
    version = edition.version
    async with house.database.connection() as connection:
        tags = await register_tags(connection, await tags_of(connection, version, options.tags))
        secret = await secret_for(connection, version.description)
    return Team(house, options, edition, tags, secret, [] if early is None else early)


async def _give_up(stop: Stop, scope: trio.CancelScope) -> None:
    await stop.asked.wait()
    scope.cancel(reason="asked to stop")


async def hold_database(config: Config, task_status: trio.TaskStatus[Database]) -> None:
    """The database that a supervisor uses, until cancelled."""
    # More than wait long at once (burials, the house, logs that move): the heartbeat must not wait for them.
    async with open_database(config, application_name="hotpath supervisor", connections=8) as database:
        task_status.started(database)
        await trio.sleep_forever()


@attrs.define(eq=False)
class Supervisor:
    """The teams of one command, and what they share."""

    config: Config
    database: Database
    options: WorkerOptions
    stop: Stop
    teams: list[Team] = attrs.field(factory=list)
    weather: Weather = attrs.field(factory=Weather)
    changes: Changes = attrs.field(factory=Changes)
    tasks: list[Callable[[Supervisor], Awaitable[object]]] = attrs.field(factory=list)
    """What else runs while it does; each until cancelled."""
    outfit: Outfit = attrs.field(factory=Outfit)
    """That teams get which it takes on now."""
    news: Callable[[], object] | None = None
    """Called when a worker is registered, ready or over."""
    failure: HotpathError | None = None
    """Why the command cannot go on."""
    _pulse: Pulse | None = None
    rows: dict[int, Row] = attrs.field(factory=dict)
    """Those that are no process's, to be kept alive, too."""
    claimed: set[int] = attrs.field(factory=set)
    """Leases that were claimed for workers and may not be on their boards yet."""
    kept: list[Keeper] = attrs.field(factory=list)
    """Who counts for teams that come and go."""
    _past: WorkerStatistics = attrs.field(factory=WorkerStatistics)
    """Of teams that came and went."""
    _ended: list[Team] = attrs.field(factory=list)
    _running: trio.Nursery | None = None
    _burials: trio.Nursery | None = None

    @property
    def lives(self) -> Mapping[int, Life]:
        """By worker id, those of all teams."""
        return {worker: life for team in self.teams for worker, life in team.lives.items()}

    def _lives(self) -> list[Life]:
        return list(self.lives.values())

    def keepers(self) -> Iterator[Keeper]:
        """Who counts, and who has counted."""
        yield from self.kept
        for team in (*self.teams, *self._ended):
            if not team.fed:
                yield team.keeper

    async def run(self, manage: Callable[[Supervisor], Awaitable[object]] | None = None) -> int:
        """Until all teams have ended; returns the exit code.

        `manage` takes on teams (`start`) and lets them go (`Team.stop`) while it runs: it lasts as long as
        the command, and returns soon after `stop.asked`.
        """
        began = time.perf_counter()
        pulse = self._pulse = Pulse(
            self.config,
            self.database,
            self.options.lease,
            self.weather,
            lambda: self.lives,
            self.keepers,
            self.changes,
            self.rows,
            self.claimed,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pulse.run)
            nursery.start_soon(guard, self._lives)
            nursery.start_soon(keep_up, "ticking of schedules", self._tick)
            nursery.start_soon(self.changes.heed, self.database, self._tell_workers)
            if self.config.probe_dir is not None:
                nursery.start_soon(show_signs, self.config.probe_dir, self._is_ready)
            for task in self.tasks:
                nursery.start_soon(task, self)
            if self.teams:
                nursery.start_soon(self.teams[0].reporter.run, self.statistics)
            if self.config.log_store is not None:
                from hotpath.store.archive import keep_moving  # imported by who has such a store

                where, after = self.config.log_store, self.config.log_store_after
                nursery.start_soon(keep_up, "moving logs", keep_moving, self.database, where, after)
            async with trio.open_nursery() as self._burials:
                async with trio.open_nursery() as self._running:
                    for team in self.teams:
                        self._running.start_soon(self._run, team)
                    if manage is not None:
                        self._running.start_soon(manage, self)
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
        Reporter(self.options).summary(self.statistics(), time.perf_counter() - began, drained=drained)
        return 0

    async def _tick(self) -> None:
        from hotpath.worker.ticker import Ticker  # nothing that a worker's start waits for

        await Ticker(self.database, self.changes).run()

    def _is_ready(self) -> bool:
        works = any(life.was_ready and not life.is_over for life in self.lives.values())
        return not self.stop.count and (works or bool(self.rows))

    async def _tell_workers(self, _connection: Connection) -> None:
        """The configuration has changed: each worker reads what it needs of it."""
        for life in self._lives():
            life.child.heed()

    def start(self, team: Team) -> None:
        """Take on another team, while `run` does; `Team.stop` ends it."""
        assert self._running is not None, "it runs"
        self.teams.append(team)
        self._running.start_soon(self._run, team)

    async def _run(self, team: Team) -> None:
        await team.run()
        self.teams.remove(team)
        if team.fed:  # many come and go
            self._past = added([self._past, *team.statistics()])
        else:
            self._ended.append(team)

    def statistics(self) -> list[WorkerStatistics]:
        """Counts of each worker of this command, those that ended included."""
        now = [counts for team in (*self._ended, *self.teams) for counts in team.statistics()]
        return [self._past, *now]

    def count(self, failed: int) -> None:
        """So many jobs have failed that no worker had."""
        self._past = added([self._past, WorkerStatistics(jobs=failed, failed=failed)])

    def fail(self, error: HotpathError) -> None:
        """The command cannot go on."""
        self.failure = error
        self.stop()

    def set_lease(self, seconds: float) -> None:
        """For so long each heartbeat is good, from the next one on."""
        if self._pulse is not None:
            self._pulse.lease = seconds

    def start_burial(self, bury: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Have the database told what became of a worker, beside all else."""
        assert self._burials is not None, "workers live in it"
        self._burials.start_soon(bury, *args)
