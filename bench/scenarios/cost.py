"""What a job that uses no limit costs the server: against the schema as it was before there were limits.

Two databases of one server, one with the migrations up to `BEFORE` and one with all of them, get the same
statements in turns, a moment each; the CPU is that of the one backend that runs them. Statement by statement,
since what is asked is whether any of them has become dearer.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from bench.ceiling import flush_of
from bench.context import Bench, connect
from bench.registry import CheckFailed, Finding, Target, ratios, scenario
from hotpath import asyncpg_trio
from hotpath.core.hand import Hand
from hotpath.core.positions import Positions
from hotpath.store.load_rows import Load
from hotpath.store.migrate import migrations
from hotpath.store.queries import query
from hotpath.store.seal import Bases, JobIds, Sealer
from hotpath.store.work import Claim, WorkerSession, connect_session

BEFORE = 12
"""The last migration before jobs could have limits, keys, debounce and expiry."""
TURNS = 60
"""Of each arm, for one round of the bench."""
SINGLE = 100
"""Jobs one by one, of each kind, in a turn."""
MANY = 2_000
"""Jobs of a turn that go in many at a time."""
WANT = 500
"""As many as a worker's claim takes."""
SCRIPT = "noop"
SAME = Target(1.02, at_least=False)

FUNCTION = "select hotpath.enqueue('noop', jsonb_build_object('n', $1::int))"
TOGETHER = """
select count(hotpath.enqueue('noop', jsonb_build_object('n', n))) from generate_series(1, $1::int) n
"""
_VERSION = """
with made as (insert into hotpath.script (name, tag) values ($1, hotpath.tag_id($1)) returning id),
chosen as (
    insert into hotpath.script_version (script, hash, is_async, schema, settings)
    select id, $2, false, $3::jsonb, $4::jsonb from made returning id)
select made.id from made cross join chosen
"""
_WAL = "select (pg_current_wal_insert_lsn() - '0/0')::int8"
_LEFT = """
select (select count(*) from hotpath.job_queue) + (select count(*) from hotpath.batch)
    + (select count(*) from hotpath.lease)
"""


