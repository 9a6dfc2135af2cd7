"""Plans and costs: every statement prepares, and the hot ones stay on their indexes however the tables look
(I10).
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from store_stage import NAME, Stage, open_stage, outcomes

from hotpath.core.positions import Positions
from hotpath.store.mixed import Places, listened_tags, look
from hotpath.store.queries import names, query
from hotpath.store.work import SETTINGS

INDEXES = {
    "job_queue": {"job_queue_order", "job_queue_pkey", "job_queue_rare"},
    "batch": {"batch_order", "batch_pkey"},
    "lease": {"lease_pkey", "lease_worker", "lease_batch"},
    "waiter": {"waiter_pkey"},
    "worker": {"worker_pkey", "worker_alive"},
    "doze": {"doze_pkey"},
}
FEW = 100
"""Pages that a statement which finds its place by index may touch; 50,000 rows in order are some 500 of
index alone.
"""


@pytest.fixture(scope="module")
def nobodys(databases, template: str) -> Iterator[str]:
    """The address of a database that is only looked into."""
    with databases(template) as url:
        yield url


@pytest.fixture
async def bare(nobodys: str) -> AsyncIterator[Stage]:
    """A stage on an empty database that is shared with others who change nothing."""
    async with open_stage(nobodys) as stage:
        yield stage


@pytest.mark.parametrize("statement", names())
async def test_statement_prepares(bare: Stage, statement):
    """I10: each file holds one statement that fits the schema, by the protocol that workers and clients
    use.
    """
    is_new = bare.connection.get_server_version().major >= 17
    if statement == ("doctor_checkpoints" if is_new else "doctor_checkpoints_17"):
        pytest.skip("what it asks of has another name on this server")
    assert await bare.connection.prepare(query(statement)) is not None


async def fill(stage: Stage) -> None:
    """Waiting jobs of this tag, due and not; of others; sealed ones; then fresh statistics, as autovacuum
    would make them.
    """
    await stage.connection.execute(
        """
        insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args)
            select hotpath.uuid7(), now() - interval '1 hour' + g * interval '1 ms',
                hotpath.tag_id('flow_x'), 1, 0, '{}' from generate_series(1, 20000) g;
        insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args)
            select hotpath.uuid7(), now() + interval '1 hour' + g * interval '1 ms',
                hotpath.tag_id('flow_x'), 1, 5, '{}' from generate_series(1, 50000) g;
        insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args)
            select hotpath.uuid7(), now() - interval '1 hour',
                hotpath.tag_id('other'), 1, g % 7, '{}' from generate_series(1, 10000) g;
        insert into hotpath.batch (base, scheduled_for, tag, script, priority, n, open, args)
            select hotpath.uuid7(), now() - interval '30 minutes',
                hotpath.tag_id('flow_x'), 1, 0, 2, 2, array['{}', '{}']::json[]
            from generate_series(1, 2000) g;
        insert into hotpath.batch (base, scheduled_for, tag, script, priority, n, open, args)
            select hotpath.uuid7(), now() + interval '1 hour',
                hotpath.tag_id('flow_x'), 1, 7, 2, 2, array['{}', '{}']::json[]
            from generate_series(1, 5000) g;
        analyze hotpath.job_queue, hotpath.batch;
        """
    )


@pytest.fixture(scope="module")
def full(databases, template: str) -> Iterator[str]:
    """The name of a database that has been filled."""

    async def prepare(url: str) -> None:
        async with open_stage(url) as stage:
            await fill(stage)

    with databases(template) as url:
        trio.run(prepare, url)
        yield urlsplit(url).path[1:]


@pytest.fixture(scope="module")
def full_for_all(databases, full: str) -> Iterator[str]:
    """The address of a full database that is only looked into; `full` is copied, so nobody may be in it."""
    with databases(full) as url:
        yield url


@pytest.fixture
async def crowded(full_for_all: str) -> AsyncIterator[Stage]:
    """A stage on a full database that is shared with others who change nothing."""
    async with open_stage(full_for_all) as stage:
        yield stage


@pytest.fixture
async def filled(databases, full: str) -> AsyncIterator[Stage]:
    """A stage on a full database of its own."""
    with databases(full) as url:
        async with open_stage(url) as stage:
            yield stage


def nodes(plan: Any) -> Iterator[dict[str, Any]]:
    """All nodes of an EXPLAIN (FORMAT JSON)."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


async def explain(stage: Stage, statement: str, *arguments: str, analyze: bool = False) -> dict[str, Any]:
    """The generic plan that a worker's session has of a statement."""
    connection = await stage.connect(**SETTINGS)
    await connection.execute(f"prepare it as {query(statement)}")
    count = await connection.fetchval(
        "select cardinality(parameter_types) from pg_prepared_statements where name = 'it'"
    )
    given = ", ".join(arguments or ["null"] * count)
    options = "format json, analyze, buffers, timing off" if analyze else "format json"
    plan = json.loads(
        await connection.fetchval(f"explain ({options}) execute it{f'({given})' if given else ''}")
    )
    await connection.execute("deallocate it")
    return plan[0]["Plan"]


