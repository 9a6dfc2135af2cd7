"""Jobs that are put in once for a key; jobs that follow each other closely; tags made of args; all from SQL
and Python alike.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import attrs
import pytest
import trio
from store_stage import NAME, Stage, outcomes

from hotpath.errors import BadArgsError, NotUniqueError, UsageError
from hotpath.model import Debounce, Limit, Settings, Unique
from hotpath.store import jobs, load, scripts
from hotpath.store.expiry import sweep_unique
from hotpath.store.idempotency import enqueue_once
from hotpath.store.load_rows import RefusedJobError
from hotpath.store.seal import Sealer


async def configure(stage: Stage, **said: Any) -> None:
    """Register the script with these settings."""
    description = attrs.evolve(stage.version.description, settings=Settings(**said))
    stage.version = await scripts.register_version(stage.connection, description)


async def put(stage: Stage, x: Any = 1, connection: Any = None, **more: Any) -> Any:
    """Put a job in."""
    return await jobs.enqueue(connection or stage.connection, NAME, json.dumps({"x": x}).encode(), **more)


async def many(stage: Stage, xs: list[Any]) -> list[Any]:
    """Put many jobs in."""
    found = await scripts.find_script(stage.connection, NAME)
    raws = [json.dumps({"x": x}).encode() for x in xs]
    return list(await load.enqueue_many(stage.connection, found, Sealer().seal(raws)))


async def test_a_key_lasts_as_long_as_it_says(stage: Stage):
    """`queued` ends with the claim, `unfinished` with the job, a number of seconds with its time."""
    session = await stage.worker()
    for lasts, after_claim, after_end in (
        ("queued", False, False),
        ("unfinished", True, False),
        (60, True, True),
    ):
        await configure(stage, unique=Unique(key=f"{lasts}-$args[x]", while_=lasts))
        first = await put(stage)
        assert await put(stage) == first
        assert await put(stage, 2) != first
        hand = await stage.claim(session, 1)
        assert hand is not None
        second = await put(stage)
        assert (second == first) is after_claim
        await stage.flush(session, outcomes(hand))
        assert (await put(stage) in (first, second)) is (after_end or not after_claim)
        while (rest := await stage.claim(session)) is not None:
            await stage.flush(session, outcomes(rest))


async def test_what_becomes_of_a_second_job(stage: Stage):
    """It is refused with the id of the first, or takes its place."""
    await configure(stage, unique=Unique(key="$args[x]", on_conflict="reject"))
    first = await put(stage)
    with pytest.raises(NotUniqueError, match=str(first)):
        await put(stage)
    await configure(stage, unique=Unique(key="$args[x]", on_conflict="replace"))
    second = await put(stage)
    assert second != first
    assert await stage.state(first) == "canceled"
    assert await stage.states() == {"canceled": 1, "queued": 1}


async def test_a_call_may_say_its_own_key(stage: Stage):
    """Of a script that says nothing, too; in SQL by name."""
    first = await put(stage, unique="a")
    assert await put(stage, 2, unique="a") == first
    assert await put(stage, unique="b") != first
    with pytest.raises(NotUniqueError):
        await put(stage, unique=Unique(key="a", on_conflict="reject"))
    assert await put(stage, "a", unique="$args[x]") == first
    in_sql = (
        "select hotpath.enqueue($1, unique_key => 'a', on_conflict => 'existing', unique_while => 'queued')"
    )
    assert await stage.connection.fetchval(in_sql, NAME) == first
    once = await enqueue_once(stage.connection, "k", b"r", NAME, b"{}", unique="a")
    assert (once.job, once.replayed) == (first, False)
    for wrong, named in (
        (Unique(key="", while_="queued"), "unique.key"),
        (Unique(key="a", while_="later"), "unique.while"),
        (Unique(key="a", while_=-1), "unique.while"),
        (Unique(key="a", on_conflict="die"), "unique.on_conflict"),
    ):
        with pytest.raises(UsageError, match=named):
            await put(stage, unique=wrong)
    with pytest.raises(BadArgsError, match=r"args.y is missing"):
        await put(stage, unique="$args[y]")


async def test_of_many_that_race_one_lives(stage: Stage):
    """Ten connections put in the same keys at once: one job for each key, and all have its id."""
    await configure(stage, unique=Unique(key="$args[x]"))
    connections = [await stage.connect() for _ in range(10)]
    got: Counter[Any] = Counter()

    async def enqueue(connection: Any) -> None:
        for x in range(12):
            got[x, await put(stage, x, connection)] += 1

    # Of new keys, and of keys whose jobs have ended.
    for _ in range(2):
        got.clear()
        async with trio.open_nursery() as nursery:
            for connection in connections:
                nursery.start_soon(enqueue, connection)
        assert len(got) == 12
        assert set(got.values()) == {10}
        assert await stage.count("job_queue") == 12
        session = await stage.worker()
        hand = await stage.claim(session)
        assert hand is not None
        await stage.flush(session, outcomes(hand))


async def test_a_job_that_is_counted_on_cannot_begin_before_the_commit(stage: Stage):
    """While somebody's transaction has been told that the job waits, nobody claims it: it would run without
    what that transaction writes.
    """
    await configure(stage, unique=Unique(key="$args[x]", while_="queued"))
    first = await put(stage)
    other, session = await stage.connect(), await stage.worker()
    transaction = other.transaction()
    await transaction.start()
    assert await put(stage, connection=other) == first
    assert await stage.claim(session) is None
    await transaction.commit()
    hand = await stage.claim(session)
    assert hand is not None
    assert list(hand.ids) == [first]


async def test_many_of_a_script_with_keys(stage: Stage):
    """Each goes in by itself, all of them or none; an error names the job."""
    await configure(stage, unique=Unique(key="$args[x]"))
    a, b, again = await many(stage, ["a", "b", "a"])
    assert again == a != b
    await configure(stage, unique=Unique(key="$args[x]", on_conflict="reject"))
    with pytest.raises(NotUniqueError, match=r"job 1 of flow_x: .*has the unique key"):
        await many(stage, ["c", "a"])
    with pytest.raises(RefusedJobError, match=r"job 2 of flow_x: args.x is missing"):
        await many(stage, ["d", "e", None])
    assert await stage.states() == {"queued": 2}


async def test_debounce_moves_the_waiting_job_on(stage: Stage):
    """Later args win, the time moves on, but not past the longest; once it is claimed, another one begins."""
    await configure(stage, debounce=Debounce(seconds=60, key="$args[x]", longest=90))
    first = await put(stage)

    async def due() -> float:
        return await stage.connection.fetchval(
            "select extract(epoch from scheduled_for - now())::float8 from hotpath.job_queue where id = $1",
            first,
        )

    assert 55 < await due() <= 60
    await stage.connection.execute("update hotpath.unique_job set since = now() - interval '50 s'")
    assert await put(stage, priority=5) == first
    assert 35 < await due() <= 40
    row = await stage.connection.fetchrow("select priority, args ->> 'x' as x from hotpath.job_queue")
    assert tuple(row) == (5, "1")
    big = "y" * 9000
    assert await put(stage, 2) != first
    await stage.connection.execute("update hotpath.job_queue set scheduled_for = now() where id = $1", first)
    hand = await stage.claim(await stage.worker())
    assert hand is not None
    assert list(hand.ids) == [first]
    another = await put(stage)
    assert another != first
    # Args that are kept apart, and back.
    await configure(stage, debounce=Debounce(seconds=60))
    one = await put(stage, big)
    assert await put(stage, "small") == one
    assert await stage.count("payload") == 0
    assert await put(stage, big) == one
    assert (
        await stage.connection.fetchval("select length(args ->> 'x') from hotpath.job_get($1)", one) == 9000
    )


async def test_jobs_that_race_a_debounce_are_one(stage: Stage):
    """Whatever comes at the same time, one job waits, with the args of one of them."""
    await configure(stage, debounce=Debounce(seconds=60))
    connections = [await stage.connect() for _ in range(8)]
    got = set()

    async def enqueue(x: int, connection: Any) -> None:
        for _ in range(10):
            got.add(await put(stage, x, connection))

    async with trio.open_nursery() as nursery:
        for x, connection in enumerate(connections):
            nursery.start_soon(enqueue, x, connection)
    assert len(got) == 1
    assert await stage.count("job_queue") == 1


async def test_keys_that_do_not_count_are_forgotten(stage: Stage):
    """Of jobs that have ended, or whose time is over; those that count stay."""
    await configure(stage, unique=Unique(key="$args[x]"))
    ended = await put(stage, "ended")
    await stage.cancel(ended)
    await put(stage, "waits")
    await put(stage, unique=Unique(key="long", while_=86400))
    await stage.cancel(await put(stage, unique=Unique(key="short", while_=0.001)))
    assert await sweep_unique(stage.connection) == 0
    await stage.connection.execute("update hotpath.unique_job set seen_at = now() - interval '2 hours'")
    assert await sweep_unique(stage.connection) == 2
    assert await stage.count("unique_job") == 2
    assert await put(stage, "waits") != await put(stage, "ended")
    assert await stage.states() == {"canceled": 2, "queued": 3}


async def test_tags_are_made_of_args(stage: Stage):
    """One by one and many at once, from the script or from the call; what cannot be made is refused."""
    await configure(stage, tag="at-$args[x]-$workspace")

    async def tags() -> Counter[str]:
        return Counter(row["tag"] for row in await stage.view())

    await put(stage, "home")
    await many(stage, ["home", "away", 3])
    assert await tags() == {"at-home-main": 2, "at-away-main": 1, "at-3-main": 1}
    await put(stage, "x", tag="$args[x]/$args[x]")
    assert (await tags())["x/x"] == 1
    with pytest.raises(BadArgsError, match=r"args.x is missing, and the tag at-"):
        await put(stage, None)
    with pytest.raises(UsageError, match=r"comes out as 300 bytes"):
        await put(stage, "z" * 292)
    with pytest.raises(RefusedJobError, match=r"job 1 of flow_x: args.x must be text"):
        await many(stage, ["home", {"a": 1}])
    with pytest.raises(RefusedJobError, match=r"job 0 of flow_x: the tag .* comes out as"):
        await many(stage, ["z" * 300])
    await configure(stage, tag="all-$workspace")
    ids = await many(stage, [1, 2])
    assert await stage.count("batch") == 1
    assert await stage.connection.fetchval("select tag from hotpath.job where id = $1", ids[0]) == "all-main"


async def test_expiry_is_kept_where_a_job_is_put_back(stage: Stage):
    """A job that is given back before it began expires as before; one that failed and runs again does not."""
    await configure(stage, expires=60)
    job = await put(stage)
    session = await stage.worker()
    at = "select expires_at - scheduled_for = interval '60 s' from hotpath.job_queue where id = $1"
    assert await stage.connection.fetchval(at, job)
    hand = await stage.claim(session)
    assert hand is not None
    await session.give_back([hand.lease])
    assert await stage.connection.fetchval(at, job)
    hand = await stage.claim(session)
    assert hand is not None
    hand.retry((0, 2, 0, 1, b"{}", None), 0.0)
    await stage.flush(session, hand.take())
    assert await stage.connection.fetchval(at, job) is None


async def test_settings_become_what_is_done(stage: Stage):
    """A script's row says what its current version does, and nothing where that does nothing."""
    row = "select limits, entry, claim_apart from hotpath.script where name = $1"
    assert tuple(await stage.connection.fetchrow(row, NAME)) == (None, None, False)
    await configure(stage, limit=Limit(concurrency=2, key="$args[x]"), expires=5)
    limits, entry, apart = await stage.connection.fetchrow(row, NAME)
    assert json.loads(limits) == {"concurrency": 2, "key": "$args[x]"}
    assert json.loads(entry) == {"key": "$args[x]", "expires": 5.0, "on_expire": "fail"}
    assert apart
    await configure(stage)
    assert tuple(await stage.connection.fetchrow(row, NAME)) == (None, None, False)
