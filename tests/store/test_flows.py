"""Notes of runs: written while the lease is held, once, and recalled by whoever has the run next (I1, I2)."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from flow_stage import CHILD, FAILED, Flows, dispatch, mark, resume, step
from store_stage import NAME, Stage, outcomes
from test_plans import explain, nodes

from hotpath import asyncpg_trio
from hotpath.core.notes import Cached, Child, Early, Event
from hotpath.errors import UsageError
from hotpath.model import State
from hotpath.store import flows, jobs
from hotpath.store.flows import ResumeRefusedError
from hotpath.store.sweep import sweep


async def test_steps_are_jobs(flowing: Flows):
    """I5: a step that was noted is a job: by look-up and in the view, with its run, key and iteration."""
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    note = step(run, "l[3]/br[default]/c", log="hello\n", script=flowing.child)
    failed = step(run, "d", state=2, outcome=FAILED, args=b"null")
    assert await flowing.note(worker, (hand, 0, note), (hand, 0, failed)) == [True]
    job = await jobs.get_job(flowing.stage.connection, UUID(bytes=note.id))
    assert job is not None
    assert (job.kind, job.parent, job.step, job.iteration) == ("step", run, "l[3]/br[default]/c", "3.default")
    assert (job.state, job.result, job.args, job.script, job.tag) == (
        State.SUCCESS, "result of l[3]/br[default]/c", {"x": 1}, CHILD, NAME,
    )  # fmt: skip
    assert await jobs.get_log(flowing.stage.connection, job.id) == [(1, "hello\n")]
    other = await jobs.get_job(flowing.stage.connection, UUID(bytes=failed.id))
    assert other is not None
    assert (other.state, other.script, other.iteration, other.args) == (State.FAILURE, NAME, "", {})
    assert other.error["message"] == "no"
    parent = await jobs.get_job(flowing.stage.connection, run)
    assert parent is not None
    assert (parent.kind, parent.parent, parent.step) == ("flow", None, None)
    await flowing.stage.check_once_each([run, job.id, other.id])


async def test_lost_lease_is_refused_and_others_are_not(flowing: Flows):
    """I2: notes of a run whose lease is lost are refused; those of another run in the same call are taken."""
    worker, first = await flowing.in_hand()
    _, second = await flowing.in_hand(session=worker)
    await worker.give_back([first.lease])
    runs = first.ids[0], second.ids[0]
    accepted = await flowing.note(
        worker,
        (first, 0, step(runs[0], "a", log="lost")),
        (first, 0, mark("sleep:a", {"until": 1})),
        (first, 0, dispatch(runs[0], "b")),
        (first, 0, Early(b"1")),
        (second, 0, step(runs[1], "a")),
        (second, 0, mark("sleep:a", {"until": 2})),
    )
    assert accepted == [False, True]
    assert await flowing.recall(runs[0]) is None
    known = await flowing.recall(runs[1])
    assert known is not None
    assert known.steps.keys() == {"a"}
    assert known.marks == {"sleep:a": b'{"until": 2}'}
    assert await flowing.stage.count("job_log") == 0
    assert await flowing.stage.count("flow_child") == 0


async def test_another_workers_lease_is_refused(flowing: Flows):
    """I2: a worker cannot note anything of a run that another has, nor of one that has left the lease."""
    worker, hand = await flowing.in_hand(2)
    other = await flowing.stage.worker()
    noted = [(hand, index, step(hand.ids[index], "a")) for index in range(2)]
    assert await flowing.note(other, *noted) == [False, False]
    await worker.release(hand.lease, [1])
    assert await flowing.note(worker, *noted) == [True, False]


async def test_note_that_meets_a_give_back(flowing: Flows):
    """I2: a note waits for the transaction that takes the lease away, and is refused then."""
    import trio

    worker, hand = await flowing.in_hand()
    keeper = await flowing.stage.connect()
    found: list[bool] = []

    async def note() -> None:
        found.extend(await flowing.note(worker, (hand, 0, step(hand.ids[0], "a"))))

    async with trio.open_nursery() as nursery, keeper.transaction():
        await keeper.execute("delete from hotpath.lease")
        nursery.start_soon(note)
        await flowing.stage.blocked(worker.connection)
    assert found == [False]


async def test_the_same_notes_again(flowing: Flows):
    """I1: notes that are sent again after a lost reply are there once: steps, attempts, logs, dispatches."""
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    noted = (
        (hand, 0, step(run, "a", state=4, outcome=FAILED, log="first\n")),
        (hand, 0, step(run, "a", attempt=2, log="second\n")),
        (hand, 0, mark("choice:br:expr", 1)),
        (hand, 0, dispatch(run, "b")),
        (hand, 0, Early(b"null")),
        (hand, 0, Cached(b"k", 60.0, b"7")),
    )
    assert await flowing.note(worker, *noted) == [True]
    assert await flowing.note(worker, *noted, again=True) == [True]
    tables = ("job_done", "job_attempt", "job_log", "mark", "flow_child", "job_queue", "waiter", "flow_cache")
    assert [await flowing.stage.count(table) for table in tables] == [1, 1, 2, 1, 1, 1, 1, 1]
    attempts = await flowing.stage.attempts(UUID(bytes=noted[0][2].id))
    assert attempts == [(1, "failure", "exception"), (2, "success", None)]


async def test_recall(flowing: Flows):
    """I1: whoever has the run next is told of its steps, marks, events, dispatches."""
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    assert await flowing.recall(run) is None
    a, b = step(run, "a"), dispatch(run, "b")
    await flowing.note(
        worker, (hand, 0, a), (hand, 0, mark("x:1", 1)), (hand, 0, mark("x:2", 2)), (hand, 0, b)
    )
    await flowing.note(worker, (hand, 0, mark("x:1", None)), (hand, 0, mark("x:2", [3])))
    await resume(flowing.stage.connection, run, "a", payload=b'{"by": "me"}', approver="ann")
    await worker.give_back([hand.lease])
    known = await flowing.recall(run)
    assert known is not None
    step_a = known.steps["a"]
    assert (step_a.state, step_a.outcome, step_a.id) == (1, b'"result of a"', a.id)
    assert json.loads(step_a.args or b"") == {"x": 1}
    assert known.marks == {"x:2": b"[3]"}
    assert known.events == {"a": [Event(True, b'{"by": "me"}', "ann")]}
    assert known.children == {"b": Child(b.id, 0, b"null")}
    assert (known.generation, known.retried) == (0, False)


async def test_columns_that_do_not_fit_are_an_error(flowing: Flows):
    """I13: one outcome too many or too few does not shift the others: nothing is written."""
    worker, hand = await flowing.in_hand()
    for outcome in (b"1,2", b""):
        with pytest.raises(asyncpg.PostgresError):
            await flowing.note(worker, (hand, 0, step(hand.ids[0], "a", outcome=outcome)))
    assert await flowing.stage.count("job_done") == 0


async def test_dispatch(flowing: Flows):
    """I5: a step that is sent through the queue is a job there, with its run and key, tag, priority, time-out
    and large args.
    """
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    large = json.dumps({"x": "y" * 9000}).encode()
    note = dispatch(run, "l[0]/b", tag="elsewhere", priority=7, timeout_ms=1500, args=large)
    await flowing.note(worker, (hand, 0, note))
    job = await jobs.get_job(flowing.stage.connection, UUID(bytes=note.id))
    assert job is not None
    assert (job.state, job.kind, job.parent, job.step, job.iteration) == (
        State.QUEUED, "step", run, "l[0]/b", "0",
    )  # fmt: skip
    assert (job.tag, job.priority, len(job.args["x"])) == ("elsewhere", 7, 9000)
    row = await flowing.stage.connection.fetchrow("select * from hotpath.job_queue where id = $1", job.id)
    assert (row["timeout_ms"], row["args"]) == (1500, None)
    await flowing.stage.check_once_each([run, job.id])


async def test_dispatch_to_nobody(flowing: Flows):
    """I13: a step for a script that nobody has registered fails at once and says so; the run need not wait
    for it.
    """
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    note = dispatch(run, "b", script="nobody")
    await flowing.note(worker, (hand, 0, note))
    known = await flowing.recall(run)
    assert known is not None
    assert known.children["b"].state == 2
    assert "'nobody' is registered" in json.loads(known.children["b"].outcome)["message"]
    await flowing.park(worker, hand, children=(note.id,))
    assert await flowing.due(run)


async def test_early_result_and_cache(flowing: Flows):
    """I1: the first early result stays; a cached result is there until its time is over."""
    worker, hand = await flowing.in_hand()
    await flowing.note(worker, (hand, 0, Early(b"null")), (hand, 0, Cached(b"k", 60.0, b"[7]")))
    await flowing.note(worker, (hand, 0, Early(b"2")), (hand, 0, Cached(b"gone", -1.0, b"8")))
    connection = flowing.stage.connection
    assert await connection.fetchval("select early from hotpath.flow_run") == "null"
    assert await flows.cache_get(connection, [b"k", b"gone", b"never"]) == {b"k": b"[7]"}
    await flowing.note(worker, (hand, 0, Cached(b"k", 60.0, b"[9]")))
    assert await flows.cache_get(connection, [b"k"]) == {b"k": b"[9]"}
    assert await sweep(connection, None, 10) is None
    assert await flowing.stage.count("flow_cache") == 1


async def test_secret_is_not_for_readers(flowing: Flows):
    """I13: the secret that tokens are signed with is 32 bytes, another in each database, and no reader's."""
    connection = flowing.stage.connection
    assert len(await flows.secret(connection)) == 32
    for role, may in (("hotpath_read", False), ("hotpath_enqueue", False), ("hotpath_worker", True)):
        said = await connection.fetchval("select has_table_privilege($1, 'hotpath.secret', 'select')", role)
        assert said == may
    for role, may in (("hotpath_read", False), ("hotpath_enqueue", True), ("hotpath_worker", True)):
        said = await connection.fetchval(
            "select has_function_privilege($1, 'hotpath.resume'::regproc, 'execute')",
            role,
        )
        assert said == may


