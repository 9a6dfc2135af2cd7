"""Limits at the claim: never more than allowed, places that come back, keys that do not starve each other."""

from __future__ import annotations

import json
import random
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_stage import NAME, Stage, open_stage, outcomes

from hotpath import asyncpg_trio
from hotpath.core.hand import Hand
from hotpath.core.positions import Positions
from hotpath.model import Limit, Settings
from hotpath.store import jobs, load, scripts
from hotpath.store.seal import Sealer
from hotpath.store.work import Claim, Cycle, WorkerSession


async def configure(stage: Stage, **said: Any) -> None:
    """Register the script with these settings."""
    description = attrs.evolve(stage.version.description, settings=Settings(**said))
    stage.version = await scripts.register_version(stage.connection, description)


async def wide(stage: Stage, concurrency: int = 100) -> WorkerSession:
    """A worker that runs all that it holds at the same time."""
    session = await stage.worker()
    await stage.connection.execute(
        "update hotpath.worker set concurrency = $2 where id = $1::int4", session.worker, concurrency
    )
    return session


async def cycle(
    session: WorkerSession, stage: Stage, want: int = 500, flushes: Any = (), **more: Any
) -> Cycle:
    """A cycle of a worker that claims apart."""
    claim = Claim(want, stage.tag, NAME, stage.script, Positions(), limited=True, **more)
    return await session.cycle(list(flushes), claim)


async def keyed(stage: Stage, keys: list[Any], **options: Any) -> list[Any]:
    """A job for each key."""
    return [
        await jobs.enqueue(stage.connection, NAME, json.dumps({"x": key}).encode(), **options) for key in keys
    ]


async def key_args(stage: Stage, hand: Hand) -> list[Any]:
    """What the jobs were put in with."""
    return [args["x"] for args in json.loads(hand.args)]


@pytest.mark.parametrize("put", ["loose", "sealed"])
async def test_no_more_run_than_allowed(stage: Stage, put):
    """What is leased counts, until it is done or the lease is gone; then others may run."""
    await configure(stage, limit=Limit(concurrency=5))
    await (stage.loose(20) if put == "loose" else stage.sealed(20))
    first, second = await wide(stage), await wide(stage)
    one = await cycle(first, stage, 3)
    two = await cycle(second, stage, 20)
    assert one.hand is not None
    assert two.hand is not None
    assert len(one.hand) + len(two.hand) == 5
    three = await cycle(first, stage)
    assert (three.hand, three.saw) == (None, True)
    assert three.blocked is not None
    # One place is done, and one is free, before the lease ends.
    four = await cycle(second, stage, 20, [outcomes(two.hand, [0])])
    assert four.hand is not None
    assert len(four.hand) == 1
    assert four.accepted == {two.hand.lease}
    # The worker dies: what it had comes back, and its places too.
    await stage.kill(first)
    await stage.reap()
    back = 0
    while (five := (await cycle(second, stage, 20)).hand) is not None:  # suspects go in small company
        back += len(five)
    assert back == len(one.hand)


async def test_a_small_limit_is_shared(stage: Stage):
    """One worker does not take all places of a limit that others could use at the same time."""
    await configure(stage, limit=Limit(concurrency=4))
    await stage.loose(20)
    sessions = [await wide(stage) for _ in range(4)]
    assert [len((await cycle(one, stage, 100)).hand or ()) for one in sessions] == [1, 1, 1, 1]


@pytest.mark.parametrize("key", [None, "$args[x]"])
async def test_who_runs_one_at_a_time_takes_one_place(stage: Stage, key):
    """A synchronous worker may hold many jobs for one place, also of one key; no more workers than places
    have any. One that runs three at a time does not fit beside it.
    """
    await configure(stage, limit=Limit(concurrency=3, key=key))
    await keyed(stage, ["a"] * 300)
    first, second, third, three = [await wide(stage, places) for places in (1, 1, 1, 3)]
    one = (await cycle(first, stage, 50)).hand
    two = (await cycle(second, stage, 50)).hand
    assert one is not None
    assert two is not None
    assert (len(one), len(two)) == (50, 50)
    rest = (await cycle(three, stage, 50)).hand
    assert rest is not None
    assert len(rest) == 1
    assert (await cycle(third, stage, 50)).hand is None
    more = (await cycle(first, stage, 50)).hand
    assert more is not None
    assert len(more) == 50
    await stage.flush(first, outcomes(one))
    assert (await cycle(third, stage, 50)).hand is None
    await stage.flush(first, outcomes(more))
    assert len((await cycle(third, stage, 50)).hand or ()) == 50


