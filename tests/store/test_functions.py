"""What SQL clients call: `hotpath.enqueue` in their own transactions, what it refuses (I13), and who may
call what.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
import trio
from store_stage import Stage, outcomes

from hotpath import asyncpg_trio
from hotpath.store import workers
from hotpath.store.queries import query


async def test_enqueue_belongs_to_the_callers_transaction(stage: Stage):
    """I1: a job exists with its caller's commit and not before; a rollback leaves nothing."""
    other = await stage.connect()
    async with other.transaction():
        job = await other.fetchval("select hotpath.enqueue('flow_x', '{\"x\": 1}')")
        assert await stage.state(job) is None
    assert await stage.state(job) == "queued"
    with pytest.raises(ZeroDivisionError):
        async with other.transaction():
            lost = await other.fetchval("select hotpath.enqueue('flow_x', '{\"x\": 2}', 'new tag')")
            raise ZeroDivisionError
    assert await stage.state(lost) is None
    assert await stage.count("tag_seen") == 0


async def test_new_tag_in_an_open_transaction_blocks_nobody(stage: Stage):
    """I10: while one client holds a transaction that used a new tag first, others use that tag, and workers
    take from it.
    """
    other, third = await stage.connect(), await stage.connect()
    tag = await stage.connection.fetchval("select hotpath.tag_id('brand new')")
    async with other.transaction():
        late = await other.fetchval("select hotpath.enqueue('flow_x', tag => 'brand new')")
        with trio.fail_after(30):
            job = await third.fetchval("select hotpath.enqueue('flow_x', tag => 'brand new')")
            await workers.register_tags(third, ["brand new"])
            worker = await stage.worker(tags=[tag])
            hand = await stage.claim(worker, tag=tag)
            assert list(hand.ids) == [job]
    assert list((await stage.claim(worker, tag=tag)).ids) == [late]
    assert {row["tag"] for row in await stage.view()} == {"brand new"}


REFUSED = [
    ("hotpath.enqueue('nobody')", "HP001", "nobody"),
    ("hotpath.enqueue(null)", "HP001", "NULL"),
    ("hotpath.enqueue('flow_x', '[1]')", "HP002", "args"),
    ("hotpath.enqueue('flow_x', '3')", "HP002", "args"),
    ("hotpath.enqueue('flow_x', null)", "HP002", "args"),
    ("hotpath.enqueue('flow_x', '{}', '')", "HP003", "tag"),
    ("hotpath.enqueue('flow_x', '{}', repeat('t', 256))", "HP003", "tag"),
    ("hotpath.enqueue('flow_x', priority => 32768)", "HP003", "priority"),
    ("hotpath.enqueue('flow_x', priority => -32769)", "HP003", "priority"),
    ("hotpath.enqueue('flow_x', priority => null)", "HP003", "priority"),
    ("hotpath.enqueue('flow_x', scheduled_for => null)", "HP003", "scheduled_for"),
    ("hotpath.enqueue('flow_x', scheduled_for => 'infinity')", "HP003", "scheduled_for"),
    ("hotpath.enqueue('flow_x', scheduled_for => '-infinity')", "HP003", "scheduled_for"),
    ("hotpath.enqueue('flow_x', timeout_ms => 0)", "HP003", "timeout_ms"),
    ("hotpath.enqueue('flow_x', timeout_ms => -5)", "HP003", "timeout_ms"),
    ("hotpath.enqueue('flow_x', jsonb_build_object('x', repeat('y', 16777216)))", "HP002", "16 MiB"),
    ("hotpath.enqueue('flow_x', '{\"x\": \"\\u0000\"}')", "22P05", "u0000"),
]


async def test_enqueue_refuses(stage: Stage, subtests):
    """I13: what cannot be a job is refused at the door, with an error that names the field; nothing is left
    behind.
    """
    for call, state, names in REFUSED:
        with subtests.test(ascii(call)[:60]):
            with pytest.raises(asyncpg.PostgresError) as refusal:
                await stage.connection.fetchval(f"select {call}")
            assert refusal.value.sqlstate == state
            assert names in f"{refusal.value} {refusal.value.detail or ''}"
            for table in ("job_queue", "payload", "tag_seen"):
                assert await stage.count(table) == 0


