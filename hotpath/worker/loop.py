"""The worker's loop: claim ahead, flush behind, one round trip a cycle.

One task owns the database connection and turns. Each turn it collects what the runtime has reported, decides
how much more to claim, sends both as one statement, and hands the new batch to the runtime. While the
statement is under way the runtime runs what it already has; so neither waits for the other as long as there
is work.

Rules worth knowing before a change:
- A cycle is never cancelled half-way: a claim that was cut off leaves jobs leased to nobody. It is shielded,
  with a deadline.
- What was collected is kept until a reply says that it is written; on a broken connection it is sent again
  (I11).
- A lease that the reply does not name is lost: its outcomes are dropped, and said so in the log (I2).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.core.hand import MAX_FLUSH_BYTES, Hand, LeaseFlush, totals
from hotpath.core.pacing import IdlePolls, Pace
from hotpath.worker.clock import DatabaseClock
from hotpath.worker.feed import feed
from hotpath.worker.statistics import WorkerStatistics

if TYPE_CHECKING:
    from hotpath.runtime.protocol import Runtime
    from hotpath.store.work import Cycle
    from hotpath.worker.link import Link
    from hotpath.worker.search import Search
    from hotpath.worker.wake import Waker

log = logging.getLogger("hotpath.worker")

LINGER = {True: 0.1, False: 0.025}
"""Seconds that outcomes of an unfinished batch may wait for its end, by whether jobs run one at a time."""
GATHERED = range(3, 64)
"""Sizes of claims that tell of many clients at once; of those who wait for each job in turn, a claim is 1."""
GATHER = 0.01
"""Seconds between two cycles while such claims follow each other."""
CROWDED = 0.001
"""Seconds until the next try when others hold what is due: they are done in a moment."""
FINAL_FLUSH = 10.0
"""Seconds that the last flush of a worker that is being ended may take."""


@attrs.define(eq=False)
class Loop:
    """One worker's turns. `run` returns when the worker has stopped, or, to drain, when nothing is left."""

    link: Link
    search: Search
    waker: Waker
    runtime: Runtime
    drain: bool = False
    stopping: bool = False
    pace: Pace = attrs.field(init=False)
    clock: DatabaseClock = attrs.field(factory=DatabaseClock)
    hands: dict[int, Hand] = attrs.field(factory=dict)
    """By lease, what is claimed and not wholly flushed."""
    _polls: IdlePolls = attrs.field(factory=IdlePolls)
    _wake: trio.Event = attrs.field(factory=trio.Event)
    _look_at: float = 0.0
    """`trio.current_time()` before which an empty queue is not asked again."""
    _jobs: int = 0
    _failed: int = 0
    _refused: int = 0
    _released: int = 0
    _busy_us: int = 0
    _cycles: int = 0
    _first: float | None = None
    _last: float | None = None
    _drained: bool = False
    _not_before: float = 0.0
    """`trio.current_time()` before which jobs that trickle in are gathered."""

    def __attrs_post_init__(self) -> None:
        self.pace = Pace(self.runtime.concurrency)

    # ------------------------------------------------------------ from outside

    def wake(self) -> None:
        """There may be work: look now."""
        self._look_at = 0.0
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more; jobs under way end, those not begun are given back, then `run` returns."""
        self.stopping = True
        for hand in self.hands.values():
            hand.stop()
        self._wake.set()

    def statistics(self) -> WorkerStatistics:
        """Counts since the start."""
        return WorkerStatistics(
            jobs=self._jobs,
            failed=self._failed,
            refused=self._refused,
            released=self._released,
            busy=self._busy_us / 1e6,
            cycles=self._cycles,
            in_hand=sum(hand.left for hand in self.hands.values()),
            first_claim=self._first,
            last_flush=self._last,
        )

    # ------------------------------------------------------------ the turns

    async def run(self) -> None:
        """Take turns until stopped or drained. On the way out everything reported is flushed and the
        rest given back.
        """
        try:
            async with trio.open_nursery() as runs:
                while not self._drained and not (self.stopping and self._at_rest()):
                    await self._turn(runs)
                runs.cancel_scope.cancel(reason="the worker is done")
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FINAL_FLUSH):
                await self._settle()

    def _at_rest(self) -> bool:
        """Whether no batch is with the runtime any more."""
        return all(hand.over for hand in self.hands.values())

    async def _turn(self, runs: trio.Nursery) -> None:
        self._wake = trio.Event()
        for hand in [hand for hand in self.hands.values() if hand.over and hand.unreported]:
            await self._release(hand)
        want = self._want()
        if want and trio.current_time() < self._not_before:
            # Many clients enqueue one by one: gather what comes for a moment, or each job costs a cycle.
            await trio.sleep_until(self._not_before)
        flushes = self._collect()
        if not flushes and not want:
            await self._rest()
            return
        cycle = await self._cycle(flushes, want)
        if cycle.hand is not None:
            self._take_in(cycle.hand, runs)
        elif want:
            await self._nothing_found(saw=cycle.saw)

    def _take_in(self, hand: Hand, runs: trio.Nursery) -> None:
        """A batch was claimed: to the runtime with it."""
        self._polls.reset()
        self._look_at = 0.0
        self.waker.busy()
        self.hands[hand.lease] = hand
        if self._first is None:
            self._first = time.perf_counter()
        if not len(hand):
            hand.over = True  # all of it was canceled while it waited
            return
        if len(hand) in GATHERED and self.waker.streaming:
            self._not_before = trio.current_time() + GATHER
        hand.clock = time.perf_counter_ns
        if self.stopping:
            hand.stop()
        self.pace.observe_args(len(hand), len(hand.args))
        runs.start_soon(self._run, hand)

    def _collect(self) -> list[LeaseFlush]:
        """What there is to flush now: batches that are over, and the rest once outcomes have waited
        long enough.
        """
        now = trio.current_time()
        flushes, size = [], 0
        for hand in self.hands.values():
            if not hand.reported and hand.left:
                continue
            if not hand.over and hand.unreported:
                if hand.waiting_since is None:
                    hand.waiting_since = now
                if now - hand.waiting_since < self._linger:
                    continue
            flush = hand.take()
            if flush is not None:
                hand.waiting_since = None
                flushes.append(flush)
                size += flush.size
                if size >= MAX_FLUSH_BYTES:
                    break
        return flushes

    @property
    def _linger(self) -> float:
        return LINGER[self.pace.concurrency == 1]

    def _want(self) -> int:
        """How many jobs to claim in this turn."""
        if self.stopping or trio.current_time() < self._look_at:
            return 0
        jobs = batches = 0
        for hand in self.hands.values():
            left = hand.unreported
            if left and not hand.over:
                jobs += left
                batches += 1
        return self.pace.want(jobs, batches)

    async def _rest(self) -> None:
        """Nothing to send: wait for the runtime, a wake, the next look, or outcomes that have waited
        long enough.
        """
        deadline = self._look_at if self._look_at and not self.stopping else float("inf")
        running = any(not hand.over for hand in self.hands.values())
        if running:
            deadline = min(deadline, trio.current_time() + self._linger)
        with trio.move_on_at(deadline):
            await self._wake.wait()

    async def _run(self, hand: Hand) -> None:
        try:
            await feed(self.runtime, hand, self.link)
        finally:
            hand.over = True
            self._wake.set()
        if hand.unreported and not hand.stopped:
            log.warning(
                "the runtime returned without an outcome of %d jobs: they are given back", hand.unreported
            )

    async def _nothing_found(self, *, saw: bool) -> None:
        """A claim came back empty: look everywhere if that was not done just now, else doze."""
        if saw:
            self._look_at = trio.current_time() + CROWDED
            return
        if await self.link.guarded(self.search.look_again):
            return
        if self.drain and not self.hands and await self.link.guarded(self.search.drained):
            self._drained = True
            return
        wait = self._polls.next_wait()
        if self.search.next_in is not None:
            wait = min(wait, max(self.search.next_in, CROWDED))
        self._look_at = trio.current_time() + wait
        self.waker.idle(wait)

    # ------------------------------------------------------------ the database

    async def _cycle(self, flushes: Sequence[LeaseFlush], want: int) -> Cycle:
        """Send one cycle and account for the reply, however often the connection breaks meanwhile."""
        claim = await self.link.guarded(self.search.claim, want) if want else None
        cycle = await self.link.cycle(flushes, claim, self.clock)
        self._cycles += 1
        if flushes:
            self._account(flushes, cycle.accepted)
        return cycle

    def _account(self, flushes: Sequence[LeaseFlush], accepted: frozenset[int]) -> None:
        written = [flush for flush in flushes if flush.hand.lease in accepted]
        for flush in flushes:
            hand = flush.hand
            if hand.lease not in accepted:
                self._refused += flush.jobs
                hand.stop()
                log.warning(
                    "lease %d was lost: outcomes of %d jobs are dropped, they run again elsewhere",
                    hand.lease,
                    flush.jobs,
                )
            if flush.final or hand.lease not in accepted:
                self.hands.pop(hand.lease, None)
        jobs, failed, busy_us, size = totals(written)
        if jobs:
            self._jobs += jobs
            self._failed += failed
            self._busy_us += busy_us
            self._last = time.perf_counter()
            self.pace.observe(jobs, busy_us, size)

    async def _release(self, hand: Hand) -> None:
        """Flush what the batch has, give the rest back."""
        flush = hand.take()
        if flush is not None:
            self._account([flush], (await self.link.cycle([flush], None, self.clock)).accepted)
        if self.hands.pop(hand.lease, None) is not None:
            self._released += hand.left
            await self.link.give_back([hand.lease])

    async def _settle(self) -> None:
        """The last words: flush everything reported, give back what was not."""
        for hand in list(self.hands.values()):
            hand.over = True
            await self._release(hand)
