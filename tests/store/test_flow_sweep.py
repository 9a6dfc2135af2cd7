"""A sweep goes on past what it cannot drop, and drops what is large little by little."""

from __future__ import annotations

from uuid import UUID

from flow_stage import FAILED, Flows, dispatch, mark, step
from store_stage import outcomes

from hotpath.core.notes import Early
from hotpath.store import flows, jobs
from hotpath.store.sweep import forget_soon, sweep

LOCK = "select hotpath.lock_runs($1)"


async def succeeded(flowing: Flows, count: int) -> list[UUID]:
    """Runs that have succeeded and left a mark each."""
    worker, hand = await flowing.in_hand(count)
    for index in range(count):
        await flowing.note(worker, (hand, index, mark("choice:a:skip", 1)))
    await flowing.stage.flush(worker, outcomes(hand))
    return list(hand.ids)


async def kept(flowing: Flows) -> set[UUID]:
    """Runs of which something is kept."""
    rows = await flowing.stage.connection.fetch("select id from hotpath.flow_run")
    return {UUID(int=row["id"].int) for row in rows}


async def test_run_that_cannot_be_dropped_holds_nobody_up(flowing: Flows, caplog):
    """I10: runs that the database refuses to drop are passed over and named, and those beside them, in the
    same transaction at first, are dropped.
    """
    runs = await succeeded(flowing, 5)
    await flowing.stage.connection.execute(
        f"""
        create function pg_temp.refuse() returns trigger language plpgsql as
            'begin raise exception ''no''; end';
        create trigger refuse before delete on hotpath.mark for each row when (old.run = '{runs[1]}')
            execute function pg_temp.refuse()
        """
    )
    assert await sweep(flowing.stage.connection, None, 100) is None
    assert await kept(flowing) == {runs[1]}
    assert f"what is left of run {runs[1]} cannot be dropped yet: no" in caplog.text


async def test_locked_rows_are_given_up_in_time(flowing: Flows, monkeypatch):
    """I10: a row that somebody holds is not waited for longer than a statement may take; the others go."""
    monkeypatch.setattr("hotpath.store.sweep.STATEMENT_MS", 100)
    runs = await succeeded(flowing, 4)
    other = await flowing.stage.worker()
    async with other.connection.transaction():
        await other.connection.execute("select from hotpath.mark where run = $1 for update", runs[2])
        assert await sweep(flowing.stage.connection, None, 100) is None
        assert await kept(flowing) == {runs[2]}
    await sweep(flowing.stage.connection, None, 100)
    assert await kept(flowing) == set()


async def test_runs_whose_lock_is_taken_are_passed_over(flowing: Flows):
    """I10: to forget a run nobody's lock is waited for: it is passed over, and comes in another look."""
    runs = await succeeded(flowing, 3)
    other = await flowing.stage.worker()
    async with other.connection.transaction():
        await other.connection.execute(LOCK, [runs[0]])
        left = {run for run in runs if run.bytes[15] == runs[0].bytes[15]}
        assert await flows.forget(flowing.stage.connection, runs) == len(runs) - len(left)
        assert await kept(flowing) == left
    await sweep(flowing.stage.connection, None, 100)
    assert await kept(flowing) == set()


async def test_large_runs_go_in_parts(flowing: Flows):
    """I10: of a run with thousands of checkpoints and marks each statement drops some, the run's own row
    last; a sweep goes on until all have gone, and one that has no time left comes back to it.
    """
    connection = flowing.stage.connection
    (run,) = await succeeded(flowing, 1)
    await connection.execute(
        """
        insert into hotpath.checkpoint (run, key, id, state, done_at, ended_at, outcome)
            select $1, k::text, gen_random_uuid(), 1, now(), now(), '1' from generate_series(1, 4500) k
        """,
        run,
    )
    await connection.execute(
        "insert into hotpath.mark (run, key, value) "
        "select $1, 'choice:' || k, '1' from generate_series(1, 4500) k",
        run,
    )
    assert await forget_soon(connection, [run]) == [run]
    counts = await flowing.stage.count("checkpoint"), await flowing.stage.count("mark")
    assert counts == (2500, 4501 - 2000)
    assert run in await kept(flowing)
    await sweep(connection, None, 100, seconds=0.0)
    assert await kept(flowing) == {run}
    assert await flowing.stage.count("checkpoint") == 500
    await sweep(connection, None, 100)
    assert await kept(flowing) == set()
    assert await flowing.stage.count("mark") == 0


