"""How fast jobs go in, against the bare COPY or INSERT of rows of the same width."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
import uuid_utils.compat as uuid_utils

import hotpath
from bench.clients import run_clients
from bench.context import WORKSPACE, Bench, connect
from bench.registry import CheckFailed, Finding, Target, ratios, scenario
from bench.run import dedicated

MANY = 500_000
SECONDS = 4.0
"""How long clients enqueue one by one, for each sample."""
SINGLE = 1000
CLIENTS = 16

MANY_OF_COPY = Target(0.8)
FUNCTION_OF_INSERT = Target(0.6)
BUSY_FUNCTION_OF_INSERT = Target(0.5)

_COLUMNS = ("base", "scheduled_for", "tag", "script", "priority", "n", "open", "args")
_PLAIN_COLUMNS = ("id", "scheduled_for", "tag", "script", "priority", "args")
# A table as wide as the queue, with a key and nothing else: what a user would write for himself on the
# first day.
_PLAIN = """
create table plain_queue (id uuid primary key default gen_random_uuid(),
    scheduled_for timestamptz not null default now(), tag int8 not null default 1,
    script integer not null default 1, priority int2 not null default 0,
    attempt int2 not null default 0, crashes int2, suspect int2, args json)
"""
FUNCTION = "select hotpath.enqueue('noop', jsonb_build_object('n', {n}::int))"
INSERT = "insert into plain_queue (args) values (json_build_object('n', {n}::int)) returning id"


@scenario("enqueue")
async def run_enqueue(bench: Bench) -> list[Finding]:
    """Enqueue rates: many against bare COPY, the SQL function against bare INSERT from 1 client and 16."""
    many, copy, rows, single = [], [], [], []
    for turn in range(bench.repeat):
        bench.say(f"enqueue: many, round {turn + 1} of {bench.repeat}")
        async with bench.database() as url:
            many.append(await _many(bench, url))
            copy.append(await _copy(url))
            rows.append(await _copy_loose(bench, url))
            single.append(await _single(bench, url))
    findings = [
        Finding("enqueue_many", many, "jobs/s"),
        Finding("bare COPY of the same jobs, a row each", rows, "jobs/s"),
        Finding("enqueue_many / COPY", ratios(many, rows), "x", MANY_OF_COPY),
        Finding("bare COPY of the sealed rows, made before", copy, "jobs/s"),
        Finding("enqueue_many / COPY of made rows", ratios(many, copy), "x"),
        Finding("enqueue, one client", single, "jobs/s"),
    ]
    findings += await _function(bench, 1, FUNCTION_OF_INSERT)
    findings += await _function(bench, CLIENTS, BUSY_FUNCTION_OF_INSERT)
    return findings


async def _many(bench: Bench, url: str) -> float:
    """Jobs a second through the library: checked, encoded, sealed and sent."""
    jobs = bench.size(MANY, least=2000)
    async with hotpath.open_client(url, workspace=WORKSPACE) as client:
        await client.validator("noop")
        began = time.perf_counter()
        ids = await client.enqueue_many("noop", ({"n": n} for n in range(jobs)))
        seconds = time.perf_counter() - began
    await _expect(url, "select sum(n) from hotpath.batch", jobs)
    if len(ids) != jobs:
        raise CheckFailed(f"enqueue_many returned {len(ids)} ids for {jobs} jobs")
    return jobs / seconds


async def _copy(url: str) -> float:
    """Jobs a second when the very same rows are copied into a table like the batches'."""
    async with connect(url) as connection:
        rows = await connection.fetch(f"select {', '.join(_COLUMNS)} from hotpath.batch")
        records = [tuple(row) for row in rows]
        jobs = sum(row["n"] for row in rows)
        await connection.execute("create table plain_batch (like hotpath.batch including all)")
        began = time.perf_counter()
        await connection.copy_records_to_table("plain_batch", columns=_COLUMNS, records=records)
        seconds = time.perf_counter() - began
    await _expect(url, "select sum(n) from plain_batch", jobs)
    return float(jobs / seconds)


