"""Limits and paused tags with real `hotpath dedicate` processes."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from uuid import UUID

import pytest
import trio
from worker_stage import Stage

import hotpath

OVERLAP = """
with e as (
    select (result ->> 0)::float8 as at, 1 as step, args ->> $1 as key from hotpath.job_done
    union all
    select (result ->> 1)::float8, -1, args ->> $1 from hotpath.job_done)
select max(n)::int4 from (select sum(step) over (partition by key order by at, step) as n from e) s
"""
"""How many jobs ran at the same time, of those with the same value of a field. By the clock of this machine:
each worker knows the database's to within the time of a reply.
"""


def script(stage: Stage, name: str, settings: str, body: str = "time.sleep(seconds)") -> None:
    """A script that says this of itself."""
    (stage.workspace / f"{name}.py").write_text(
        f"import time, hotpath\nhotpath.settings({settings})\n\n"
        "def main(x: int, key: str = 'k', seconds: float = 0.0) -> list[float]:\n"
        f"    began = time.monotonic()\n    {body}\n    return [began, time.monotonic()]\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["limit=3", "limit=hotpath.Limit(concurrency=1, key='$args[key]')"])
async def test_no_more_run_at_a_time_than_allowed(stage: Stage, settings):
    """Four processes run a few thousand jobs: at no time more than the limit, and all of it is used."""
    script(stage, "narrow", settings)
    jobs = 1500
    await stage.client.enqueue_many(
        "narrow", ({"x": x, "key": "abc"[x % 3], "seconds": 0.001} for x in range(jobs))
    )
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(stage.drain, "narrow", "--processes", "2")
    assert await stage.states() == {"success": jobs}
    assert await stage.connection.fetchval(OVERLAP, "nothing") in (2, 3)
    if "key" in settings:
        assert await stage.connection.fetchval(OVERLAP, "key") == 1
    await stage.check_empty()


@pytest.mark.slow
async def test_no_time_sees_more_starts_than_the_rate(stage: Stage):
    """However the jobs come, and although they take longer than the rate's time: of any six, the last starts
    no sooner than half a second after the first. What waited while no worker was there makes no burst.
    """
    script(stage, "rated", "limit=hotpath.Limit(rate=(5, 0.5))")
    await stage.client.enqueue_many("rated", ({"x": x, "seconds": 0.6 * (x % 4 == 0)} for x in range(22)))
    began = time.monotonic()
    await stage.drain("rated", "--processes", "3")
    took = time.monotonic() - began
    starts = [
        row[0].timestamp()
        for row in await stage.connection.fetch("select started_at from hotpath.job_done order by started_at")
    ]
    assert len(starts) == 22
    assert min(later - first for first, later in zip(starts, starts[5:], strict=False)) >= 0.5
    assert took < 30, "it is let in as soon as it may: two seconds or so"


async def test_places_of_a_killed_worker_come_back(stage: Stage):
    """Kill -9 of a worker that holds the only place: the job runs again, and others after it."""
    script(stage, "held", "limit=1")
    await stage.client.enqueue("held", {"x": 1, "seconds": 600})
    command = await stage.dedicate("held", "--processes", "2")

    async def running() -> bool:
        return bool((await stage.states())["running"])

    await stage.until(running)
    await stage.client.enqueue("held", {"x": 2})
    holder = await stage.connection.fetchval(
        "select w.pid from hotpath.lease l join hotpath.worker w on w.id = l.worker"
    )
    os.kill(holder, signal.SIGKILL)

    async def again() -> bool:
        return bool(
            await stage.connection.fetchval(
                "select count(*) from hotpath.lease l join hotpath.worker w on w.id = l.worker"
                " where w.pid <> $1::int4",
                holder,
            )
        )

    await stage.until(again)
    assert (await stage.states())["running"] == 1
    first = await stage.connection.fetchval("select id from hotpath.job where state = 'running'")
    await stage.client.cancel(first)
    await stage.until_done(2)
    command.process.terminate()
    await command.wait()


@pytest.mark.slow
async def test_a_paused_tag_rests_and_goes_on(stage: Stage):
    """I5: nothing begins from one second after the pause on, and at once again when it is over."""
    script(stage, "calm", "priority=0")
    command = await stage.dedicate("calm")
    await stage.client.enqueue("calm", {"x": 0})
    await stage.until_done(1)
    await stage.connection.execute("select hotpath.pause_tag('calm', reason => 'a test')")
    waiting = await stage.until(lambda: rests(stage))
    assert await stage.connection.fetchval("select hotpath.resume_tag('calm')")
    with trio.fail_after(20):
        await stage.client.result(waiting)
    # Of itself, when its time is over.
    over = await stage.connection.fetchval("select now() + interval '2 seconds'")
    await stage.connection.execute("select hotpath.pause_tag('calm', $1)", over)
    await trio.sleep(1.0)
    last = await stage.client.enqueue("calm", {"x": 2})
    with trio.fail_after(20):
        await stage.client.result(last)
    assert (await stage.client.job(last)).started_at > over - timedelta(seconds=0.5)  # by its worker's clock
    command.process.terminate()
    await command.wait()


async def rests(stage: Stage) -> UUID | None:
    """A job that is put in now, if it waits for longer than it would for a worker that takes it."""
    await trio.sleep(0.7)
    job = await stage.client.enqueue("calm", {"x": 1})
    await trio.sleep(0.3)
    return job if (await stage.client.job(job)).state == "queued" else None


async def test_a_worker_within_a_program_heeds_a_pause(stage: Stage):
    """Without a supervisor it hears of it, too."""
    script(stage, "calm", "priority=0")
    serving = hotpath.dedicated("calm", workspace=stage.workspace, database_url=stage.url)
    async with trio.open_nursery() as nursery:
        worker = await nursery.start(hotpath.serve_worker, serving)
        await stage.client.enqueue("calm", {"x": 0})
        await stage.until_done(1)
        await stage.connection.execute("select hotpath.pause_tag('calm')")
        waiting = await stage.until(lambda: rests(stage))
        await stage.connection.execute("select hotpath.resume_tag('calm')")
        with trio.fail_after(20):
            await stage.client.result(waiting)
        worker.stop()


async def test_a_limit_is_heeded_while_workers_run(stage: Stage):
    """A limit that is set, and cleared, reaches running workers."""
    script(stage, "open", "priority=0", "time.sleep(0.05)")
    command = await stage.dedicate("open", "--processes", "4")
    await stage.client.enqueue_many("open", ({"x": x} for x in range(2000)))
    await stage.until_done(8)
    await stage.connection.execute("select hotpath.limit_set('open', '{\"concurrency\": 1}')")

    async def narrow() -> bool:
        return max([await _running(stage) for _ in range(20)]) <= 1

    await stage.until(narrow)
    await stage.connection.execute("select hotpath.limit_set('open', null)")

    async def more() -> bool:
        return await _running(stage) > 1

    await stage.until(more)
    command.process.terminate()
    await command.wait()


async def _running(stage: Stage) -> int:
    """Workers that have jobs: each of them runs one at a time."""
    await trio.sleep(0.005)
    return await stage.connection.fetchval("select count(distinct worker) from hotpath.lease")


async def test_expired_jobs_do_not_run(stage: Stage):
    """A job that nobody began in time ends within a second, by any worker's house, sealed or loose."""
    script(stage, "fresh", "expires=0.3, on_expire='fail'")
    script(stage, "other", "priority=0")
    sealed = list(await stage.client.enqueue_many("fresh", [{"x": 1}, {"x": 2}]))
    loose = await stage.client.enqueue("fresh", {"x": 3})
    command = await stage.dedicate("other")
    await stage.until_done(3)
    for job in (*sealed, loose):
        ended = await stage.client.job(job)
        assert ended.state == "failure"
        assert ended.error is not None
        assert ended.error["kind"] == "expired"
        assert "0.3 s" in ended.error["message"]
    await stage.check_empty()
    command.process.terminate()
    await command.wait()


async def test_a_worker_of_dynamic_tags_has_to_know_them(stage: Stage):
    """Nobody can listen to all that args may say: it is refused, with the flag that mends it."""
    script(stage, "spread", "tag='at-$args[key]'")
    command = await stage.dedicate("spread")
    assert await command.wait() == 2
    assert "--tag" in command.stderr
    await stage.client.enqueue("spread", {"x": 1, "key": "home"})
    await stage.client.enqueue_many("spread", [{"x": 2, "key": "home"}, {"x": 3, "key": "away"}])
    await stage.drain("spread", "--tag", "at-home")
    assert await stage.states() == {"success": 2, "queued": 1}