async def test_enqueue_takes_the_extremes(stage: Stage):
    """I13: the outermost values that are allowed are kept as they are, and zero means the script's own
    priority.
    """
    await stage.connection.execute("update hotpath.script set priority = 4")
    jobs = [
        await stage.connection.fetchval(f"select hotpath.enqueue('flow_x', {more})")
        for more in (
            "priority => 32767",
            "priority => -32768",
            "priority => 0",
            "scheduled_for => '9999-12-31'",
            "scheduled_for => '1970-01-01'",
            "tag => repeat('ü', 127)",
        )
    ]
    rows = {row["id"]: row for row in await stage.view()}
    assert [rows[job]["priority"] for job in jobs] == [32767, -32768, 4, 4, 4, 4]
    assert [rows[job]["scheduled_for"].year for job in jobs[3:5]] == [9999, 1970]
    await stage.check_once_each(jobs)


async def test_enqueue_notifies_only_who_sleeps(stage: Stage):
    """I10: an enqueue sends a NOTIFY when a worker dozes on its tag, once a transaction, and else none."""
    worker = await stage.worker()
    listener = await stage.connect()
    async with listener.listen("hotpath") as notes:

        async def heard() -> list[str]:
            await stage.connection.execute("select pg_notify('hotpath', 'end')")
            payloads: list[str] = []
            with trio.fail_after(40):
                async for note in notes:
                    if note.payload == "end":
                        break
                    payloads.append(note.payload)
            return payloads

        await stage.loose(2)
        await stage.sealed(2)
        assert await heard() == []
        await stage.connection.execute(query("doze"), worker.worker, [stage.tag], 30.0)
        async with stage.connection.transaction():
            await stage.loose(3)
        assert await heard() == [str(stage.tag)]
        await stage.sealed(2)
        assert await heard() == [str(stage.tag)]
        await stage.loose(1, tag="elsewhere")
        await stage.connection.fetchval(
            "select hotpath.enqueue('flow_x', scheduled_for => now() + interval '1 hour')"
        )
        assert await heard() == []
        hand = await stage.claim(worker)
        await worker.give_back([hand.lease])
        assert await heard() == [f"{stage.tag} back"], "what comes back wakes too"
        await stage.connection.execute(query("awake"), worker.worker)
        await stage.loose(1)
        assert await heard() == []


async def test_flush_notifies_only_who_waits(stage: Stage):
    """I10: the flush that ends a job sends a NOTIFY when somebody waits for it, and else none."""
    ids = await stage.loose(3)
    worker, listener = await stage.worker(), await stage.connect()
    await stage.connection.execute(
        "insert into hotpath.waiter values ($1, gen_random_uuid(), now() + interval '1 minute')", ids[1]
    )
    async with listener.listen("hotpath_done") as notes:
        await stage.flush(worker, outcomes(await stage.claim(worker)))
        await stage.connection.execute("select pg_notify('hotpath_done', 'end')")
        with trio.fail_after(40):
            assert (await notes.receive()).payload == str(ids[1])
            assert (await notes.receive()).payload == "end"


# ---------------------------------------------------------------- rights


@asynccontextmanager
async def acting_as(stage: Stage, role: str) -> AsyncIterator[asyncpg_trio.Connection]:
    """A connection with the rights of one of Hotpath's roles."""
    connection = await stage.connect()
    await connection.execute(f"set role {role}")
    yield connection


FORBIDDEN = {
    "hotpath_enqueue": [
        "select * from hotpath.job",
        "select * from hotpath.job_queue",
        "select * from hotpath.job_done",
        "select * from hotpath.script",
        "delete from hotpath.job_queue",
        "insert into hotpath.tag values (1, 'x')",
        "select hotpath.make_partitions(1)",
        "create table hotpath.mine ()",
        "update hotpath.meta set version = 0",
    ],
    "hotpath_read": [
        "delete from hotpath.job_queue",
        "update hotpath.batch set next = 0",
        "insert into hotpath.job_done default values",
        "select hotpath.enqueue('flow_x')",
        "select hotpath.cancel(gen_random_uuid())",
        "select hotpath.retry(gen_random_uuid())",
        "select hotpath.make_partitions(1)",
        "create table hotpath.mine ()",
    ],
    "hotpath_worker": [
        "drop table hotpath.job_queue",
        "alter table hotpath.job_queue add column mine int",
        "create table hotpath.mine ()",
        "truncate hotpath.job_done",
    ],
}