async def test_roles_can_do_their_part(flowing: Flows):
    """I13: with a worker's rights alone one can note, park, recall and wake; with a client's, resume, cancel
    and retry a run.
    """
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    await worker.connection.execute("set role hotpath_worker")
    child = await flowing.send(worker, hand)
    await flowing.note(worker, (hand, 0, mark("suspend:s", {"required": 2, "until": None, "form": None})))
    assert await flowing.park(worker, hand, children=(child.bytes,)) == 1
    assert (await flows.recall(worker.connection, [run]))[run].children.keys() == {"a"}
    scorer = await flowing.scorer()
    await scorer.connection.execute("set role hotpath_worker")
    await flowing.stage.flush(scorer, outcomes(await flowing.claim_child(scorer)))
    assert await flowing.due(run)
    client = await flowing.stage.connect()
    await client.execute("set role hotpath_enqueue")
    await resume(client, run, "s")
    assert await flowing.stage.cancel(run, client)
    assert await flowing.stage.retry(run, client)
    await sweep(worker.connection, None, 10)
    reader = await flowing.stage.connect()
    await reader.execute("set role hotpath_read")
    assert {row["kind"] for row in await reader.fetch("select kind from hotpath.job")} == {"flow", "step"}
    assert len(await flows.read_steps(reader, run)) == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await resume(reader, run, "s", 2)


