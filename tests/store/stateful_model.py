"""A small model of the queue, and a machine that holds the real store against it, step by step.

The model says of each job where it is, how often it has run and whether it is under suspicion; the machine
does to both what workers, supervisors and clients do, late and twice included, and compares all rows after
every step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Self
from uuid import UUID

import attrs
import hypothesis.strategies as st
import trio
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_stage import Stage, open_stage

from hotpath.core.hand import Hand, LeaseFlush
from hotpath.model import ErrorKind
from hotpath.store import workers
from hotpath.store.work import WorkerSession
from hotpath.store.workers import Verdict

TABLES = "job_queue, batch, lease, job_done, job_attempt, job_log, worker, doze, waiter, payload"
ERROR = b'{"name": "E", "message": "m", "traceback": "", "kind": "%s"}'
ROWS = """
select q.id, 'queued' as place, q.priority, q.scheduled_for, q.attempt::int4, q.crashes, q.suspect,
    null::int2 as state, q.scheduled_for <= clock_timestamp() as due
from hotpath.job_queue q
union all
select hotpath.job_id(b.base, k), 'queued', b.priority, b.scheduled_for, 0, null, null, null,
    b.scheduled_for <= clock_timestamp()
from hotpath.batch b cross join lateral generate_series(b.next::int4, b.n - 1) k
where b.ids is null and (b.skip is null or get_bit(b.skip, k) = 0)
union all
select coalesce(b.ids[k + 1], hotpath.job_id(b.base, k)), 'leased', coalesce(b.priorities[k + 1], b.priority),
    coalesce(b.scheduled[k + 1], b.scheduled_for), coalesce(b.attempts[k + 1], 0), b.crashes[k + 1],
    b.suspects[k + 1], null, true
from hotpath.lease l join hotpath.batch b on b.base = l.batch
cross join lateral generate_series(l.lo::int4, l.hi - 1) k
where (b.skip is null or get_bit(b.skip, k) = 0) and (l.done is null or get_bit(l.done, k - l.lo) = 0)
union all
select d.id, 'done', d.priority, d.scheduled_for, d.attempt, null, null, d.state, true from hotpath.job_done d
"""
WRONG_OPEN = """
select b.base, b.open, u.leased from hotpath.batch b
cross join lateral (
    select coalesce(sum(l.hi - l.lo), 0) as leased from hotpath.lease l where l.batch = b.base) u
where b.open <> b.n - b.next + u.leased or b.open = 0
"""
TWICE = """
select id, attempt from (select id, attempt from hotpath.job_attempt where state <> 3
    union all select id, attempt from hotpath.job_done where state <> 3) e