def check_scans(plan: dict[str, Any]) -> None:
    """Every scan of a table that can be large goes by a known index or by row address."""
    for node in nodes(plan):
        table = node.get("Relation Name", "")
        if table.startswith("job_done") and "Scan" in node["Node Type"]:
            assert "pkey" in node["Index Name"], node
        if table not in INDEXES or node["Node Type"] in {"ModifyTable", "Tid Scan"}:
            continue
        assert node["Node Type"] in {"Index Scan", "Index Only Scan"}, node
        assert node["Index Name"] in INDEXES[table], node


HOT = (
    *("cycle", "claim", "look", "heads", "drained", "give_back", "settled", "unlisted", "payloads"),
    *("claim_any", "look_any", "due_any", "drained_any", "tags_waiting", "current_of"),
    *("release", "end_jobs", "heartbeat", "attempt_of", "stop_worker", "orphans"),
)


@pytest.mark.parametrize("statement", HOT)
async def test_hot_statements_scan_no_table(bare: Stage, statement):
    """I10: with workers' settings the generic plan goes by index, planned on empty tables."""
    check_scans(await explain(bare, statement))


@pytest.mark.parametrize("statement", HOT)
async def test_hot_statements_scan_no_full_table(crowded: Stage, statement):
    """I10: nor on full ones."""
    check_scans(await explain(crowded, statement))


async def test_claims_order_by_index_alone(crowded: Stage):
    """I10: in the cycle the waiting jobs come in order from `job_queue_order`; nothing sorts them."""
    plan = await explain(crowded, "cycle")
    scans = [
        node
        for node in nodes(plan)
        if node.get("Relation Name") == "job_queue" and node["Node Type"] != "ModifyTable"
    ]
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan", "Tid Scan"}
    assert {node["Index Name"] for node in scans if "Index Name" in node} == {"job_queue_order"}
    batches = [node for node in nodes(plan) if node.get("Relation Name") == "batch" and "Index Name" in node]
    assert {node["Index Name"] for node in batches} == {"batch_order", "batch_pkey"}


def pages(plan: dict[str, Any]) -> int:
    """Pages touched by the statement, in the cache or not."""
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


async def test_look_behind_future_jobs_is_cheap(filled: Stage):
    """I10: 50,000 jobs at a higher priority that are not due yet cost a full look a few pages."""
    stage = filled
    tag = str(stage.tag)
    assert pages(await explain(stage, "look", tag, analyze=True)) < FEW
    priorities, next_in = await (await stage.worker()).look(stage.tag)
    assert priorities == [7, 5, 0]
    assert 3000 < next_in < 3700


async def test_claim_from_positions_skips_what_was_claimed(filled: Stage):
    """I10: behind dead entries that no vacuum may remove, a claim from its position reads what it takes and
    little more.
    """
    stage = filled
    worker, holder = await stage.worker(), await stage.connect()
    async with holder.transaction(isolation="repeatable_read"):
        await holder.fetchval("select count(*) from hotpath.script")
        positions = Positions()
        positions.look((await worker.look(stage.tag))[0])
        for _ in range(10):
            hand = await stage.claim(worker, 500, positions)
            assert len(hand) == 500
            await worker.connection.execute("delete from hotpath.batch where base = $1", hand.base)
        # What this backend fetched since it last told the server.
        read = "select idx_tup_fetch from pg_stat_xact_user_tables where relname = 'job_queue'"
        async with worker.connection.transaction():
            before = await worker.connection.fetchval(read)
            await stage.claim(worker, 100, positions)
            fetched = await worker.connection.fetchval(read) - before
        assert 100 <= fetched < 400


async def test_heads_behind_future_jobs(filled: Stage):
    """I10: asking which tag is next does not read every job that is scheduled for later."""
    stage = filled
    plan = await explain(stage, "heads", f"'{{{stage.tag}}}'", str(stage.script), analyze=True)
    assert pages(plan) < FEW
    worker = await stage.worker()
    (head,) = await worker.heads([stage.tag], stage.script)
    first = await stage.connection.fetchval(
        "select id from hotpath.job_queue where tag = $1 and priority = 0 order by scheduled_for, id limit 1",
        stage.tag,
    )
    assert (head[0], head[1], head[3]) == (stage.tag, 0, first)
    await stage.sealed(1, priority=3)
    assert (await worker.heads([stage.tag], stage.script))[0][1] == 3


