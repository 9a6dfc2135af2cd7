"""What is noted of jobs that have not ended, and what becomes of it: it is written before their outcomes.

Rules worth knowing before a change:
- Outcomes are collected first, then all notes that are there by then: so a flush never has an outcome whose
  notes it has not.
- Notes that go ahead of a flush are committed without waiting for the disk, since the flush does that. Both
  are one unit (`Pen`): if the flush has to be sent again, so are they, for a server that crashed in between
  has forgotten them.
- A write that is refused for its data is tried in ever smaller parts; the job that it is about fails.
- A job is parked only when its notes are durable, and leaves its hand only when the database has it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import attrs
import msgspec
import trio

from hotpath.core.hand import Hand
from hotpath.core.notebook import Notebook
from hotpath.core.notes import (
    Dispatch,
    Early,
    Entry,
    Mark,
    Note,
    Notes,
    OnWritten,
    Parking,
    Recalled,
    columns,
)
from hotpath.model import OutcomeState
from hotpath.runtime.lane import tell
from hotpath.store.complete import add_parked_log
from hotpath.store.flows import admit, cache_get, make_durable, park, recall
from hotpath.store.trouble import DATA_ERRORS
from hotpath.worker.pen import Pen

if TYPE_CHECKING:
    from hotpath.store.work import WorkerSession
    from hotpath.worker.clock import DatabaseClock
    from hotpath.worker.link import Link

log = logging.getLogger("hotpath.worker")

COMPANY = 0.025
"""Seconds that a note waits for others, or for a flush, to go with."""
PARKS_AT_ONCE = 200
RECALLS_AT_ONCE = 100
"""Jobs of one statement: the larger part of a history is args and outcomes."""
KEPT = frozenset({Mark, Dispatch, Early})
"""Notes that are kept apart from the job and its steps."""


class Losing(Protocol):
    """What is done about hands: the ledger's side."""

    def lost(self, hand: Hand) -> None:
        """The lease is lost."""

    def left(self, hand: Hand) -> None:
        """Its last job has left, and the lease with it."""

    def interrupt(self, hand: Hand, index: int) -> None:
        """The job has ended, whatever its `main` thinks."""


