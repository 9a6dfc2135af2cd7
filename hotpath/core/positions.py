"""Where a worker starts to look for loose jobs: one position a priority, and the gaps between the priorities
it knows.

Claimed rows leave dead index entries behind until vacuum comes, and a transaction left open keeps vacuum
away; a claim that starts where the last one ended does not walk them (157k/s fell to 33k/s in 45 s without).
Order never depends on it: the claim looks into the gaps each time, and a full look forgets the positions once
a second, so that late-committed and back-dated jobs are found (I4).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import attrs

HIGHEST, LOWEST = 32767, -32768
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
FIRST_ID = UUID(int=0)
SLACK = timedelta(milliseconds=10)
"""How far behind the last claimed job to start while jobs keep coming: transactions commit out of order."""
SETTLED = timedelta(seconds=1)
"""A position this old is not among jobs that are being enqueued now: no slack, or equal times would be walked
again and again.
"""
MAX_KNOWN = 200
"""Positions that are kept: each one costs the claim an index probe."""

Position = tuple[datetime, UUID]


@attrs.define
class Positions:
    """The positions of one tag."""

    since: dict[int, Position] = attrs.field(factory=dict)
    """By priority, the first (scheduled_for, id) that may still wait."""

    def known(self) -> tuple[list[int], list[datetime], list[UUID]]:
        """Priorities, highest first, and the position in each."""
        order = sorted(self.since, reverse=True)
        places = [self.since[priority] for priority in order]
        return order, [place[0] for place in places], [place[1] for place in places]

    def gaps(self) -> tuple[list[int], list[int]]:
        """Upper and lower ends of the ranges between the known priorities, highest first."""
        upper, lower = [], []
        top = HIGHEST
        for priority in sorted(self.since, reverse=True):
            if priority < top:
                upper.append(top)
                lower.append(priority + 1)
            top = priority - 1
        if top >= LOWEST:
            upper.append(top)
            lower.append(LOWEST)
        return upper, lower

    def look(self, priorities: Sequence[int]) -> None:
        """A full look: these priorities hold jobs; start at the beginning of each."""
        self.since = dict.fromkeys(priorities[:MAX_KNOWN], (BEGINNING, FIRST_ID))

    def settle(self, until: datetime) -> None:
        """Nothing due was found: until the next full look, start at `until` in each known priority."""
        self.since = {priority: max(place, (until, FIRST_ID)) for priority, place in self.since.items()}

    def know(self, priority: int) -> None:
        """A batch of this priority was met: it is no news any more."""
        if priority not in self.since and len(self.since) < MAX_KNOWN:
            self.since[priority] = (BEGINNING, FIRST_ID)

    def advance(self, priority: int, scheduled_for: datetime, job: UUID, now: datetime) -> None:
        """The last loose job that was claimed at this priority, at `now` by the database's clock."""
        place = (scheduled_for, job) if now - scheduled_for > SETTLED else (scheduled_for - SLACK, FIRST_ID)
        if priority in self.since or len(self.since) < MAX_KNOWN:
            self.since[priority] = max(place, self.since.get(priority, place))
