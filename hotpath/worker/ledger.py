"""What a worker holds by lease, and what it tells the database of that.

Rules worth knowing before a change:
- What was collected is kept until a reply says that it is written; on a broken connection it is sent again
  (I11).
- A lease that the reply does not name is lost: its outcomes are dropped, and said so in the log (I2).
- A job that never began leaves its hand only once the database has it back: a flush that ends the lease takes
  what has left for done.
- What was noted of a job is written before its outcome, and before it is given back (`worker/notekeeper.py`).
- A claim has its lease's id, listed for the supervisor, before it is sent, and a new one each time it is
  sent: what an earlier try may have claimed is found because nobody lists it.
"""

from __future__ import annotations

import heapq
import logging
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import attrs

from hotpath.core.hand import Hand, LeaseFlush, totals
from hotpath.core.occupancy import Occupied
from hotpath.core.tally import CANCELED, LOST, Tally
from hotpath.model import ErrorKind, OutcomeState
from hotpath.store.complete import add_log
from hotpath.store.sweep import forget_soon
from hotpath.store.work import Claim, Cycle, WorkerSession
from hotpath.worker.clock import DatabaseClock
from hotpath.worker.forgetting import Forgetting
from hotpath.worker.notekeeper import Notekeeper
from hotpath.worker.pen import NotesRefusedError
from hotpath.worker.statistics import WorkerStatistics

if TYPE_CHECKING:
    from hotpath.core.pacing import Pace
    from hotpath.worker.inhand import InHand
    from hotpath.worker.link import Link, Preface

log = logging.getLogger("hotpath.worker")

BEFORE = b'{"name":"JobCanceled","message":"canceled before it started","traceback":"","kind":"canceled"}'
WITHIN = b'{"name":"JobCanceled","message":"canceled while a worker had it","traceback":"","kind":"canceled"}'