async def test_drained_behind_future_jobs(filled: Stage):
    """I10: asking whether a drain is over does not read the jobs that are scheduled for later, whatever their
    priority; nor those that end if nobody begins them, nor those of others that have run before.
    """
    stage = filled
    await stage.connection.execute(
        """
        delete from hotpath.job_queue where tag = hotpath.tag_id('flow_x') and scheduled_for <= now();
        delete from hotpath.batch where scheduled_for <= now();
        update hotpath.job_queue set attempt = 1 where tag <> hotpath.tag_id('flow_x');
        update hotpath.job_queue set expires_at = scheduled_for + interval '1 h' where id in (
            select id from hotpath.job_queue where tag = hotpath.tag_id('flow_x') limit 5000);
        """
    )
    await stage.connection.execute("vacuum analyze hotpath.job_queue, hotpath.batch")
    arguments = (f"'{{{stage.tag}}}'", str(stage.script))
    assert pages(await explain(stage, "drained", *arguments, analyze=True)) < FEW
    worker = await stage.worker()
    assert await worker.drained([stage.tag], stage.script)


async def test_heartbeat_reads_what_its_workers_hold(stage: Stage):
    """I10: a heartbeat costs by the workers it names and their leases, not by who else is there."""
    worker = await stage.worker()
    await stage.connection.execute(
        """
        insert into hotpath.worker (name, tags, host, pid, concurrency, lease_until)
            select 'w' || g, '{}', 'there', g, 1, now() + interval '1 hour' from generate_series(1, 3000) g;
        insert into hotpath.lease (id, batch, worker, lo, hi, cancels)
            select g, gen_random_uuid(), 100 + g, 0, 8, '\\xff' from generate_series(1, 2000) g;
        analyze hotpath.worker, hotpath.lease;
        """
    )
    plan = await explain(
        stage,
        *("heartbeat", f"'{{{worker.worker}}}'", "'{0}'", "15", "null", "null", "0.5", "0.1"),
        analyze=True,
    )
    assert pages(plan) < FEW


async def test_look_up_prunes_old_partitions(stage: Stage):
    """I10: a look-up by id reads no partition older than the id."""
    ids = await stage.loose(1)
    worker = await stage.worker()
    await stage.flush(worker, outcomes(await stage.claim(worker)))
    day = (await stage.now() - timedelta(days=20)).date()
    await stage.connection.execute(
        f"create table hotpath.job_done_old partition of hotpath.job_done "
        f"for values from ('{day}') to ('{day + timedelta(days=1)}')"
    )
    connection = await stage.connect()
    async with connection.transaction():
        row = await connection.fetchrow(query("job_get"), ids[0])
        assert (row["script"], row["state"]) == (NAME, "success")
        scans = await connection.fetch(
            "select relname, idx_scan, seq_scan from pg_stat_xact_user_tables "
            "where relname like 'job\\_done\\_%'"
        )
    touched = {row["relname"] for row in scans if row["idx_scan"] or row["seq_scan"]}
    assert "job_done_old" not in touched
    assert f"job_done_{await stage.now():%Y%m%d}" in touched


def test_claim_alone_is_the_second_half_of_the_cycle():
    """I4: a claim without a flush finds the same jobs in the same order: its text is the cycle's own."""

    def shared(name, first):
        text = query(name)
        text = text[text.index("-- The best sealed batch") : text.index("-- No loose job comes before")]
        return re.sub(
            r"\$(\d+)",
            lambda found: f"${int(found[1]) - first}" if int(found[1]) >= first else found[0],
            text,
        )

    assert shared("claim", 2) == shared("cycle", 14)


async def test_claims_of_many_tags_are_cheap(filled: Stage):
    """I10: behind 80,000 jobs, due, later, in other tags and sealed, a normal worker's claim of one job
    touches few pages, one of five hardly more, and no table is scanned.
    """
    places = Places()
    session = await filled.worker(tags=[])
    places.know(await listened_tags(session.connection, ["flow_x", "o*"]))
    await look(session, places)
    kinds = ("int8[]", "int2[]", "timestamptz[]", "uuid[]", "int8[]", "int2[]", "int2[]")
    where = [
        f"'{{{','.join(map(str, value))}}}'::{kind}"
        for value, kind in zip(places.parameters(frozenset()), kinds, strict=True)
    ]
    taker = ["'{1}'::int4[]", f"'{{{session.worker}}}'::int4[]", "'{1}'::float8[]", "'{500}'::int4[]"]
    for jobs in (1, 5):
        lease = [
            "'{}'::int4[]",
            f"'{{01a21b96-9141-7276-b360-24732b34{jobs:02}cc}}'::uuid[]",
            f"'{{{jobs}}}'::int8[]",
        ]
        arguments = [str(jobs), "1000.0", *where, *taker, *lease, "16", "1e6", "'{}'::int8[]", "'{}'::int4[]"]
        plan = await explain(filled, "claim_any", *arguments, analyze=True)
        check_scans(plan)
        assert pages(plan) < 6 * FEW, pages(plan)
