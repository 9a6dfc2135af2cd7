"""What a supervisor does for the group of its workers: it runs as the group is configured, and heeds changes.

A change that concerns tags, limits or the number of processes is in force at once. For all else each worker
is replaced, one after the other, by one that is warm. What cannot be applied is not applied at all: the old
configuration stays in force, and the database says why.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.core.groups import DEFAULT_GROUP, INIT_TIMEOUT, GroupConfig, ScriptText
from hotpath.errors import DatabaseUnavailableError, HotpathError, UsageError
from hotpath.store.groups import Group, find_group, retag_workers, say_applied
from hotpath.store.records import Run
from hotpath.store.trouble import ANY_TROUBLE, CONNECTION_ERRORS
from hotpath.store.workers import register_tags
from hotpath.worker.aside import Aside
from hotpath.worker.group_options import fed_options, is_normal, options_of, own_tag, rank_of, with_group
from hotpath.worker.group_scripts import Periodics, Place, run_script
from hotpath.worker.kit import Outfit
from hotpath.worker.options import DedicateOptions, NormalOptions, WorkerOptions
from hotpath.worker.outfit import describe_in, make_outfit, masker

if TYPE_CHECKING:
    from hotpath.config import Config
    from hotpath.model import Description
    from hotpath.store.complete import Connection
    from hotpath.store.database import Database
    from hotpath.worker.dispatcher import Dispatcher
    from hotpath.worker.supervisor import Supervisor
    from hotpath.worker.team import Team

log = logging.getLogger("hotpath.worker")

AGAIN = 0.5
"""Seconds until the next try when the database could not be told, or asked."""
WITHIN = 10.0
MEND_EVERY = 5.0
"""Seconds between two looks whether scripts have lost their workers."""
AT_A_TIME = 4
"""Scripts whose workers are replaced at the same time."""
NOT_YET: tuple[type[Exception], ...] = (DatabaseUnavailableError, *CONNECTION_ERRORS)
"""What has it tried again, and not refused."""
DELETED = -1
"""In the place of a revision: there is none any more."""


class InitFailedError(HotpathError):
    """The group's init script failed: no worker of it may start."""