@attrs.define(eq=False)
class Ledger:
    """One worker's leases and counts."""

    link: Link
    in_hand: InHand
    pace: Pace
    clock: DatabaseClock = attrs.field(factory=DatabaseClock)
    hands: dict[int, Hand] = attrs.field(factory=dict)
    """By lease, what is claimed and not wholly flushed."""
    desk: Notekeeper = attrs.field(init=False)
    """What is noted of the jobs in hand."""
    forgetting: Forgetting = attrs.field(factory=Forgetting)
    """Jobs that have succeeded, of which something is kept that nobody needs."""
    _retries: list[float] = attrs.field(factory=list)
    """A heap of `time.monotonic()` at which attempts that failed here are due again, the first of each
    flush.
    """
    _late: list[tuple[Hand, int, int, str]] = attrs.field(factory=list)
    """Hand, index, state and further log of jobs that had ended before their `main` did."""
    _unsent: list[LeaseFlush] = attrs.field(factory=list)
    """Flushes of a cycle that was cancelled while it waited for the database."""
    rated: list[Hand] = attrs.field(factory=list)
    """Hands of a script with a rate, which has not been told yet that all their jobs have begun."""
    _reserved: int | None = None
    """The token that the next claim's hand will have."""
    _jobs: int = 0
    _failed: int = 0
    _retried: int = 0
    _refused: int = 0
    _released: int = 0
    tallies: dict[str, Tally] = attrs.field(factory=dict)
    """By tag, what was counted since the start."""
    occupied: Occupied = attrs.field(init=False)
    under_way: int = 0
    """Jobs that were running at the last look."""
    _looked_at: int = 0
    _busy_us: int = 0
    _cycles: int = 0
    _first: float | None = None
    _last: float | None = None

    def statistics(self) -> WorkerStatistics:
        """Counts since the start."""
        return WorkerStatistics(
            jobs=self._jobs,
            failed=self._failed,
            retried=self._retried,
            refused=self._refused,
            released=self._released,
            parked=self.desk.parked,
            canceled=sum(tally[CANCELED] for tally in list(self.tallies.values())),
            lost=sum(tally[LOST] for tally in list(self.tallies.values())),
            busy=self._busy_us / 1e6,
            occupied=self.occupied.total_us / 1e6,
            under_way=self.under_way,
            cycles=self._cycles,
            in_hand=sum(hand.left for hand in list(self.hands.values())),  # from any thread
            first_claim=self._first,
            last_flush=self._last,
        )

    def __attrs_post_init__(self) -> None:
        self.desk = Notekeeper(self.link, self.clock, self)
        self.occupied = Occupied(several=self.pace.concurrency > 1)

    def tally(self, tag: str) -> Tally:
        """What is counted of this tag."""
        found = self.tallies.get(tag)
        if found is None:
            found = self.tallies[tag] = Tally()
        return found

    async def cycle(self, flushes: Sequence[LeaseFlush], claim: Claim | None) -> Cycle:
        """Send one cycle and account for the reply, however often the connection breaks meanwhile. What was
        noted of the jobs goes first.
        """
        if flushes and self.desk.notebook.used:
            self.desk.begin()
            if self.desk.busy:
                return await self._notes_first(flushes, claim)
        return await self._send(flushes, claim)

    async def _notes_first(self, flushes: Sequence[LeaseFlush], claim: Claim | None) -> Cycle:
        """The cycle, behind all the notes that wait."""
        desk = self.desk
        try:
            async with desk.lock:
                pen = await desk.ahead()
                flushes = self._still_held(flushes)
                if pen is not None and not flushes:
                    await desk.alone(pen)
                elif pen is not None:
                    try:
                        cycle = await self._send(flushes, claim, pen)
                    except NotesRefusedError as refusal:
                        failures = await desk.apart(pen, refusal.why)
                        flushes = self._still_held([_failed(flush, failures) for flush in flushes])
                    except BaseException:
                        flushes = ()  # they are kept
                        desk.put_back(pen)
                        raise
                    else:
                        written = [flush for flush in flushes if flush.hand.lease in cycle.accepted]
                        flushes = ()
                        if not any(flush.ended for flush in written):
                            await desk.make_sure(pen)
                        desk.settle(pen, cycle.accepted)
                        return cycle
        except BaseException:
            self.keep(flushes)
            raise
        return await self._send(flushes, claim)

    def _still_held(self, flushes: Sequence[LeaseFlush]) -> list[LeaseFlush]:
        """Those whose lease was not found to be lost meanwhile; the outcomes of others are dropped."""
        held = [flush for flush in flushes if not flush.hand.gone]
        if len(held) < len(flushes):
            self._account([flush for flush in flushes if flush.hand.gone], frozenset())
        return held

    async def _send(
        self, flushes: Sequence[LeaseFlush], claim: Claim | None, first: Preface | None = None
    ) -> Cycle:
        began = time.perf_counter_ns()
        try:
            cycle = await self.link.cycle(flushes, claim, self.clock, self._number, first)
        except NotesRefusedError:
            self._unnumber()
            raise
        except BaseException:
            self._unnumber()
            self.keep(flushes)
            raise
        if cycle.hand is None:
            self._unnumber()
        else:
            assert self._reserved is not None, "it was numbered before it was sent"
            self.in_hand.book.came(self._reserved)
            self._take_in(cycle.hand)
            if cycle.rated:
                self.rated.append(cycle.hand)
        self._cycles += 1
        took = (time.perf_counter_ns() - began) // 1000
        if flushes:
            self.tally(flushes[0].hand.tag).flushed(took)
            self._account(flushes, cycle.accepted)
        elif claim is not None:
            self.tally(claim.tag_name).claimed(took)
        if self._late:
            await self._write_late()
        return cycle

    async def _write_late(self) -> None:
        """What jobs printed after their completion; how their `main` ended does not count any more."""
        late, self._late = self._late, []
        for hand, index, state, text in late:
            job = hand.ids[index]
            if state != OutcomeState.SUCCESS:
                log.warning(
                    "job %s did not end in success, after its completion was committed",
                    job,
                    extra={"job": job},
                )
            if text:
                attempt = hand.attempts[index]
                await self.link.guarded(add_log, job, attempt, text, self.clock.offset_us or 0)

    def _number(self, claim: Claim) -> Claim:
        """The claim with the id of its lease, as it is to be sent now."""
        lease = secrets.randbits(62) | 1
        if self._reserved is None:
            self._reserved = self.in_hand.book.open(lease)
        else:
            self.in_hand.book.move(self._reserved, lease)
        return attrs.evolve(claim, lease=lease)

    def _unnumber(self) -> None:
        """Nothing was claimed, as far as anybody knows."""
        if self._reserved is not None:
            self.in_hand.book.move(self._reserved, 0)

    def _take_in(self, hand: Hand) -> None:
        assert self._reserved is not None
        hand.number, self._reserved = self._reserved, None
        hand.desk = self.desk
        self.hands[hand.lease] = hand
        if self._first is None:
            self._first = time.perf_counter()

    def take_over(self, hand: Hand) -> None:
        """The worker holds this lease, which somebody else has claimed for it."""
        self._reserved = self.in_hand.book.open(hand.lease)
        self._take_in(hand)

    def _forget(self, hand: Hand) -> None:
        """The lease is no more."""
        hand.gone = True
        if self.hands.pop(hand.lease, None) is not None:
            self.in_hand.book.close(hand.number)
            self._late += [(hand, *entry) for entry in hand.late]

    def look(self, now: int) -> None:
        """Note how many jobs are under way; `now` is `time.perf_counter_ns()`."""
        self.under_way = self.in_hand.under_way()
        elapsed, self._looked_at = now - (self._looked_at or now), now
        self.occupied.under_way(self.under_way, elapsed // 1000)

    async def tell_begun(self) -> None:
        """Let a rate know which hands have begun whole, where nothing else says so soon: their end does."""
        self.rated = [hand for hand in self.rated if not hand.gone]
        begun = {hand.lease for hand in self.rated if hand.begun >= len(hand)}
        told = await self.link.attempt(WorkerSession.begun, list(begun)) if begun else None
        if told:
            self.rated = [hand for hand in self.rated if hand.lease not in begun]

    def _account(self, flushes: Sequence[LeaseFlush], accepted: frozenset[int]) -> None:
        written = [flush for flush in flushes if flush.hand.lease in accepted]
        for flush in flushes:
            hand = flush.hand
            if hand.lease not in accepted:
                self._refused += flush.jobs
                self.tally(hand.tag)[LOST] += 1
                log.warning(
                    "lease %d was lost: outcomes of %d jobs are dropped, they run again elsewhere",
                    hand.lease,
                    flush.jobs,
                )
                self.in_hand.lose(hand)
            if flush.final or hand.lease not in accepted:
                self._forget(hand)
            if flush.retries:
                self.next_retry()  # a worker that is never idle does not ask: forget those that are due
                heapq.heappush(self._retries, time.monotonic() + min(delay for _, delay in flush.retries))
        for flush in written:
            self.tally(flush.hand.tag).ended(flush)
            if flush.hand.kept:
                self.forgetting.ended(flush)
        jobs, failed, busy_us, size = totals(written)
        if jobs:
            retried = sum(len(flush.retries) for flush in written)
            self._jobs += jobs - retried
            self._retried += retried
            self._failed += failed
            self._busy_us += busy_us
            self.occupied.ended(busy_us)
            self._last = time.perf_counter()
            self.pace.observe(jobs, busy_us, size)

    # ------------------------------------------------------------ what the notes bring to light

    def lost(self, hand: Hand) -> None:
        """The lease is lost."""
        self.in_hand.lose(hand)
        self._forget(hand)

    def left(self, hand: Hand) -> None:
        """Its last job was parked, and the lease has gone with it."""
        self._forget(hand)

    def interrupt(self, hand: Hand, index: int) -> None:
        """The job has ended, whatever its `main` thinks."""
        self.in_hand.interrupt(hand, index, ErrorKind.CANCELED)

    async def forget(self) -> bool:
        """Have some of what nobody needs dropped; whether the database did so. What fails is left to the
        sweep.
        """
        runs = self.forgetting.take()
        more = await self.link.attempt(_forget, runs) if runs else None
        if more:
            self.forgetting.add(more)
        return more is not None

    # ------------------------------------------------------------ on the way out

    def next_retry(self) -> float:
        """Seconds until an attempt that failed here is due again; infinity for none."""
        now = time.monotonic()
        while self._retries and self._retries[0] <= now:
            heapq.heappop(self._retries)
        return self._retries[0] - now if self._retries else math.inf

    def settled(self, tag: str, duration_us: int) -> None:
        """A job of this tag has ended by its own completion."""
        self._jobs += 1
        self.tally(tag).settled(duration_us)
        self.occupied.ended(duration_us)
        self._last = time.perf_counter()

    def keep(self, flushes: Sequence[LeaseFlush]) -> None:
        """These could not be sent. A hand gives each outcome once: nobody else has them any more."""
        self._unsent += flushes

    async def send_again(self) -> None:
        """Write what a cancelled cycle had. Before anything else of those hands: their next flush may close
        the lease, and what it does not know of is lost then (I1).
        """
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            await self.cycle(unsent, None)

    async def flush(self, hand: Hand) -> bool:
        """Write what was reported of it, and claim nothing; whether the lease is still held."""
        while (flush := hand.take()) is not None:
            await self.cycle([flush], None)
            if hand.lease not in self.hands:
                return False
        return hand.lease in self.hands

    async def put_back(self, hand: Hand, indexes: Sequence[int], canceled: bytes = BEFORE) -> None:
        """Put jobs that have not begun, and will not, back into the queue, after what ended is written."""
        now = time.perf_counter_ns() // 1000
        for index in hand.canceling.intersection(indexes):
            hand.report((index, int(OutcomeState.CANCELED), now, 0, canceled, None))
        while True:
            if not await self.flush(hand):
                return
            if not self.desk.notebook.used:
                break
            await self.desk.all()
            if hand.gone:
                return
            if not hand.reported:  # a job whose notes are refused ends
                break
        pending = hand.pending()
        back = set(indexes).intersection(pending)
        if len(back) == len(pending):
            self._released += len(back)
            await self.link.give_back([hand.lease])
            self._forget(hand)
        elif back:
            self._released += len(back)
            places = [hand.place(index) for index in sorted(back)]
            await self.link.guarded(WorkerSession.release, hand.lease, places)
            hand.release(back)
        if self._late:
            await self._write_late()

    async def release(self, hand: Hand) -> None:
        """Write what the hand has, give the rest back: the runtime has nothing of it any more."""
        await self.put_back(hand, hand.pending(), WITHIN)


async def _forget(session: WorkerSession, runs: Sequence[UUID]) -> list[UUID] | None:
    return await forget_soon(session.connection, runs)


def _failed(flush: LeaseFlush, failures: Mapping[tuple[Hand, int], bytes]) -> LeaseFlush:
    """The flush, with these jobs, if they are its, ending in these errors."""
    own = {hand.place(index): error for (hand, index), error in failures.items() if hand is flush.hand}
    return flush.instead(own) if own else flush
