"""The dispatcher of a normal worker: it claims for all scripts, and says which process runs what, when.

A *slot* is a process at work. What comes first in strict order starts first: while no slot is free for it, or
its script's process is at work, everything behind it waits. So that no slot waits for the database, a little
is claimed ahead (`core/switching.py`); what a slow job keeps waiting goes back into the queue.

It runs no user code and claims by one statement (`store/mixed.py`). All else is as for a dedicated worker:
what a process was given it runs, flushes and answers for itself.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.core.pacing import CROWDED, IdlePolls
from hotpath.core.switching import AHEAD_US, BUDGET_US, PATIENCE, SEGMENT_US, Costs
from hotpath.core.tally import FAILURE
from hotpath.store import mixed
from hotpath.store.mixed import MAX_JOBS, Claiming, ClaimingApart, Found, Places, Segment, Taker
from hotpath.store.scripts import current_of
from hotpath.store.work import WorkerSession
from hotpath.worker.clock import DatabaseClock
from hotpath.worker.ear import Ear
from hotpath.worker.failing import fail
from hotpath.worker.handing import FINISH, pack
from hotpath.worker.link import Link, open_link
from hotpath.worker.lookout import Lookout
from hotpath.worker.options import NormalOptions
from hotpath.worker.planning import Plan, Planner
from hotpath.worker.reach import Reach
from hotpath.worker.warm import Seat, Warm

if TYPE_CHECKING:
    from hotpath.store.complete import Connection
    from hotpath.worker.report import NormalReporter
    from hotpath.worker.supervisor import Supervisor

log = logging.getLogger("hotpath.worker")

BUSY = 0.02
"""Seconds for which a script with a limit is left out, whose process is at work while a slot is free."""
LAST_WORDS = 5.0
"""Seconds that giving back what has not begun may take at the end."""
HOLD = 1.0
"""Seconds until the next try of a claim that found nothing while no slot is free."""


@attrs.define(eq=False)
class Dispatcher:
    """One normal worker. `run` lasts as long as its command, or, to drain, until nothing is left."""

    house: Supervisor
    options: NormalOptions
    reporter: NormalReporter
    places: Places = attrs.field(factory=Places)
    costs: Costs = attrs.field(factory=Costs)
    clock: DatabaseClock = attrs.field(factory=DatabaseClock)
    warm: Warm = attrs.field(init=False)
    ear: Ear = attrs.field(init=False)
    planner: Planner = attrs.field(init=False)
    lookout: Lookout = attrs.field(init=False)
    _pending: deque[Segment] = attrs.field(factory=deque)
    """Claimed, in order, and not begun."""
    _ahead_us: float = 0.0
    """Work that this is."""
    _passed: bool = False
    """Whether something is back in the queue that comes before what is claimed."""
    _failing: list[Segment] = attrs.field(factory=list)
    """Of scripts that cannot be loaded."""
    _moved_at: float = 0.0
    """`trio.current_time()` when something last began or ended."""
    _reach: Reach = attrs.field(factory=Reach)
    """How far the next claim looks."""
    _link: Link = attrs.field(init=False)
    _nursery: trio.Nursery = attrs.field(init=False)
    _wake: trio.Event = attrs.field(factory=trio.Event)
    _woken: bool = False
    """Whether somebody called `wake`, or something ended, since the last claim was planned."""
    _polls: IdlePolls = attrs.field(factory=IdlePolls)
    _look_at: float = 0.0
    """`trio.current_time()` before which nothing is claimed."""
    _dry: int | None = None
    """How often the connection had broken when nothing was left to run, as a first look says."""
    _drained: bool = False

    def __attrs_post_init__(self) -> None:
        self.warm = Warm(self.house, self.options, self.reporter, self._moved, self._done, self._needs)
        self.planner = Planner(self.options, self.warm, self.costs)
        self.ear = Ear(self.house, self.options, self.reporter, self.places, self.wake, self.wake_everywhere)
        self.lookout = Lookout(self.places, self.ear, self.clock)

    # ------------------------------------------------------------ from outside

    def wake(self) -> None:
        """There may be work: look now."""
        self._look_at = 0.0
        self._woken = True
        if self.places.are_many:  # it may be one that no claim looks at
            self.lookout.look_everywhere()
        self._wake.set()

    def wake_everywhere(self) -> None:
        """Jobs have come back, with times and ids that were passed already: look from the beginning."""
        self.lookout.look_everywhere()
        self.wake()

    async def configure(self, options: NormalOptions) -> None:
        """Be another normal worker from now on; what it has claimed it runs all the same."""
        self.options = self.warm.options = self.planner.options = options
        self.ear.options = self.reporter.options = options
        if self.ear.worker:
            await self.ear.listen(options.patterns)

    # ------------------------------------------------------------ its life

    async def run(self, house: Supervisor) -> None:
        """Until the command is asked to stop, or nothing is left."""
        if not await self.ear.register():
            return
        try:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as beside:
                    beside.start_soon(self._end, scope)
                    async with open_link(house.database.dsn, self.ear.worker, None) as self._link:
                        await self._work(house)
                    scope.cancel(reason="drained")
        finally:
            for seat in list(self.warm.seats):
                self.warm.close(seat)
            await self.ear.leave()

    async def _end(self, scope: trio.CancelScope) -> None:
        await self.house.stop.asked.wait()
        scope.cancel(reason="asked to stop")

    async def _work(self, house: Supervisor) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self.ear.waker.run)
                self._nursery.start_soon(house.changes.heed, house.database, self._heed)
                self.reporter.listening(self.ear.name, self.ear.patterns.texts)
                while not self._drained:
                    await self._turn()
                self._nursery.cancel_scope.cancel(reason="drained")
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WORDS):
                await self._release()

    async def _heed(self, connection: Connection) -> None:
        """Something of the configuration has changed."""
        self._replace(await current_of(connection, self._scripts()))
        await self.ear.read_pauses(connection)
        self.warm.later.clear()
        self.lookout.look_everywhere()  # what was paused or limited lies behind where it looks
        self.wake()

    def _scripts(self) -> list[int]:
        return list({*(seat.script for seat in self.warm.seats), *self.warm.broken})

    def _replace(self, current: Mapping[int, tuple[int, ...]]) -> None:
        """Have processes of another version than the current one replaced."""
        for seat in self.warm.outdated(current):
            self.costs.forget(seat.script)
            self.warm.begin(self._nursery, seat.script, seat)

    # ------------------------------------------------------------ the turns

    async def _turn(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._wake = trio.Event()
        if self.ear.lost and await self.ear.register():
            self._link.worker = self.ear.worker
        self._start()
        if self._failing:
            await self._fail()
        now = trio.current_time()
        if self._passed or (self._pending and now - self._moved_at > PATIENCE):
            await self._release()
            return
        plan = None
        if now >= self._look_at:
            self._woken = False
            plan = self.planner.plan(now, self._moved_at, self._pending, self._ahead_us, self.ear.worker)
        if plan is None:
            await self._rest(now)
            return
        await self._claim(plan)

    async def _rest(self, now: float) -> None:
        deadline = self._look_at if self._look_at > now else float("inf")
        if self._pending:
            deadline = min(deadline, self._moved_at + PATIENCE + CROWDED)
        elif any(seat.running for seat in self.warm.seats):
            # Once they are slow, what may be claimed is another question.
            deadline = min(
                deadline, self._moved_at + PATIENCE if self._moved_at + PATIENCE > now else now + HOLD
            )
        deadline = min([deadline, *(until for until in self.warm.later.values() if until > now)])
        with trio.move_on_at(deadline):
            await self._wake.wait()

    # ------------------------------------------------------------ claims

    async def _claim(self, plan: Plan) -> None:
        if self.lookout.is_due:
            await self._link.guarded(self._look)
        slots = self.options.slots
        claiming = Claiming(
            self.places,
            plan.takers,
            plan.left_out,
            budget_us=BUDGET_US * slots - self._ahead_us,
            slice_us=BUDGET_US if slots == 1 else BUDGET_US / 2,
            jobs=MAX_JOBS * self._reach.width,
            depth=self._reach.depth * self._reach.width,
            stretch=self._reach.stretch,
            known=self.house.claimed,
        )
        self.lookout.begin()
        asked_us = time.perf_counter_ns() // 1000
        found = await self._link.guarded(claiming)
        self.clock.observe(found.clock_us, asked_us, time.perf_counter_ns() // 1000)
        jobs = sum(map(len, found.segments))
        self._reach = self._reach.after(jobs, saw=found.saw, more=found.more)
        claiming.forget()
        self._take(found.segments)
        if found.cold is not None:
            await self._meet(found, found.cold, plan)
        elif not found.segments and (not found.more or (found.saw and claiming.depth >= MAX_JOBS)):
            await self._nothing_found(found, plan.left_out)

    def _take(self, segments: Sequence[Segment]) -> None:
        """These were claimed."""
        for segment in segments:
            self.house.claimed.add(segment.lease)
            self._pending.append(segment)
            self._ahead_us += self.costs.of(segment.script) * len(segment) + SEGMENT_US
            self.warm.met(segment.script, segment.tag, self.places.name(segment.tag))
        if segments:
            self._polls.reset()
            self._look_at = 0.0
            self._dry = None
            self.ear.waker.busy()
            if not self.warm.taken():
                self._moved_at = trio.current_time()
            self._start()

    async def _claim_apart(self, found: Found, taker: Taker) -> None:
        """The job that comes first is of a script with a limit."""
        assert found.cold_tag is not None, "it has a tag"
        want = self.planner.want_apart(taker)
        claiming = ClaimingApart(taker, found.cold_tag, want, found.behind, self.house.claimed)
        apart = await self._link.guarded(claiming)
        claiming.forget()
        self._take([] if apart.segment is None else [apart.segment])
        now = trio.current_time()
        self.warm.apart.add(taker.script)
        if apart.segment is not None:
            self.warm.held.pop(taker.script, None)
        else:  # others may go on meanwhile
            polls = self.warm.held.setdefault(taker.script, IdlePolls())
            self.warm.later[taker.script] = now + polls.next_try(apart.blocked)

    async def _meet(self, found: Found, script: int, plan: Plan) -> None:
        """A job of a script came first that no process takes, or that is claimed apart."""
        taker = next((taker for taker in plan.takers if taker.script == script), None)
        if found.apart and taker is not None:
            seat = self.warm.seat(taker.worker)
            if not self._pending and plan.may_warm and seat is not None and not seat[0].is_open:
                self.warm.later[script] = trio.current_time() + BUSY  # others may go on meanwhile
            elif not self._pending and plan.may_warm:
                await self._claim_apart(found, taker)
            elif not self._pending:
                self._hold()
            return
        if not plan.may_warm or self._pending or self.warm.taken() >= self.options.slots:
            if not self._pending:
                self._hold()
            return
        if not self.warm.make_room():
            self._hold()
            return
        self.planner.relieve(script)
        self.warm.begin(self._nursery, script)
        self._finish()

    def _hold(self) -> None:
        """No slot is free for what comes first: claim nothing until something moves, if nothing has."""
        if not self._woken:
            self._look_at = trio.current_time() + HOLD

    async def _look(self, session: WorkerSession) -> None:
        """A full look: which tags and priorities hold jobs, and what has changed about scripts."""
        await self.lookout.look(session)
        self._replace(await current_of(session.connection, self._scripts()))
        self.warm.trim()

    async def _nothing_found(self, found: Found, left_out: Collection[int]) -> None:
        self._finish()
        now = trio.current_time()
        later = self.warm.later = {script: until for script, until in self.warm.later.items() if until > now}
        for script in self.warm.held.keys() - later.keys():
            del self.warm.held[script]  # it was not left out, and nothing of it is due any more
        if found.saw or later:
            self._dry = None
        saw = found.saw
        if not saw and self.lookout.is_worthwhile:
            await self._link.guarded(self._look)
            return
        if not saw and self.lookout.is_doubtful:
            saw = await self._link.guarded(self.lookout.ask, left_out)
            self._reach = self._reach.deep() if saw else self._reach  # it may lie behind what is left out
        self.lookout.missed(saw)
        if saw:
            self._dry = None
            self._look_at = trio.current_time() + CROWDED
            return
        if not left_out:  # that lies there, and is to be found once it is not left out
            self.lookout.settle()
        if (
            self.options.drain
            and not later
            and self._is_at_rest()
            and await self._link.guarded(mixed.drained, self.places.tags())
        ):
            if self._dry == self._link.breaks:
                self._drained = True
            else:  # one look is not believed: a reply may have been lost, or a job on its way back
                self._dry = self._link.breaks
                self.lookout.look_everywhere()
            return
        self._dry = None
        if self._woken:
            return
        wait = self._polls.next_wait()
        if self.lookout.next_in is not None:
            wait = min(wait, max(self.lookout.next_in, CROWDED))
        wait = min([wait, *(until - now for until in later.values())])
        self._look_at = trio.current_time() + wait
        self.ear.waker.idle(wait)

    def _is_at_rest(self) -> bool:
        return not self._pending and not self.warm.taken() and not self._failing

    # ------------------------------------------------------------ what begins, and ends

    def _needs(self, seat: Seat) -> bool:
        """Whether something that has not begun is claimed for it."""
        return seat.life is not None and any(one.worker == seat.life.worker for one in self._pending)

    def _start(self) -> None:
        """Begin what comes next, as far as there are slots."""
        while self._pending and not self._passed:
            segment = self._pending[0]
            if segment.worker == self.ear.worker:
                self._failing.append(self._next())
                continue
            found = self.warm.seat(segment.worker)
            if found is None:  # it has died: what it held is back in the queue, or soon
                self.house.claimed.discard(self._next().lease)
                continue
            seat, life = found
            if seat.running:
                if segment.alone or not seat.is_open:
                    return
            elif self.warm.taken() >= self.options.slots:
                return
            self._next()
            seat.running[segment.lease] = (life, len(segment))
            if segment.alone:
                seat.alone = segment.lease
            self._moved_at = seat.started_at = seat.used_at = trio.current_time()
            # What is counted by a limit counts until it is written: that should not wait.
            seat.promised = bool(self._pending) and segment.script not in self.warm.apart
            life.child.give(pack(segment, self.places.name(segment.tag), more=seat.promised))

    def _next(self) -> Segment:
        segment = self._pending.popleft()
        self._ahead_us -= self.costs.of(segment.script) * len(segment) + SEGMENT_US
        if not self._pending:
            self._ahead_us = 0.0
        return segment

    def _done(self, seat: Seat, lease: int, jobs: int, took_us: int, back: bool) -> None:  # noqa: FBT001 - as it was told
        """A process is through with what it was given; what is `back` in the queue comes before the rest."""
        self.house.claimed.discard(lease)
        self._passed = self._passed or back
        if seat.running.pop(lease, None) is None:
            return
        seat.used_at = trio.current_time()
        self.costs.observe(seat.script, jobs, took_us, seat.concurrency)
        self._moved()

    def _moved(self) -> None:
        """Something has ended, or a process takes jobs: begin what comes next."""
        self._moved_at = trio.current_time()
        self._start()
        if self._passed or not self._pending or self._ahead_us < AHEAD_US * self.options.slots:
            self._look_at = 0.0
            self._woken = True  # a claim that is on its way has not asked for what may be begun now
            self._wake.set()

    def _finish(self) -> None:
        """Nothing comes soon: who was told otherwise is to write what has ended."""
        for seat in self.warm.seats:
            if seat.promised and seat.life is not None:
                seat.promised = False
                seat.life.child.give(FINISH)

    async def _release(self) -> None:
        """What has not begun goes back into the queue."""
        segments = list(self._pending)
        self._passed = False
        self.lookout.look_everywhere()
        if not segments:
            return
        self._pending.clear()
        self._ahead_us = 0.0
        await self._link.guarded(mixed.give_back, segments)
        self.house.claimed.difference_update(segment.lease for segment in segments)
        self._finish()

    async def _fail(self) -> None:
        """Jobs of scripts that cannot be loaded end, saying why."""
        failing, self._failing = self._failing, []
        for segment in failing:
            broken = self.warm.broken.get(segment.script)
            if broken is None:  # it was loaded meanwhile
                await self._link.guarded(mixed.give_back, [segment])
                self.lookout.look_everywhere()
            else:
                failed = await fail(self._link, self.clock, segment, self.places.name(segment.tag), broken)
                self.warm.keeper(segment.script).note(FAILURE, failed)
                self.house.count(failed)
            self.house.claimed.discard(segment.lease)
