"""The worker's loop: claim ahead, flush behind, one round trip a cycle.

One task owns the database connection and turns. Each turn it collects what the runtime has reported, decides
how much more to claim, sends both as one statement, and hands the new batch to the runtime. While the
statement is under way the runtime runs what it already has; so neither waits for the other as long as there
is work.

Rules worth knowing before a change:
- A cycle is never cancelled half-way: a claim that was cut off leaves jobs leased to nobody. It is shielded,
  with a deadline. So are all statements, and where the connection is free there is no checkpoint between two:
  a turn has to look itself whether it is cancelled, or it would take again what it has just given back.
- Ten times a second, beside the turns, the worker says that it lives, hears how long its lease holds, and
  looks whether a slow job keeps others waiting: what has ended is then flushed, what has not begun goes back.
- What a runtime notes of jobs that have not ended goes with the next flush, in front of it, or alone after a
  moment. Until something is noted, that costs a look at one attribute a turn.
- A hand that holds a suspect (`Hand.alone`) runs when the runtime has nothing else, and nothing beside it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import trio

from hotpath.core.hand import MAX_FLUSH_BYTES, Hand, LeaseFlush
from hotpath.core.pacing import CROWDED, IdlePolls, Pace
from hotpath.model import ErrorKind
from hotpath.worker.clock import DatabaseClock
from hotpath.worker.feed import feed
from hotpath.worker.forgetting import Forgetting
from hotpath.worker.inhand import InHand
from hotpath.worker.ledger import Ledger
from hotpath.worker.statistics import WorkerStatistics

if TYPE_CHECKING:
    from hotpath.core.notebook import Notebook
    from hotpath.runtime.protocol import Runtime
    from hotpath.store.complete import Completer
    from hotpath.store.work import Cycle
    from hotpath.worker.board import Board
    from hotpath.worker.link import Link
    from hotpath.worker.notekeeper import Notekeeper
    from hotpath.worker.search import Search
    from hotpath.worker.wake import Waker

log = logging.getLogger("hotpath.worker")

LINGER = {True: 0.1, False: 0.025}
"""Seconds that outcomes of an unfinished batch may wait for its end, by whether jobs run one at a time."""
GATHERED = range(3, 64)
"""Sizes of claims that tell of many clients at once; of those who wait for each job in turn, a claim is 1."""
GATHER = 0.01
"""Seconds between two cycles while such claims follow each other."""
BEAT = 0.1
"""Seconds between two looks at the lease and at what is in hand."""
COMPANY = 1.0
"""Seconds that a suspect waits for the runtime to be empty before another worker may have it."""
FINAL_FLUSH = 10.0
"""Seconds that the last flush of a worker that is being ended may take."""
LAST_FORGET = 2.0
"""Of these, what may be spent on what a sweep would do, too."""


@attrs.define(eq=False)
class Loop:
    """One worker's turns. `run` returns when the worker has stopped, or, to drain, when nothing is left."""

    link: Link
    search: Search
    waker: Waker
    runtime: Runtime
    drain: bool = False
    stopping: bool = False
    board: Board | None = None
    tell: Callable[[dict[str, Any]], object] = attrs.field(default=lambda _message: None)
    """Says a message to the supervisor."""
    completer: Completer = attrs.field(kw_only=True)
    """The connections for jobs that end by `hotpath.completion()`."""
    clock: DatabaseClock = attrs.field(factory=DatabaseClock)
    hands: dict[int, Hand] = attrs.field(factory=dict)
    """By lease, what is claimed and not wholly flushed."""
    pace: Pace = attrs.field(init=False)
    in_hand: InHand = attrs.field(init=False)
    ledger: Ledger = attrs.field(init=False)
    _desk: Notekeeper = attrs.field(init=False)
    _notebook: Notebook = attrs.field(init=False)
    _forgetting: Forgetting = attrs.field(init=False)
    _polls: IdlePolls = attrs.field(factory=IdlePolls)
    _wake: trio.Event = attrs.field(factory=trio.Event)
    _look_at: float = 0.0
    """`trio.current_time()` before which an empty queue is not asked again."""
    _lost: bool = False
    """Whether the lease has run out, as far as anybody here knows."""
    _crowded_out: Hand | None = None
    """A hand that waits until the runtime is empty."""
    _since: float = 0.0
    """When it began to wait."""
    _give_up: bool = False
    """Whether jobs that have not begun should go back, in the next turn."""
    _whole: bool = False
    _woken: bool = False
    """Whether somebody called `wake` since the last claim was sent: it may have been too early to see why."""
    _asking: trio.CancelScope | None = None
    """Around a claim that has no outcomes with it."""
    _completing: dict[int, set[int]] = attrs.field(factory=dict)
    _drained: bool = False
    _dry: int | None = None
    """How often the connection had broken when nothing was left to run, as a first look says."""
    _not_before: float = 0.0
    """`trio.current_time()` before which jobs that trickle in are gathered."""

    def __attrs_post_init__(self) -> None:
        self.pace = Pace(self.runtime.concurrency)
        self.in_hand = InHand(self.runtime, self.pace, self.board)
        self.ledger = Ledger(self.link, self.in_hand, self.pace, self.clock, self.hands)
        self._desk = self.ledger.desk
        self._notebook = self._desk.notebook
        self._forgetting = self.ledger.forgetting

    # ------------------------------------------------------------ from outside

    def wake(self) -> None:
        """There may be work: look now."""
        self._look_at = 0.0
        self._woken = True
        self._wake.set()

    def nudge(self) -> None:
        """There is something to write that must not wait: take the next turn now."""
        self._wake.set()

    def wake_everywhere(self) -> None:
        """Jobs have come back, with times and ids that were passed already: look from the beginning."""
        self.search.look_everywhere()
        self.wake()

    def stop(self, *, whole: bool = False) -> None:
        """Claim nothing more; jobs under way end, others go back (`whole`: are run if quick); then return."""
        self.stopping, self._whole = True, whole
        for hand in () if whole else self.hands.values():
            hand.stop()
        if self._asking is not None:  # nothing to write: a database that is away need not be waited for
            self._asking.cancel(reason="asked to stop")
        self._wake.set()

    def cancel(self, lease: int, place: int) -> None:
        """Somebody asked to cancel this job: it is interrupted, or ends as canceled before it begins.
        Nothing happens if it has ended, or is not in hand any more.
        """
        hand = self.hands.get(lease)
        index = hand.index(place) if hand is not None else None
        if hand is None or index is None or index in hand.canceling or index not in hand.pending():
            return
        hand.canceling.add(index)
        told = self.in_hand.interrupt(hand, index, ErrorKind.CANCELED)
        if not told or index not in self.in_hand.running(hand):
            # Its turn may be long in coming: it ends here, if it has not begun by the time that nothing may.
            hand.stop()
            self._give_up = True
        self._wake.set()

    def lose(self) -> None:
        """The lease is lost for good: nothing begins any more, what runs is interrupted, then `run`
        returns.
        """
        self._expire()
        self.stop()

    def holds(self, hand: Hand) -> bool:
        """Whether the hand's lease is held, as far as is known here."""
        return hand.lease in self.hands and time.perf_counter_ns() < self.in_hand.until

    def completing(self, hand: Hand) -> set[int]:
        """Jobs of the hand that are just ending themselves; the caller keeps it."""
        return self._completing.setdefault(hand.number, set())

    @property
    def drained(self) -> bool:
        """Whether it came to its end because nothing was left to run."""
        return self._drained

    def statistics(self) -> WorkerStatistics:
        """Counts since the start."""
        return attrs.evolve(self.ledger.statistics(), deaf=self.waker.deaf)

    def tallies(self) -> dict[str, list[int]]:
        """By tag, what was counted since the start (`core/tally.py`)."""
        return {tag: list(tally) for tag, tally in list(self.ledger.tallies.items())}

    # ------------------------------------------------------------ the turns

    async def run(self) -> None:
        """Take turns until stopped or drained. On the way out everything reported is flushed and the
        rest given back.
        """
        self._desk.open(self.nudge)
        try:
            async with trio.open_nursery() as runs:
                runs.start_soon(self._beat)
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
        await trio.lowlevel.checkpoint_if_cancelled()
        self._wake = trio.Event()
        for hand in [hand for hand in self.hands.values() if hand.over and hand.unreported]:
            await self.ledger.release(hand)
        if self._give_up:
            await self._put_back_unstarted()
        if self._crowded_out is not None:
            await self._find_room(self._crowded_out, runs)
        want = self._want()
        if want and trio.current_time() < self._not_before:
            # Many clients enqueue one by one: gather what comes for a moment, or each job costs a cycle.
            await trio.sleep_until(self._not_before)
            want = 0 if self.stopping else want
        await trio.lowlevel.checkpoint_if_cancelled()  # before anything is collected, or claimed
        flushes = self._collect()
        if self._notebook.used and not flushes and self._desk.is_due(at_rest=self._at_rest()):
            await self._desk.all()
            return
        if not flushes and not want:
            await self._rest()
            return
        self._woken = False
        if flushes:
            await self._exchange(flushes, want, runs)
            return
        with trio.CancelScope() as self._asking:
            await self._exchange(flushes, want, runs)
        self._asking = None

    async def _exchange(self, flushes: list[LeaseFlush], want: int, runs: trio.Nursery) -> None:
        """Flush, claim, and see to what was claimed. Cancelled while the database is away, it keeps what
        was to be flushed.
        """
        try:
            claim = await self.link.guarded(self.search.claim, want) if want else None
        except BaseException:
            self.ledger.keep(flushes)
            raise
        cycle = await self.ledger.cycle(flushes, claim)
        self.search.heard(claim, cycle)
        if cycle.hand is not None:
            self._take_in(cycle.hand, runs)
        elif want:
            await self._nothing_found(cycle)
        if self._desk.leaving:
            await self._desk.leave()
        if not self._forgetting.wait:
            await self.ledger.forget()  # what was claimed runs meanwhile

    def _take_in(self, hand: Hand, runs: trio.Nursery) -> None:
        """A batch was claimed: to the runtime with it."""
        self._polls.reset()
        self._look_at = 0.0
        self._dry = None
        self.waker.busy()
        if not len(hand):
            hand.over = True  # all of it was canceled while it waited
            return
        if len(hand) in GATHERED and self.waker.streaming:
            self._not_before = trio.current_time() + GATHER
        if self.stopping and not self._whole:
            hand.stop()
        self.pace.observe_args(len(hand), len(hand.args))
        if hand.places is not None:
            self.tell({"places": [hand.lease, hand.places]})
        if hand.alone and len(self.in_hand):
            self._crowded_out, self._since = hand, trio.current_time()
        else:
            self._start(hand, runs)

    def _start(self, hand: Hand, runs: trio.Nursery) -> None:
        hand.owner = self
        runs.start_soon(self._run, hand, self.in_hand.take(hand))

    async def _find_room(self, hand: Hand, runs: trio.Nursery) -> None:
        """Start the suspect once it is alone; if that takes long, somebody else may have it."""
        if not len(self.in_hand) and not hand.stopped:
            self._crowded_out = None
            self._start(hand, runs)
        elif hand.stopped or trio.current_time() - self._since > COMPANY:
            self._crowded_out = None
            hand.over = True
            await self.ledger.release(hand)
            self._look_at = trio.current_time() + COMPANY

    async def _put_back_unstarted(self) -> None:
        """One job keeps others waiting, or one that waits was canceled: what has not begun goes back."""
        self._give_up = False
        for hand in self.hands.values():
            if hand.begun < len(hand):  # one that has begun whole has nothing to give, and goes on
                hand.stop()
        for hand, indexes in list(self.in_hand.unstarted()):
            if indexes and hand.lease in self.hands:
                await self.ledger.put_back(hand, indexes)

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
            elif hand.over:
                self._wake.set()  # what was reported was nothing new: the rest goes back in the next turn
        return flushes

    @property
    def _linger(self) -> float:
        return LINGER[self.pace.concurrency == 1]

    def _want(self) -> int:
        """How many jobs to claim in this turn."""
        if self.stopping or self._lost or self._crowded_out or trio.current_time() < self._look_at:
            return 0
        if self.in_hand.alone or self.in_hand.book.full:
            return 0
        jobs = batches = 0
        for hand in self.hands.values():
            left = hand.unreported
            if left and not hand.over:
                jobs += left
                batches += 1
        want = self.pace.want(jobs, batches)
        return min(want, max(0, self.pace.concurrency - jobs)) if want and self.in_hand.slow else want

    async def _rest(self) -> None:
        """Nothing to send: wait for the runtime, a wake, the next look, or what has waited long enough."""
        deadline = self._look_at if self._look_at and not self.stopping else float("inf")
        running = any(not hand.over for hand in self.hands.values())
        if running:
            linger = self._desk.wait if self._notebook.used else self._linger
            deadline = min(deadline, trio.current_time() + linger)
        with trio.move_on_at(min(deadline, trio.current_time() + self._forgetting.wait)):
            await self._wake.wait()
        if not self._forgetting.wait and not self._wake.is_set():
            await self.ledger.forget()

    async def _run(self, hand: Hand, given: list[Any]) -> None:
        try:
            await trio.lowlevel.checkpoint_if_cancelled()  # what a cancelled worker claims does not begin
            await feed(self.runtime, hand, self.link, given)
        finally:
            hand.over = True
            self.in_hand.returned(hand)
            self._completing.pop(hand.number, None)
            self._wake.set()
        if hand.unreported and not hand.stopped:
            log.warning(
                "the runtime returned without an outcome of %d jobs: they are given back", hand.unreported
            )

    async def _nothing_found(self, cycle: Cycle) -> None:
        """A claim came back empty: look everywhere if that was not done just now, else doze."""
        if cycle.saw or cycle.blocked is not None:
            self._dry = None
            self._look_at = trio.current_time() + self._polls.next_try(cycle.blocked)
            return
        if await self.link.guarded(self.search.look_again):
            return
        if self.drain and not self.hands and await self.link.guarded(self.search.drained):
            if self._dry == self.link.breaks:
                self._drained = True
            else:  # one look is not believed: a reply may have been lost, or a job on its way back
                self._dry = self.link.breaks
                self.search.look_everywhere()
            return
        self._dry = None
        if self._woken:
            return  # it was enqueued behind the claim's back
        wait = self._polls.next_wait()
        if self.search.next_in is not None:
            wait = min(wait, max(self.search.next_in, CROWDED))
        wait = min(wait, self.ledger.next_retry() + CROWDED)
        self._look_at = trio.current_time() + wait
        self.waker.idle(wait)

    async def _settle(self) -> None:
        """The last words: flush everything reported, give back what was not."""
        await self.ledger.send_again()
        for hand in list(self.hands.values()):
            hand.over = True
            await self.ledger.release(hand)
        if self._desk.leaving:
            await self._desk.leave()
        with trio.move_on_after(LAST_FORGET):
            while await self.ledger.forget():
                await trio.lowlevel.checkpoint()

    # ------------------------------------------------------------ beside the turns

    async def _beat(self) -> None:
        while True:
            pause = await self._look(time.perf_counter_ns())
            await trio.sleep(pause)

    async def _look(self, now: int) -> float:
        if self.in_hand.beat(now):
            if self._lost:
                log.warning("the lease holds again")
                self._lost = False
                self._wake.set()
        elif not self._lost:
            log.warning("the lease has run out, as far as is known here: what runs is interrupted")
            self._expire()
        self.ledger.look(now)
        if self.ledger.rated:
            await self.ledger.tell_begun()
        if self.in_hand.look(now):
            self._give_up = True
            self._wake.set()
        for lease, place, kind in self.in_hand.stuck():
            self.tell({"stuck": [lease, place, kind]})
        return BEAT

    def _expire(self) -> None:
        """Nothing that is in hand may have effects any more; what ended before is still flushed."""
        self._lost = True
        for hand in list(self.hands.values()):
            self.in_hand.lose(hand)
        self._wake.set()
