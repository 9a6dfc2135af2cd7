"""What goes into the number of workers of a group, and that SQL and `core/scaling.py` make the same of it."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import attrs
import pytest
from store_stage import NAME, Stage

from hotpath.core.scaling import Load, Scale, need
from hotpath.core.tally import BUSY, SUCCESS, Tally
from hotpath.errors import UsageError
from hotpath.store import workers
from hotpath.store.queries import query
from hotpath.store.scaling import (
    Scaling,
    look_at,
    look_at_all,
    read_groups,
    read_scaling,
    scaling_document,
    set_scale,
    unset_scale,
)
from hotpath.store.workers import Counts, Facts

GROUP = "default"


async def took(stage: Stage, jobs: int, seconds: float) -> None:
    """So many jobs have ended in all, each of this length."""
    tally = Tally()
    tally[SUCCESS], tally[BUSY] = jobs, round(jobs * seconds * 1e6)
    counts = Counts(keeper=1, script=stage.script, tag=stage.tag, counts=list(tally))
    await workers.heartbeat(stage.connection, {}, 15, counts=[counts])


async def look(stage: Stage, group: str = GROUP) -> Scaling:
    """The group now; SQL says the same number."""
    found = await read_scaling(stage.connection, group)
    assert await stage.connection.fetchval("select hotpath.workers_wanted($1)", group) == found.need.wanted
    return found


async def change(stage: Stage, group: str = GROUP, **values: Any) -> None:
    """Set these of a group's scale."""
    await set_scale(stage.connection, group, lambda scale: attrs.evolve(scale, **values))


async def test_sql_says_the_same(stage: Stage) -> None:
    """For loads and scales of all sizes, and for what is not known."""
    chance = random.Random(7)

    def some(*values: Any) -> Any:
        return chance.choice(values)

    cases = []
    for _ in range(3_000):
        waiting = some(0, 0, 1, chance.randint(0, 100), chance.randint(0, 10**6))
        service = some(None, 0.0, 1e-6, chance.uniform(0, 0.1), chance.uniform(0, 10), chance.uniform(0, 1e5))
        low = some(0, 1, chance.randint(0, 50))
        load = Load(
            waiting=waiting, held=some(0, chance.randint(0, 500)), service_seconds=service,
            work_seconds=None if service is None else waiting * service,
            arrivals=some(None, 0.0, chance.uniform(0, 10), chance.uniform(0, 1e5)),
            concurrency=some(1.0, 1.0, 2.5, chance.uniform(1, 100)),
            occupied=some(0.0, float(chance.randint(0, 20)), chance.uniform(0, 50)),
        )  # fmt: skip
        scale = Scale(
            min_workers=low, max_workers=max(1, low + chance.randint(0, 100)),
            target_seconds=some(1.0, 60.0, chance.uniform(1, 5000)),
            utilisation=some(0.8, 1.0, chance.uniform(0.05, 1)),
        )  # fmt: skip
        cases.append((load, scale))
    rows = await stage.connection.fetch(
        "select hotpath.scale_need(w, h, work, s, a, c, o, low, high, t, u) as n "
        "from unnest($1::int8[], $2::int8[], $3::float8[], $4::float8[], $5::float8[], $6::float8[], "
        "$7::float8[], $8::int4[], $9::int4[], $10::float8[], $11::float8[]) with ordinality "
        "as x (w, h, work, s, a, c, o, low, high, t, u, i) order by i",
        *(
            [getattr(load, name) for load, _ in cases]
            for name in (
                "waiting", "held", "work_seconds", "service_seconds", "arrivals", "concurrency", "occupied"
            )
        ),
        *(
            [getattr(scale, name) for _, scale in cases]
            for name in ("min_workers", "max_workers", "target_seconds", "utilisation")
        ),
    )  # fmt: skip
    for row, (load, scale) in zip(rows, cases, strict=True):
        assert row["n"] == need(load, scale).wanted, (load, scale)


async def test_what_is_measured(stage: Stage) -> None:
    """Due jobs, loose and sealed, of all priorities; what workers hold; lengths; occupancy."""
    one = await stage.worker()
    await stage.loose(3)
    await stage.loose(2, priority=7)
    await stage.loose(1, tag="other")
    await stage.loose(50, scheduled_for=await stage.now() + timedelta(hours=1))
    await stage.sealed(10)
    await stage.claim(one, 4)
    await took(stage, 100, 0.5)
    facts = Facts(
        worker=one.worker, rss=1, cpu_us=1, lease=None, place=None, ago=None, under_way=1,
        occupied=[0.75, 0.5, 0.5], rates=[1.0], deaf=False,
    )  # fmt: skip
    await workers.heartbeat(stage.connection, {one.worker: 1}, 600, [facts])
    found = await look(stage)
    assert (found.workers, found.load.waiting + found.load.held) == (1, 15)
    assert found.load.held in range(1, 5)
    assert found.load.service_seconds == pytest.approx(0.5)
    assert found.load.work_seconds == pytest.approx(found.load.waiting * 0.5)
    assert found.load.occupied == pytest.approx(0.75)
    assert found.load.arrivals is None
    assert found.patterns == [NAME]
    assert [(tag["tag"], tag["waiting"]) for tag in found.tags] == [(NAME, found.load.waiting)]
    assert not found.is_set
    assert found.scale == Scale(processes=1)
    document = scaling_document(found)
    assert (document["wanted"], document["workers"]) == (1, 1)
    assert json.dumps(document)


