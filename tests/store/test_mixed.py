"""Claims of normal workers: strict order over all tags and scripts, cut into segments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_stage import ANYTHING, Stage, open_stage
from thoroughness import examples

from hotpath.model import Description, Settings
from hotpath.store import jobs, load, mixed, scripts, workers
from hotpath.store.mixed import Claiming, ClaimingApart, Found, Places, Segment, Taker
from hotpath.store.seal import Sealer
from hotpath.store.work import WorkerSession

SCRIPTS = ("one", "two", "three")


@attrs.define(eq=False)
class Mixed:
    """A normal worker with a process for each of several scripts."""

    stage: Stage
    session: WorkerSession
    ids: dict[str, int]
    """Key of each script."""
    workers: dict[int, int]
    """By script, the process that takes its jobs."""
    places: Places
    ran: list[UUID] = attrs.field(factory=list)

    async def put(self, script: str, count: int = 1, *, sealed: bool = False, **options: Any) -> list[UUID]:
        """Jobs of a script, loose or as a batch."""
        connection = self.stage.connection
        if not sealed:
            return [await jobs.enqueue(connection, script, b"{}", **options) for _ in range(count)]
        found = await scripts.find_script(connection, script)
        raws = [json.dumps({"x": x}).encode() for x in range(count)]
        return list(await load.enqueue_many(connection, found, Sealer().seal(raws), **options))

    async def listen(self, *tags: str) -> None:
        """Take jobs of these tags, too."""
        self.places.add(await mixed.listened_tags(self.session.connection, tags))

    async def claim(
        self,
        most: int = 500,
        *,
        warm: Sequence[str] = SCRIPTS,
        without: Sequence[str] = (),
        cost: float = 1.0,
        **more: Any,
    ) -> Found:
        """One claim."""
        takers = [Taker(self.ids[name], self.workers[self.ids[name]], cost, 500) for name in warm]
        claiming = Claiming(
            self.places,
            takers,
            frozenset(self.ids[name] for name in without),
            **{"budget_us": 1e6, "slice_us": 1e6, "jobs": most, **more},
        )
        found = await claiming(self.session)
        for segment in found.segments:
            self.ran += ids_of(segment)
        return found


def ids_of(segment: Segment) -> list[UUID]:
    """Ids of its jobs, without those that were canceled while they waited."""
    if segment.ids is not None:
        return [UUID(int=job.int) for job in segment.ids]
    skip = segment.skip or bytes(8192)
    return [
        UUID(int=segment.base.int | k)
        for k in range(segment.lo, segment.hi)
        if not skip[k >> 3] >> (k & 7) & 1
    ]


async def make_mixed(stage: Stage) -> Mixed:
    """A normal worker that listens to the tags of its scripts."""
    ids, processes = {}, {}
    for name in SCRIPTS:
        description = Description(name, "0" * 64, False, ANYTHING, Settings(), "")
        version = await scripts.register_version(stage.connection, description)
        ids[name] = version.script
        processes[version.script] = (await stage.worker(tags=[])).worker
    session = await stage.worker(tags=[])
    made = Mixed(stage, session, ids, processes, Places())
    await made.listen(*SCRIPTS)
    return made


@pytest.fixture
async def normal(stage: Stage) -> Mixed:
    """A normal worker on a stage."""
    return await make_mixed(stage)


async def test_order_over_tags_and_scripts(normal: Mixed):
    """I4: one claim takes from several tags, best first, cut where tag or script changes."""
    low = await normal.put("one", 2, priority=-5)
    high = await normal.put("two", 2, priority=9)
    middle = await normal.put("one", 1)
    other = await normal.put("three", 3, sealed=True)
    while len(normal.ran) < 8:
        assert (await normal.claim()).segments
    assert normal.ran == [*high, *middle, *other, *low]


async def test_a_segment_is_leased_to_the_process_of_its_script(normal: Mixed):
    """I5: each segment is its script's process's, and running from then on."""
    await normal.put("one")
    await normal.put("two")
    found = await normal.claim()
    assert [segment.worker for segment in found.segments] == [
        normal.workers[normal.ids["one"]],
        normal.workers[normal.ids["two"]],
    ]
    assert (await normal.stage.states())["running"] == 2


async def test_stops_before_a_script_without_process(normal: Mixed):
    """I4: nothing that comes after the first job of a cold script is taken; the script is named."""
    first = await normal.put("one", 2)
    await normal.put("two")
    await normal.put("one")
    found = await normal.claim(warm=["one", "three"])
    assert normal.ran == first
    assert found.cold == normal.ids["two"]


async def test_leaves_out_a_script(normal: Mixed):
    """I4: what is left out is passed, however much there is, and found again once it is not."""
    waiting = await normal.put("two", 40, tag="one")
    rest = await normal.put("one", 3)
    for _ in range(10):
        await normal.claim(warm=["one"], without=["two"], depth=10)
    assert normal.ran == rest
    normal.ran.clear()
    await normal.claim()
    assert normal.ran == waiting


async def test_what_was_passed_is_known_to_be_there(normal: Mixed):
    """I4: a claim does not see what lies before its positions; who asks hears of it, and a full look finds
    it. What is left out, later or of other tags does not count.
    """

    async def are_due(*without: str) -> bool:
        left_out = [normal.ids[name] for name in without]
        return await mixed.are_due(normal.session, normal.places, None, left_out)

    assert not await are_due()
    for sealed in (False, True):
        await normal.put("one", 2, tag="one")
        while (await normal.claim()).segments:
            pass
        past = await normal.stage.now() - timedelta(hours=1)
        normal.places.settle(past + timedelta(minutes=59))
        passed = await normal.put("two", 2, tag="one", scheduled_for=past, sealed=sealed)
        await normal.put("two", tag="one", scheduled_for=past + timedelta(hours=2))
        await normal.put("two", tag="another")
        if not sealed:
            found = await normal.claim()
            assert (found.segments, found.saw, found.more) == ([], False, False)
        assert await are_due()
        assert await are_due("one")
        assert not await are_due("two")
        normal.ran.clear()
        await mixed.look(normal.session, normal.places)
        await normal.claim()
        assert normal.ran == passed
        assert not await are_due()


async def test_a_look_finds_what_has_come_back_among_what_is_left_out(normal: Mixed):
    """I4: claims begin behind what is left out; the one after a full look sees what comes before that."""
    waiting = await normal.put("two", 40, tag="one")
    while (await normal.claim(warm=["one"], without=["two"], depth=10)).more:
        pass
    past = await normal.stage.now() - timedelta(hours=1)
    back = await normal.put("one", tag="one", scheduled_for=past)
    await normal.claim(warm=["one"], without=["two"], depth=10)
    assert normal.ran == []
    await mixed.look(normal.session, normal.places)
    await normal.claim(warm=["one"], without=["two"], depth=10)
    assert normal.ran == back
    last = await normal.put("one", tag="one")
    await normal.claim(warm=["one"], without=["two"], depth=10)
    assert normal.ran == [*back, *last]  # without walking again
    normal.ran.clear()
    await normal.claim()
    assert normal.ran == waiting


async def test_costs_bound_a_claim(normal: Mixed):
    """Work that is claimed stays within the budget; one job at least."""
    await normal.put("one", 20)
    assert len((await normal.claim(cost=10.0, budget_us=55.0)).segments[0]) == 6
    assert len((await normal.claim(cost=1e9, budget_us=50.0)).segments[0]) == 1
    found = await normal.claim(cost=10.0, budget_us=1000.0, slice_us=50.0)
    assert [len(segment) for segment in found.segments] == [5, 5, 3]


async def test_a_batch_is_sliced(normal: Mixed):
    """A sealed batch is taken in slices, as it is, and ends where something better begins."""
    batch = await normal.put("one", 10, sealed=True)
    better = await normal.put("two", priority=1)
    while len(normal.ran) < 11:
        assert (await normal.claim(4)).segments
    assert normal.ran == [*better, *batch]


async def test_suspects_are_alone(normal: Mixed):
    """I7: a job that may have killed its worker is a segment of its own."""
    ids = await normal.put("one", 3)
    await normal.stage.connection.execute("update hotpath.job_queue set suspect = 1 where id = $1", ids[1])
    found = await normal.claim()
    assert [(len(segment), segment.alone) for segment in found.segments] == [
        (1, False),
        (1, True),
        (1, False),
    ]


async def test_a_claim_whose_reply_was_lost_is_taken_back(normal: Mixed):
    """I1: sent again, the same claim puts back first what it had taken."""
    ids = await normal.put("one", 5)
    takers = [Taker(normal.ids["one"], normal.workers[normal.ids["one"]], 1.0, 500)]
    known: set[int] = set()
    claiming = Claiming(normal.places, takers, frozenset(), 1e6, 1e6, known=known)
    await claiming(normal.session)
    claiming.places = Places()  # who has not read the reply has learned nothing
    claiming.places.know(normal.places.names)
    found = await claiming(normal.session)
    assert {segment.lease for segment in found.segments} < known  # before the reply, all that it may bring
    claiming.forget()
    assert not known  # of neither try: or a lease that nobody has would be kept as if somebody had it
    assert [job for segment in found.segments for job in ids_of(segment)] == ids
    assert await normal.stage.count("lease") == 1


async def test_two_at_once_share(normal: Mixed):
    """I2: several normal workers take each job once between them."""
    ids = [
        *await normal.put("one", 150),
        *await normal.put("two", 200, sealed=True),
        *await normal.put("three", 50),
    ]
    others = [
        attrs.evolve(normal, session=await normal.stage.worker(tags=[]), places=Places(), ran=[])
        for _ in range(3)
    ]

    async def take(one: Mixed) -> None:
        await one.listen(*SCRIPTS)
        empty = 0
        while empty < 3:
            found = await one.claim(20)
            empty = 0 if found.segments or found.saw else empty + 1

    async with trio.open_nursery() as nursery:
        for one in others:
            nursery.start_soon(take, one)
    assert sorted(job for one in others for job in one.ran) == sorted(ids)


# ------------------------------------------------------------ against a model

PUT = st.tuples(
    st.just("put"),
    st.sampled_from(SCRIPTS),
    st.sampled_from(["one", "two", "x/a"]),
    st.booleans(),
    st.integers(1, 6),
    st.integers(-2, 2),
    st.sampled_from([-30, -20, -10, 3600]),
)
CLAIM = st.tuples(st.just("claim"), st.integers(1, 12), st.integers(1, 9), st.integers(2, 20))


async def follow(url: str, steps: list[tuple]) -> None:
    """Take the steps; each claim takes what the model says comes first."""
    async with open_stage(url) as stage:
        await stage.connection.execute(
            "delete from hotpath.job_queue; delete from hotpath.batch; delete from hotpath.lease"
        )
        normal = await make_mixed(stage)
        now = await stage.now()
        waiting: dict[UUID, tuple[int, datetime, UUID]] = {}
        for what, *more in steps:
            if what == "put":
                script, tag, sealed, count, priority, seconds = more
                at = now + timedelta(seconds=seconds)
                ids = await normal.put(
                    script, count, sealed=sealed, tag=tag, priority=priority, scheduled_for=at
                )
                if seconds < 0:
                    # Zero means the script's own, which is zero.
                    waiting |= {job: (-priority, at.astimezone(UTC), job) for job in ids}
                await normal.listen("one", "two", "x/*")
                await mixed.look(
                    normal.session, normal.places
                )  # what is put in behind a position waits for one
                continue
            most, slice_us, depth = more
            normal.ran.clear()
            found = await normal.claim(most, slice_us=float(slice_us), depth=depth)
            order = sorted(waiting, key=waiting.__getitem__)
            assert normal.ran == order[: len(normal.ran)]
            assert bool(normal.ran) == bool(order)
            assert not found.saw
            for job in normal.ran:
                del waiting[job]
        for _ in range(200):
            normal.ran.clear()
            await normal.claim(50)
            if not normal.ran:
                break
            order = sorted(waiting, key=waiting.__getitem__)
            assert normal.ran == order[: len(normal.ran)]
            for job in normal.ran:
                del waiting[job]
        assert not waiting


@pytest.mark.slow
def test_order_against_a_model(database_url):
    """I4: whatever is put in and claimed, each claim takes the best jobs of all tags, in order."""

    @settings(
        max_examples=examples(25, 80),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(st.lists(st.one_of(PUT, CLAIM), min_size=8, max_size=24))
    def check(steps):
        trio.run(follow, database_url, steps)

    check()


async def test_what_a_tag_is_worth_comes_first(normal: Mixed):
    """I4: jobs of a tag that is worth more come before any priority, in one claim or in several."""
    plain = await normal.put("one", 2, priority=9)
    less = await normal.put("three", 1, priority=30000)
    more = await normal.put("two", 2, priority=-9)
    normal.places.rank = {"one": 0, "two": 5, "three": -1}.__getitem__
    while len(normal.ran) < 5:
        assert (await normal.claim()).segments
    assert normal.ran == [*more, *plain, *less]


async def test_stops_before_what_is_claimed_apart(normal: Mixed):
    """Jobs of a script with a limit are left to a claim of their own, up to where something else comes."""
    first = await normal.put("one", 2, tag="one")
    limited = await normal.put("two", 3, tag="one")
    last = await normal.put("three", 1, tag="one")
    await normal.put("two", 3, tag="one")
    await normal.stage.connection.execute("select hotpath.limit_set('two', '{\"concurrency\": 1}', 'test')")
    found = await normal.claim()
    assert normal.ran == first
    assert (found.cold, found.apart) == (normal.ids["two"], True)
    assert found.behind is not None
    assert found.behind[2] == last[0]
    taker = Taker(normal.ids["two"], normal.workers[normal.ids["two"]], 1.0, 500)
    taken = await ClaimingApart(taker, found.cold_tag, 500, found.behind, set())(normal.session)
    assert taken.segment is not None
    assert ids_of(taken.segment) == limited  # one worker, one at a time
    other = attrs.evolve(taker, worker=(await normal.stage.worker(tags=[])).worker)
    blocked = await ClaimingApart(other, found.cold_tag, 500, None, set())(normal.session)
    assert blocked.segment is None
    assert blocked.blocked is not None


async def test_paused_tags_rest(normal: Mixed):
    """Nothing is taken of a tag that is paused, until it is resumed."""
    rests = await normal.put("two", 2)
    goes = await normal.put("one", 2)
    normal.places.paused = {tag: float("inf") for tag, name in normal.places.names.items() if name == "two"}
    await normal.claim()
    assert normal.ran == goes
    normal.places.paused = {}
    await normal.claim()
    assert normal.ran == [*goes, *rests]


async def test_many_tags(normal: Mixed):
    """I10: of more tags than a claim looks at, those in which the last look found jobs are claimed from."""
    names = [f"many-{number}" for number in range(300)]
    ids = [(await normal.put("one", tag=name))[0] for name in names[::10]]
    await workers.register_tags(normal.stage.connection, names)
    await normal.listen("many-*")
    assert normal.places.are_many
    await mixed.look(normal.session, normal.places, await mixed.waiting_tags(normal.session))
    assert len(normal.places.parameters(frozenset())[0]) == 30
    while (await normal.claim()).segments:
        pass
    assert normal.ran == ids