async def test_each_key_has_the_limit_for_itself(stage: Stage):
    """A key with many jobs, first in the queue, does not keep others waiting; order holds within a key."""
    await configure(stage, limit=Limit(concurrency=2, key="$args[x]"))
    hot = await keyed(stage, ["hot"] * 900)
    cold = await keyed(stage, ["a", "b", "a", "b", "a"])
    session = await wide(stage)
    first = await cycle(session, stage, 10)
    assert first.hand is not None
    assert list(first.hand.ids) == [*hot[:2], *cold[:4]]
    second = await cycle(session, stage, 10)
    assert second.hand is None
    assert second.blocked is not None
    # Places of a key come back one by one.
    third = await cycle(session, stage, 10, [outcomes(first.hand, [0, 2])])
    assert third.hand is not None
    assert list(third.hand.ids) == [hot[2], cold[4]]


async def test_keys_are_shared_by_workers(stage: Stage):
    """One worker does not take jobs of all keys that others could run at the same time; each goes on with its
    own, and no key is left out.
    """
    await configure(stage, limit=Limit(concurrency=1, key="$args[x]"))
    await keyed(stage, list("abcde") * 40)
    sessions = [await stage.worker() for _ in range(4)]
    hands = [(await cycle(one, stage, 10)).hand for one in sessions]
    keys = [set(await key_args(stage, hand)) for hand in hands if hand is not None]
    assert sorted(map(len, keys)) == [1, 1, 1, 2]
    assert set().union(*keys) == set("abcde")
    for session, own in zip(sessions, keys, strict=True):
        ahead = (await cycle(session, stage, 10)).hand
        assert ahead is not None
        assert set(await key_args(stage, ahead)) == own


async def test_keys_are_found_behind_a_million(stage: Stage):
    """Jobs of other keys are found although nothing but the hot key's is near the head."""
    await configure(stage, limit=Limit(concurrency=1, key="$args[x]"))
    hot = await keyed(stage, ["hot"])
    await stage.connection.execute(
        """insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args, limit_key)
        select hotpath.uuid7(), now(), tag, script, priority, args, limit_key
        from hotpath.job_queue, generate_series(1, 30000)"""
    )
    cold = await keyed(stage, [f"cold {k}" for k in range(5)])
    session = await wide(stage)
    got = await cycle(session, stage, 10)
    assert got.hand is not None
    assert list(got.hand.ids) == [*hot, *cold]


async def test_jobs_keep_their_key_wherever_they_go(stage: Stage):
    """Given back, released and retried jobs count for their key as before."""
    await configure(stage, limit=Limit(concurrency=1, key="$args[x]"))
    session = await wide(stage)
    for back in ("give_back", "release", "retry"):
        ids = await keyed(stage, [back])
        hand = (await cycle(session, stage, 5)).hand
        assert hand is not None
        if back == "give_back":
            await session.give_back([hand.lease])
        elif back == "release":
            await session.release(hand.lease, [0])
        else:
            hand.retry((0, 2, 0, 1, b"{}", None), 0.0)
            await stage.flush(session, hand.take())
        key = await stage.connection.fetchval("select limit_key from hotpath.job_queue where id = $1", ids[0])
        assert key == await stage.connection.fetchval("select hotpath.tag_id($1)", back)
        last = (await cycle(session, stage, 5)).hand
        assert last is not None
        await stage.flush(session, outcomes(last))
    await stage.check_empty()


async def test_a_limit_that_gets_a_key_counts_what_waits(stage: Stage):
    """Jobs that were put in before have the key that their args say, sealed ones too."""
    await stage.sealed(["a", "a", "b", "c", "a"])
    await stage.loose(1)
    await configure(stage, limit=Limit(concurrency=1, key="$args[x]"))
    session = await wide(stage)
    hand = (await cycle(session, stage, 10)).hand
    assert hand is not None
    assert sorted(await key_args(stage, hand), key=str) == [0, "a", "b", "c"]
    assert (await cycle(session, stage, 10)).hand is None
    await stage.flush(session, outcomes(hand))
    again = (await cycle(session, stage, 10)).hand
    assert again is not None
    assert await key_args(stage, again) == ["a"]