async def test_what_waits_on_a_paused_tag_needs_nobody(stage: Stage) -> None:
    """No worker would run it."""
    await change(stage, min_workers=0, tags=(NAME,))
    await stage.loose(5)
    assert (await look(stage)).need.wanted == 1
    await stage.connection.execute(
        "create table if not exists hotpath.tag_pause (tag int8 primary key, until timestamptz)"
    )
    await stage.connection.execute("insert into hotpath.tag_pause (tag) values ($1)", stage.tag)
    found = await look(stage)
    assert (found.load.waiting, found.need.wanted) == (0, 0)
    await stage.connection.execute("update hotpath.tag_pause set until = now() - interval '1 second'")
    assert (await look(stage)).load.waiting == 5


async def test_slots_of_a_normal_worker_are_no_workers(stage: Stage) -> None:
    """The processes that it hands jobs to count as its slots, by what they are occupied with."""
    normal, one, two = [await stage.worker() for _ in range(3)]
    await stage.connection.execute(
        "update hotpath.worker set patterns = '{*}', tags = '{}', concurrency = 4 where id = $1",
        normal.worker,
    )
    await stage.connection.execute(
        "update hotpath.worker set tags = '{}' where id = any($1::int4[])", [one.worker, two.worker]
    )
    facts = [
        Facts(
            worker=each.worker, rss=1, cpu_us=1, lease=None, place=None, ago=None, under_way=under_way,
            occupied=[1.0, 1.0, 1.0], rates=[], deaf=False,
        )
        for each, under_way in ((one, 1), (two, 0))
    ]  # fmt: skip
    await workers.heartbeat(stage.connection, {one.worker: 1, two.worker: 1}, 600, facts)
    found = await look(stage)
    assert (found.workers, found.load.concurrency, found.load.occupied) == (1, 4, 0.25)
    assert found.patterns == ["*"]


async def test_a_length_is_guessed_until_it_is_known(stage: Stage) -> None:
    """From how occupied workers are and how many jobs a second they run; what was counted comes first."""
    one = await stage.worker()
    await stage.loose(2)
    assert (await look(stage)).load.service_seconds is None
    facts = Facts(
        worker=one.worker, rss=1, cpu_us=1, lease=None, place=None, ago=None, under_way=1,
        occupied=[0.5, 0.5, 0.5], rates=[4.0], deaf=False,
    )  # fmt: skip
    await workers.heartbeat(stage.connection, {one.worker: 1}, 600, [facts])
    assert (await look(stage)).load.service_seconds == pytest.approx(0.125)
    await took(stage, 10, 3.0)
    assert (await look(stage)).load.service_seconds == pytest.approx(3.0)


async def test_canceled_places_do_not_count(stage: Stage) -> None:
    """A job of a sealed batch that was canceled while it waited is no work."""
    await stage.worker()
    ids = await stage.sealed(5)
    assert await stage.connection.fetchval("select hotpath.cancel($1)", ids[2])
    assert (await look(stage)).load.waiting == 4


async def test_arrivals_are_what_ended_and_what_is_there_more(stage: Stage) -> None:
    """Between two looks; draining a backlog is no arrival; a look that is too young does not count."""
    await stage.worker()
    await stage.loose(30)
    await took(stage, 100, 0.1)
    await look_at(stage.connection, GROUP)
    assert (await look(stage)).load.arrivals is None
    await stage.connection.execute("update hotpath.scale_sample set at = at - interval '100 seconds'")
    assert (await look(stage)).load.arrivals == 0
    await took(stage, 300, 0.1)
    await stage.loose(100)
    found = await look(stage)
    assert found.load.arrivals == pytest.approx(3.0, rel=0.1)
    await stage.connection.execute("delete from hotpath.job_queue")
    assert (await look(stage)).load.arrivals == pytest.approx(
        1.7, rel=0.1
    )  # 200 ended, 30 of them were there


async def test_looks_are_shared_and_forgotten(stage: Stage) -> None:
    """Groups with a scale are looked at by whoever comes first; old looks go; others cost nothing."""
    await stage.worker()
    assert await look_at_all(stage.connection) == 0
    await change(stage)
    assert await look_at_all(stage.connection) == 1
    assert await look_at_all(stage.connection) == 0
    await stage.connection.execute("update hotpath.scale_sample set at = at - interval '1 hour'")
    assert await look_at_all(stage.connection) == 1
    assert await stage.count("scale_sample") == 1