async def test_preparing_writes_nothing(flowing: Flows):
    """I10: what plans the statements of notes ahead leaves nothing behind."""
    worker = await flowing.stage.worker()
    await flows.prepare(worker.connection, worker.worker)
    tables = ("job_done", "job_log", "flow_run", "mark")
    assert [await flowing.stage.count(table) for table in tables] == [0] * 4


# ---------------------------------------------------------------- approvals


async def test_a_token_counts_once(flowing: Flows):
    """I13: an approval with a nonce that was used is refused; one with another counts beside it; one when the
    run has its answer is refused.
    """
    worker, hand = await flowing.in_hand()
    run, connection = hand.ids[0], flowing.stage.connection
    await flowing.note(worker, (hand, 0, mark("suspend:s", {"required": 2, "until": None, "form": None})))
    await resume(connection, run, "s", 1)
    with pytest.raises(ResumeRefusedError, match=f"step s of run {run}: this token has been used"):
        await resume(connection, run, "s", 1)
    await resume(connection, run, "s", 2, payload=b"[2]")
    with pytest.raises(ResumeRefusedError, match="has its answer"):
        await resume(connection, run, "s", 3)
    known = await flowing.recall(run)
    assert known is not None
    assert [event.payload for event in known.events["s"]] == [b"null", b"[2]"]


async def test_resume_refuses(flowing: Flows):
    """I13: no approval is taken for a run that is unknown or has ended, behind a no, or too late; nor one
    without a nonce, nor one that cannot be stored.
    """
    worker, hand = await flowing.in_hand(2)
    first, second = hand.ids
    connection = flowing.stage.connection
    with pytest.raises(ResumeRefusedError, match="or there is none"):
        await resume(connection, uuid4(), "s")
    with pytest.raises(UsageError, match="nonce"):
        await resume(connection, first, "s", nonce=b"short")
    with pytest.raises(UsageError, match="1 MiB"):
        await resume(connection, first, "s", payload=b'"%s"' % (b"y" * (1 << 20)))
    with pytest.raises(UsageError):
        await resume(connection, first, "s", payload=b"{")
    forever = {"required": 2, "until": None, "form": None}
    await flowing.note(
        worker,
        (hand, 0, mark("suspend:s", forever)),
        (hand, 1, mark("suspend:s", forever | {"until": 1_000_000})),
    )
    await resume(connection, first, "s", approved=False)
    with pytest.raises(ResumeRefusedError, match="has its answer"):
        await resume(connection, first, "s", 2)
    with pytest.raises(ResumeRefusedError, match="time to answer is over"):
        await resume(connection, second, "s")
    await flowing.stage.flush(worker, outcomes(hand))
    with pytest.raises(ResumeRefusedError, match="has ended"):
        await resume(connection, first, "s", 3)