async def _copy_loose(bench: Bench, url: str) -> float:
    """Jobs a second when each is a row of a plain queue table, made and encoded on the way."""
    jobs = bench.size(MANY, least=2000)
    encode = msgspec.json.Encoder().encode
    async with connect(url) as connection:
        await connection.execute(_PLAIN)
        when = await connection.fetchval("select now()")
        began = time.perf_counter()
        records = ((uuid_utils.uuid7(), when, 1, 1, 0, encode({"n": n}).decode()) for n in range(jobs))
        await connection.copy_records_to_table("plain_queue", columns=_PLAIN_COLUMNS, records=records)
        seconds = time.perf_counter() - began
    await _expect(url, "select count(*) from plain_queue", jobs)
    return jobs / seconds


async def _single(bench: Bench, url: str) -> float:
    """Jobs a second, one call after the other, each committed."""
    jobs = bench.size(SINGLE, least=50)
    async with hotpath.open_client(url, workspace=WORKSPACE) as client:
        await client.enqueue("noop", {"n": -1})
        began = time.perf_counter()
        for n in range(jobs):
            await client.enqueue("noop", {"n": n})
        seconds = time.perf_counter() - began
    await _expect(url, "select count(*) - 1 from hotpath.job_queue", jobs)
    return jobs / seconds


async def _function(bench: Bench, clients: int, target: Target) -> list[Finding]:
    """The SQL function against the bare INSERT; from several clients, with a worker at work."""
    function, insert = [], []
    tool = ""
    for turn in range(bench.repeat):
        bench.say(f"enqueue: {clients} SQL client{'s' * (clients > 1)}, round {turn + 1} of {bench.repeat}")
        async with bench.database() as url:
            async with connect(url) as connection:
                await connection.execute(_PLAIN)
            async with _busy(bench, url, busy=clients > 1):
                seconds = max(0.3, SECONDS * bench.scale * (0.25 if bench.quick else 1))
                ran = await run_clients(url, FUNCTION, clients, seconds)
                function.append(ran.per_second)
                bare = await run_clients(url, INSERT, clients, seconds)
                insert.append(bare.per_second)
                await _drained(url, busy=clients > 1)
            tool = ran.tool
            await _expect(url, _ALL, ran.statements)
            await _expect(url, "select count(*) from plain_queue", bare.statements)
    name = f"{clients} client{'s, worker busy' if clients > 1 else ''} ({tool})"
    return [
        Finding(f"hotpath.enqueue(), {name}", function, "jobs/s"),
        Finding(f"bare INSERT, {name}", insert, "jobs/s"),
        Finding(f"enqueue() / INSERT, {name}", ratios(function, insert), "x", target),
    ]


_ALL = """
select (select count(*) from hotpath.job_queue)
    + (select count(distinct id) from hotpath.job_done where state = 1)
"""


@asynccontextmanager
async def _busy(bench: Bench, url: str, *, busy: bool) -> AsyncIterator[Any]:
    """A worker that runs what comes in, if `busy`."""
    if not busy:
        yield None
        return
    async with dedicated(bench, url, "noop") as usage:
        yield usage


async def _drained(url: str, *, busy: bool) -> None:
    """Wait until the worker has run all of it."""
    with trio.move_on_after(120):
        async with connect(url) as connection:
            while busy and await connection.fetchval(_LEFT):  # noqa: ASYNC110 - another process's work
                await trio.sleep(0.05)
            return
    raise CheckFailed("noop: the worker did not run what the clients enqueued within 120 s")


_LEFT = "select exists (select from hotpath.job_queue) or exists (select from hotpath.lease)"


async def _expect(url: str, query: str, expected: int) -> None:
    """Raise CheckFailed unless the query counts `expected`."""
    async with connect(url) as connection:
        found = await connection.fetchval(query)
    if found != expected:
        raise CheckFailed(f"{expected} were put in, {found} are there: {query}")
