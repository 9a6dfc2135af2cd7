"""Where a normal worker's next claim looks, and when a full look is due (of a dedicated one: `search.py`)."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

import attrs

from hotpath.core.pacing import LookRation
from hotpath.store import mixed
from hotpath.worker.search import settled

if TYPE_CHECKING:
    from hotpath.store.mixed import Places
    from hotpath.store.work import WorkerSession
    from hotpath.worker.clock import DatabaseClock
    from hotpath.worker.ear import Ear


@attrs.define(eq=False)
class Lookout:
    """What one normal worker knows of what waits in its tags, and how it finds out more."""

    places: Places
    ear: Ear
    clock: DatabaseClock
    next_in: float | None = None
    """Seconds until the next job that is not yet due, as of the last full look."""
    _ration: LookRation = attrs.field(factory=LookRation)
    _asked: bool = True
    """Whether the next claim is to begin with a full look, whatever that costs."""
    _claimed_us: int = 0
    """When the last claim began, microseconds of `perf_counter`."""

    def look_everywhere(self) -> None:
        """Let the next claim begin with a full look."""
        self._asked = True

    @property
    def is_due(self) -> bool:
        """Whether a claim that comes now is to begin with a full look."""
        return self._asked or self._ration.due(time.monotonic())

    @property
    def is_worthwhile(self) -> bool:
        """Whether to take one now, since a claim came back empty."""
        return self._ration.affordable(time.monotonic())

    async def look(self, session: WorkerSession) -> None:
        """A full look: which tags and priorities hold jobs, and which tags are paused."""
        began = time.monotonic()
        self._asked = False
        waiting = await self.ear.find_tags(session)
        await self.ear.read_pauses(session.connection)
        self.next_in = await mixed.look(session, self.places, waiting)
        now = time.monotonic()
        self._ration.taken(now, 2 * (now - began))

    def begin(self) -> None:
        """A claim is sent now."""
        self._claimed_us = time.perf_counter_ns() // 1000

    @property
    def is_doubtful(self) -> bool:
        """Whether to ask if due jobs are there (`ask`), since a claim came back empty and saw none: it does
        not see those that lie before its positions.
        """
        return self._ration.doubtful(time.monotonic())

    async def ask(self, session: WorkerSession, left_out: Collection[int]) -> bool:
        """Whether due jobs are there, in tags that nobody had used before as well."""
        self._ration.asked(time.monotonic())
        waiting = await self.ear.find_tags(session)
        return await mixed.are_due(session, self.places, waiting, left_out)

    def missed(self, saw: bool) -> None:  # noqa: FBT001 - as it was told
        """A claim got nothing; whether it, or who asked, saw that due jobs are there. If that lasts, a full
        look is due.
        """
        if saw:
            self._ration.missed(time.monotonic())
        else:
            self._ration.got()

    def settle(self) -> None:
        """Nothing due was there as the last claim began: until the next full look, start there."""
        until = settled(self._claimed_us, self.clock)
        if until is not None:
            self.places.settle(until)
