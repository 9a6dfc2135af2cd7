"""Looking: results that are waited for, lists by page, status."""

import inspect
import json
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import trio

from hotpath.errors import DatabaseUnavailableError, JobFailed, UsageError
from hotpath.store import completions


async def finish(client, job_id, state=1, document=None, *, notify=True):
    """End a loose job as a flush would."""
    document = json.dumps(document)
    async with client.database.connection() as connection, connection.transaction():
        await connection.execute(
            """with gone as (delete from hotpath.job_queue where id = $1 returning *) insert into
            hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, result,
            error, started_at, duration_us) select id, scheduled_for, tag, script, priority, 1, $2::int2,
            args, case when $2::int2 = 1 then $3::json end, case when $2::int2 <> 1 then $3::json end,
            now(), 1500 from gone
            """,
            job_id, state, document,
        )  # fmt: skip
        if notify:
            await connection.execute(
                "select pg_notify('hotpath_done', job::text) from hotpath.waiter where job = $1", job_id
            )


async def marks(client):
    """How many waits the database knows of."""
    async with client.database.connection() as connection:
        return await connection.fetchval("select count(*) from hotpath.waiter")


async def is_listening(client):
    """Whether the client's listening connection listens."""
    async with client.database.connection() as connection:
        return await connection.fetchval(
            """select exists (select from pg_stat_activity
            where application_name = 'hotpath listen' and query like '%pg_notify%' and state = 'idle'
                and datname = current_database())"""
        )


async def no_marks(client):
    """Whether the database knows of no wait."""
    return not await marks(client)


async def until(condition):
    """Wait until the condition, a function that may be async, is true."""
    with trio.fail_after(40):
        while True:
            met = condition()
            if inspect.isawaitable(met):
                met = await met
            if met:
                return
            await trio.sleep(0.01)


async def test_result_of_a_job_that_ends_later(client_of):
    """A wait ends when its job does, and leaves no mark in the database."""
    async with client_of() as client:
        job_id = await client.enqueue("add", {"x": 1})
        results = []

        async def wait():
            results.append(await client.result(job_id))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
            await until(partial(marks, client))
            await finish(client, job_id, document={"sum": 2})
        assert results == [{"sum": 2}] * 3
        await until(partial(no_marks, client))


async def test_failed_job_raises_its_error(client_of):
    """The result of a failed job is JobFailed with the stored error."""
    error = {"name": "ValueError", "message": "no", "traceback": "Traceback...", "kind": "exception"}
    async with client_of() as client:
        job_id = await client.enqueue("add", {"x": 1})
        await finish(client, job_id, 2, error)
        with pytest.raises(JobFailed, match="ValueError: no") as caught:
            await client.result(job_id)
        assert caught.value.error == error


async def test_error_leaves_the_client_bare(client_of):
    """What is raised inside the client's context comes out as itself, not in an exception group."""
    with pytest.raises(KeyError):
        async with client_of() as client:
            await client.status()
            raise KeyError


async def test_wait_without_notify(client_of, monkeypatch):
    """Polling is the guarantee: a wait ends although no notification comes."""
    monkeypatch.setattr(completions, "LAST_POLL", 0.1)
    async with client_of() as client:
        job_id = await client.enqueue("add", {"x": 1})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.result, job_id)
            await until(partial(marks, client))
            await finish(client, job_id, notify=False)


async def test_wait_by_notify_alone(client_of, monkeypatch):
    """A notification ends a wait long before the next poll."""
    monkeypatch.setattr(completions, "LAST_POLL", 60.0)
    monkeypatch.setattr(completions, "FIRST_POLL", 60.0)
    async with client_of() as client:
        job_id = await client.enqueue("add", {"x": 1})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.result, job_id)
            await until(partial(is_listening, client))
            await trio.sleep(0.2)  # past the look that follows LISTEN
            with trio.fail_after(40):
                await finish(client, job_id)
                await until(lambda: not client.statistics().waiting)


async def test_many_waits(client_of):
    """A thousand waits share the client's few connections."""
    async with client_of() as client:
        ids = [await client.enqueue("add", {"x": i}) for i in range(300)]
        async with trio.open_nursery() as nursery:
            for job_id in ids:
                nursery.start_soon(client.result, job_id)
            await until(lambda: client.statistics().waiting == len(ids))
            for job_id in ids:
                await finish(client, job_id)
        assert client.statistics().connections <= 4


