"""What a normal worker may claim now: for which processes, and which scripts are to wait."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs

from hotpath.core.switching import AHEAD_US, APART_US, BUDGET_US, LEAST_US, PATIENCE, PRESSED, Costs, room
from hotpath.store.mixed import MAX_JOBS, Segment, Taker
from hotpath.worker.options import NormalOptions
from hotpath.worker.warm import Seat, Warm


@attrs.frozen
class Plan:
    """What the next claim is to ask for."""

    takers: list[Taker]
    left_out: frozenset[int]
    may_warm: bool
    """Whether a slot is free for a script that has no process."""


@attrs.define(eq=False)
class Planner:
    """Decides that for one normal worker."""

    options: NormalOptions
    warm: Warm
    costs: Costs
    _pressed: dict[int, float] = attrs.field(factory=dict)
    """By script, since when all its processes were found at work while a slot was free."""

    def relieve(self, script: int) -> None:
        """A process more is started for it."""
        self._pressed.pop(script, None)

    def plan(
        self, now: float, moved_at: float, pending: Sequence[Segment], ahead_us: float, own: int
    ) -> Plan | None:
        """What may be claimed now; None: nothing. `moved_at`: when something last began or ended; `pending`:
        what is claimed and has not begun, `ahead_us` of work; `own`: the worker that jobs of scripts which
        cannot be loaded are for.
        """
        seats = [seat for seat in self.warm.seats if seat.is_ready]
        free = self.options.slots - self.warm.taken()
        if pending and free > 0:
            return None  # what comes first waits for its process
        slow = now - moved_at > PATIENCE
        loading = {seat.script for seat in self.warm.seats if seat.life is None and seat.replaces is None}
        if free > 0:
            takers = [seat for seat in seats if seat.is_open]
            idle = {seat.script for seat in takers}
            for script in idle:
                self._pressed.pop(script, None)
            takers += [
                seat for seat in seats if seat.script not in idle and not self._is_pressed(seat, now, loading)
            ]
        elif not slow and ahead_us < AHEAD_US * self.options.slots and self._are_quick():
            takers = seats
        else:
            takers = [seat for seat in seats if seat.running and seat.concurrency > 1]
            if not takers:
                return None
        asked = [taker for seat in takers if (taker := self._taker(seat, pending)).room > 0]
        warm = {seat.script for seat in seats}
        asked += [
            Taker(script, own, LEAST_US, MAX_JOBS)
            for script, broken in self.warm.broken.items()
            if script not in warm and script not in loading and broken.until > now
        ]
        can = {taker.script for taker in asked}
        later = {script for script, until in self.warm.later.items() if until > now}
        return Plan(asked, frozenset((loading if free > 0 else set()) - can | later), may_warm=free > 0)

    def want_apart(self, taker: Taker) -> int:
        """How many jobs to claim of a script with a limit: what is leased counts as running."""
        return max(1, min(taker.room, int(APART_US / taker.cost_us)))

    def _is_pressed(self, seat: Seat, now: float, loading: Collection[int]) -> bool:
        """Whether its script, all of whose processes are at work, needs a further one, or waits for one."""
        since = self._pressed.setdefault(seat.script, now)
        return now - seat.started_at > PRESSED or (now - since > PRESSED and seat.script not in loading)

    def _are_quick(self) -> bool:
        """Whether what runs should be over in a moment."""
        return all(
            self.costs.of(seat.script) * seat.in_hand <= BUDGET_US * seat.concurrency
            for seat in self.warm.seats
            if seat.running
        )

    def _taker(self, seat: Seat, pending: Sequence[Segment]) -> Taker:
        assert seat.life is not None, "it is ready"
        cost = self.costs.of(seat.script)
        waiting = sum(len(segment) for segment in pending if segment.worker == seat.life.worker)
        most = room(seat.concurrency, seat.in_hand + waiting, cost, MAX_JOBS)
        return Taker(seat.script, seat.life.worker, cost, most)