@attrs.define
class Side:
    """One of the two databases, and the backends whose CPU is looked at: a client's and a worker's."""

    connection: asyncpg_trio.Connection
    session: WorkerSession
    pids: list[int]
    script: int
    tag: int
    function: asyncpg_trio.PreparedStatement
    together: asyncpg_trio.PreparedStatement
    positions: Positions = attrs.field(factory=Positions)
    hands: list[Hand] = attrs.field(factory=list)
    enqueued: int = 0

    async def one_by_one(self, jobs: int) -> None:
        """As SQL clients do: a transaction for each."""
        for n in range(jobs):
            await self.function.fetchval(n)
        self.enqueued += jobs

    async def in_one_statement(self, jobs: int) -> None:
        """The function alone, so to speak."""
        await self.together.fetchval(jobs)
        self.enqueued += jobs

    async def sealed(self, jobs: int) -> None:
        """What `enqueue_many` sends: COPY of sealed batches, and the statement after it."""
        raws = (b'{"n": %d}' % n for n in range(jobs))
        async with self.connection.transaction():
            when = await self.connection.fetchval("select now()")
            ids, bases = JobIds(), Bases(time.time(), time.monotonic())
            load = Load(ids, bases, Sealer().seal(raws), (when, self.tag, self.script, 0), None, None)
            await self.connection.copy_to_table(
                load.table, schema_name="hotpath", columns=load.columns, source=load, format="binary"
            )
            await self.connection.fetchrow(query("load_end"), self.tag, None, when)
        self.enqueued += jobs

    async def claim(self, jobs: int, want: int) -> None:
        """Claims alone, of `want` jobs each."""
        for _ in range(jobs // want):
            claim = Claim(want, self.tag, SCRIPT, self.script, self.positions)
            hand = (await self.session.cycle([], claim)).hand
            if hand is None or hand.size != want:
                raise CheckFailed(f"cost: a claim of {want} took {0 if hand is None else hand.size}")
            self.hands.append(hand)

    async def flush(self) -> None:
        """Flushes alone, of what was claimed."""
        for hand in self.hands:
            accepted = (await self.session.cycle([flush_of(hand)], None)).accepted
            if hand.lease not in accepted:
                raise CheckFailed("cost: a flush was not accepted")
        self.hands = []

    def cpu(self) -> float:
        """CPU seconds of the backends."""
        return sum(map(_cpu, self.pids))

    async def wal(self) -> int:
        """Bytes that the server has logged."""
        return int(await self.connection.fetchval(_WAL))


Arm = tuple[str, int, Callable[[Side], Awaitable[None]]]


def arms(bench: Bench) -> Sequence[Arm]:
    """What is measured in a turn: measure, jobs, what is done. The queue is empty after the last."""
    single, many = min(SINGLE, bench.size(SINGLE * 10)), bench.size(MANY, least=10)
    want = min(WANT, many)
    many -= many % want
    return (
        ("enqueue(), one by one", single, lambda side: side.one_by_one(single)),
        ("claim, one loose job", single, lambda side: side.claim(single, 1)),
        ("flush, one job", single, lambda side: side.flush()),
        ("enqueue(), in one statement", many, lambda side: side.in_one_statement(many)),
        ("claim, loose jobs", many, lambda side: side.claim(many, want)),
        ("flush, loose jobs", many, lambda side: side.flush()),
        ("enqueue_many, sealed", many, lambda side: side.sealed(many)),
        ("claim, sealed jobs", many, lambda side: side.claim(many, want)),
        ("flush, sealed jobs", many, lambda side: side.flush()),
    )


@scenario("cost")
async def run_cost(bench: Bench) -> list[Finding]:
    """Backend CPU and WAL of a job without limits, by statement, against the schema before limits."""
    async with bench.empty_database() as before_url, bench.database() as after_url:
        async with connect(after_url) as connection:
            version = await connection.fetchrow(
                "select v.hash, v.schema, v.settings from hotpath.script s"
                " join hotpath.script_version v on v.id = s.version where s.name = $1",
                SCRIPT,
            )
        assert version is not None, "the bench's database has its scripts"
        await schema_at(before_url, BEFORE, version)
        async with _side(before_url) as before, _side(after_url) as after:
            turns = max(1, int(TURNS * bench.repeat * min(1.0, bench.scale) * (0.25 if bench.quick else 1)))
            cpu, wal = await _measure(bench, before, after, turns)
            for side in (before, after):
                if left := await side.connection.fetchval(_LEFT):
                    raise CheckFailed(f"cost: {left} rows are left in the queue")
                if (
                    done := await side.connection.fetchval("select count(*) from hotpath.job_done")
                ) != side.enqueued:
                    raise CheckFailed(f"cost: {side.enqueued} jobs were put in, {done} are done")
    findings = []
    for name, _, _ in arms(bench):
        was, now = cpu[name]
        findings.append(Finding(f"{name}: CPU before", was, "us"))
        findings.append(Finding(f"{name}: CPU", now, "us"))
        findings.append(Finding(f"{name}: CPU / before", ratios(now, was), "x", SAME))
        was, now = wal[name]
        findings.append(Finding(f"{name}: WAL", now, "bytes"))
        findings.append(Finding(f"{name}: WAL / before", ratios(now, was), "x", SAME))
    return findings


Samples = dict[str, tuple[list[float], list[float]]]


async def _measure(bench: Bench, before: Side, after: Side, turns: int) -> tuple[Samples, Samples]:
    """CPU in microseconds and WAL in bytes for one job, of each arm: before and after, turn by turn."""
    cpu: Samples = {name: ([], []) for name, _, _ in arms(bench)}
    wal: Samples = {name: ([], []) for name, _, _ in arms(bench)}
    for turn in range(-1, turns):
        if turn >= 0 and turn % 50 == 0:
            bench.say(f"cost: turn {turn + 1} of {turns}")
        for name, jobs, act in arms(bench):
            order = ((0, before), (1, after)) if turn % 2 else ((1, after), (0, before))
            for which, side in order:
                log, used = await side.wal(), side.cpu()
                await act(side)
                used, log = side.cpu() - used, await side.wal() - log
                if turn >= 0:  # the first one fills caches
                    cpu[name][which].append(used / jobs * 1e6)
                    wal[name][which].append(log / jobs)
    return cpu, wal


def _cpu(pid: int) -> float:
    """CPU seconds of a process; to the nanosecond where the kernel keeps it so."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def schema_at(url: str, last: int, version: Any) -> None:
    """Make the schema as it was after migration `last`, with the script in it. `version`: its `hash`, and
    `schema` and `settings` as JSON.
    """
    async with connect(url) as connection:
        await connection.execute("create schema hotpath")
        for number, _, sql in migrations():
            if number <= last:
                await connection.execute(sql)
        await connection.fetchval("select hotpath.make_partitions(7)")
        values = (version["hash"], version["schema"], version["settings"])
        script = await connection.fetchval(_VERSION, SCRIPT, *values)
        await connection.execute(
            "update hotpath.script s set version = v.id from hotpath.script_version v"
            " where v.script = s.id and s.id = $1",
            script,
        )


@asynccontextmanager
async def _side(url: str) -> AsyncIterator[Side]:
    """A client's connection and a worker's session; worker 0 is nobody who could be taken for dead."""
    async with connect(url) as connection:
        session = await connect_session(url, 0)
        try:
            await session.prepare()
            row = await connection.fetchrow("select id, tag from hotpath.script where name = $1", SCRIPT)
            assert row is not None, "the script is there"
            pids = [await one.fetchval("select pg_backend_pid()") for one in (connection, session.connection)]
            yield Side(
                connection,
                session,
                pids,
                row["id"],
                row["tag"],
                await connection.prepare(FUNCTION),
                await connection.prepare(TOGETHER),
            )
        finally:
            await session.connection.close()
