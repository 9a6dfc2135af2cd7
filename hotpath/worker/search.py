"""Where the next claim looks: which tag, from which positions, and when a full look is due."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import attrs

from hotpath.core.pacing import LookRation
from hotpath.core.positions import SLACK, Positions
from hotpath.store.work import Claim

if TYPE_CHECKING:
    from hotpath.store.work import Cycle, WorkerSession
    from hotpath.worker.clock import DatabaseClock


@attrs.define(eq=False)
class Search:
    """The tags of one worker, and what it knows of what waits in them."""

    script: int
    tags: Sequence[tuple[int, str]]
    """Key and name of each tag."""
    clock: DatabaseClock
    ranks: Mapping[int, int] = attrs.field(factory=dict)
    """By key of a tag, what its group says that its jobs are worth, whatever their own priority; else 0."""
    next_in: float | None = None
    """Seconds until the next job that is not yet due, as of the last full look."""
    _positions: dict[int, Positions] = attrs.field(init=False)
    _ration: LookRation = attrs.field(factory=LookRation)
    _hinted: bool = False
    """Whether positions have moved since the last full look."""
    _limited: bool = False
    """Whether the script is claimed apart."""
    _paused: dict[int, float] = attrs.field(factory=dict)
    """Tags that are paused, and the `time.monotonic()` until which."""
    _unread: bool = True
    """Whether these two are to be read before the next claim."""
    _blocked: bool = False
    """Whether the last claim found due jobs that a limit holds back."""
    _claimed_us: int = 0
    """When the last claim began, microseconds of `perf_counter`."""
    _turn: int = 0
    """How many claims in a row were: then other tags have their turn."""
    _asked: bool = False
    """Whether the next claim is to begin with a full look, whatever that costs."""

    def __attrs_post_init__(self) -> None:
        self._positions = {tag: Positions() for tag, _ in self.tags}

    async def claim(self, session: WorkerSession, want: int) -> Claim | None:
        """What to claim next; None when several tags were asked and none has anything due, or all tags are
        paused.
        """
        if self._unread:
            await self._read(session)
        if self._asked or (self._hinted and self._ration.due(time.monotonic())):
            await self._look(session)
        else:
            self._hinted = True
        self._claimed_us = time.perf_counter_ns() // 1000
        tags = self._open_tags() if self._paused else self.tags
        if not tags:
            return None
        if len(tags) == 1:
            tag, name = tags[0]
            return Claim(want, tag, name, self.script, self._positions[tag], limited=self._limited)
        heads = await session.heads([tag for tag, _ in tags], self.script)
        if not heads:
            return None
        if self.ranks:
            best = max(self.ranks.get(head[0], 0) for head in heads)
            heads = [head for head in heads if self.ranks.get(head[0], 0) == best]
        self._turn = self._turn + 1 if self._blocked else 0
        tag = heads[self._turn % len(heads)][0]
        before = heads[1][1:] if len(heads) > 1 and not self._turn else None
        name, positions = dict(tags)[tag], self._positions[tag]
        return Claim(want, tag, name, self.script, positions, before, limited=self._limited)

    def heard(self, claim: Claim | None, cycle: Cycle) -> None:
        """How the claim went."""
        self._blocked = cycle.blocked is not None
        if claim is None:
            return
        if cycle.hand is None and cycle.saw and not self._blocked:
            self._ration.missed(time.monotonic())
        else:
            self._ration.got()

    def heed(self) -> None:
        """Limits or pauses may have changed: read them before the next claim."""
        self._unread = True

    async def _read(self, session: WorkerSession) -> None:
        self._unread = False  # before: what changes meanwhile is read again
        try:
            self._limited, paused = await session.rules(self.script, [tag for tag, _ in self.tags])
        except BaseException:
            self._unread = True
            raise
        now = time.monotonic()
        self._paused = {tag: math.inf if left is None else now + left for tag, left in paused.items()}

    def _open_tags(self) -> Sequence[tuple[int, str]]:
        now = time.monotonic()
        self._paused = {tag: until for tag, until in self._paused.items() if until > now}
        return [(tag, name) for tag, name in self.tags if tag not in self._paused]

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
        """Nothing due was there as the last claim began: what comes is later, save what a full look will
        find.
        """
        until = settled(self._claimed_us, self.clock)
        if until is not None:
            for positions in self._positions.values():
                positions.settle(until)


def settled(claimed_us: int, clock: DatabaseClock) -> datetime | None:
    """Where to begin after an empty claim that began at `claimed_us` of `perf_counter`; None: not known. Its
    reply may have been long on the way, on a busy machine, and what came meanwhile is not passed.
    """
    if clock.offset_us is None:
        return None
    began = datetime.fromtimestamp((claimed_us + clock.offset_us) / 1e6, UTC)
    return began - SLACK - timedelta(milliseconds=5)
