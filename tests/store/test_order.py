"""Order (I4): random histories of enqueues and claims, against the simplest model: sort what is due."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_stage import Stage, open_stage, outcomes
from thoroughness import examples

from hotpath.core.positions import SLACK, Positions

PRIORITIES = st.sampled_from([-32768, -1, 0, 0, 0, 1, 5, 32767])
AGES = st.sampled_from(
    [-3600.0, None, 0.004, 2.0, None, 300.0]
)  # seconds in the past; None: an ordinary enqueue

STEPS = st.one_of(
    st.tuples(st.just("loose"), st.integers(1, 4), PRIORITIES, AGES),
    st.tuples(st.just("sealed"), st.integers(1, 6), PRIORITIES, AGES),
    st.tuples(st.just("late"), st.sampled_from(["loose", "sealed"]), PRIORITIES),
    st.just(("commit",)),
    st.tuples(st.just("claim"), st.integers(1, 9)),
    st.tuples(st.just("claim"), st.integers(1, 9)),
    st.just(("look",)),
    st.tuples(st.just("end"), st.booleans()),
)


@attrs.define
class History:
    """One worker with its positions, a second client whose transaction stays open, and what each did."""

    stage: Stage
    worker: object
    second: object
    positions: Positions = attrs.field(factory=Positions)
    suspects: set[UUID] = attrs.field(factory=set)
    """Became visible since the last full look, dated before that: these alone may be passed over."""
    late: list[UUID] = attrs.field(factory=list)
    hands: list = attrs.field(factory=list)
    open: object = None
    every: list[UUID] = attrs.field(factory=list)
    ran: list[UUID] = attrs.field(factory=list)

    async def step(self, what: str, *more) -> None:
        await getattr(self, what)(*more)

    async def _put(self, kind: str, count: int, **options) -> list[UUID]:
        put = self.stage.loose if kind == "loose" else self.stage.sealed
        ids = await put(count, **options)
        self.every += ids
        return ids

    async def loose(self, count, priority, age, kind="loose") -> None:
        when = None if age is None else await self.stage.now() - timedelta(seconds=age)
        ids = await self._put(kind, count, priority=priority, scheduled_for=when)
        if age is not None:
            self.suspects |= set(ids)

    async def sealed(self, count, priority, age) -> None:
        await self.loose(count, priority, age, kind="sealed")

    async def late_(self, kind, priority) -> None:
        if self.open is None:
            self.open = self.second.transaction()
            await self.open.start()
        self.late += await self._put(kind, 2, priority=priority, connection=self.second)

    async def commit(self) -> None:
        if self.open is not None:
            await self.open.commit()
            self.open = None
            self.suspects |= set(self.late)
            self.late = []

    async def look(self) -> None:
        priorities, _ = await self.worker.look(self.stage.tag)
        self.positions.look(priorities)
        self.suspects = set()

    async def claim(self, want) -> None:
        due = [
            row["id"]
            for row in sorted(
                await self.stage.connection.fetch(
                    "select id, priority, scheduled_for from hotpath.job"
                    " where state = 'queued' and scheduled_for <= now()"
                ),
                key=lambda row: (-row["priority"], row["scheduled_for"], row["id"]),
            )
        ]
        cycle = await self.stage.cycle(self.worker, [], want, self.positions)
        if cycle.hand is None:
            assert set(due) <= self.suspects
            self.positions.settle(await self.stage.now() - SLACK - timedelta(milliseconds=5))
            return
        ids = list(cycle.hand.ids)
        self.hands.append(cycle.hand)
        self.ran += ids
        assert len(ids) <= want
        assert [job for job in due if job in set(ids)] == ids, "out of order, or not due"
        passed = set(due[: due.index(ids[-1])]) - set(ids)
        assert passed <= self.suspects, "a job was passed over that no full look is needed for"

    async def end(self, back) -> None:
        if not self.hands:
            return
        hand = self.hands.pop()
        if back:
            await self.worker.give_back([hand.lease])
            self.ran = [job for job in self.ran if job not in set(hand.ids)]
            self.suspects |= set(hand.ids)
        else:
            await self.stage.flush(self.worker, outcomes(hand))


async def live_through(url: str, steps: list[tuple]) -> None:
    """Take these steps, from an empty queue."""
    async with open_stage(url) as stage:
        await stage.connection.execute(
            "delete from hotpath.job_queue; delete from hotpath.batch;"
            " delete from hotpath.lease; delete from hotpath.job_done"
        )
        history = History(stage, await stage.worker(), await stage.connect())
        for what, *more in steps:
            await history.step("late_" if what == "late" else what, *more)
        await history.commit()
        before = -1
        while len(history.ran) != before:  # with a full look before each claim nothing is passed over
            before = len(history.ran)
            await history.look()
            await history.claim(500)
        future = {row["id"] for row in await stage.view() if row["scheduled_for"] > await stage.now()}
        assert sorted(history.ran) == sorted(set(history.every) - future)


@pytest.mark.slow
def test_order_of_random_histories(database_url):
    """I4: higher priority first, then scheduled_for, then id, never before its time; only late or back-dated
    jobs may wait, and only until the next full look.
    """

    @settings(
        max_examples=examples(20, 60),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(st.lists(STEPS, min_size=12, max_size=24))
    def check(steps):
        trio.run(live_through, database_url, steps)

    check()


async def test_priorities_and_times_in_one_claim(stage: Stage):
    """I4: one claim with known priorities takes loose jobs across all of them, best first."""
    low, high, mid = await stage.loose(2, priority=-5), await stage.loose(2, priority=9), await stage.loose(2)
    worker = await stage.worker()
    positions = Positions()
    positions.look((await worker.look(stage.tag))[0])
    assert positions.known()[0] == [9, 0, -5]
    assert list((await stage.claim(worker, 5, positions)).ids) == [*high, *mid, low[0]]


async def test_late_high_priority_is_news_at_once(stage: Stage):
    """I4: a job of a priority that nobody knew comes first in the very next claim, without a full look."""
    await stage.loose(6)
    worker = await stage.worker()
    positions = Positions()
    positions.look((await worker.look(stage.tag))[0])
    await stage.claim(worker, 2, positions)
    urgent = await stage.loose(1, priority=100)
    assert list((await stage.claim(worker, 2, positions)).ids) == urgent


async def test_late_commit_is_found_by_the_next_look(stage: Stage):
    """I4: jobs that commit behind the position are passed over until a full look, which finds them."""
    worker, second = await stage.worker(), await stage.connect()
    positions = Positions()
    old = await stage.now() - timedelta(seconds=30)
    async with second.transaction():
        late = await stage.loose(1, second, scheduled_for=old)
        first = await stage.loose(3, scheduled_for=old + timedelta(seconds=1))
        assert list((await stage.claim(worker, 2, positions)).ids) == first[:2]
    assert list((await stage.claim(worker, 1, positions)).ids) == first[2:]
    assert await stage.claim(worker, 1, positions) is None
    positions.look((await worker.look(stage.tag))[0])
    assert list((await stage.claim(worker, 1, positions)).ids) == late


async def test_never_before_its_time(stage: Stage):
    """I4: jobs scheduled later, loose or sealed, are not claimed, and the look says when the first is due."""
    soon = await stage.now() + timedelta(seconds=60)
    loose, sealed = (
        await stage.loose(1, scheduled_for=soon),
        await stage.sealed(1, scheduled_for=soon + timedelta(hours=1)),
    )
    worker = await stage.worker()
    positions = Positions()
    priorities, next_in = await worker.look(stage.tag)
    assert priorities == [0]
    assert 0 < next_in <= 60
    cycle = await stage.cycle(worker, [], 5, positions)
    assert cycle.hand is None
    assert not cycle.saw
    soon = await stage.connection.fetchval(
        "update hotpath.job_queue set scheduled_for = clock_timestamp() + interval '0.2 s'"
        " where id = $1 returning scheduled_for",
        loose[0],
    )
    with trio.fail_after(30):
        while (hand := await stage.claim(worker, 5, positions)) is None:  # noqa: ASYNC110 - time is what passes
            await trio.sleep(0.02)
    assert await stage.now() >= soon
    assert list(hand.ids) == loose
    assert await stage.state(sealed[0]) == "queued"
    assert await stage.flush(worker, outcomes(hand)) == {hand.lease}
    assert await worker.drained([stage.tag], stage.script)


async def test_claim_says_that_it_saw_what_others_hold(stage: Stage):
    """I1: an empty claim beside a transaction that holds the only due job says so: that is not drained."""
    await stage.loose(1)
    worker, other = await stage.worker(), await stage.connect()
    positions = Positions()
    positions.look((await worker.look(stage.tag))[0])
    async with other.transaction():
        await other.fetch("select from hotpath.job_queue for update")
        cycle = await stage.cycle(worker, [], 5, positions)
        assert cycle.hand is None
        assert cycle.saw
        assert not await worker.drained([stage.tag], stage.script)
    assert await stage.claim(worker, 5, positions) is not None
    assert not await worker.drained([stage.tag], stage.script)


async def test_loose_and_sealed_jobs_of_one_time(stage: Stage):
    """I4: loose and sealed jobs of equal priority and time run in the order of their ids."""
    async with stage.connection.transaction():
        ids = [*await stage.loose(2), *await stage.sealed(3), *await stage.loose(2), *await stage.sealed(2)]
    worker = await stage.worker()
    ran: list = []
    while (hand := await stage.claim(worker)) is not None:
        ran += hand.ids
    assert ran == ids


async def test_jobs_that_come_back_go_before_the_rest_of_their_batch(stage: Stage):
    """I4: what was given back of a sealed batch runs before what is still in it."""
    ids = await stage.sealed(8)
    worker = await stage.worker()
    first = await stage.claim(worker, 2)
    second = await stage.claim(worker, 2)
    await worker.give_back([first.lease, second.lease])
    assert list((await stage.claim(worker, 3)).ids) == ids[:3]
    assert list((await stage.claim(worker, 3)).ids) == ids[3:4]
    assert list((await stage.claim(worker, 3)).ids) == ids[4:7]


async def test_known_future_jobs_are_not_due(stage: Stage):
    """I4: a look that knows the priority of jobs scheduled for later makes no claim take them early."""
    later = await stage.now() + timedelta(hours=1)
    await stage.loose(2, scheduled_for=later)
    await stage.sealed(2, scheduled_for=later, priority=3)
    now = await stage.loose(1)
    worker = await stage.worker()
    positions = Positions()
    positions.look((await worker.look(stage.tag))[0])
    assert positions.known()[0] == [3, 0]
    assert list((await stage.claim(worker, 5, positions)).ids) == now
    assert await stage.claim(worker, 5, positions) is None


async def test_jobs_of_one_transaction_run_as_they_were_put(stage: Stage):
    """I4: equal times are settled by id, and ids of one transaction sort as they were made."""
    async with stage.connection.transaction():
        ids = await stage.loose(200)
    assert ids == sorted(ids)
    worker = await stage.worker()
    assert list((await stage.claim(worker)).ids) == ids
