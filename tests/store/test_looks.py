"""What is counted and said with the heartbeat, and the overview that is made of it."""

from __future__ import annotations

from datetime import timedelta

import attrs
from store_stage import NAME, Stage

from hotpath.core.tally import BUSY, CANCELED, FAILURE, RETRIED, RUNS, SIZE, SUCCESS, Tally
from hotpath.documents import overview_document
from hotpath.store import looks, workers
from hotpath.store.status import read_workers
from hotpath.store.workers import Counts, Facts


def counts(stage: Stage, keeper: int = 1, tag: int | None = None, **named: int) -> Counts:
    """Counts of the stage's script; `named` by the names in `core/tally.py`."""
    places = {"success": SUCCESS, "failure": FAILURE, "canceled": CANCELED, "retried": RETRIED, "busy": BUSY}
    tally = Tally()
    for name, count in named.items():
        tally[places[name]] = count
    tally[RUNS + 3] = tally[SUCCESS]
    return Counts(
        keeper=keeper, script=stage.script, tag=stage.tag if tag is None else tag, counts=list(tally)
    )


async def say(stage: Stage, *said: Counts) -> None:
    """A heartbeat for nobody with these counts."""
    await workers.heartbeat(stage.connection, {}, 15, counts=said)


async def total(stage: Stage) -> list[int]:
    """The stage's counts from the beginning."""
    return await stage.connection.fetchval("select counts from hotpath.total where script = $1", stage.script)


async def test_counts_add_up(stage: Stage):
    """What keepers say grows: the difference to what each said before is added, by minute and in all."""
    await say(stage, counts(stage, success=5, failure=1, busy=100))
    await say(stage, counts(stage, keeper=2, success=10))
    await say(stage, counts(stage, success=7, failure=1, canceled=2, retried=4, busy=150))
    sums = await total(stage)
    assert (sums[SUCCESS], sums[FAILURE], sums[CANCELED], sums[RETRIED], sums[BUSY]) == (17, 1, 2, 4, 150)
    assert sums[RUNS + 3] == 17
    assert len(sums) == SIZE
    row = await stage.connection.fetchrow(
        "select sum(success)::int8, sum(failure)::int8, sum(canceled)::int8, sum(retried)::int8, "
        "sum(busy_us)::int8 from hotpath.minute where script = $1 and tag = $2", stage.script, stage.tag,
    )  # fmt: skip
    assert tuple(row) == (17, 1, 2, 4, 150)


async def test_counts_said_again_count_once(stage: Stage):
    """After a lost reply the same counts are said again, or older ones come late: neither counts twice."""
    late = counts(stage, success=3)
    await say(stage, late)
    await say(stage, counts(stage, success=8))
    await say(stage, counts(stage, success=8))
    await say(stage, late)
    await say(stage, counts(stage, success=9))
    assert (await total(stage))[SUCCESS] == 9


async def test_facts_are_kept_until_the_next(stage: Stage):
    """What a worker says of itself stays with heartbeats that say nothing, and goes when it says so."""
    session = await stage.worker()
    jobs = await stage.loose(3)
    hand = await stage.claim(session)
    facts = Facts(
        worker=session.worker, rss=7, cpu_us=2_500_000, lease=hand.lease, place=1, ago=5.0, under_way=1,
        occupied=[0.5, 0.25, 0.125], rates=[12.5], deaf=True,
    )  # fmt: skip
    await workers.heartbeat(stage.connection, {session.worker: 4}, 600, [facts])
    await stage.beat(session)
    (worker,) = await read_workers(stage.connection)
    assert (worker.rss, worker.cpu_seconds, worker.under_way, worker.deaf) == (7, 2.5, 1, True)
    assert (worker.current_job, worker.jobs, worker.running) == (jobs[1], 4, 3)
    assert 4 < (await stage.now() - worker.current_since).total_seconds() < 30
    assert worker.occupancy == {"15s": 0.5, "5m": 0.25, "30m": 0.125}
    assert worker.jobs_per_second == 12.5
    idle = attrs.evolve(facts, lease=None, place=None, ago=None, rss=None)
    await workers.heartbeat(stage.connection, {session.worker: 4}, 600, [idle])
    (worker,) = await read_workers(stage.connection)
    assert (worker.current_job, worker.current_since, worker.rss) == (None, None, 7)


async def test_job_in_hand_of_several(stage: Stage):
    """A worker that runs several jobs at a time and names none shows the first that it claimed."""
    session = await stage.worker()
    jobs = await stage.loose(2)
    assert await stage.claim(session, 1) is not None
    assert await stage.claim(session, 1) is not None
    await stage.connection.execute("update hotpath.worker set concurrency = 10, under_way = 2")
    (worker,) = await read_workers(stage.connection)
    assert worker.current_job == jobs[0]