@attrs.define(eq=False)
class Crew:
    """The workers of one supervisor as members of their group."""

    config: Config
    database: Database
    base: WorkerOptions
    """As the flags say."""
    name: str
    group: Group | None
    """Whose configuration is in force; None: there is none so far."""
    outfit: Outfit = attrs.field(factory=Outfit)
    host: Mapping[str, str] = attrs.field(factory=lambda: dict(os.environ), repr=False)
    make_dispatcher: Callable[[Supervisor, NormalOptions], Dispatcher] | None = None
    """For a normal worker."""
    trouble: str | None = None
    """Why the newest configuration is not in force."""
    teams: dict[str, Team] = attrs.field(factory=dict)
    """By the script that each is dedicated to."""
    _house: Supervisor | None = None
    _dispatcher: Dispatcher | None = None
    _dispatching: trio.CancelScope | None = None
    _managing: trio.Nursery | None = None
    _wanted: Group | None = None
    _seen: int | None = None
    """Revision that was applied last, or could not be."""
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _applying: trio.CancelScope | None = None
    _news: trio.Event = attrs.field(factory=trio.Event)
    _said: dict[int, tuple[int | None, str | None]] = attrs.field(factory=dict)
    _periodics: Periodics = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._seen = None if self.group is None else self.group.revision
        self._periodics = Periodics(self._script("periodic"), self._run_periodic)

    @property
    def configured(self) -> GroupConfig:
        """What is in force."""
        return GroupConfig() if self.group is None else self.group.config

    @property
    def house(self) -> Supervisor:
        """Whose workers they are."""
        assert self._house is not None, "they have started"
        return self._house

    def options_of(self, description: Description) -> DedicateOptions:
        """Options of the workers of the one script that the command names."""
        return options_of(self.base, self.configured, description.path, own_tag(description))

    # ------------------------------------------------------------ the start

    async def run_init(self, group: Group, outfit: Outfit) -> None:
        """Run the group's init script, if it has one. Raises `InitFailedError`."""
        script = group.config.init
        if script is None:
            return
        limit = group.config.init_timeout or INIT_TIMEOUT
        aside = self._aside(self._script("init"), group)
        run, job = await run_script(script, limit, self._place(group, outfit), aside)
        if run.error is not None:
            said = f"; what it printed: hotpath logs {job}" if job is not None and run.log else ""
            raise InitFailedError(f"the init script of group {self.name} failed: {run.error[1]}{said}")
        log.info("the init script of group %s has run, in %.1f s", self.name, run.seconds)

    def _script(self, kind: str) -> str:
        # Not named by process: the same one comes again after a restart, and its runs are found together.
        return f"{kind}/{socket.gethostname()}-{self.name}"

    def _place(self, group: Group, outfit: Outfit) -> Place:
        return Place(
            workspace=self.config.workspace,
            environment=outfit.environment,
            masker=masker(group.config, self.host),
        )

    def _aside(self, name: str, group: Group) -> Aside:
        about = {"group": self.name, "revision": group.revision, "host": socket.gethostname()}
        return Aside(self.database, name, about | {"pid": os.getpid()})

    async def _run_periodic(self, name: str, script: ScriptText, limit: float) -> Run:
        assert self.group is not None, "only a group has scripts"
        place = self._place(self.group, self.outfit)
        return (await run_script(script, limit, place, self._aside(name, self.group)))[0]

    def enter(self, house: Supervisor) -> None:
        """These are its workers."""
        self._house = house
        house.outfit = self.outfit
        house.news = self._wake
        house.tasks.append(self._run)

    def join(self, team: Team) -> None:
        """This team is dedicated to a script of the group, or of the command."""
        self.teams[team.options.name] = team
        team.ranks = self._ranks(team.tags, self.configured)

    async def gather(self) -> None:
        """Have a team for each script that the group is dedicated to. Raises HotpathError for one that cannot
        be had.
        """
        for team in await self._teams(self.configured, self.outfit):
            self._watch(team)
            self.join(team)
            self.house.teams.append(team)

    async def _teams(self, config: GroupConfig, outfit: Outfit) -> list[Team]:
        """Teams for the scripts that have none."""
        from hotpath.worker.supervisor import from_database, make_team, sought, team_of  # which need the crew

        if isinstance(self.base, DedicateOptions):
            return []
        made = []
        for script in config.dedicated:
            if script in self.teams:
                continue
            options = options_of(self.base, config, script, "")
            located = sought(self.config, options)
            if located is None:
                edition = await from_database(self.house, script)
                made.append(await team_of(self.house, options, edition))
            else:
                description = await describe_in(outfit, located)
                made.append(await make_team(self.house, options, located, description))
        return made

    async def manage(self, _house: Supervisor) -> None:
        """Keep the command running, although it may have no script, and be a normal worker as long as the
        group says so; to drain, until nothing is left.
        """
        async with trio.open_nursery() as self._managing:
            self._dispatch(self.configured)
            if not self.base.drain:
                await self.house.stop.asked.wait()

    def _dispatch(self, config: GroupConfig) -> None:
        """Begin to be a normal worker, or end it."""
        wanted = is_normal(self.base, config)
        if not wanted and self._dispatching is not None:
            self._dispatching.cancel(reason="its group has no tags")
        elif wanted and self._dispatching is None and self.make_dispatcher is not None:
            assert isinstance(self.base, NormalOptions), "it is a normal worker"
            assert self._managing is not None, "the command runs"
            self._dispatcher = self.make_dispatcher(self.house, with_group(self.base, config))
            self._dispatcher.places.rank = rank_of(config)
            self._dispatching = trio.CancelScope()
            self._managing.start_soon(self._keep_dispatching, self._dispatcher, self._dispatching)

    async def _keep_dispatching(self, dispatcher: Dispatcher, scope: trio.CancelScope) -> None:
        with scope:
            await dispatcher.run(self.house)
        self._dispatcher = self._dispatching = None

    # ------------------------------------------------------------ while it runs

    async def _run(self, house: Supervisor) -> None:
        """Heed what is configured, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_applied)
            nursery.start_soon(self._keep_said)
            nursery.start_soon(self._mend)
            nursery.start_soon(self._periodics.run, self.configured.periodic)
            await house.changes.heed(self.database, self._read)

    async def _read(self, connection: Connection) -> None:
        try:
            found = await find_group(connection, self.name)
        except UsageError as error:
            self._refuse(f"its configuration cannot be read: {error}")
            return
        if found is None:
            if self.group is not None and self._seen != DELETED:
                self._seen, self._wanted = DELETED, None
                self._refuse(f"the group was deleted: it goes on with revision {self.group.revision}")
            return
        # A change is told twice: by notification and by its revision.
        if found.revision not in (self._seen, self._wanted and self._wanted.revision):
            self._wanted = found
            self._changed.set()
            if self._applying is not None:
                self._applying.cancel(reason="there is a newer configuration")

    async def _keep_applied(self) -> None:
        while True:
            self._changed = trio.Event()
            group = self._wanted
            if group is None or group.revision == self._seen:
                await self._changed.wait()
                continue
            with trio.CancelScope() as self._applying:
                try:
                    await self._apply(group)
                except NOT_YET as error:
                    log.debug("group %s: not applied yet: %s", self.name, error)
                except HotpathError as error:
                    self._seen = group.revision
                    self._refuse(str(error))
                except ANY_TROUBLE as error:  # what the database refuses ends no worker
                    self._refuse(f"it is not applied yet: {error}")
                else:
                    self._seen = group.revision
            self._applying = None
            if self._seen != group.revision and self._wanted is group:
                await trio.sleep(AGAIN)

    def _refuse(self, why: str) -> None:
        """The newest configuration is not in force, and why not."""
        if why != self.trouble:
            log.warning("group %s: %s", self.name, why)
        self.trouble = why
        self._wake()

    async def _apply(self, group: Group) -> None:
        """Bring a configuration into force, or nothing of it. Raises HotpathError that says why."""
        config, house = group.config, self.house
        outfit = make_outfit(self.name, config, self.config.workspace, self.host)
        options = with_group(self.base, config)
        if config.init != self.outfit.init:
            await self.run_init(group, outfit)
        fresh = await self._teams(config, outfit)
        staying = [team for team in self.teams.values() if self._stays(team, config)]
        tags = {team: await self._tags(team, config) for team in staying}
        leaving = [team for team in self.teams.values() if team not in staying]
        await self._fit(config, outfit, [team for team in house.teams if team not in leaving])
        # From here on nothing can be refused.
        self.outfit = house.outfit = outfit
        house.set_lease(options.lease)
        for team in leaving:
            del self.teams[team.options.name]
            team.stop()
        for team in fresh:
            team.outfit = outfit
            self._watch(team)
            self.join(team)
            house.start(team)
        self.group, self.trouble = group, None
        for team in staying:
            team.resize()
            await self._listen(team, tags[team], config)
        self._dispatch(config)
        if self._dispatcher is not None and isinstance(options, NormalOptions):
            self._dispatcher.places.rank = rank_of(config)
            await self._dispatcher.configure(options)
        self._periodics.have(config.periodic)
        log.info("group %s: revision %d is in force", self.name, group.revision)
        self._wake()

    def _stays(self, team: Team, config: GroupConfig) -> bool:
        if isinstance(self.base, DedicateOptions):
            return True
        return team.options.name in config.dedicated and team.failure is None

    def _watch(self, team: Team) -> None:
        def lost(error: HotpathError) -> None:
            """None of a script's workers can work: the others go on, and it is tried again after a while."""
            if self.teams.get(team.options.name) is team:
                del self.teams[team.options.name]
            if self._dispatcher is None and not any(life.was_ready for life in self.house.lives.values()):
                self.house.fail(error)
            self._refuse(str(error))

        team.on_failure = lost

    async def _mend(self) -> None:
        """Try again to have workers of scripts that have lost theirs."""
        while True:
            await trio.sleep(MEND_EVERY)
            if isinstance(self.base, NormalOptions) and len(self.teams) < len(self.configured.dedicated):
                self._wanted, self._seen = self._wanted or self.group, None
                self._changed.set()

    async def _fit(self, config: GroupConfig, outfit: Outfit, teams: Sequence[Team]) -> None:
        """Have the workers of all these work so; with what they had if new ones cannot work with it."""
        before: dict[Team, tuple[DedicateOptions, Outfit]] = {}
        refused: list[str] = []
        is_done = False
        limit = trio.CapacityLimiter(AT_A_TIME)

        async def fit(team: Team) -> None:
            async with limit:
                if (why := await team.refit()) is not None:
                    refused.append(why)
                    nursery.cancel_scope.cancel(reason="it cannot be applied")

        self.house.outfit = outfit
        for team in teams:
            before[team] = team.options, team.outfit
            team.options, team.outfit = self._options_for(team, config), outfit
        try:
            async with trio.open_nursery() as nursery:
                for team in before:
                    nursery.start_soon(fit, team)
            is_done = not refused
        finally:
            if not is_done:
                self.house.outfit = self.outfit
                for team, (team.options, team.outfit) in before.items():
                    team.hurry()
        if refused:
            raise HotpathError(refused[0])

    def _options_for(self, team: Team, config: GroupConfig) -> DedicateOptions:
        if team.fed:
            return fed_options(self.base, config, team.options)
        return options_of(self.base, config, team.options.name, own_tag(team.version.description))

    async def _tags(self, team: Team, config: GroupConfig) -> list[tuple[int, str]]:
        from hotpath.worker.supervisor import tags_of

        given = self._options_for(team, config).tags
        async with self.database.connection(within=WITHIN) as connection:
            return await register_tags(connection, await tags_of(connection, team.version, given))

    async def _listen(self, team: Team, tags: list[tuple[int, str]], config: GroupConfig) -> None:
        ranks = self._ranks(tags, config)
        if tags == team.tags and ranks == team.ranks:
            return
        team.listen(tags, ranks)
        team.hurry()  # those that could not be told so
        async with self.database.connection(within=WITHIN) as connection:
            await retag_workers(connection, list(team.lives), [key for key, _ in tags])

    @staticmethod
    def _ranks(tags: list[tuple[int, str]], config: GroupConfig) -> dict[int, int]:
        found = {key: config.priority_of(name) for key, name in tags}
        return {key: rank for key, rank in found.items() if rank}

    # ------------------------------------------------------------ what is said of it

    def _wake(self) -> None:
        self._news.set()

    async def _keep_said(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            revision = None if self.group is None else self.group.revision
            # One that makes room for another ends with what it has.
            staying = [worker for worker, life in self.house.lives.items() if not life.retired]
            now = dict.fromkeys([*staying, *self.house.rows], (revision, self.trouble))
            fresh = {worker: said[0] for worker, said in now.items() if self._said.get(worker) != said}
            if not fresh:
                continue
            try:
                async with self.database.connection(within=WITHIN) as connection:
                    await say_applied(connection, fresh, self.trouble)
            except ANY_TROUBLE as error:
                log.debug("group %s: what is in force is not said yet: %s", self.name, error)
                self._wake()
                await trio.sleep(AGAIN)
            else:
                self._said = now


async def enlist(
    config: Config, database: Database, options: WorkerOptions, *, required: bool = False
) -> Crew | None:
    """Become a member of the group that the options name, as it is configured: its init script has run.

    None if they name none. Raises `UsageError` for a variable that this host does not have and, where the
    group is `required`, for one that is not configured, save the one that workers are of anyway;
    `InitFailedError`.
    """
    if options.group is None:
        return None
    async with database.connection() as connection:
        group = await find_group(connection, options.group)
    if group is None:
        if required and options.group != DEFAULT_GROUP:
            raise UsageError(
                f"--group: no group {options.group!r} is configured; `hotpath group set` makes one, "
                "`hotpath group list` shows them"
            )
        return Crew(config, database, options, options.group, None)
    crew = Crew(config, database, options, options.group, group)
    try:
        crew.outfit = make_outfit(crew.name, group.config, config.workspace, crew.host)
        with_group(options, group.config)  # which refuses what does not go together
    except UsageError as error:
        raise UsageError(f"group {crew.name}: {error}") from None
    await crew.run_init(group, crew.outfit)
    return crew
