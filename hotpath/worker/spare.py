"""One process that is started ahead: whoever follows a worker, after a deploy or a crash, need not wait for
Python and our own modules to load, and they are not loaded in the moment of the swap.

It waits for its assignment as any process does, has none of the user's code, and is no worker yet: it is not
registered, and claims nothing. Its end of the pipe tells it when the supervisor has died.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.core.names import is_pin
from hotpath.scripts.priority import lower
from hotpath.worker.child import Child, spawn

if TYPE_CHECKING:
    from hotpath.worker.kit import Kit, Outfit
    from hotpath.worker.lives import Life
    from hotpath.worker.team import Team

log = logging.getLogger("hotpath.worker")

CALM = 1.0
"""Seconds between two looks; at two of them all workers have to be the same, and ready."""
FIRST_WAIT, LONGEST_WAIT = 4.0, 300.0
"""Seconds until another one is started when one has ended that nobody had taken."""
MOST_PROCESSES = 8
"""A team with more has none: replacing them takes long anyhow."""
REAPED = 5.0
"""Seconds that the end of a killed process is waited for."""


@attrs.define(eq=False)
class Spare:
    """A team's spare process, while there is one."""

    team: Team
    _child: Child | None = None
    _outfit: Outfit | None = None
    _python: str | None = None
    _taken: trio.Event = attrs.field(factory=trio.Event)
    _is_misfit: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether the team gets one: not what is fed, runs for a moment only, or is about to end."""
        team = self.team
        return (
            not team.fed
            and not team.options.drain
            and team.options.processes <= MOST_PROCESSES
            and not is_pin(team.version.description.path)
        )

    def take(self, kit: Kit) -> Child | None:
        """The process, for a worker with this kit. None if there is none; one with another environment or
        Python is thrown away.
        """
        child = self._child
        if child is None or child.returncode is not None:
            return None
        if (self._outfit, self._python) != (kit.outfit, kit.edition.python):
            self._is_misfit = True
            child.kill()
            return None
        self._child = None
        self._taken.set()
        return child

    async def run(self) -> None:
        """Have one in calm moments, until the team is asked to stop."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep)
            await self.team.stop.asked.wait()
            nursery.cancel_scope.cancel(reason="the team is to stop")

    async def _keep(self) -> None:
        seen: list[Life | None] = []
        wait = FIRST_WAIT
        while True:
            await trio.sleep(CALM)
            lives = [place.life for place in self.team.places]
            if not self.is_wanted or lives != seen or not self._is_calm(lives):
                seen = lives
            elif await self._have_one():
                wait = FIRST_WAIT
            else:
                await trio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)

    def _is_calm(self, lives: list[Life | None]) -> bool:
        team = self.team
        return (
            bool(lives)
            and team.candidate is None
            and all(life is not None and life.was_ready and not life.is_worn for life in lives)
            and all(place.coming is None for place in team.places)
        )

    async def _have_one(self) -> bool:
        """Until it is taken or thrown away; False if it ended by itself, or could not be started."""
        kit = self.team.kit
        try:
            child = await spawn(kit.environment, kit.edition.python)
        except OSError as error:
            log.debug("no spare process could be started: %s", error)
            return False
        lower(child)
        self._child, self._outfit, self._python = child, kit.outfit, kit.edition.python
        self._taken, self._is_misfit = trio.Event(), False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_over, child, nursery.cancel_scope)
                await self._taken.wait()
                nursery.cancel_scope.cancel(reason="it is a worker now")
            return self._taken.is_set() or self._is_misfit
        finally:
            if self._child is child:
                self._child = None
                child.kill()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + REAPED):
                    await child.process.wait()
                child.close()

    async def _until_over(self, child: Child, scope: trio.CancelScope) -> None:
        await child.process.wait()
        scope.cancel(reason="it has ended")
