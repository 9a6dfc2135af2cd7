"""Pinned versions are run by the supervisor of whoever is dedicated to their script: in a team of their own,
while there are jobs of them.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.errors import HotpathError
from hotpath.store.choices import pins_waiting
from hotpath.store.scripts import version_by_id
from hotpath.store.trouble import ANY_TROUBLE, is_passing
from hotpath.worker.prepare import prepare

if TYPE_CHECKING:
    from hotpath.worker.team import Team

log = logging.getLogger("hotpath.worker")

LOOK_EVERY = 1.0
"""Seconds between two looks for jobs of pins."""
IDLE = 30.0
"""Seconds without a job after which such a team ends."""
AGAIN = 60.0
"""Seconds until a pin is tried again that could not be run."""
WITHIN = 10.0
"""Seconds that one look may take."""


@attrs.define(eq=False)
class Pins:
    """The teams of the pins of one team's script."""

    team: Team
    _running: dict[int, Team] = attrs.field(factory=dict)
    _busy_at: dict[int, float] = attrs.field(factory=dict)
    _jobs: dict[int, int] = attrs.field(factory=dict)
    _not_before: dict[int, float] = attrs.field(factory=dict)

    async def run(self) -> None:
        """Until cancelled."""
        said = ""
        while True:
            await trio.sleep(LOOK_EVERY)
            try:
                await self.look()
            except ANY_TROUBLE as error:
                if is_passing(error):
                    log.debug("jobs of pinned versions cannot be looked for yet: %s", error)
                elif str(error) != said:
                    said = str(error)
                    log.warning("jobs of pinned versions cannot be looked for: %s", said)
            else:
                said = ""

    async def look(self) -> None:
        """Start a team for each pin that has jobs, and end those that have none."""
        team, now = self.team, time.monotonic()
        async with team.database.connection(within=WITHIN) as connection:
            waiting = await pins_waiting(connection, team.version.script, [tag for tag, _ in team.tags])
        for script, name in waiting.items():
            if script not in self._running and now >= self._not_before.get(script, 0.0):
                await self._start(script, name)
        for script, each in list(self._running.items()):
            if each not in team.house.teams:
                del self._running[script]
                continue
            jobs = sum(one.jobs for one in each.statistics())
            is_busy = script in waiting or any(one.in_hand for one in each.statistics())
            if is_busy or jobs != self._jobs.get(script):
                self._busy_at[script], self._jobs[script] = now, jobs
            elif now - self._busy_at[script] > IDLE and not team.options.drain:
                each.stop()

    def leave(self) -> None:
        """The team has ended: nobody else lets go of those that it has started."""
        for each in self._running.values():
            if not each.stop.count:
                each.stop()

    async def _start(self, script: int, name: str) -> None:
        from hotpath.worker.supervisor import team_of  # here: it knows this module

        team = self.team

        def give_up(error: HotpathError) -> None:
            self._not_before[script] = time.monotonic() + AGAIN
            log.error("%s cannot be run, its jobs wait: %s", name, error)

        options = attrs.evolve(team.options, name=name, processes=1, tags=tuple(tag for _, tag in team.tags))
        try:
            async with team.database.connection(within=WITHIN) as connection:
                version = await version_by_id(connection, script)
            edition = await prepare(team.database, team.house.config, version)
            pinned = await team_of(team.house, options, edition)
        except HotpathError as error:
            if is_passing(error):
                raise
            give_up(error)
            return
        log.info("jobs of %s wait: it is run beside %s", name, team.version.description.path)
        pinned.on_failure = give_up
        self._running[script] = pinned
        team.house.start(pinned)
