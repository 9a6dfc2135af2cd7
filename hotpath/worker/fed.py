"""The loop of a worker that is fed: its supervisor claims, for many scripts, and gives it hands.

It runs them, flushes and answers for them as any loop does (`worker/loop.py`). Besides, it says when it is
through with one, so that the next may begin, perhaps in another process; and while more is to come soon it
gathers what has ended, so that jobs that alternate one by one are not a flush each.

Of a synchronous script the thread that ran a hand says so itself, without a task of Trio's that waits for it:
what remains to be noted of the hand is done when the next one comes, or when its outcomes are due.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from hotpath.runtime.lane import tell
from hotpath.runtime.sync import SyncRuntime
from hotpath.store.work import WorkerSession
from hotpath.worker.loop import Loop

if TYPE_CHECKING:
    from hotpath.core.hand import Hand, LeaseFlush

log = logging.getLogger("hotpath.worker")

GATHER = 0.1
"""Seconds that outcomes may wait for those that come next."""
SOON = 0.02
"""Seconds before that in which they are written all the same, when it is looked."""


@attrs.define(eq=False)
class FedLoop(Loop):
    """A loop that claims nothing; `give` is what it lives on."""

    gathers: bool = False
    """Whether more is to come soon: what has ended may wait for it, for a moment (`_look`)."""
    _due: bool = False
    """Whether it has waited so long."""
    _runs: trio.Nursery | None = None
    _early: list[Hand] = attrs.field(factory=list)
    """What was given before it took turns."""
    _torn: set[int] = attrs.field(factory=set)
    """Leases of which something went back into the queue."""
    _straight: SyncRuntime | None = None
    """The runtime, if hands may go to its thread without a task each."""
    _token: trio.lowlevel.TrioToken | None = None
    _ended: deque[tuple[Hand, int, bool, BaseException | None]] = attrs.field(factory=deque)
    """Hands that the thread is through with: when they began, whether it was said, what has broken it."""

    def give(self, hand: Hand, *, rated: bool = False, more: bool) -> None:
        """Run this, which was claimed for the worker; `rated`: a rate wants to know when it has begun; `more`
        is to come soon.
        """
        self.gathers = more
        if self._runs is None:
            self._early.append(hand)
            return
        self._note_ended()
        self.ledger.take_over(hand)
        if rated:
            self.ledger.rated.append(hand)
        self._take_in(hand, self._runs)
        if hand.over:  # all of it was canceled while it waited
            self._say_done(hand)
        elif len(hand) == 1 and self.pace.concurrency == 1:
            return  # its end wakes the loop, and there is nothing to be done before
        self._wake.set()

    def finish(self) -> None:
        """Nothing more is to come soon: write what has ended."""
        self.gathers = False
        self._wake.set()

    def _say_done(self, hand: Hand, began: int | None = None, *, back: bool = False) -> None:
        """Say that the worker is through with this, how long that took, and whether some of it has gone
        `back` into the queue.
        """
        back = back or hand.lease in self._torn
        self._torn.discard(hand.lease)
        ran = 0 if began is None or back else len(hand)
        took = 0 if began is None else (time.perf_counter_ns() - began) // 1000
        if ran and self.pace.concurrency == 1 and len(hand.reported) == ran:
            took = sum(outcome[3] for outcome in list(hand.reported))  # without what handing over takes
        self.tell({"done": [hand.lease, ran, took, back]})

    # ------------------------------------------------------------ straight to the thread

    def _start(self, hand: Hand, runs: trio.Nursery) -> None:
        runtime = self._straight
        # Large args have to be fetched, and traces asked for.
        if runtime is None or self.link.traced or b"null" in hand.args:
            super()._start(hand, runs)
            return
        hand.owner = self
        given = self.in_hand.take(hand)
        given.append((0, hand))
        if runtime.begin(hand, partial(self._say_ended, hand, time.perf_counter_ns())):
            hand.waiting_since = trio.current_time()
            return
        given.clear()
        runs.start_soon(self._run, hand, given)

    def _say_ended(self, hand: Hand, began: int, broken: BaseException | None) -> None:
        """The thread, in which this is called, is through with the hand."""
        says = broken is None and not (hand.over or hand.unreported or hand.lease in self._torn)
        self._ended.append((hand, began, says, broken))  # first: the next hand may come at once
        if says:
            self._say_done(hand, began)
        if self._token is not None and not (says and self.gathers and not self.stopping):
            tell(self._token, self.nudge)

    def _note_ended(self) -> None:
        """Note what Trio's side has to know of hands that the thread is through with."""
        while self._ended:
            hand, began, said, broken = self._ended.popleft()
            if broken is not None:
                raise broken
            if hand.over:
                continue
            hand.over = True
            self.in_hand.returned(hand)
            self._completing.pop(hand.number, None)
            if not hand.unreported:
                if not said:
                    self._say_done(hand, began)
            elif not hand.stopped:
                log.warning("%d jobs have no outcome: they are given back", hand.unreported)

    # ------------------------------------------------------------ where it differs

    def _want(self) -> int:
        return 0

    async def _turn(self, runs: trio.Nursery) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._runs is None and type(self.runtime) is SyncRuntime:
            self._straight, self._token = self.runtime, trio.lowlevel.current_trio_token()
            runs.start_soon(self.runtime.attend)
        self._runs = runs
        self._note_ended()
        while self._early:
            self.give(self._early.pop(0), more=self.gathers)
        for hand in [hand for hand in self.hands.values() if hand.over and hand.unreported]:
            await self.ledger.release(hand)
            self._say_done(hand, back=True)  # not before it is back: what comes next may be this
        await super()._turn(runs)

    async def _find_room(self, hand: Hand, runs: trio.Nursery) -> None:
        await super()._find_room(hand, runs)
        if hand.over and self._crowded_out is None:
            self._say_done(hand, back=True)

    async def _put_back_unstarted(self) -> None:
        self._torn.update(hand.lease for hand, indexes in self.in_hand.unstarted() if indexes)
        await super()._put_back_unstarted()

    async def _run(self, hand: Hand, given: list[Any]) -> None:
        began = time.perf_counter_ns()
        try:
            await super()._run(hand, given)
        finally:
            if not hand.unreported:
                self._say_done(hand, began)

    def _collect(self) -> list[LeaseFlush]:
        if self.gathers and not self._due and not self.stopping:
            return []
        self._due = False
        return super()._collect()

    async def _look(self, now: int) -> float:
        pause = await super()._look(now)
        waiting = [hand for hand in self.hands.values() if hand.reported or not hand.left]
        if not self.gathers or not waiting:
            return pause
        moment = trio.current_time()
        since = min(moment if hand.waiting_since is None else hand.waiting_since for hand in waiting)
        left = since + GATHER - moment
        if left > SOON:
            for hand in waiting:
                hand.waiting_since = since
            return min(pause, left)
        for hand in waiting:
            hand.waiting_since = 0.0  # long enough
        self._due = True
        self._wake.set()
        return pause

    async def _settle(self) -> None:
        await super()._settle()
        # What was claimed for it and never came: if nobody else is left to give it back, it is done here.
        lost = await self.link.guarded(WorkerSession.unlisted, list(self.hands))
        if lost:
            await self.link.give_back(lost)

    async def _rest(self) -> None:
        if self.gathers and not self._notebook.used and self._forgetting.wait == math.inf:
            await self._wake.wait()  # `_look` does not let it sleep too long
        else:
            await super()._rest()