group by id, attempt having count(*) > 1
"""


@attrs.define
class Job:
    """Where a job is, and what it has been through."""

    place: str = "queued"
    attempt: int = 0
    crashes: int = 0
    suspect: int = 0
    state: int | None = None
    kind: str = ""
    cancel: bool = False

    def queue(self, *, charged: int = 0, suspect: int | None = None) -> None:
        self.place, self.cancel, self.state = "queued", False, None
        self.attempt += charged
        if suspect is not None:
            self.suspect = suspect

    def end(self, state: int, *, charged: int = 1, kind: str = "") -> None:
        self.place, self.state, self.kind, self.cancel = "done", state, kind, False
        self.attempt += charged
        self.crashes = self.suspect = 0

    def crash(self) -> None:
        """It was in hand as its worker died."""
        if self.crashes >= 2:
            self.end(2, kind="crash")
        elif self.cancel:
            self.end(3)
        else:
            self.crashes += 1
            self.queue(charged=1, suspect=3)

    def give_back(self, *, suspected: bool) -> None:
        """Its lease was taken away."""
        if self.cancel:
            self.end(3, charged=0)
        elif suspected and self.suspect >= 3:
            if self.crashes >= 2:
                self.end(2, kind="crash")
            else:
                self.crashes += 1
                self.queue(charged=1, suspect=3)
        else:
            self.queue(suspect=self.suspect + 1 if suspected else None)


@attrs.define(eq=False)
class Lease:
    """A lease as a worker sees it, and whether it is still its own."""

    worker: Worker
    hand: Hand
    held: bool = True

    def open_places(self, jobs: dict[UUID, Job]) -> list[tuple[int, UUID]]:
        """Index and id of each job of it that has not ended."""
        if not self.held:
            return []
        ended = {index for index in range(len(self.hand)) if index not in self.hand.pending()}
        return [(index, job) for index, job in enumerate(self.hand.ids) if index not in ended]


@attrs.define(eq=False)
class Worker:
    """A worker: `live`, `expired` (nobody has noticed yet) or `stopped`."""

    session: WorkerSession
    id: int
    life: str = "live"


class Portal:
    """A Trio of its own, in which the store is called from a thread that has none."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), daemon=True)
        self.sessions: list[WorkerSession] = []

    async def _main(self) -> None:
        async with open_stage(self._url) as self.stage:
            self._token, self._over = trio.lowlevel.current_trio_token(), trio.Event()
            self._ready.set()
            await self._over.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join(30)

    def call(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        async def bounded() -> Any:
            with trio.fail_after(40):
                return await function(*args, **kwargs)

        return trio.from_thread.run(bounded, trio_token=self._token)


PARTS = st.sampled_from([0b010101, 0b000001, 0b101010, 0b000110])
"""Which jobs of a lease, by their index."""
STATES = st.lists(st.sampled_from([1, 4, 2, 3, 5]), min_size=6, max_size=6)


class Machine(RuleBasedStateMachine):
    """The store against the model."""

    portal: Portal

    @initialize()
    def begin(self) -> None:
        self.stage: Stage = self.portal.stage
        self.jobs: dict[UUID, Job] = {}
        self.leases: dict[int, Lease] = {}
        self.old: list[tuple[WorkerSession, int, LeaseFlush]] = []
        self.workers: list[Worker] = []
        self._free = list(self.portal.sessions)
        self.sql(
            self.stage.connection.execute, f"truncate {', '.join('hotpath.' + t for t in TABLES.split(', '))}"
        )
        for _ in range(2):
            self.hire()
        self.enqueue_sealed(4, 0)
        self.enqueue_loose(3, 0)

    def sql(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        return self.portal.call(function, *args, **kwargs)

    def hire(self) -> None:
        """One more worker; connections are used again, by workers with other ids."""
        if self._free:
            session = self._free.pop()
            fresh = self.sql(self.register)
            session.worker = fresh
        else:
            session = self.sql(self.stage.worker)
            self.portal.sessions.append(session)
        self.workers.append(Worker(session, session.worker))

    async def register(self) -> int:
        return await workers.register_worker(
            self.stage.connection,
            name=os.urandom(8).hex(),
            group=None,
            script=self.stage.script,
            version=self.stage.version.id,
            tags=[self.stage.tag],
            host="here",
            pid=1,
            concurrency=1,
            lease=600,
        )

    def pick(self, items: list, number: int) -> Any:
        return items[number % len(items)]

    def held(self) -> list[Lease]:
        return [lease for lease in self.leases.values() if lease.held]

    # ------------------------------------------------------------ clients

    @rule(count=st.integers(1, 3), priority=st.sampled_from([-1, 0, 5]))
    def enqueue_loose(self, count: int, priority: int) -> None:
        for job in self.sql(self.stage.loose, count, priority=priority):
            self.jobs[job] = Job()

    @rule(count=st.integers(1, 6), priority=st.sampled_from([-1, 0, 5]))
    def enqueue_sealed(self, count: int, priority: int) -> None:
        for job in self.sql(self.stage.sealed, count, priority=priority):
            self.jobs[job] = Job()

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 1000))
    def cancel(self, number: int) -> None:
        job = self.pick(list(self.jobs), number)
        model = self.jobs[job]
        answer = self.sql(self.stage.connection.fetchval, "select hotpath.cancel($1)", job)
        assert answer == (model.place != "done")
        if model.place == "queued":
            model.end(3, charged=0)
        elif model.place == "leased":
            model.cancel = True

    @precondition(lambda self: any(job.place == "done" for job in self.jobs.values()))
    @rule(number=st.integers(0, 1000))
    def retry(self, number: int) -> None:
        job = self.pick(list(self.jobs), number)
        model = self.jobs[job]
        assert self.sql(self.stage.connection.fetchval, "select hotpath.retry($1)", job) == (
            model.place == "done"
        )
        if model.place == "done":
            model.queue(suspect=3 if model.kind == "crash" else 0)

    # ------------------------------------------------------------ workers

    @rule(worker=st.integers(0, 100), want=st.sampled_from([6, 3, 1]))
    def claim(self, worker: int, want: int) -> None:
        self._claimed(self.pick(self.workers, worker), want, [])

    def _claimed(self, worker: Worker, want: int, flushes: list[LeaseFlush]) -> Any:
        suspicious = any(job.suspect for job in self.jobs.values() if job.place == "queued")
        cycle = self.sql(self.stage.cycle, worker.session, flushes, want)
        rows = self.sql(self.stage.connection.fetch, ROWS)
        waiting = [row for row in rows if row["place"] == "queued" and row["due"]]
        if cycle.hand is None:
            assert not waiting, "jobs are due, nobody else is there, and the claim found none"
            return cycle
        hand: Hand = cycle.hand
        assert len(hand) <= want
        by_id = {row["id"]: row for row in rows}
        keys = [_key(by_id[job]) for job in hand.ids]
        assert keys == sorted(keys), "a claim in the wrong order"
        if keys and waiting:
            assert keys[-1] < min(_key(row) for row in waiting), "a job that comes first was left behind"
        suspects = max((self.jobs[job].suspect for job in hand.ids), default=0)
        if suspicious and suspects:
            assert len(hand) <= max(1, want >> (3 * suspects)), "too many beside a suspect"
        assert hand.alone == (suspects > 0)
        assert [attempt - 1 for attempt in hand.attempts] == [self.jobs[job].attempt for job in hand.ids]
        for job in hand.ids:
            assert self.jobs[job].place == "queued"
            self.jobs[job].place = "leased"
        assert hand.lease not in self.leases
        self.leases[hand.lease] = Lease(worker, hand)
        return cycle

    @precondition(lambda self: self.held())
    @rule(number=st.integers(0, 100), which=PARTS, states=STATES, want=st.sampled_from([0, 3]))
    def flush(self, number: int, which: int, states: list[int], want: int) -> None:
        """Outcomes of some jobs of a lease; 4 and 5 run again, now and in an hour."""
        self._flush(self.pick(self.held(), number), which, states, want)

    @precondition(lambda self: self.held())
    @rule(number=st.integers(0, 100), state=st.sampled_from([1, 4]), want=st.sampled_from([0, 3]))
    def flush_whole(self, number: int, state: int, want: int) -> None:
        """A lease ends."""
        self._flush(self.pick(self.held(), number), 63, [state] * 6, want)

    @precondition(lambda self: self.held())
    @rule(number=st.integers(0, 100), state=st.sampled_from([4, 5, 1]))
    def flush_one(self, number: int, state: int) -> None:
        """The first job of a lease has ended, or is to run again; the others go on."""
        lease = self.pick(self.held(), number)
        for index in lease.hand.pending()[:1]:
            self._flush(lease, 1 << index, [state] * 6, 0)

    @precondition(lambda self: len(self.held()) < len(self.leases))
    @rule(number=st.integers(0, 100), which=PARTS, states=STATES, want=st.sampled_from([0, 3]))
    def flush_lost(self, number: int, which: int, states: list[int], want: int) -> None:
        """Outcomes come too late: the lease is lost."""
        self._flush(
            self.pick([one for one in self.leases.values() if not one.held], number), which, states, want
        )

    def _flush(self, lease: Lease, which: int, states: list[int], want: int) -> None:
        hand = lease.hand
        chosen = [index for index in hand.pending() if which >> index & 1]
        for index in chosen:
            outcome = (
                index,
                states[index],
                1_000_000,
                10,
                b'{"i": %d}' % index if states[index] == 1 else ERROR % b"exception",
                None,
            )
            if states[index] >= 4:
                hand.retry(outcome, 0.0 if states[index] == 4 else 3600.0)
            else:
                hand.report(outcome)
        hand.over = hand.left == len(hand.reported)
        flush = hand.take()
        if flush is None:
            return
        for index in chosen if lease.held else []:
            job = self.jobs[hand.ids[index]]
            if states[index] < 4:
                job.end(states[index], kind="exception")
            elif job.cancel:
                job.end(3)
            else:
                job.queue(charged=1, suspect=0)
        self.old.append((lease.worker.session, lease.worker.id, flush))
        was_held = lease.held
        if flush.final:
            lease.held = False
        if want and lease.worker.session.worker == lease.worker.id:
            cycle = self._claimed(lease.worker, want, [flush])
        else:
            cycle = self.sql(lease.worker.session.cycle, [flush], None)
        assert (hand.lease in cycle.accepted) == was_held, "fencing"
        if not flush.final:  # its reply was lost: it is sent again
            self.sql(lease.worker.session.cycle, [flush], None)

    @precondition(lambda self: self.old)
    @rule(number=st.sampled_from([0, 1, 2, 5, 9]))
    def flush_again(self, number: int) -> None:
        """A flush is sent twice, or much later: nothing changes."""
        session, worker, flush = self.old[-1 - number % len(self.old)]
        if session.worker == worker:
            self.sql(session.cycle, [flush], None)

    @precondition(lambda self: self.held())
    @rule(number=st.integers(0, 100), which=PARTS)
    def release(self, number: int, which: int) -> None:
        lease = self.pick(self.held(), number)
        hand = lease.hand
        indexes = [index for index, _ in lease.open_places(self.jobs) if which >> index & 1]
        if not indexes:
            return
        self.sql(lease.worker.session.release, hand.lease, [hand.place(index) for index in indexes])
        hand.release(indexes)
        for index in indexes:
            self.jobs[hand.ids[index]].give_back(suspected=False)
        if not hand.left:
            lease.held = False

    @precondition(lambda self: self.held())
    @rule(number=st.integers(0, 100))
    def give_back(self, number: int) -> None:
        lease = self.pick(self.held(), number)
        self.sql(lease.worker.session.give_back, [lease.hand.lease])
        self._lose(lease, suspected=False)

    def _lose(self, lease: Lease, *, suspected: bool) -> None:
        for _, job in lease.open_places(self.jobs):
            self.jobs[job].give_back(suspected=suspected)
        lease.held = False

    # ------------------------------------------------------------ supervisors

    @precondition(lambda self: self.held())
    @rule(worker=st.integers(0, 100))
    def expire(self, worker: int) -> None:
        one = self.pick(self.held(), worker).worker
        if one.life == "live":
            one.life = "expired"
            self.sql(
                self.stage.connection.execute,
                "update hotpath.worker set lease_until = now() - interval '1 second' where id = $1",
                one.id,
            )
            self.hire()

    @precondition(lambda self: self.held())
    @rule()
    def reap(self) -> None:
        self.sql(workers.reap, self.stage.connection)
        for lease in self.held():
            if lease.worker.life != "live":
                self._lose(lease, suspected=lease.worker.life == "expired")

    @precondition(lambda self: any(job.cancel for job in self.jobs.values()))
    @rule()
    def heartbeat(self) -> None:
        beat = self.sql(workers.heartbeat, self.stage.connection, {one.id: 1 for one in self.workers}, 600)
        assert beat.renewed == {one.id for one in self.workers if one.life == "live"}
        asked = {
            (lease.worker.id, lease.hand.lease, lease.hand.place(index))
            for lease in self.held()
            if lease.worker.life == "live"
            for index, job in lease.open_places(self.jobs)
            if self.jobs[job].cancel
        }
        heard = {
            (worker, lease, place) for worker in beat.renewed for lease, place in beat.cancels.get(worker, ())
        }
        assert heard == asked

    @precondition(lambda self: self.held())
    @rule(number=st.integers(0, 100))
    def give_back_unlisted(self, number: int) -> None:
        """A claim whose reply was lost: its worker does not list it."""
        lost = self.pick(self.held(), number)
        if lost.worker.life != "live":
            return
        listed = [
            lease.hand.lease for lease in self.held() if lease.worker is lost.worker and lease is not lost
        ]
        self.sql(workers.give_back_unlisted, self.stage.connection, {lost.worker.id: listed}, older=-1.0)
        self._lose(lost, suspected=False)

    @precondition(lambda self: self.held())
    @rule(
        worker=st.integers(0, 100),
        verdict=st.sampled_from([ErrorKind.CRASH, ErrorKind.TIMEOUT, ErrorKind.CANCELED]),
        again=st.sampled_from([None, 0.0]),
        named=st.booleans(),
    )
    def bury(self, worker: int, verdict: ErrorKind, again: float | None, named: bool) -> None:
        """A worker died: the first open job of its first lease is known to have been in hand, or none is."""
        one = self.pick(self.held(), worker).worker
        if one.life == "stopped":
            return
        mine = [lease for lease in self.held() if lease.worker is one]
        verdicts, suspects = [], []
        inhand = None
        for lease in mine:
            if named and not verdicts and (places := lease.open_places(self.jobs)):
                index, inhand = places[0]
                error = ERROR % verdict.value.encode()
                verdicts = [
                    Verdict(
                        lease=lease.hand.lease,
                        place=lease.hand.place(index),
                        kind=verdict,
                        error=error,
                        retry_after=again,
                        started_ago=0.1,
                    )
                ]
        if not named:
            suspects = [lease.hand.lease for lease in mine[:1]]
        self.sql(workers.bury, self.stage.connection, one.id, 1, verdicts, suspects=suspects)
        if inhand is not None:
            job = self.jobs[inhand]
            match verdict:
                case ErrorKind.CRASH:
                    job.crash()
                case ErrorKind.CANCELED:
                    job.end(3)
                case _ if again is None:
                    job.end(2, kind="timeout")
                case _ if job.cancel:
                    job.end(3)
                case _:
                    job.queue(charged=1, suspect=0)
        for lease in mine:
            for _, job_id in lease.open_places(self.jobs):
                if job_id != inhand:
                    self.jobs[job_id].give_back(suspected=lease.hand.lease in suspects)
            lease.held = False
        one.life = "stopped"
        self.hire()

    # ------------------------------------------------------------ what has to be so after every step

    @invariant()
    def check(self) -> None:
        if not hasattr(self, "jobs"):
            return
        rows = self.sql(self.stage.connection.fetch, ROWS)
        found: dict[UUID, Any] = {}
        for row in rows:
            assert row["id"] not in found, f"{row['id']} is in two places"
            found[row["id"]] = row
        assert found.keys() == self.jobs.keys()
        for job, model in self.jobs.items():
            row = found[job]
            said = (row["place"], row["attempt"], row["state"])
            assert said == (model.place, model.attempt, model.state), f"{job}: {said}, expected {model}"
            if model.place != "done":
                assert (row["crashes"] or 0, row["suspect"] or 0) == (model.crashes, model.suspect), job
        leases = {row[0] for row in self.sql(self.stage.connection.fetch, "select id from hotpath.lease")}
        assert leases == {lease.hand.lease for lease in self.held()}
        assert not self.sql(self.stage.connection.fetch, WRONG_OPEN)
        assert not self.sql(self.stage.connection.fetch, TWICE)


def _key(row: Any) -> tuple[int, Any, UUID]:
    return (-row["priority"], row["scheduled_for"], row["id"])
