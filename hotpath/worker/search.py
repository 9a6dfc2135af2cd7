"""Where the next claim looks: which tag, from which positions, and when a full look is due."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import attrs

from hotpath.core.pacing import LookRation
from hotpath.core.positions import SLACK, Positions
from hotpath.store.work import Claim

if TYPE_CHECKING:
    from hotpath.store.work import WorkerSession
    from hotpath.worker.clock import DatabaseClock


@attrs.define(eq=False)
class Search:
    """The tags of one worker, and what it knows of what waits in them."""

    script: int
    tags: Sequence[tuple[int, str]]
    """Key and name of each tag."""
    clock: DatabaseClock
    next_in: float | None = None
    """Seconds until the next job that is not yet due, as of the last full look."""
    _positions: dict[int, Positions] = attrs.field(init=False)
    _ration: LookRation = attrs.field(factory=LookRation)
    _hinted: bool = False
    """Whether positions have moved since the last full look."""
    _asked: bool = False
    """Whether the next claim is to begin with a full look, whatever that costs."""

    def __attrs_post_init__(self) -> None:
        self._positions = {tag: Positions() for tag, _ in self.tags}

    async def claim(self, session: WorkerSession, want: int) -> Claim | None:
        """What to claim next; None when several tags were asked and none has anything due."""
        if self._asked or (self._hinted and self._ration.due(time.monotonic())):
            await self._look(session)
        else:
            self._hinted = True
        if len(self.tags) == 1:
            tag, name = self.tags[0]
            return Claim(want, tag, name, self.script, self._positions[tag])
        heads = await session.heads([tag for tag, _ in self.tags], self.script)
        if not heads:
            return None
        tag = heads[0][0]
        before = heads[1][1:] if len(heads) > 1 else None
        return Claim(want, tag, dict(self.tags)[tag], self.script, self._positions[tag], before)

    def look_everywhere(self) -> None:
        """Let the next claim begin with a full look."""
        self._asked = True

    async def look_again(self, session: WorkerSession) -> bool:
        """After an empty claim: take a full look if that claim started from positions; whether to
        claim again at once.
        """
        if not self._hinted or not self._ration.affordable(time.monotonic()):
            self._settle()
            return False
        await self._look(session)
        return True

    async def drained(self, session: WorkerSession) -> bool:
        """Whether nothing due is left on the tags, and nobody holds any of it."""
        return await session.drained([tag for tag, _ in self.tags], self.script)

    async def _look(self, session: WorkerSession) -> None:
        began = time.monotonic()
        self._asked = False
        self.next_in = None
        for tag, _ in self.tags:
            priorities, next_in = await session.look(tag)
            self._positions[tag].look(priorities)
            if next_in is not None:
                self.next_in = next_in if self.next_in is None else min(self.next_in, next_in)
        # The claim that follows walks from the beginning: about as much again as the look.
        now = time.monotonic()
        self._ration.taken(now, 2 * (now - began))
        self._hinted = False

    def _settle(self) -> None:
        """Nothing due was there just now: what comes is later, save what a full look will find."""
        if self.clock.offset_us is None:
            return
        now = datetime.fromtimestamp((time.perf_counter_ns() // 1000 + self.clock.offset_us) / 1e6, UTC)
        for positions in self._positions.values():
            positions.settle(now - SLACK - timedelta(milliseconds=5))
