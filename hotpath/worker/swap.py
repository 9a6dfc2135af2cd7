"""A team follows its script's current version: what is deployed is loaded beside what runs, and takes over.

The database says what is current (`worker/changes.py` tells when to look); `prepare` gets it here;
`Team.adopt` has one worker try it, and the others follow once that is warm. What cannot be run is tried again
from time to time: what it lacked may be there by then.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.errors import ScriptError, UsageError
from hotpath.store.flows import secret_for
from hotpath.store.groups import retag_workers
from hotpath.store.own_tags import own_tags
from hotpath.store.scripts import version_by_id, version_steps
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.store.workers import register_tags
from hotpath.worker.lives import first_of
from hotpath.worker.prepare import Edition, key_of, prepare

if TYPE_CHECKING:
    from hotpath.model import ScriptVersion
    from hotpath.store.complete import Connection
    from hotpath.worker.team import Team

log = logging.getLogger("hotpath.worker")

WITHIN = 10.0
"""Seconds that one question may take."""
TROUBLED = 0.5
"""Seconds until the next try, when the database was out of reach."""
FIRST_RETRY, LONGEST_RETRY = 30.0, 600.0
"""Seconds until a version that could not be run is tried again."""


@attrs.define(eq=False)
class _Follower:
    team: Team
    current: ScriptVersion
    bell: trio.Event = attrs.field(factory=trio.Event)

    async def read(self, connection: Connection) -> None:
        """Ask what is current."""
        found = await version_by_id(connection, self.current.script)
        if found.description.kind == "flow":
            found = attrs.evolve(found, steps=tuple(await version_steps(connection, found)))
        if key_of(found) != key_of(self.current):
            self.current = found
            self.bell.set()

    async def run(self) -> None:
        """Have the team run what is current, again and again."""
        wait, retry = math.inf, FIRST_RETRY
        while True:
            with trio.move_on_after(wait):
                await self.bell.wait()
                retry = FIRST_RETRY
            self.bell = trio.Event()
            try:
                if await self._follow(self.current):
                    wait = math.inf
                else:
                    wait, retry = retry, min(2 * retry, LONGEST_RETRY)
            except ANY_TROUBLE as error:
                log.debug("what is current cannot be had yet: %s", error)
                wait = TROUBLED

    async def _follow(self, version: ScriptVersion) -> bool:
        """Whether nothing is left to be done for this version."""
        team = self.team
        if key_of(version) == team.edition.key:
            team.candidate = None
            team.drop_coming()
            team.rejected = None
            if team.tells_rejected:
                await team.say_rejected(None, None)
            return not team.tells_rejected
        try:
            edition = await prepare(team.database, team.house.config, version)
            async with team.database.connection(within=WITHIN) as connection:
                names = await own_tags(connection, version.description, team.options.tags)
                own = await register_tags(connection, names)
                team.secret = team.secret or await secret_for(connection, version.description)
        except (ScriptError, UsageError) as error:
            await team.reject(Edition(version, team.edition.located), str(error))
            return False
        if new := [tag for tag in own if tag not in team.tags]:
            await self._listen(new)
        decided = team.adopt(edition)
        await first_of(decided, self.bell)
        return team.rejected is None

    async def _listen(self, new: list[tuple[int, str]]) -> None:
        """Have the team listen to its script's new tag, and go on with the former one: jobs may still wait
        there.
        """
        team = self.team
        team.listen([*new, *team.tags], team.ranks)
        async with team.database.connection(within=WITHIN) as connection:
            await retag_workers(connection, list(team.lives), [key for key, _ in team.tags])


async def keep_current(team: Team) -> None:
    """Have a team run the current version of its script, until cancelled."""
    follower = _Follower(team, team.version)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(team.house.changes.heed, team.database, follower.read)
        nursery.start_soon(follower.run)