class _Lock:
    """A lock that, if it is free, is taken without a checkpoint, as in `Link.guarded`."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    @property
    def held(self) -> bool:
        return self._lock.locked()

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


@attrs.define(eq=False)
class Notekeeper:
    """One worker's notes: the desk of its hands."""

    link: Link
    clock: DatabaseClock
    losing: Losing
    notebook: Notebook = attrs.field(factory=Notebook)
    lock: _Lock = attrs.field(factory=_Lock)
    """Held from the taking of notes until it is known what became of them."""
    parked: int = 0
    """How often a job has left by being parked."""
    _leaving: dict[tuple[Hand, int], None] = attrs.field(factory=dict)
    """Parked jobs whose notes have been taken."""
    _texts: list[tuple[UUID, int, str]] = attrs.field(factory=list)
    """Job, attempt and log of jobs that have left, where that is not written yet."""

    # ------------------------------------------------------------ the desk

    def add(self, hand: Hand, index: int, note: Note, on_written: OnWritten = None) -> None:
        """Have this written before the job's outcome."""
        if type(note) in KEPT:
            hand.kept.add(index)
        self.notebook.add(hand, index, note, on_written)

    def park(self, hand: Hand) -> None:
        """The hand has parked jobs."""
        self.notebook.park(hand)

    async def recall(self, runs: Sequence[UUID]) -> Mapping[UUID, Recalled]:
        """What was noted of these jobs before."""
        known: dict[UUID, Recalled] = {}
        for at in range(0, len(runs), RECALLS_AT_ONCE):
            known.update(await self.link.guarded(_recall, runs[at : at + RECALLS_AT_ONCE]))
        return known

    async def cached(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Results under these keys that are still good."""
        return await self.link.guarded(_cached, keys)

    async def admit(self, script: int, most: int, runs: Sequence[UUID]) -> set[UUID]:
        """Those of the runs that have one of the script's places."""
        return await self.link.guarded(_admit, script, most, runs)

    def now_us(self) -> int:
        """The database's clock."""
        return time.perf_counter_ns() // 1000 + (self.clock.offset_us or 0)

    # ------------------------------------------------------------ in the turns

    @property
    def leaving(self) -> bool:
        """Whether jobs are to leave, or have left and their logs are to follow."""
        return bool(self._leaving or self._texts)

    @property
    def busy(self) -> bool:
        """Whether notes wait, or somebody is about to write some."""
        return self.notebook.noted or self.lock.held

    def open(self, wake: Callable[[], object]) -> None:
        """Turns are taken from now on, in this thread; `wake` has the next one come at once."""
        thread, token = threading.get_ident(), trio.lowlevel.current_trio_token()

        def urge() -> None:
            if threading.get_ident() == thread:
                wake()
            else:
                tell(token, wake, idempotent=True)

        self.notebook.urge, self.notebook.clock = urge, time.perf_counter

    @property
    def wait(self) -> float:
        """Seconds that nothing has to be done for: until what waits is due, or could be."""
        if not self.notebook.waiting:
            return COMPANY
        if self.notebook.urgent:
            return 0.0
        return max(0.0, self.notebook.since + COMPANY - time.perf_counter())

    def is_due(self, *, at_rest: bool) -> bool:
        """Whether notes or parks wait that are not to wait for a flush any longer; where nothing runs, there
        will be none.
        """
        return self.notebook.waiting and (at_rest or not self.wait)

    def begin(self) -> None:
        """From here on, what was parked by now is to leave: behind the notes that are there now."""
        for hand in self.notebook.take_parks():
            for index in hand.unpark():
                self._leaving[hand, index] = None

    async def ahead(self) -> Pen | None:
        """What is to be written in front of a flush that has been collected: the last part of what there is,
        after the others have been written. The caller has the lock, and says how it went: by `settle`,
        `apart` or `put_back`.
        """
        notes = self.notebook.take()
        while notes is not None and self.notebook.noted:
            await self._write(notes)
            notes = self.notebook.take()
        return Pen(notes, self.clock) if notes is not None else None

    async def alone(self, pen: Pen) -> None:
        """Nothing is left to be written behind them."""
        await self._write(pen.notes)

    async def make_sure(self, pen: Pen) -> None:
        """They were written, and the flush behind them was not, whose commit was to make them durable."""
        try:
            await self.link.guarded(_write_surely, pen)
        except BaseException:
            self.put_back(pen)
            raise

    def put_back(self, pen: Pen) -> None:
        """It is not known whether they were written."""
        self.notebook.put_back([pen.notes])

    def settle(self, pen: Pen, held: frozenset[int] = frozenset()) -> None:
        """They were sent, and what was accepted is durable. `held`: leases whose flush, right behind them,
        has been written.
        """
        notes = pen.notes
        refused: set[tuple[Hand, int]] = set()
        for job, accepted in zip(notes.touched, pen.accepted, strict=True):
            # After a lost reply the lease may have gone by that very flush.
            if not accepted and job[0].lease not in held:
                refused.add(job)
        if refused:
            self._say_refused(notes, refused)
        for hand, index, _, on_written in notes.entries:
            if on_written is not None and (hand, index) not in refused:
                on_written()

    def _say_refused(self, notes: Notes, refused: set[tuple[Hand, int]]) -> None:
        count = sum((entry[0], entry[1]) in refused for entry in notes.entries)
        late = {job for job in refused if job[0].has_ended(job[1])}
        if len(refused) > len(late):
            log.warning("leases were lost: %d notes of %d jobs are dropped", count, len(refused))
        else:
            log.warning("%d notes of jobs that had ended are dropped", count)
        for hand in {hand: None for hand, _ in refused - late}:
            if not hand.gone:
                self.losing.lost(hand)

    async def write(self) -> None:
        """Write all notes that wait, durably."""
        if not self.busy:
            return
        async with self.lock:
            while (notes := self.notebook.take()) is not None:
                await self._write(notes)
        self.say_dropped()

    async def _write(self, notes: Notes) -> None:
        pen = Pen(notes, self.clock)
        try:
            await self.link.guarded(_write, pen)
        except DATA_ERRORS as error:
            await self.apart(pen, error)
        except BaseException:
            self.notebook.put_back([notes])
            raise
        else:
            self.settle(pen)

    async def apart(self, pen: Pen, error: Exception) -> dict[tuple[Hand, int], bytes]:
        """Write refused notes job by job, durably, in ever smaller groups. The job whose notes cannot be
        written fails: its error is returned, too, for an outcome of it that has been collected.
        """
        log.warning("notes were refused (%s): looking for the job that they are about", error)
        failures: dict[tuple[Hand, int], bytes] = {}
        parts: list[tuple[Notes, Exception]] = [(pen.notes, error)]
        while parts:
            notes, why = parts.pop()
            if len(notes.touched) == 1:
                job = notes.touched[0]
                failures[job] = self._spoil(*job, why)
                continue
            middle = len(notes.touched) // 2
            halves = [_part(notes, notes.touched[:middle]), _part(notes, notes.touched[middle:])]
            for at, half in enumerate(halves):
                part = Pen(half, self.clock)
                try:
                    await self.link.guarded(_write, part)
                except DATA_ERRORS as again:
                    parts.append((half, again))
                except BaseException:
                    self.notebook.put_back([*halves[at:], *(rest for rest, _ in parts)])
                    raise
                else:
                    self.settle(part)
        return failures

    def _spoil(self, hand: Hand, index: int, error: Exception) -> bytes:
        """The job's notes cannot be written, so its outcome must not be: it ends in this error."""
        body = msgspec.json.encode(
            {
                "name": type(error).__name__,
                "message": (str(error).splitlines() or [""])[0],
                "traceback": "",
                "kind": "bad_result",
            }
        )
        now = time.perf_counter_ns() // 1000
        hand.spoil(index, (index, int(OutcomeState.FAILURE), now, 0, body, None))
        self.losing.interrupt(hand, index)
        return body

    def say_dropped(self) -> None:
        """Say how many notes came too late."""
        if self.notebook.dropped:
            log.warning("%d notes came too late for their jobs and are dropped", self.notebook.dropped)
            self.notebook.dropped = 0

    # ------------------------------------------------------------ leaving

    async def leave(self) -> None:
        """Have the jobs leave whose notes are written; then write what they printed."""
        while self._leaving:
            some = []
            for hand, index in list(self._leaving)[:PARKS_AT_ONCE]:
                said = hand.unpark().get(index) if not hand.gone else None
                if said is None:
                    del self._leaving[hand, index]  # it has ended otherwise
                else:
                    some.append((hand, index, said))
            if some:
                await self._leave(some)
        while self._texts:
            await self.link.guarded(add_parked_log, *self._texts[0], self.clock.offset_us or 0)
            del self._texts[0]

    async def _leave(self, some: list[tuple[Hand, int, tuple[Parking, str | None]]]) -> None:
        try:
            await self.link.guarded(
                _park, [(hand.lease, hand.place(at), hand.ids[at], said[0]) for hand, at, said in some]
            )
        except DATA_ERRORS as error:
            if len(some) > 1:
                for one in some:
                    await self._leave([one])
                return
            ((hand, index, _),) = some
            self._spoil(hand, index, error)
            del self._leaving[hand, index]
            return
        for hand, index, (_, text) in some:
            del self._leaving[hand, index]
            hand.release([index])
            self.parked += 1
            if text:  # not here: cut off by a cancellation, it would be written by nobody
                self._texts.append((hand.ids[index], hand.attempts[index], text))
        for hand in {hand: None for hand, _, _ in some}:
            if not hand.left and not hand.settled and not hand.gone:
                self.losing.left(hand)

    async def all(self) -> None:
        """Write the notes that wait, and have all leave that are parked."""
        self.begin()
        await self.write()
        await self.leave()


def _part(notes: Notes, touched: Sequence[tuple[Hand, int]]) -> Notes:
    """What the notes say of these jobs."""
    wanted = {(hand.lease, index) for hand, index in touched}
    entries: list[Entry] = [entry for entry in notes.entries if (entry[0].lease, entry[1]) in wanted]
    return attrs.evolve(columns(entries), again=notes.again)


async def _write(session: WorkerSession, pen: Pen) -> None:
    await pen.write(session)


async def _write_surely(session: WorkerSession, pen: Pen) -> None:
    await pen.write(session)  # if the server has forgotten them meanwhile
    await make_durable(session.connection)


async def _recall(session: WorkerSession, runs: Sequence[UUID]) -> Mapping[UUID, Recalled]:
    return await recall(session.connection, runs)


async def _cached(session: WorkerSession, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
    return await cache_get(session.connection, keys)


async def _admit(session: WorkerSession, script: int, most: int, runs: Sequence[UUID]) -> set[UUID]:
    return await admit(session.connection, script, most, runs)


async def _park(session: WorkerSession, parks: Sequence[tuple[int, int, UUID, Parking]]) -> None:
    await park(session.connection, session.worker, parks)
