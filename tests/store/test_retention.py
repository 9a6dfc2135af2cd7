"""Retention: whole days go at the longest rule, the rest by rows; nothing of today, nobody waits for it."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from retention_stage import add_days, add_jobs, add_script, age_scripts, attached, name, today
from store_stage import Stage, outcomes

from hotpath import asyncpg_trio
from hotpath.core.retention import FOREVER, format_span, parse_size, parse_span
from hotpath.errors import NotKeptError, UsageError
from hotpath.model import Retention, Settings
from hotpath.store import jobs
from hotpath.store import migrate as migrate_module
from hotpath.store import prune as module
from hotpath.store.archive import Archiver
from hotpath.store.log_store import open_log_store
from hotpath.store.migrate import migrate, migrations
from hotpath.store.prune import Pruned, prune
from hotpath.store.prune_plan import estimate, make_plan, plan_document
from hotpath.store.queries import query
from hotpath.store.retention import clear_rule, read_rules, set_rule
from hotpath.store.status import read_status

DAY = 86400.0


@pytest.fixture
async def kept(stage: Stage) -> Stage:
    """A stage where nothing is said of how long things are kept, and the script has been there for long."""
    await stage.connection.execute("delete from hotpath.retention")
    await age_scripts(stage)
    return stage


async def run(stage: Stage, **options) -> Pruned:
    """One round."""
    done = await prune(stage.connection, "test", gently=False, **options)
    assert done is not None
    return done


async def scripts_of(stage: Stage, back: int) -> list[int]:
    """The script of each job that ended on a day."""
    begin = today() - timedelta(days=back)
    rows = await stage.connection.fetch(
        "select script from hotpath.job_done where done_at >= $1 and done_at < $2 order by script",
        begin,
        begin + timedelta(days=1),
    )
    return [row[0] for row in rows]


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("12h", 43200), ("30d", 30 * DAY), ("8w", 56 * DAY), ("0s", 0)]
)
def test_spans_are_read_and_written(text, seconds):
    """A span means its seconds; what is written of it means the same."""
    assert parse_span(text) == seconds
    assert parse_span(format_span(seconds)) == seconds
    assert parse_span("forever") == FOREVER == parse_span(FOREVER)
    assert format_span(FOREVER) == "forever"


@pytest.mark.parametrize("bad", ["", "30", "30 days", "-1d", "1e3d", "nan", "d", "101000d", "٣d", -1, True])
def test_spans_that_are_none(bad):
    """What is no span is refused, and what is expected is said."""
    with pytest.raises(ValueError, match=r"span such as|at most 100 years"):
        parse_span(bad)
    with pytest.raises(ValueError, match="size such as"):
        parse_size("many")


async def test_a_new_database_keeps_jobs_for_a_month_a_used_one_for_ever(
    stage: Stage, empty_database_url, monkeypatch
):
    """The migration says 30 days, 14 for logs, where nothing was registered yet, and nothing elsewhere."""
    rules = await read_rules(stage.connection)
    assert (rules.keep.jobs, rules.keep.logs) == (30 * DAY, 14 * DAY)
    newest = migrations()
    older = [each for each in newest if each[0] < 16]
    used = await asyncpg_trio.connect(empty_database_url)
    try:
        monkeypatch.setattr(migrate_module, "migrations", lambda: older)
        await migrate(used)
        await used.execute("insert into hotpath.script (name, tag) values ('s', 1)")
        monkeypatch.setattr(migrate_module, "migrations", lambda: newest)
        await migrate(used)
        assert await used.fetchval("select count(*) from hotpath.retention") == 0
        assert (await read_rules(used)).keep.jobs == FOREVER
    finally:
        used.terminate()


async def test_what_is_said_first_counts(kept: Stage):
    """The database's entry for the script, what the script says, what is said for all: field by field; and
    nothing outlives the job.
    """
    await add_script(kept, "own", Settings(retention=Retention(jobs=5 * DAY, logs=2 * DAY)))
    await add_script(kept, "own@0123456789ab")
    await set_rule(kept.connection, None, {"jobs": "30d", "results": "20d"})
    await set_rule(kept.connection, "own", {"logs": "1d"})
    scripts = {script.name: script.keep for script in (await read_rules(kept.connection)).scripts}
    assert (scripts["own"].jobs, scripts["own"].logs, scripts["own"].results) == (5 * DAY, DAY, 5 * DAY)
    assert (scripts["own@0123456789ab"].jobs, scripts["own@0123456789ab"].logs) == (30 * DAY, DAY)
    assert (scripts["flow_x"].jobs, scripts["flow_x"].results, scripts["flow_x"].args) == (
        30 * DAY, 20 * DAY, 30 * DAY,
    )  # fmt: skip
    assert await clear_rule(kept.connection, "own")
    assert not await clear_rule(kept.connection, "own")


@pytest.mark.parametrize(
    ("script", "spans", "disk", "names"),
    [
        ("nobody", {"jobs": "1d"}, None, "nobody"),
        ("../x", {"jobs": "1d"}, None, "name of a script"),
        (None, {"jobs": "soon"}, None, "jobs must be"),
        (None, {"logs": "-1d"}, None, "logs must be"),
        (None, {"errors": "1d"}, None, "errors is nothing"),
        (None, {}, "none", "disk must be"),
        ("flow_x", {}, "1G", "disk is a bound"),
        (None, {}, None, "say for how long"),
    ],
)
async def test_rules_that_cannot_be(kept: Stage, script, spans, disk, names):
    """A rule that cannot be is refused, and the field named."""
    with pytest.raises(UsageError, match=names):
        await set_rule(kept.connection, script, spans, disk=disk)
    assert await kept.count("retention") == 0


# ---------------------------------------------------------------- whole days


async def test_without_a_rule_nothing_goes(kept: Stage):
    """What nobody says anything of is kept."""
    await add_days(kept, 4000)
    await add_jobs(kept, 4000)
    assert (await run(kept)).is_nothing
    assert await kept.count("job_done") == 3


async def test_whole_days_go_logs_before_jobs(kept: Stage):
    """Days whose time is over go whole; those of logs at their own rule; the day of the bound stays."""
    await add_days(kept, 1, 2, 3, 4)
    for back in (1, 2, 3, 4):
        await add_jobs(kept, back, log="said\n")
    await set_rule(kept.connection, None, {"jobs": "2d", "logs": "1d"})
    done = await run(kept)
    assert set(done.dropped) == {
        name("job_log", 4), name("job_log", 3), name("job_log", 2), name("job_done", 4), name("job_done", 3),
        name("job_attempt", 4), name("job_attempt", 3),
    }  # fmt: skip
    assert await attached(kept, "job_done") == [name("job_done", 2), name("job_done", 1)]
    assert await attached(kept, "job_log") == [name("job_log", 1)]
    assert (await run(kept)).is_nothing
    assert not await kept.connection.fetchval("select count(*) from hotpath.pruned")


async def test_today_stays_whatever_the_rule(kept: Stage):
    """What ended today is not touched, by rows or whole."""
    await kept.loose(2)
    worker = await kept.worker()
    await kept.flush(worker, outcomes(await kept.claim(worker)))
    await set_rule(kept.connection, None, {"jobs": "0s"}, disk=1)
    done = await run(kept)
    assert done.dropped == []
    assert not done.disk.held, "the bound cannot be held, and that is said"
    assert "no old day left" in (await read_status(kept.connection)).disk
    assert await kept.states() == {"success": 2}


async def test_a_day_that_was_half_detached_is_finished(kept: Stage):
    """What a crash has left is found again: tables that were detached and not dropped, a detachment that was
    cut off, whatever is said by then.
    """
    await add_days(kept, 2, 3)
    await kept.connection.execute(
        f"alter table hotpath.job_done detach partition hotpath.{name('job_done', 3)}"
    )
    reader, other = await kept.connect(), await kept.connect()
    async with reader.transaction():
        await reader.fetch("select count(*) from hotpath.job_log")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                other.execute,
                f"alter table hotpath.job_log detach partition hotpath.{name('job_log', 2)} concurrently",
            )
            await kept.blocked(other)
            nursery.cancel_scope.cancel(reason="it dies")
    done = await run(kept)
    assert set(done.dropped) == {name("job_done", 3), name("job_log", 2)}
    assert await attached(kept, "job_done") == [name("job_done", 2)]


async def test_an_open_reader_holds_back_nothing_for_long(kept: Stage, monkeypatch):
    """While somebody's transaction has read a day, the day stays for the next round; flushes and the rest of
    the round go on.
    """
    monkeypatch.setattr(module, "DETACH_WITHIN", 0.2)
    await add_days(kept, 2, 3)
    await add_jobs(kept, 2)
    await set_rule(kept.connection, None, {"jobs": "1d"})
    await kept.loose(1)
    reader, worker = await kept.connect(), await kept.worker()
    hand = await kept.claim(worker)
    troubles: list[str] = []

    async def troubles_of_a_round():
        troubles.extend((await run(kept)).troubles)

    async with reader.transaction():
        await reader.fetch("select count(*) from hotpath.job")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(troubles_of_a_round)
            with trio.fail_after(40):
                assert await kept.flush(worker, outcomes(hand)) == {hand.lease}
        assert len(troubles) == 1, "of the days behind it nothing is said"
        assert "is not dropped yet" in troubles[0]
        state = await kept.connection.fetchrow("select more, holder from hotpath.pruning")
        assert tuple(state) == (True, None)
    monkeypatch.undo()
    done = await run(kept)
    assert name("job_done", 2) in done.dropped
    assert await attached(kept, "job_done") == []


# ---------------------------------------------------------------- rows


async def test_a_shorter_rule_takes_rows_a_longer_one_keeps_the_day(kept: Stage):
    """Jobs of a script with a shorter rule go with attempts, logs and large args; the longest rule keeps the
    day; others' rows are as they were.
    """
    short, long = await add_script(kept, "short"), await add_script(kept, "long")
    await add_days(kept, 2, 40)
    for back in (2, 40):
        for script in (short, long, None):
            for job in await add_jobs(kept, back, 2, script=script, log="x", args=None):
                await kept.connection.execute("insert into hotpath.payload values ($1, '{}')", job)
    await set_rule(kept.connection, None, {"jobs": "30d"})
    await set_rule(kept.connection, "short", {"jobs": "1d"})
    await set_rule(kept.connection, "long", {"jobs": "90d"})
    done = await run(kept)
    assert (done.dropped, done.jobs) == ([], 6)
    assert await scripts_of(kept, 2) == sorted([long, long, kept.script, kept.script])
    assert await scripts_of(kept, 40) == [long, long]
    assert [await kept.count(table) for table in ("job_attempt", "job_log", "payload")] == [6, 6, 6]
    assert (await run(kept)).is_nothing


async def test_a_day_of_which_nothing_is_left_goes(kept: Stage):
    """Where every job of a day had a shorter rule than the longest, its empty partitions are dropped."""
    await add_script(kept, "long")
    await add_days(kept, 5)
    await add_jobs(kept, 5, log="x")
    await set_rule(kept.connection, None, {"jobs": "2d"})
    await set_rule(kept.connection, "long", {"jobs": "forever"})
    done = await run(kept)
    assert done.jobs == 3
    assert set(done.dropped) == {name(parent, 5) for parent in ("job_log", "job_done", "job_attempt")}


async def test_results_and_args_are_blanked_and_that_is_told(kept: Stage):
    """Of a job whose result and args are not kept the rest is there; it says what is missing, and cannot be
    run again.
    """
    await add_days(kept, 3)
    small, large = await add_jobs(kept, 3, 2)
    await kept.connection.execute("update hotpath.job_done set args = null where id = $1", large)
    await kept.connection.execute("insert into hotpath.payload values ($1, '{\"x\": 1}')", large)
    (failed,) = await add_jobs(kept, 3, 1, state=2, result=None)
    assert await kept.retry(failed)
    await kept.cancel(failed)
    await set_rule(kept.connection, None, {"results": "1d"})
    done = await run(kept)
    assert (done.jobs, done.results, done.args) == (0, 2, 0)
    assert (await jobs.get_job(kept.connection, small)).not_kept == ("result",)
    await set_rule(kept.connection, None, {"args": "2d"})
    done = await run(kept)
    assert (done.jobs, done.results, done.args) == (0, 0, 2)
    for job in (small, large):
        found = await jobs.get_job(kept.connection, job)
        assert (found.not_kept, found.args, found.result) == (("args", "result"), {}, None)
        assert found.state == "success"
        with pytest.raises(NotKeptError, match="its args are not kept any more"):
            await jobs.retry(kept.connection, job)
        assert await kept.state(job) == "success", "it is where it was"
    assert (await jobs.get_job(kept.connection, failed)).not_kept == ()
    assert await kept.count("payload") == 0


async def test_logs_go_by_their_own_rule(kept: Stage):
    """A script's logs go before those of others, in the database and in the store, and objects that hold
    nothing any more with them.
    """
    quiet = await add_script(kept, "quiet")
    await add_days(kept, 3)
    (mine,) = await add_jobs(kept, 3, 1, script=quiet, log="mine\n")
    (other,) = await add_jobs(kept, 3, 1, log="other\n")
    await set_rule(kept.connection, "quiet", {"logs": "1d"})
    done = await run(kept)
    assert done.logs == 1
    assert [await jobs.get_log(kept.connection, job) for job in (mine, other)] == [[], [(2, "other\n")]]


async def test_logs_in_a_store_go_by_their_own_rule(kept: Stage, tmp_path):
    """The same of logs that have moved; an object of a day whose time is over goes whole."""
    quiet = await add_script(kept, "quiet")
    await add_days(kept, 2, 9)
    store = open_log_store(str(tmp_path / "logs"))
    archiver = Archiver(store, 0.0)
    (mine,) = await add_jobs(kept, 2, 1, script=quiet, log="mine\n")
    while await archiver.step(kept.connection) is not None:
        pass
    (other,) = await add_jobs(kept, 2, 1, log="other\n")
    old = await add_jobs(kept, 9, 2, log="old\n")
    while await archiver.step(kept.connection) is not None:
        pass
    files = list((tmp_path / "logs").rglob("*.gz"))
    assert len(files) == 3
    await set_rule(kept.connection, "quiet", {"logs": "1d"})
    await set_rule(kept.connection, None, {"logs": "5d"})
    plan = await make_plan(kept.connection)
    assert [(one.objects, one.store) for one in plan.objects] == [(1, store.location)]
    done = await run(kept)
    assert (done.objects, done.logs) == (2, 1)
    assert len(list((tmp_path / "logs").rglob("*.gz"))) == 1
    logs = [await jobs.get_log(kept.connection, job) for job in (mine, other, *old)]
    assert logs == [[], [(2, "other\n")], [], []]


async def test_steps_of_a_run_that_goes_on_stay(kept: Stage):
    """What the steps of a run ended with is kept while the run may ask for it."""
    await add_days(kept, 3)
    (going,) = await kept.loose(1)
    (step,) = await add_jobs(kept, 3, 1, parent=going)
    (ended,) = await add_jobs(kept, 3, 1)
    (other,) = await add_jobs(kept, 3, 1, parent=ended)
    await add_script(kept, "long")
    await set_rule(kept.connection, "long", {"jobs": "9d"})
    await set_rule(kept.connection, None, {"jobs": "1d"})
    done = await run(kept)
    assert done.jobs == 2
    assert [await kept.state(job) for job in (step, ended, other)] == ["success", None, None]
    assert (await run(kept)).is_nothing, "not looked at again at once"
    await kept.cancel(going)
    await kept.connection.execute("update hotpath.pruned set changed_at = now() - interval '2 hours'")
    assert (await run(kept)).jobs == 1


async def test_rows_that_are_locked_are_passed_over(kept: Stage):
    """A row that somebody has locked is not waited for, and looked at again later."""
    await add_script(kept, "long")
    await add_days(kept, 3)
    ids = await add_jobs(kept, 3, 3)
    await set_rule(kept.connection, "long", {"jobs": "9d"})
    await set_rule(kept.connection, None, {"jobs": "1d"})
    other = await kept.connect()
    async with other.transaction():
        await other.execute("select from hotpath.job_done where id = $1 for update", ids[1])
        with trio.fail_after(40):
            assert (await run(kept)).jobs == 2
    assert [await kept.state(job) for job in ids] == [None, "success", None]
    assert await kept.connection.fetchval("select passed_over from hotpath.pruned") == 1


async def test_a_retry_at_the_moment_of_blanking_is_refused(kept: Stage):
    """Whoever retries a job while its args are being taken away waits for that, and is refused; whoever was
    first keeps them.
    """
    await add_days(kept, 3)
    first, second = await add_jobs(kept, 3, 2)
    other, third = await kept.connect(), await kept.connect()
    begin = today() - timedelta(days=3)
    blank = (begin, begin + timedelta(days=1), 0, 100, [], [], [kept.script])
    async with other.transaction():
        assert await kept.retry(first, other)
        assert (await kept.connection.fetchrow(query("prune_jobs"), *blank))["args"] == 1
    assert (await jobs.get_job(kept.connection, first)).state == "queued"
    assert (await jobs.get_job(kept.connection, first)).args == {"x": 0}
    await kept.connection.execute("update hotpath.job_done set args = '{}' where id = $1", second)
    refused = []

    async def retry():
        try:
            await jobs.retry(third, second)
        except NotKeptError as error:
            refused.append(error)

    async with trio.open_nursery() as nursery, other.transaction():
        assert (await other.fetchrow(query("prune_jobs"), *blank))["args"] == 1
        nursery.start_soon(retry)
        await kept.blocked(third)
    assert len(refused) == 1
    assert await kept.state(second) == "success"


async def test_a_round_that_dies_is_gone_on_with(kept: Stage, monkeypatch):
    """Whoever takes over goes on at the block that the dead one had got to; nothing is read twice."""
    monkeypatch.setattr(module, "BLOCKS", 1)
    monkeypatch.setattr(module, "MOST_BLOCKS", 1)
    await add_script(kept, "long")
    await add_days(kept, 3)
    await add_jobs(kept, 3, 60, args='{"x": "%s"}' % ("y" * 500))
    await set_rule(kept.connection, "long", {"jobs": "9d"})
    await set_rule(kept.connection, None, {"jobs": "1d"})
    first = await run(kept, seconds=0.0)
    assert first.more
    assert first.jobs == 0
    real = module._Round._note

    async def say_nothing(self):
        await trio.lowlevel.checkpoint()

    async def die(self, one, at, passed_over):
        await real(self, one, at, passed_over)
        if at >= 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module._Round, "_note", die)
        patched.setattr(module._Round, "end", say_nothing)
        with pytest.raises(KeyboardInterrupt):
            await run(kept)
    assert await prune(kept.connection, "another") is None, "it is believed for a while"
    left = await kept.count("job_done")
    assert 0 < left < 60
    await kept.connection.execute("update hotpath.pruning set until = now() - interval '1 second'")
    done = await prune(kept.connection, "another", gently=False)
    assert done.jobs == left
    assert await kept.count("job_done") == 0


async def test_one_at_a_time(kept: Stage):
    """Whoever comes second leaves it to the first."""
    other = await kept.connect()
    await other.execute("update hotpath.pruning set holder = 'x', until = now() + interval '1 minute'")
    assert await prune(kept.connection, "y") is None
    await other.execute("update hotpath.pruning set until = now()")
    assert await prune(kept.connection, "y") is not None


# ---------------------------------------------------------------- the disk, large args, the plan


async def test_the_disk_bound_takes_the_oldest_days(kept: Stage):
    """Above the bound the oldest days go, whatever their rule, as many as it takes; what went is noted."""
    await add_days(kept, 1, 2, 3)
    for back in (1, 2, 3):
        await kept.connection.execute(
            "insert into hotpath.job_log (id, done_at, attempt, text) select hotpath.uuid7(), $1, 1, "
            "repeat(md5(k::text), 20) from generate_series(1, 3000) k",
            today() - timedelta(days=back, seconds=-60),
        )
    plan = await make_plan(kept.connection)
    day = next(part.bytes for part in plan.rest if part.name == name("job_log", 3))
    await set_rule(kept.connection, None, {}, disk=plan.disk.bytes - day)
    plan = await make_plan(kept.connection)
    assert {drop.part.day for drop in plan.drops} == {(await make_plan(kept.connection)).drops[0].part.day}
    done = await run(kept)
    assert done.disk.held
    assert set(done.for_disk) == {name(parent, 3) for parent in ("job_log", "job_done", "job_attempt")}
    noted = await kept.connection.fetchrow("select disk_dropped, disk_held from hotpath.pruning")
    assert (set(noted[0]), noted[1]) == (set(done.for_disk), True)
    assert (await run(kept)).is_nothing
    said = (await read_status(kept.connection)).disk
    assert f"{today() - timedelta(days=3):%Y-%m-%d} was dropped to keep the tables below" in said
    await clear_rule(kept.connection, None)
    await run(kept)
    said = (await read_status(kept.connection)).disk
    assert said.endswith("was dropped to keep the tables within their bound of then")


async def test_large_args_of_dropped_days_go_and_no_others(kept: Stage):
    """Args over 8 KiB go with the day of their job; those of jobs that wait, run or ended later stay."""
    await add_days(kept, 2, 5)
    gone = await add_jobs(kept, 5, 2, args=None)
    (done_later, waits, leased, sealed) = await add_jobs(kept, 5, 4, args=None)
    for job in (*gone, done_later, waits, leased, sealed):
        await kept.connection.execute("insert into hotpath.payload values ($1, '{}')", job)
    await kept.connection.execute(
        "delete from hotpath.job_done where id = any ($1)", [done_later, waits, leased, sealed]
    )
    base = await kept.connection.fetchval("select hotpath.batch_of($1)", sealed)
    ordinal = await kept.connection.fetchval("select hotpath.ordinal_of($1)", sealed)
    await kept.connection.execute(
        "insert into hotpath.job_queue (id, scheduled_for, tag, script, priority) "
        "values ($1, now(), 1, 1, 0)",
        waits,
    )
    await kept.connection.execute(
        "insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state) "
        "values ($1, now(), 1, $2, 0, 1, 1)",
        done_later,
        kept.script,
    )
    for where, ids in ((leased, [leased]), (base, None)):
        await kept.connection.execute(
            "insert into hotpath.batch (base, scheduled_for, tag, script, priority, n, open, ids, args) "
            "values ($1, now(), 1, 1, 0, 1, 1, $2, array[null]::json[])",
            where,
            ids,
        )
    assert ordinal is not None
    await set_rule(kept.connection, None, {"jobs": "3d"})
    done = await run(kept)
    assert done.payloads == 2
    left = {row[0] for row in await kept.connection.fetch("select id from hotpath.payload")}
    assert left == {done_later, waits, leased, sealed}


async def test_the_plan_says_what_would_go_and_changes_nothing(kept: Stage):
    """A dry run names partitions, scripts, rows and bytes; what is there is there afterwards."""
    await add_script(kept, "long")
    await add_days(kept, 3, 20)
    await add_jobs(kept, 3, 4, log="x" * 100)
    await add_jobs(kept, 20, 2)
    await set_rule(kept.connection, None, {"jobs": "9d", "results": "1d", "logs": "2d"})
    await set_rule(kept.connection, "long", {"logs": "9d"})
    plan = await make_plan(kept.connection)
    document = plan_document(plan, [await estimate(kept.connection, one) for one in plan.passes])
    assert [each["name"] for each in document["partitions"]] == [
        name("job_log", 20), name("job_attempt", 20), name("job_done", 20),
    ]  # fmt: skip
    logs, done = document["days"]
    assert (logs["name"], logs["rows"]) == (name("job_log", 3), {"logs": 4})
    assert logs["bytes"] == {"logs": 400}
    assert (done["name"], done["rows"]) == (name("job_done", 3), {"results": 4})
    assert done["scripts"] == {"results": ["flow_x", "long"]}
    assert await kept.count("job_done") == 6
    assert await kept.count("pruned") == 0


async def test_whoever_may_not_drop_days_says_so(kept: Stage):
    """A role that does not own the schema takes rows away, and notes that it may not drop days."""
    await add_script(kept, "long")
    await add_days(kept, 3, 20)
    await add_jobs(kept, 3, 2)
    await set_rule(kept.connection, None, {"jobs": "1d"})
    await set_rule(kept.connection, "long", {"jobs": "9d"})
    other = await kept.connect()
    await other.execute("set role hotpath_worker")
    done = await prune(other, "worker", gently=False)
    assert done.forbidden
    assert (done.jobs, done.dropped) == (2, [])
    assert await attached(kept, "job_done") == [name("job_done", 20), name("job_done", 3)]
    assert await kept.connection.fetchval("select forbidden from hotpath.pruning")


async def test_the_room_is_given_back(kept: Stage):
    """A day of which much was taken away takes less of the disk, and what is left of it is as it was; also
    where whoever was at it died before the end.
    """
    await add_days(kept, 3)
    await kept.connection.execute(
        "insert into hotpath.job_done (id, done_at, scheduled_for, tag, script, priority, attempt, state, "
        "args, result) select hotpath.uuid7(), $1, $1, 1, $2, 0, 1, 1, to_json(k), "
        "to_json(repeat(md5(k::text), 20)) from generate_series(1, 4000) k",
        today() - timedelta(days=3, hours=-1),
        kept.script,
    )
    whole = "select pg_relation_size($1::text::regclass), sum((args #>> '{}')::int8) from hotpath.job_done"
    part = f"hotpath.{name('job_done', 3)}"
    before, total = await kept.connection.fetchrow(whole, part)
    await set_rule(kept.connection, None, {"results": "1d"})
    real = module.settle

    async def die(*arguments):
        raise KeyboardInterrupt

    module.settle = die
    try:
        with pytest.raises(KeyboardInterrupt):
            await run(kept)
    finally:
        module.settle = real
    assert (await kept.connection.fetchrow(whole, part))[0] >= before
    done = await run(kept)
    assert (done.results, done.more) == (0, False)
    after, still = await kept.connection.fetchrow(whole, part)
    assert after < before / 3
    assert still == total
    assert await kept.count("job_done") == 4000
