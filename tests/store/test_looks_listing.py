"""Lists of jobs by any filter: the same jobs whatever the windows, bounded work where few are among many."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from uuid import UUID

import pytest
from store_stage import NAME, Stage, outcomes

from hotpath.store import listing
from hotpath.store.listing import list_jobs, list_page
from hotpath.store.queries import query

LAST = "'ffffffff-ffff-ffff-ffff-ffffffffffff'"
FIRST = "'00000000-0000-0000-0000-000000000000'"


@pytest.fixture
def small_windows(monkeypatch):
    """Every page is made of many windows, and ends soon."""
    monkeypatch.setattr(listing, "FIRST_ROWS", 0)
    monkeypatch.setattr(listing, "LONGEST_WINDOW", 5)
    monkeypatch.setattr(listing, "MOST_ROWS", 7)


async def all_pages(stage: Stage, limit: int, **asked) -> list[UUID]:
    """Ids of all jobs that are found page by page; each page is as full as it says."""
    found: list[UUID] = []
    before = None
    while True:
        page = await list_page(stage.connection, limit=limit, before=before, **asked)
        found += [job.id for job in page.jobs]
        assert len(page.jobs) == limit or page.partial or page.next is None
        assert before is None or page.next is None or page.next < before
        if page.next is None:
            return found
        before = page.next


async def jobs_everywhere(stage: Stage) -> None:
    """Jobs of two tags that wait, loose and sealed, run, and have ended in each way."""
    worker = await stage.worker(tags=[stage.tag])
    for turn in range(3):
        await stage.loose(4)
        await stage.loose(3, tag="other")
        await stage.sealed(5)
        await stage.sealed(2, tag="other")
        hand = await stage.claim(worker, 4)
        await stage.flush(worker, outcomes(hand, range(len(hand)), state=1 + turn))
    assert await stage.claim(worker, 2) is not None


async def test_pages_hold_the_same_whatever_the_windows(stage: Stage, small_windows):
    """Page by page, with any filter, each job comes once, the newest first."""
    await jobs_everywhere(stage)
    rows = [(row["id"], row["state"], row["tag"]) for row in await stage.view()]
    states = (None, "queued", "running", "success", "failure", "canceled")
    assert {row[1] for row in rows} == {state for state in states if state}
    for state, tag, script in itertools.product(states, (None, NAME, "other"), (None, NAME)):
        wanted = sorted(
            (job for job, is_in, of in rows if state in (None, is_in) and tag in (None, of)), reverse=True
        )
        for limit in (1, 3, 50):
            asked = {"state": state, "tag": tag, "script": script}
            assert await all_pages(stage, limit, **asked) == wanted, asked
        found = await list_jobs(stage.connection, limit=20, **asked)
        assert [job.id for job in found] == wanted[:20]


async def test_pages_since(stage: Stage, small_windows):
    """What is older than `since` is not looked for."""
    await jobs_everywhere(stage)
    assert await all_pages(stage, 2, tag="other", since=await stage.now() + timedelta(minutes=1)) == []
    assert len(await all_pages(stage, 2, tag="other", since=await stage.now() - timedelta(hours=1))) == 15


async def fill(stage: Stage, rows: int) -> None:
    """Rows of `job_done`: one of 20,000 is of a rare script, one of 1,000 has failed."""
    await stage.connection.execute(
        """
        insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state)
            select hotpath.uuid7(), now(), 1, 1 + (g % 20000 = 7)::int4, 0, 1, 1 + (g % 1000 = 5)::int4
            from generate_series(1, $1::int4) g
        """,
        rows,
    )
    await stage.connection.execute("insert into hotpath.script (name, tag) values ('rare', 1) returning id")
    await stage.connection.execute("analyze hotpath.job_done")


async def test_few_among_many_end_early(stage: Stage, monkeypatch):
    """A page of a filter that finds hardly anything ends when it has looked at enough, and goes on with the
    next.
    """
    await fill(stage, 60_000)
    monkeypatch.setattr(listing, "MOST_ROWS", 25_000)
    monkeypatch.setattr(listing, "LONGEST_WINDOW", 10_000)
    monkeypatch.setattr(listing, "ENOUGH", 60.0)
    page = await list_page(stage.connection, script="rare", limit=100)
    assert page.partial
    assert len(page.jobs) <= 2
    assert len(await all_pages(stage, 100, script="rare")) == 3
    assert await all_pages(stage, 100, script="rare", state="failure") == []
    assert len(await all_pages(stage, 1000, state="failure")) == 60
    monkeypatch.setattr(listing, "ENOUGH", 0.0)
    assert (await list_page(stage.connection, script="rare", limit=1)).partial


async def plan_of(stage: Stage, mode: str, statement: str, arguments: str) -> dict:
    """What the server did, with the settings that lists have."""
    async with stage.connection.transaction():
        await stage.connection.execute(query("list_settings"))
        await stage.connection.execute(f"set local plan_cache_mode = {mode}")
        await stage.connection.execute(f"prepare it as {query(statement)}")
        (plan,) = json.loads(
            await stage.connection.fetchval(
                f"explain (format json, analyze, buffers, timing off) execute it({arguments})"
            )
        )
        await stage.connection.execute("deallocate it")
    return plan["Plan"]


def nodes(plan: dict):
    """All nodes of a plan."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_windows_are_read_by_key(stage: Stage, mode):
    """No sequential scan, no count, no more pages than a window has: whatever is asked, and whoever plans."""
    await fill(stage, 60_000)
    ends = (UUID(LAST[1:-1]), UUID(int=0))
    floor = await stage.connection.fetchval(query("floor_done"), *ends, listing._EVER, 1000)
    assert floor is not None
    window = f"{LAST}, '{floor}', '-infinity'"
    everything = f"{LAST}, {FIRST}, '-infinity'"
    asked = {
        "floor_done": f"{everything}, 1000",
        "floor_failed": f"{everything}, 20",
        "list_done": f"{window}, 2, null, null, 100, false, false",
        "list_failed": f"{window}, 2, null, 2::int2, 100, false, false",
    }
    for statement, arguments in asked.items():
        plan = await plan_of(stage, mode, statement, arguments)
        for node in nodes(plan):
            if node.get("Relation Name", "").startswith("job_done") and node["Actual Loops"]:
                assert node["Node Type"] in {"Index Scan", "Index Only Scan"}, (statement, node)
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200, statement
        assert "count(" not in query(statement)
