"""What limits cost those who use none: nothing is read or written for them, no statement is added (I10)."""

from __future__ import annotations

import re
from typing import Any

import attrs
import trio
from store_stage import NAME, Stage, outcomes

from hotpath.core.positions import Positions
from hotpath.model import Limit, Settings
from hotpath.store import scripts
from hotpath.store.queries import query
from hotpath.store.work import Claim
from hotpath.worker.clock import DatabaseClock
from hotpath.worker.search import Search

TABLES = ("limit_override", "limit_start", "unique_job", "tag_pause")


async def touched(stage: Stage) -> dict[str, Any]:
    """How often each of the tables was looked into or written, and each of their indexes used."""
    await trio.sleep(1.1)  # what a session has counted it tells with what it does a second later
    for connection in (*stage._opened, stage.connection):
        await connection.fetchval("select 1")
    other = await stage.connect()
    rows = await other.fetch(
        """select relname, coalesce(seq_scan, 0) + coalesce(idx_scan, 0) + n_tup_ins + n_tup_upd as n
        from pg_stat_user_tables where schemaname = 'hotpath' and relname = any ($1)
        union all select indexrelname, idx_scan from pg_stat_user_indexes
        where indexrelname in ('job_queue_keyed', 'job_queue_rare', 'batch_expires', 'script_limited')""",
        list(TABLES),
    )
    return {row["relname"]: row["n"] for row in rows}


async def test_jobs_without_limits_touch_none_of_it(stage: Stage):
    """Put in, claimed, flushed, given back: no table and no index of limits is looked into."""
    before = await touched(stage)
    session = await stage.worker()
    await stage.loose(30)
    await stage.sealed(30)
    hand = await stage.claim(session, 10)
    assert hand is not None
    await session.give_back([hand.lease])
    cycle = await stage.cycle(session, [], 50)
    while cycle.hand is not None:
        cycle = await stage.cycle(session, [outcomes(cycle.hand)], 50)
    await stage.check_empty()
    assert (await stage.states()) == {"success": 60}
    assert await touched(stage) == before


async def test_the_row_of_a_job_is_what_it_was(stage: Stage):
    """A job's row has grown by nothing: two columns that are null fit into what there was."""
    await stage.loose(1)
    size = "select pg_column_size(q.*) from hotpath.job_queue q"
    before = await stage.connection.fetchval(size)
    await stage.connection.execute(
        "alter table hotpath.job_queue drop column limit_key, drop column expires_at"
    )
    await stage.connection.execute("create table rewritten as select * from hotpath.job_queue")
    assert await stage.connection.fetchval("select pg_column_size(r.*) from rewritten r") == before


async def test_a_job_meets_no_more_indexes(stage: Stage):
    """Each index of the queue costs each job that is put in, also one that is not in it: whoever adds one
    looks first at what `python -m bench cost` says (decision 0020).
    """
    rows = await stage.connection.fetch(
        "select indexrelid::regclass::text as name from pg_index"
        " where indrelid = 'hotpath.job_queue'::regclass"
    )
    assert {row["name"].removeprefix("hotpath.") for row in rows} == {
        *("job_queue_pkey", "job_queue_order", "job_queue_rare", "job_queue_keyed")
    }


def test_the_hot_statements_know_nothing_of_limits():
    """Claims and cycles of other scripts are what they were before there were limits."""
    for name in ("claim", "cycle", "look", "heads"):
        assert not re.search(r"limit_key|expires_at|limit_start|tag_pause|claim_apart", query(name)), name


@attrs.define
class Counting:
    """A session that counts what it is asked for."""

    asked: list[str] = attrs.field(factory=list)
    apart: bool = False

    async def rules(self, script: int, tags: Any) -> tuple[bool, dict[int, float | None]]:
        self.asked.append("rules")
        return self.apart, {}

    async def look(self, tag: int) -> tuple[list[int], float | None]:
        self.asked.append("look")
        return [], None


async def test_a_worker_asks_once(stage: Stage):
    """What holds for its script it reads before its first claim, and again only when it is told to."""
    session: Any = Counting()
    search = Search(1, [(2, "a")], DatabaseClock())
    for _ in range(100):
        claim = await search.claim(session, 5)
        assert claim is not None
        assert not claim.limited
    assert session.asked.count("rules") == 1
    session.apart = True
    search.heed()
    claim = await search.claim(session, 5)
    assert claim is not None
    assert claim.limited
    assert session.asked.count("rules") == 2


async def test_a_limited_claim_goes_by_its_indexes(stage: Stage):
    """With 30,000 jobs that wait a claim touches few pages, with a key or without."""
    for lease, key in ((10, None), (20, "$args[x]")):
        limit = Limit(concurrency=1000, key=key)
        description = attrs.evolve(stage.version.description, settings=Settings(limit=limit))
        stage.version = await scripts.register_version(stage.connection, description)
        await stage.connection.execute("truncate hotpath.job_queue")
        await stage.connection.execute(
            """insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args, limit_key)
            select hotpath.uuid7(), now() - k * interval '1 ms', $1, $2, k % 3,
                json_build_object('x', k % 50), hotpath.tag_id((k % 50)::text)
            from generate_series(1, 30000) k""",
            stage.tag,
            stage.script,
        )
        await stage.connection.execute("analyze hotpath.job_queue")
        session = await stage.worker()
        claim = Claim(10, stage.tag, NAME, stage.script, Positions(), limited=True)
        await session.cycle([], attrs.evolve(claim, lease=lease))
        plan = await session.connection.fetch(
            "explain (analyze, buffers) select * from hotpath.claim_limited($1::int4, 10, $2, $3::int4, "
            "'{}', '{}', '{}', '{32767}', '{-32768}', hotpath.uuid7(), $4, null, null, null)",
            session.worker,
            stage.tag,
            stage.script,
            lease + 1,
        )
        text = "\n".join(row[0] for row in plan)
        found = re.search(r"shared hit=(\d+)", text)
        assert found is not None, text
        assert int(found[1]) < 1500, text