FORBIDDEN_EACH = [(role, statement) for role, statements in FORBIDDEN.items() for statement in statements]


async def test_role_may_not(stage: Stage, subtests):
    """I13: no role can do more than its name says."""
    for role, statement in FORBIDDEN_EACH:
        with subtests.test(ascii(role)[:60]):
            async with acting_as(stage, role) as connection:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)


async def test_nobody_else_may_anything(stage: Stage):
    """I13: a user without one of the roles reaches nothing in the schema."""
    async with acting_as(stage, "pg_monitor") as connection:
        for statement in (
            "select hotpath.enqueue('flow_x')",
            "select * from hotpath.job",
            "select hotpath.uuid7()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_ids_are_of_version_7_and_in_order(stage: Stage):
    """Ids of one statement sort as they were made, and say when; the standard calls them version 7."""
    rows = await stage.connection.fetch(
        """select hotpath.uuid7() as id, clock_timestamp() as at from generate_series(1, 2000)"""
    )
    ids = [row["id"] for row in rows]
    assert len({*ids}) == 2000
    assert {(made.version, made.variant) for made in ids} == {(7, uuid.RFC_4122)}
    for row in rows:
        sub = (row["id"].int >> 64 & 0xFFF) / 4096
        made = (row["id"].int >> 80) + sub
        assert abs(made - row["at"].timestamp() * 1000) < 5000
    whens = [made.int >> 64 for made in ids]
    assert whens == sorted(whens)
    assert len({when & 0xFFF for when in whens}) > 100  # the part below a millisecond says something, too


async def test_enqueue_role_can_do_its_work(stage: Stage):
    """I13: the enqueue role puts in, cancels, retries and looks up jobs, and that is all it needs."""
    async with acting_as(stage, "hotpath_enqueue") as connection:
        job = await connection.fetchval("select hotpath.enqueue('flow_x', '{\"x\": 1}', 'a tag')")
        assert await connection.fetchval("select state from hotpath.job_get($1)", job) == "queued"
        assert await connection.fetchval("select hotpath.cancel($1)", job)
        assert await connection.fetchval("select state from hotpath.job_get($1)", job) == "canceled"
        assert await connection.fetchval("select hotpath.retry($1)", job)
        assert await connection.fetchval("select state from hotpath.job_get($1)", job) == "queued"
        found = await connection.fetch("select attempt, state from hotpath.job_attempts($1)", job)
        assert [tuple(row) for row in found] == [(0, "canceled")]


async def test_read_role_sees_all(stage: Stage):
    """I13: the reading role sees the view and looks up jobs."""
    (job,) = await stage.loose(1)
    async with acting_as(stage, "hotpath_read") as connection:
        assert await connection.fetchval("select count(*) from hotpath.job") == 1
        assert await connection.fetchval("select state from hotpath.job_get($1)", job) == "queued"
        assert await connection.fetch("select * from hotpath.job_attempts($1)", job) == []


async def test_worker_role_can_do_its_work(stage: Stage):
    """I13: a worker needs no more than the worker role: claims, flushes, gives back, reaps, and makes
    partitions.
    """
    ids = await stage.sealed(6)
    worker = await stage.worker()
    await worker.connection.execute("set role hotpath_worker")
    positions_look = await worker.look(stage.tag)
    assert positions_look[0] == [0]
    hand = await stage.claim(worker, 3)
    assert await stage.flush(worker, outcomes(hand, [0], log="said")) == {hand.lease}
    assert await worker.release(hand.lease, [1]) == 1
    hand.retry((2, 2, 1, 1, b'{"name": "E", "kind": "exception"}', None), 0.0)
    assert await stage.flush(worker, hand.take()) == {hand.lease}
    assert await worker.give_back([hand.lease]) == 0
    assert await workers.reap(worker.connection) == 0
    assert (await workers.heartbeat(worker.connection, {worker.worker: 1}, 15)).renewed == {worker.worker}
    assert await workers.make_partitions(worker.connection, 8) == 3
    assert await workers.stop_worker(worker.connection, worker.worker, 1) == 0
    assert await stage.states() == {"success": 1, "queued": 5}
    await stage.check_once_each(ids)
