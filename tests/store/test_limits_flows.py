"""Limits where jobs come from flows, are runs of them, or are pinned to a version."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import attrs
from flow_stage import CHILD, Flows, dispatch
from store_stage import NAME, Stage, outcomes

from hotpath.core.positions import Positions
from hotpath.model import Limit, Settings
from hotpath.store import jobs, scripts
from hotpath.store.work import Claim


async def configure(stage: Stage, name: str, **said: Any) -> None:
    """Register a script of the stage with these settings."""
    found = await scripts.find_script(stage.connection, name)
    description = attrs.evolve(found.version.description, settings=Settings(**said))
    await scripts.register_version(stage.connection, description)


async def queued(stage: Stage, job: UUID) -> Any:
    """The job's row in the queue."""
    return await stage.connection.fetchrow(
        "select hotpath.tag_name(tag) as tag, limit_key, expires_at, scheduled_for"
        " from hotpath.job_queue where id = $1",
        job,
    )


async def test_a_step_that_is_sent_has_tag_key_and_expiry(flowing: Flows):
    """As a job that is put in by hand: by its script, or by the step."""
    stage = flowing.stage
    limit = Limit(concurrency=1, key="$args[x]")
    await configure(stage, CHILD, tag="at-$args[x]", limit=limit, expires=60)
    session, hand = await flowing.in_hand()
    for key, tag, expected in (("a", None, "at-5"), ("b", "own-$args[x]", "own-5"), ("c", "plain", "plain")):
        note = dispatch(hand.ids[0], key, tag=tag)
        assert await flowing.note(session, (hand, 0, note)) == [True]
        row = await queued(stage, UUID(bytes=note.id))
        assert row["tag"] == expected
        assert row["limit_key"] == await stage.connection.fetchval("select hotpath.tag_id('5')")
        assert (row["expires_at"] - row["scheduled_for"]).total_seconds() == 60


async def test_a_step_whose_tag_cannot_be_made_fails(flowing: Flows):
    """The run hears of it, and which field is missing; nothing waits for ever."""
    session, hand = await flowing.in_hand()
    note = dispatch(hand.ids[0], "a", tag="at-$args[who]")
    assert await flowing.note(session, (hand, 0, note)) == [True]
    job = await jobs.get_job(flowing.stage.connection, UUID(bytes=note.id))
    assert job is not None
    assert job.state == "failure"
    assert job.error is not None
    assert job.error["kind"] == "bad_args"
    assert "args.who is missing" in job.error["message"]


async def test_a_run_keeps_its_key(flowing: Flows):
    """Parked and recalled, or run again after its end, it counts for its key as before; parked, it has no
    place.
    """
    stage = flowing.stage
    await configure(stage, NAME, limit=Limit(concurrency=1, key="$args[x]"))
    run = await flowing.run()
    key = (await queued(stage, run))["limit_key"]
    assert key is not None
    session = await stage.worker()
    claim = Claim(5, stage.tag, NAME, stage.script, Positions(), limited=True)
    hand = (await session.cycle([], claim)).hand
    assert hand is not None
    assert await flowing.park(session, hand, until_us=1) == 1
    assert (await queued(stage, run))["limit_key"] == key
    assert await stage.connection.fetchval("select hotpath.limit_used($1::int4)", stage.script) == 0
    hand = (await session.cycle([], attrs.evolve(claim, lease=7))).hand
    assert hand is not None
    await stage.flush(session, outcomes(hand))
    assert await stage.retry(run)
    assert (await queued(stage, run))["limit_key"] == key


async def test_a_pinned_version_shares_the_limit(stage: Stage):
    """Jobs of a version of their own take places of the script's limit; what is set by command is theirs."""
    await configure(stage, NAME, limit=Limit(concurrency=2))
    pinned = await stage.connection.fetchval("select hotpath.pin($1)", NAME)
    found = await scripts.find_script(stage.connection, pinned)
    for name in (NAME, pinned):
        for _ in range(3):
            await jobs.enqueue(stage.connection, name, json.dumps({"x": 1}).encode())
    first, second = await stage.worker(), await stage.worker()
    for session, script in ((first, stage.script), (second, found.version.script)):
        await stage.connection.execute(
            "update hotpath.worker set concurrency = 9 where id = $1::int4", session.worker
        )
        claim = Claim(1, stage.tag, NAME, script, Positions(), limited=True)
        assert (await session.cycle([], claim)).hand is not None
    for session, script in ((first, stage.script), (second, found.version.script)):
        claim = Claim(1, stage.tag, NAME, script, Positions(), limited=True)
        assert (await session.cycle([], claim)).blocked is not None
    await stage.connection.execute("select hotpath.limit_set($1, '{\"concurrency\": 3}')", NAME)
    claim = Claim(1, stage.tag, NAME, found.version.script, Positions(), limited=True)
    assert (await second.cycle([], claim)).hand is not None