async def test_a_claim_that_could_not_see_is_refused(stage: Stage):
    """In a transaction that sees what was there as it began, a lock proves nothing; a worker's are others,
    whatever the server's default is.
    """
    await configure(stage, limit=Limit(concurrency=1))
    await stage.loose(3)
    session = await wide(stage)
    name = await stage.connection.fetchval("select current_database()")
    await stage.connection.execute(
        f'alter database "{name}" set default_transaction_isolation = "repeatable read"'
    )
    assert (await cycle(await wide(stage), stage, 1)).hand is not None
    transaction = session.connection.transaction(isolation="repeatable_read")
    await transaction.start()
    with pytest.raises(asyncpg_trio.PostgresError, match="read committed"):
        await cycle(session, stage, 1)


async def test_a_missing_field_is_a_key_of_its_own(stage: Stage):
    """Jobs without the field have one limit together."""
    await configure(stage, limit=Limit(concurrency=1, key="$args[y]"))
    await stage.loose(3)
    session = await wide(stage)
    hand = (await cycle(session, stage, 10)).hand
    assert hand is not None
    assert len(hand) == 1


@pytest.mark.parametrize("key", [None, "$args[x]"])
async def test_a_rate_counts_until_its_time_is_over(stage: Stage, key):
    """No more start within the time than allowed, and what has begun counts from then."""
    await configure(stage, limit=Limit(rate=(3, 0.4), key=key))
    await keyed(stage, ["a"] * 9)
    session = await wide(stage)
    hand = (await cycle(session, stage, 10)).hand
    assert hand is not None
    assert len(hand) == 3
    blocked = await cycle(session, stage, 10)
    assert blocked.hand is None
    assert blocked.blocked is not None
    # Nobody has said that they have begun: they count.
    await trio.sleep(0.45)
    assert (await cycle(session, stage, 10)).hand is None
    began = trio.current_time()
    assert await session.begun([hand.lease])
    while (second := (await cycle(session, stage, 10)).hand) is None:  # noqa: ASYNC110 - the database's clock
        await trio.sleep(0.01)
    assert trio.current_time() - began >= 0.4
    assert len(second) == 3
    # The end of a lease says so, too.
    began = trio.current_time()
    assert (await cycle(session, stage, 10, [outcomes(second)])).hand is None
    while (third := (await cycle(session, stage, 10)).hand) is None:  # noqa: ASYNC110 - the database's clock
        await trio.sleep(0.01)
    assert trio.current_time() - began >= 0.4
    assert len(third) == 3


async def test_an_override_is_heeded_at_once(stage: Stage):
    """The claim reads the limit as it is now; what was set goes back to what the version says."""
    await configure(stage, limit=Limit(concurrency=2))
    await stage.loose(20)
    session = await wide(stage)

    async def running(limits: str | None) -> int:
        await stage.connection.execute("select hotpath.limit_set($1, $2::jsonb)", NAME, limits)
        while (await cycle(session, stage, 1)).hand is not None:
            pass
        return int(await stage.connection.fetchval("select count(*) from hotpath.lease"))

    assert await running(None) == 2
    assert await running('{"concurrency": 5}') == 5
    assert await running('{"concurrency": 3}') == 5
    assert await running(None) == 5
    assert await running('{"concurrency": 7}') == 7
    assert await running("{}") == 20


@pytest.mark.parametrize("key", [None, "$args[x]"])
async def test_without_anything_due_nothing_is_blocked(stage: Stage, key):
    """A full limit and an empty queue: the worker may rest, and a drain may end."""
    await configure(stage, limit=Limit(concurrency=1, key=key))
    await stage.loose(1)
    session = await wide(stage)
    assert (await cycle(session, stage)).hand is not None
    empty = await cycle(session, stage)
    assert (empty.hand, empty.saw, empty.blocked) == (None, False, None)


@attrs.define
class Model:
    """What the claims have left running, by lease."""

    running: dict[int, Hand] = attrs.field(factory=dict)

    def by_key(self) -> dict[Any, int]:
        count: dict[Any, int] = {}
        for hand in self.running.values():
            for index in hand.pending():
                key = json.loads(hand.args)[index]["x"]
                count[key] = count.get(key, 0) + 1
        return count