async def test_large_checkpoints_go_in_parts(flowing: Flows):
    """I10: a statement drops some megabytes of checkpoints, however few they are."""
    connection = flowing.stage.connection
    (run,) = await succeeded(flowing, 1)
    await connection.execute("alter table hotpath.checkpoint alter outcome set storage external")
    await connection.execute(
        """
        insert into hotpath.checkpoint (run, key, id, state, done_at, ended_at, outcome)
            select $1, k::text, gen_random_uuid(), 1, now(), now(), to_json(repeat('x', 1000000))
            from generate_series(1, 50) k
        """,
        run,
    )
    assert await forget_soon(connection, [run]) == [run]
    assert 0 < await flowing.stage.count("checkpoint") < 50
    assert await forget_soon(connection, [run]) == []
    assert await kept(flowing) == set()


async def test_sweep_stops_in_time(flowing: Flows):
    """I10: a sweep whose time is over says where to go on, after the runs that it has looked at."""
    runs = await succeeded(flowing, 60)
    after = await sweep(flowing.stage.connection, None, 1_000, seconds=0.0)
    assert after == runs[24]
    assert await kept(flowing) == set(runs[25:])
    assert await sweep(flowing.stage.connection, after, 1_000) is None
    assert await kept(flowing) == set()


async def test_sweep_drops_cached_results_that_are_over(flowing: Flows):
    """I10: cached results go when their time is over."""
    await flowing.stage.connection.execute(
        "insert into hotpath.flow_cache "
        "values ('a', '1', now() - interval '1 s'), ('b', '1', now() + interval '1 h')"
    )
    await sweep(flowing.stage.connection, None, 10)
    assert await flowing.stage.connection.fetchval("select array_agg(key) from hotpath.flow_cache") == [b"b"]


async def test_all_tries_of_blank_steps_lose_their_values(flowing: Flows):
    """I1: steps that failed, and those that went through the queue, lose args, result and log as well."""
    connection = flowing.stage.connection
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    bad = step(run, "bad", state=2, outcome=FAILED, log="said\n")
    await flowing.note(worker, (hand, 0, bad), (hand, 0, mark("blank:bad", str(UUID(bytes=bad.id)))))
    far = dispatch(run, "far", args=b'{"x": "%s"}' % (b"x" * 10_000))
    await flowing.note(worker, (hand, 0, far), (hand, 0, mark("blank:far", str(UUID(bytes=far.id)))))
    scorer = await flowing.scorer()
    await flowing.stage.flush(scorer, outcomes(await flowing.claim_child(scorer), log="child\n"))
    await flowing.stage.flush(worker, outcomes(hand, state=2, payload=FAILED))
    await flows.forget(connection, [run])
    for id, state in ((bad.id, "failure"), (far.id, "success")):
        job = await jobs.get_job(connection, UUID(bytes=id))
        assert job is not None
        assert (job.state, job.result, job.args) == (state, None, {})
        assert await jobs.get_log(connection, job.id) == []
    assert await flowing.stage.count("payload") == 0
    assert await flowing.stage.count("checkpoint") == 0


async def test_retry_blanks_what_it_leaves_behind(flowing: Flows):
    """I1: a run that is retried before it was looked through loses what was to go, too."""
    connection = flowing.stage.connection
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    a = step(run, "a")
    await flowing.note(worker, (hand, 0, a), (hand, 0, mark("blank:a", str(UUID(bytes=a.id)))))
    await flowing.stage.flush(worker, outcomes(hand, state=2, payload=FAILED))
    assert await jobs.retry(connection, run)
    job = await jobs.get_job(connection, UUID(bytes=a.id))
    assert job is not None
    assert (job.result, job.args) == (None, {})


async def test_early_result_is_told_anew_after_a_retry(flowing: Flows):
    """I3: a retry from a step takes an early result away, and with it the mark that says that it was told."""
    connection = flowing.stage.connection
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    await flowing.note(
        worker, (hand, 0, step(run, "a")), (hand, 0, Early(b"5")), (hand, 0, mark("early:", True))
    )
    await flowing.note(worker, (hand, 0, step(run, "b", at=2_000_000, state=2, outcome=FAILED)))
    await flowing.stage.flush(worker, outcomes(hand, state=2, payload=FAILED))
    assert await flows.retry_from(connection, run, "b")
    known = await flowing.recall(run)
    assert known is not None
    assert (known.steps.keys(), known.marks) == ({"a"}, {})
    assert await connection.fetchval("select early from hotpath.flow_run") is None
