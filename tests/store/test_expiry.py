"""Jobs that nobody has begun in time: they end once, each by itself, and nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from flow_stage import CHILD, Flows
from store_stage import NAME, Stage, outcomes

from hotpath.core.positions import Positions
from hotpath.model import Settings
from hotpath.store import scripts
from hotpath.store.expiry import expire
from hotpath.store.work import Claim

LATE = datetime.now(UTC) - timedelta(hours=1)


async def configure(stage: Stage, name: str = NAME, **said: Any) -> None:
    """Register the script with these settings."""
    found = await scripts.find_script(stage.connection, name)
    description = attrs.evolve(found.version.description, settings=Settings(**said))
    await scripts.register_version(stage.connection, description)


@pytest.mark.parametrize(
    ("on_expire", "state"), [(None, "failure"), ("fail", "failure"), ("cancel", "canceled")]
)
async def test_what_is_late_ends(stage: Stage, on_expire, state):
    """Loose and sealed, with the error that says so; what is not late, or has been claimed, goes on."""
    kept = await stage.sealed(3)
    await configure(stage, expires=600, on_expire=on_expire)
    fresh = await stage.loose(1)
    sealed = await stage.sealed(5, scheduled_for=LATE)
    loose = await stage.loose(2, scheduled_for=LATE)
    await stage.connection.execute("update hotpath.batch set expires_at = now() + interval '1 h' where n = 5")
    session = await stage.worker()
    hand = (await session.cycle([], Claim(2, stage.tag, NAME, stage.script, Positions(), limited=True))).hand
    assert hand is not None
    assert list(hand.ids) == sealed[:2]
    assert await stage.cancel(sealed[2])
    await stage.connection.execute("update hotpath.batch set expires_at = now() where n = 5")
    assert await expire(stage.connection) == 4
    assert await expire(stage.connection) == 0
    rows = {row["id"]: row for row in await stage.view()}
    for job in (*sealed[3:], *loose):
        assert rows[job]["state"] == state
        assert '"expired"' in rows[job]["error"]
    assert rows[sealed[2]]["state"] == "canceled"
    assert '"canceled"' in rows[sealed[2]]["error"]
    assert [rows[job]["state"] for job in (*kept, *fresh, *sealed[:2])] == [*["queued"] * 4, *["running"] * 2]
    await stage.flush(session, outcomes(hand))
    await stage.check_once_each([*kept, *fresh, *sealed, *loose])
    assert await stage.count("batch") == 1


async def test_a_claim_takes_none_that_is_late(stage: Stage):
    """Although nobody has ended it yet."""
    await configure(stage, expires=600)
    late = await stage.loose(1, scheduled_for=LATE)
    await stage.sealed(2, scheduled_for=LATE)
    (fresh,) = await stage.loose(1)
    claim = Claim(9, stage.tag, NAME, stage.script, Positions(), limited=True)
    hand = (await (await stage.worker()).cycle([], claim)).hand
    assert hand is not None
    assert list(hand.ids) == [fresh]
    assert await stage.state(late[0]) == "queued"


async def test_what_was_late_can_run_again(stage: Stage):
    """By hand; then it has no end."""
    await configure(stage, expires=600)
    (job,) = await stage.loose(1, scheduled_for=LATE)
    assert await expire(stage.connection) == 1
    assert await stage.retry(job)
    assert await expire(stage.connection) == 0
    assert await stage.state(job) == "queued"


async def test_a_run_hears_of_a_step_that_was_late(flowing: Flows):
    """I16: the run that waits for it is woken, and the step has failed."""
    stage = flowing.stage
    await configure(stage, CHILD, expires=600)
    worker, hand = await flowing.in_hand()
    child = await flowing.send(worker, hand)
    await flowing.park(worker, hand, children=(child.bytes,))
    await stage.connection.execute("update hotpath.job_queue set expires_at = now() where id = $1", child)
    assert await expire(stage.connection) == 1
    assert await flowing.due(hand.ids[0])
    known = await flowing.recall(hand.ids[0])
    assert known is not None
    assert b"JobExpired" in known.children["a"].outcome