STEP = st.tuples(
    st.sampled_from(["claim", "claim", "end", "part", "give_back", "kill"]),
    st.integers(0, 2),
    st.integers(1, 9),
)


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, "$args[x]"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=5, max_size=25), most=st.integers(1, 4))
def test_any_order_of_events_keeps_the_limit(cluster, template, databases, key, steps, most):
    """Whatever workers do, and die of, no more run than allowed, and nothing is lost."""

    async def play(url: str) -> None:
        async with open_stage(url) as stage:
            await configure(stage, limit=Limit(concurrency=most, key=key))
            keys = random.Random(most).choices("abc", k=40)
            await keyed(stage, list(keys))
            sessions = [await wide(stage) for _ in range(3)]
            held: list[dict[int, Hand]] = [{}, {}, {}]
            ended = 0
            for what, who, number in steps:
                session, mine = sessions[who], held[who]
                hand = next(iter(mine.values()), None)
                if what == "claim":
                    got = (await cycle(session, stage, number)).hand
                    if got is not None:
                        mine[got.lease] = got
                elif what == "kill":
                    await stage.kill(session)
                    await stage.reap()
                    mine.clear()
                    sessions[who] = await wide(stage)
                elif hand is not None and what == "give_back":
                    await session.give_back([hand.lease])
                    del mine[hand.lease]
                elif hand is not None:
                    pending = hand.pending()
                    some = pending if what == "end" else pending[: max(1, len(pending) // 2)]
                    whole = len(some) == len(pending)
                    assert hand.lease in await stage.flush(session, outcomes(hand, some))
                    ended += len(some)
                    if whole:
                        del mine[hand.lease]
                model = Model({lease: one for own in held for lease, one in own.items()})
                counts = model.by_key()
                if key is None:
                    assert sum(counts.values()) <= most
                else:
                    assert max(counts.values(), default=0) <= most
            states = await stage.states()
            assert sum(states.values()) == 40
            assert states["success"] == ended

    with databases(template) as url:
        trio.run(play, url)


@pytest.mark.parametrize("key", [None, "$args[x]"])
async def test_claims_that_race_do_not_overshoot(stage: Stage, key):
    """Eight connections claim and end at the same time: at no instant are more leased than allowed."""
    most = 6 if key is None else 2
    await configure(stage, limit=Limit(concurrency=most, key=key))
    await keyed(stage, ["a", "b"] * 150)
    watcher = await stage.connect()
    peak, left = 0, 8
    sessions = [await wide(stage) for _ in range(8)]

    async def work(session: WorkerSession) -> None:
        nonlocal left
        rest = random.Random(session.worker)
        flushes: list[Any] = []
        while True:
            got = await cycle(session, stage, rest.randint(1, 5), flushes)
            flushes = []
            if got.hand is not None:
                await trio.sleep(rest.random() * 0.003)
                flushes = [outcomes(got.hand)]
            elif not got.saw:
                break
            else:
                await trio.sleep(0.002)
        left -= 1

    async def watch() -> None:
        nonlocal peak
        while left:
            rows = await watcher.fetch(
                """select a ->> 'x' as key, count(*) as n
                from hotpath.lease l join hotpath.batch b on b.base = l.batch
                cross join unnest(b.args[l.lo + 1:l.hi]) a group by 1"""
            )
            counts = [row["n"] for row in rows]
            peak = max(peak, max(counts, default=0) if key else sum(counts))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for session in sessions:
            nursery.start_soon(work, session)
    assert 1 < peak <= most
    assert (await stage.states())["success"] == 300
    await stage.check_empty()


async def test_bulk_of_a_keyed_script_is_loose(stage: Stage):
    """`enqueue_many` puts each job in with its key; ids come in the order of the args."""
    await configure(stage, limit=Limit(concurrency=1, key="$args[x]"))
    found = await scripts.find_script(stage.connection, NAME)
    raws = [json.dumps({"x": key}).encode() for key in ("a", "b", "a", 3)]
    ids = list(await load.enqueue_many(stage.connection, found, Sealer().seal(raws)))
    assert await stage.count("batch") == 0
    hand = (await cycle(await wide(stage), stage, 10)).hand
    assert hand is not None
    assert list(hand.ids) == [ids[0], ids[1], ids[3]]