async def test_tags_of_a_group(stage: Stage) -> None:
    """Those of the scale; else of live workers; else of the last one; patterns find what waits."""
    connection = stage.connection
    await stage.loose(2, tag="etl-a")
    await stage.loose(3, tag="etl-b")
    await stage.loose(4, tag="other")
    assert (await look(stage, "none")).patterns is None
    assert (await look(stage, "none")).need.wanted == 1
    await change(stage, "etl", min_workers=0, tags=("etl-*", "!etl-b"))
    found = await look(stage, "etl")
    assert (found.load.waiting, found.need.wanted, found.workers) == (2, 1, 0)
    await change(stage, "etl", tags=("etl-a", "etl-b"))
    assert (await look(stage, "etl")).load.waiting == 5
    worker = await stage.worker()
    await connection.execute(
        "update hotpath.worker set patterns = '{etl-*}', tags = '{}' where id = $1", worker.worker
    )
    assert (await look(stage)).load.waiting == 5
    await connection.execute("update hotpath.worker set stopped_at = now()")
    found = await look(stage)
    assert (found.load.waiting, found.workers) == (5, 0)
    assert await read_groups(connection) == ["etl"]


async def test_tags_of_a_groups_configuration(stage: Stage) -> None:
    """What a group's configuration names comes before what its workers happen to listen to."""
    connection = stage.connection
    await connection.execute(
        "insert into hotpath.worker_group (name, config) select name, config::jsonb "
        "from (values ('a', $1), ('b', $2), ('default', '{}')) v (name, config)",
        '{"tags": ["x-*", {"tag": "y", "priority": 5}], "dedicated": []}',
        '{"dedicated": ["flow_x"], "processes": 3}',
    )
    await stage.worker()
    assert sorted((await look(stage, "a")).patterns or []) == ["x-*", "y"]
    assert (await look(stage, "b")).patterns == [NAME]
    assert (await look(stage)).patterns == [NAME]
    assert await read_groups(connection) == ["a", "b", "default"]
    # So many workers has one command of each.
    assert [(await look(stage, group)).scale.processes for group in ("a", "b")] == [1, 3]
    await change(stage, "b", processes=2)
    assert (await look(stage, "b")).scale.processes == 2
    await connection.execute(
        "update hotpath.worker_group set config = config || $1::jsonb where name = 'a'",
        '{"dedicated": ["flow_x", "flow_y"], "processes": 4}',
    )
    assert (await look(stage, "a")).scale.processes == 9


async def test_a_scale_is_set_and_unset(stage: Stage) -> None:
    """Changes add up, are announced, and what cannot be is refused and changes nothing."""
    revision = await stage.connection.fetchval("select n from hotpath.config_revision")
    await change(stage, min_workers=2)
    await change(stage, max_workers=5)
    found = await look(stage)
    assert (found.scale.min_workers, found.scale.max_workers, found.is_set) == (2, 5, True)
    assert await stage.connection.fetchval("select n from hotpath.config_revision") == revision + 2
    with pytest.raises(UsageError, match="--min 6"):
        await change(stage, min_workers=6)
    with pytest.raises(UsageError, match="GROUP"):
        await change(stage, " ")
    assert (await look(stage)).scale.min_workers == 2
    await unset_scale(stage.connection, GROUP)
    assert (await look(stage)).scale == Scale(processes=1)
    with pytest.raises(UsageError, match="has no scale"):
        await unset_scale(stage.connection, GROUP)


async def test_readers_may_ask(stage: Stage) -> None:
    """The role hotpath_read may call what KEDA asks, and nothing that writes."""
    await stage.loose(1)
    connection = await stage.connect()
    async with connection.transaction():
        await connection.execute("set local role hotpath_read")
        assert await connection.fetchval("select hotpath.workers_wanted('default')") == 1
    async with connection.transaction(readonly=True):
        assert await connection.fetchval("select hotpath.workers_wanted('default')") == 1
    with pytest.raises(Exception, match="permission denied"):
        async with connection.transaction():
            await connection.execute("set local role hotpath_read")
            await connection.execute("select hotpath.scale_look('default')")


async def test_a_deep_backlog_costs_no_more(stage: Stage) -> None:
    """I10: what is counted is what could change the answer, whatever waits behind it or is due later."""
    await stage.worker()
    await took(stage, 100, 1.0)
    await stage.connection.execute(
        "insert into hotpath.job_queue (id, scheduled_for, tag, script, priority) "
        "select gen_random_uuid(), now() + case when k % 2 = 0 then interval '1 day' "
        "else interval '-1 hour' end, $1, $2, 0 from generate_series(1, 60000) k", stage.tag, stage.script,
    )  # fmt: skip
    await stage.connection.execute("vacuum analyze hotpath.job_queue")
    found = await look(stage)
    assert (found.load.waiting, found.is_cut) == (601, True)  # 10 workers for 60 s of jobs of a second
    assert found.need.wanted == 10
    # A row that is counted is a page that is touched; all of them would be 30,000, those due later as many.
    row = await stage.connection.fetchval(
        "explain (analyze, buffers, format json) select hotpath.workers_wanted('default')"
    )
    plan = json.loads(row)[0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 1_000
    assert await stage.connection.fetch(query("scale_gauges")) == []