# ---------------------------------------------------------------- what it costs


async def test_recall_of_fresh_runs_is_few_probes(flowing: Flows):
    """I10: recalling 500 runs that noted nothing goes by index, in the partitions since they were made, and
    never into the tables of runs that wait.
    """
    stage = flowing.stage
    day = (await stage.now() - timedelta(days=20)).date()
    await stage.connection.execute(
        f"create table hotpath.job_done_old partition of hotpath.job_done "
        f"for values from ('{day}') to ('{day + timedelta(days=1)}')"
    )
    await stage.connection.execute(
        """insert into hotpath.job_done
            (id, scheduled_for, tag, script, priority, attempt, state, parent, step)
        select hotpath.uuid7(), now(), 1, 1, 0, 1, 1, case when g % 2 = 0 then hotpath.uuid7() end, 'a'
        from generate_series(1, 20000) g;
        insert into hotpath.flow_run (id) select hotpath.uuid7() from generate_series(1, 2000) g;
        insert into hotpath.mark (run, key, value) select id, 'k', '1' from hotpath.flow_run;
        analyze hotpath.job_done, hotpath.flow_run, hotpath.mark"""
    )
    runs = await stage.loose(500)
    plan = await explain(stage, "recall", f"'{{{','.join(map(str, runs))}}}'", analyze=True)
    ran = [node for node in nodes(plan) if node.get("Relation Name") and node["Actual Loops"]]
    assert all(node["Node Type"] in {"Index Scan", "Index Only Scan"} for node in ran), ran
    touched = {node["Relation Name"]: node["Index Name"] for node in ran}
    assert touched.pop("flow_run") == "flow_run_pkey"
    today = f"job_done_{await stage.now():%Y%m%d}"
    assert today in touched
    # Around midnight UTC there may be one more.
    assert len(touched) <= 2
    assert all(name.startswith("job_done_") and "parent" in index for name, index in touched.items())


@pytest.mark.parametrize("statement", ["cycle", "claim", "end_jobs", "release", "give_back"])
async def test_hot_path_knows_no_flows(stage: Stage, statement):
    """I10: the statements of every job read no table of flows; of one that ends as its worker was lost, the
    mark of the step that it was at.
    """
    tables = {node.get("Relation Name") for node in nodes(await explain(stage, statement))}
    of_flows = {"flow_run", "flow_child", "flow_event", "checkpoint", "mark", "flow_cache"}
    assert tables & of_flows == ({"mark"} if statement == "give_back" else set())


async def test_migration_keeps_what_is_there(empty_database_url, monkeypatch):
    """I1: jobs that were there before there were flows are there after it, can be canceled and retried; their
    script is one of kind `script`.
    """
    from hotpath.store import migrate as module

    newest = module.migrations()
    monkeypatch.setattr(module, "migrations", lambda: newest[:4])
    connection = await asyncpg_trio.connect(empty_database_url)
    await module.migrate(connection)
    await connection.execute(
        """insert into hotpath.script (name, tag) values ('s', hotpath.tag_id('s'));
        insert into hotpath.script_version (script, hash, is_async, schema, settings)
            values (1, 'h', false, '{}', '{}');
        update hotpath.script set version = 1"""
    )
    waits, ended = [await connection.fetchval("select hotpath.enqueue('s')") for _ in range(2)]
    assert await connection.fetchval("select hotpath.cancel($1)", ended)
    monkeypatch.setattr(module, "migrations", lambda: newest)
    assert await module.migrate(connection) == [name for _, name, _ in newest[4:]]
    rows = await connection.fetch(
        "select id, state, kind, parent, step, iteration from hotpath.job order by id"
    )
    assert [tuple(row) for row in rows] == [
        (waits, "queued", "script", None, None, None),
        (ended, "canceled", "script", None, None, None),
    ]
    assert await connection.fetchval("select hotpath.retry($1)", ended)
    assert await connection.fetchval("select hotpath.cancel($1)", waits)
    assert await connection.fetchval("select count(*) from hotpath.flow_run") == 0
    connection.terminate()