async def test_workers_that_stopped_are_shown_for_a_while(stage: Stage):
    """One that has stopped lately is there if asked for; one that was lost days ago is not."""
    first, second = await stage.worker(), await stage.worker()
    await workers.stop_worker(stage.connection, first.worker, 3)
    await stage.kill(second)
    assert {worker.state for worker in await read_workers(stage.connection)} == {"stopped", "lost"}
    assert {worker.state for worker in await read_workers(stage.connection, stopped=None)} == {"lost"}
    await stage.connection.execute(
        "update hotpath.worker set last_ping = now() - interval '2 days', "
        "stopped_at = stopped_at - interval '2 hours'"
    )
    assert await read_workers(stage.connection) == []


async def test_overview(stage: Stage):
    """Sixty minutes of outcomes, rates and occupancy of those that live, tags with what waits and how they
    ended.
    """
    one, two = await stage.worker(), await stage.worker()
    await stage.kill(await stage.worker())
    await stage.loose(3)
    await stage.claim(one, 1)
    for session, share, rate in ((one, 0.5, 10.0), (two, 1.0, 5.0)):
        facts = Facts(
            worker=session.worker, rss=1, cpu_us=1, lease=None, place=None, ago=None, under_way=0,
            occupied=[share] * 3, rates=[rate], deaf=False,
        )  # fmt: skip
        await workers.heartbeat(stage.connection, {session.worker: 0}, 600, [facts])
    await say(stage, counts(stage, success=6, failure=2, busy=1_500))
    await stage.connection.execute(
        "insert into hotpath.minute values (date_trunc('minute', now()) - interval '59 minutes', $1, $2, "
        "1, 0, 1, 0, 0), (date_trunc('minute', now()) - interval '60 minutes', $1, $2, 50, 0, 0, 0, 0)",
        stage.script,
        stage.tag,
    )
    overview = await looks.read_overview(stage.connection)
    assert (overview.alive, overview.lost, overview.running) == (2, 1, 1)
    assert overview.jobs_per_second == 15.0
    assert overview.occupancy == {"15s": 0.75, "5m": 0.75, "30m": 0.75}
    assert len(overview.minutes) == len(overview.ended) == 60
    assert overview.minutes[-1] <= overview.now < overview.minutes[-1] + timedelta(minutes=1)
    assert sum(each.success for each in overview.ended) in (6, 7)  # the minute may have just changed
    assert sum(each.busy_ms for each in overview.ended) == 1.5
    document = overview_document(overview)
    assert set(document) == {
        "now", "jobs_per_second", "tags", "workers", "series", "occupancy", "stranded"
    }  # fmt: skip
    (tag,) = document["tags"]
    assert (tag["tag"], tag["waiting"], tag["running"], tag["workers"]) == (NAME, 2, 1, 2)
    assert (tag["jobs_per_second"], tag["hour"]["failure"]) == (15.0, 2)


async def test_overview_of_nothing(stage: Stage):
    """An empty database has an overview, too."""
    overview = await looks.read_overview(stage.connection)
    assert (overview.tags, overview.workers, overview.jobs_per_second) == ([], [], 0)
    assert overview.occupancy == {"15s": None, "5m": None, "30m": None}
    assert sum(each.success for each in overview.ended) == 0


async def test_old_counts_are_swept(stage: Stage):
    """Minutes older than two weeks go, and the oldest beyond the limit; so do keepers that are gone."""
    await say(stage, counts(stage, success=1), counts(stage, keeper=2, tag=77, success=1))
    await stage.connection.execute(
        "insert into hotpath.minute select date_trunc('minute', now()) - (g - 0.5) * interval '1 hour', "
        "$1, $2, 1, 0, 0, 0, 0 from generate_series(1, 400) g",
        stage.script,
        stage.tag,
    )
    await stage.connection.execute(
        "update hotpath.keeper_count set said_at = now() - interval '8 days' where keeper = 2;"
        "update hotpath.total set said_at = now() - interval '91 days' where tag = 77;"
        "analyze hotpath.minute"
    )
    gone = await looks.sweep_counts(stage.connection)
    assert gone == 400 - 14 * 24 + 2
    assert await stage.count("keeper_count") == await stage.count("total") == 1
    await stage.connection.execute("analyze hotpath.minute")
    left = await stage.count("minute")
    assert await stage.connection.fetchval(looks.query("sweep_counts"), 14, left - 100) == 100
    oldest = await stage.connection.fetchval("select now() - min(minute) from hotpath.minute")
    assert oldest < timedelta(days=10)