async def test_lists(client_of):
    """Lists hold every job once, the newest first, whichever place it is in, and narrow as asked."""
    async with client_of() as client:
        sealed = await client.enqueue_many("add", [{"x": i} for i in range(7)], tag="seven")
        loose = [await client.enqueue("add", {"x": i}) for i in range(4)]
        text = await client.enqueue("f/team/text", {"text": "a"})
        await client.cancel(sealed[3])
        await finish(client, loose[0], 2, {"name": "E", "message": "m"})
        await finish(client, loose[1], 1, 5)
        everything = sorted([*sealed, *loose, text], reverse=True)
        assert [job.id for job in await client.jobs()] == everything
        pages = []
        before = None
        while page := await client.jobs(limit=5, before=before):
            pages += page
            before = page[-1].id
        assert [job.id for job in pages] == everything
        assert [job.id for job in await client.jobs(state="canceled")] == [sealed[3]]
        assert [job.id for job in await client.jobs(state="failure")] == [loose[0]]
        assert [job.id for job in await client.jobs(state="success")] == [loose[1]]
        assert len(await client.jobs(state="queued")) == 9
        assert await client.jobs(state="running") == []
        assert len(await client.jobs(tag="seven")) == 7
        assert [job.id for job in await client.jobs(script="f/team/text")] == [text]
        assert await client.jobs(script="nobody") == []
        assert await client.jobs(since=datetime.now(UTC) + timedelta(hours=1)) == []
        assert len(await client.jobs(since=datetime.now(UTC) - timedelta(hours=1))) == 12
        one = await client.job(loose[1])
        assert [one] == await client.jobs(state="success")
        for wrong in ({"state": "done"}, {"limit": 0}, {"since": datetime(2026, 1, 1)}):  # noqa: DTZ001 - on purpose
            with pytest.raises(UsageError):
                await client.jobs(**wrong)


async def test_running_jobs_are_listed(client_of):
    """Jobs under a lease are listed as running, and no longer as queued."""
    async with client_of() as client:
        ids = await client.enqueue_many("add", [{"x": i} for i in range(6)])
        async with client.database.connection() as connection:
            worker = await connection.fetchval(
                """insert into hotpath.worker (name, tags, host, pid, concurrency, lease_until) values ('w1',
                array[hotpath.tag_id('add')], 'h', 1, 1, now() + interval '1 minute') returning id
                """
            )
            await connection.execute("update hotpath.batch set next = 2")
            await connection.execute(
                """insert into hotpath.lease (id, batch, worker, lo, hi)
                select 1, base, $1, 0, 2 from hotpath.batch""",
                worker,
            )
        running = await client.jobs(state="running")
        assert [(job.id, job.worker, job.attempt, job.args) for job in running] == [
            (ids[1], "w1", 1, {"x": 1}),
            (ids[0], "w1", 1, {"x": 0}),
        ]
        assert [job.id for job in await client.jobs()] == list(ids)[::-1]
        assert running[0] == await client.job(ids[1])
        (tag,) = (await client.status()).tags
        assert (tag.waiting, tag.running, tag.workers) == (4, 2, 1)


async def test_status_counts(client_of):
    """Status counts what waits, loose and sealed, and says since when the oldest is due and how fast jobs
    end.
    """
    later = datetime.now(UTC) + timedelta(days=1)
    async with client_of() as client:
        assert (await client.status()).tags == []
        await client.enqueue_many("add", [{"x": i} for i in range(1200)])
        for priority in (5, 0, -5):
            await client.enqueue("add", {"x": 1}, priority=priority)
        await client.enqueue("add", {"x": 1}, tag="later", scheduled_for=later)
        job_id = await client.enqueue("add", {"x": 1}, tag="done")
        await finish(client, job_id, document=1)
        status = await client.status()
        tags = {tag.tag: tag for tag in status.tags}
        assert {name: tag.waiting for name, tag in tags.items()} == {"add": 1203, "later": 1, "done": 0}
        assert tags["add"].oldest_due is not None
        assert tags["later"].oldest_due is None
        assert tags["done"].jobs_per_second > 0
        assert status.jobs_per_second == tags["done"].jobs_per_second


async def test_database_that_goes_away(client_of, database_url):
    """A client whose connection was cut says so in one line and works again afterwards."""
    async with client_of() as client:
        await client.enqueue("add", {"x": 1})
        async with client.database.connection() as connection:
            with pytest.raises(DatabaseUnavailableError) as caught:
                async with client.database.connection() as doomed:
                    pid = doomed.get_server_pid()
                    await connection.execute("select pg_terminate_backend($1)", pid)
                    await doomed.fetchval("select pg_sleep(5)")
        assert "\n" not in str(caught.value)
        await client.enqueue("add", {"x": uuid.uuid4().int % 1000})


async def test_how_many_workers_a_group_needs(client_of):
    """What is wanted of a group is changed by name; what it needs is told of one, and of all."""
    async with client_of() as client:
        scale = await client.set_scale("etl", min_workers=2, max_workers=3)
        assert (scale.min_workers, scale.max_workers, scale.target_seconds) == (2, 3, 60)
        assert (await client.scaling("etl")).need.wanted == 2
        assert [each.group for each in await client.scalings()] == ["etl"]
        await client.unset_scale("etl")
        assert await client.scalings() == []
        with pytest.raises(UsageError, match="--max"):
            await client.set_scale("etl", max_workers=0)
