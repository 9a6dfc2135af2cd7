"""What retention costs: how fast a day is gone through, what room that gives back, and what it takes from
workers meanwhile.
"""

from __future__ import annotations

import time

import trio

from bench.context import Bench, connect
from bench.load import load_loose, settle
from bench.registry import CheckFailed, Finding, Target, ratios, scenario
from bench.run import Sample, drain
from bench.usage import mean_shares
from hotpath.store.prune import prune

JOBS = 200_000
OLD = 1_000_000
BESIDE = Target(0.7)
SMALLER = Target(0.5, at_least=False)

# Two scripts, as old as can be, and a day of theirs, half and half, with results of some 200 bytes.
_SCRIPTS = """
insert into hotpath.script (name, tag, created_at)
select s, hotpath.tag_id(s), 'epoch' from unnest(array['gone', 'bare']) s
"""
_RULES = """
insert into hotpath.retention (script, jobs, results, args)
values ('gone', 86400, null, null), ('bare', null, 86400, 86400)
"""
_DAY = """
create table hotpath.job_done_{0:%Y%m%d} partition of hotpath.job_done
    for values from ('{0:%Y-%m-%d}Z') to ('{1:%Y-%m-%d}Z')
"""
_ROWS = """
insert into hotpath.job_done (id, done_at, started_at, duration_us, scheduled_for, tag, script, priority,
    attempt, state, args, result)
select hotpath.uuid7(), $1::timestamptz + g * interval '10 milliseconds', $1, 1, $1, s.tag, s.id, 0,
    1, 1, json_build_object('n', g), to_json(repeat(md5(g::text), 6))
from generate_series(1, $2::int) g
join hotpath.script s on s.name = case g % 2 when 0 then 'gone' else 'bare' end
"""


@scenario("prune")
async def run_prune(bench: Bench) -> list[Finding]:
    """A day of a million jobs: half go, half lose results; alone, and beside a drain of 200,000."""
    rows, shares, alone, beside = [], [], [], []
    old = bench.size(OLD, least=2000)
    for turn in range(bench.repeat):
        bench.say(f"prune: round {turn + 1} of {bench.repeat}")
        async with bench.database() as url:
            await _load(url, old)
            before, began = await _bytes(url), time.perf_counter()
            await _prune(url, old, gently=False)
            rows.append(old / (time.perf_counter() - began))
            shares.append(await _bytes(url) / before)
        alone.append(await _drain(bench, old, pruned=False))
        beside.append(await _drain(bench, old, pruned=True))
    rates = [sample.span.flush_rate for sample in alone]
    theirs = [sample.span.flush_rate for sample in beside]
    return [
        Finding("gone through", rows, "jobs/s"),
        Finding("table and indexes, after / before", shares, "x", SMALLER),
        Finding("drain, a day lies there", rates, "jobs/s", binds=_binding(alone)),
        Finding("drain, it is gone through", theirs, "jobs/s", binds=_binding(beside)),
        Finding("beside / alone", ratios(theirs, rates), "x", BESIDE),
    ]


def _binding(samples: list[Sample]) -> str:
    return mean_shares(sample.shares for sample in samples).binding()


async def _load(url: str, old: int) -> None:
    async with connect(url) as connection:
        day = await connection.fetchval("select (now() at time zone 'UTC')::date - 3")
        after = await connection.fetchval("select (now() at time zone 'UTC')::date - 2")
        await connection.execute(_SCRIPTS)
        await connection.execute(_DAY.format(day, after))
        begin = await connection.fetchval("select $1::date::timestamp at time zone 'UTC'", day)
        await connection.execute(_ROWS, begin, old)
        await connection.execute(_RULES)
    await settle(url)


async def _prune(url: str, old: int, *, gently: bool) -> None:
    async with connect(url) as connection:
        done = await prune(connection, "bench", gently=gently)
    if done is None or (done.jobs, done.results, done.args) != (old // 2, old - old // 2, old - old // 2):
        raise CheckFailed(f"of {old} jobs of a day, half of which should go: {done}")


async def _bytes(url: str) -> int:
    async with connect(url) as connection:
        size: int = await connection.fetchval(
            "select sum(pg_total_relation_size(inhrelid))::int8 from pg_inherits "
            "where inhparent = 'hotpath.job_done'::regclass"
        )
    return size


async def _drain(bench: Bench, old: int, *, pruned: bool) -> Sample:
    jobs = bench.size(JOBS, least=2000)
    found: list[Sample] = []
    async with bench.database() as url:
        await _load(url, old)
        await load_loose(url, "noop", jobs)

        async def measure(scope: trio.CancelScope) -> None:
            found.append(await drain(bench, url, "noop", jobs))
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(measure, nursery.cancel_scope)
            if pruned:
                await _prune(url, old, gently=True)
    return found[0]
