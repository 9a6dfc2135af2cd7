"""Whether speed depends on what lies around: a backlog, a history, somebody's transaction left open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from bench.check import check
from bench.context import Bench, connect
from bench.load import load_done, load_loose, settle
from bench.registry import CheckFailed, Finding, Target, ratios, scenario
from bench.run import Sample, dedicated, sample_of
from bench.usage import mean_shares

JOBS = 200_000
BEHIND = 5_000_000
FLAT = Target(0.85)
FAR = 1 << 29
"""`n` of the first job of the backlog: above those of the jobs in front."""
_SECONDS = 300.0
# The jobs in front are gone from the queue and from every lease; each look is two index probes.
_BUSY = """
select exists (select from hotpath.job_queue q
        where q.tag = s.tag and q.priority = s.priority and q.scheduled_for < $2)
    or exists (select from hotpath.lease l join hotpath.batch b on b.base = l.batch where b.scheduled_for <
    $2)
from hotpath.script s where s.name = $1
"""


@scenario("flat")
async def run_flat(bench: Bench) -> list[Finding]:
    """Drain of 200,000 with 5 M queued behind and 5 M done before; the same with a transaction held open."""
    empty: list[Sample] = []
    deep: list[Sample] = []
    held: list[Sample] = []
    async with bench.database() as url:
        behind = bench.size(BEHIND, least=1000)
        bench.say(f"flat: loading {behind:,} jobs done and {behind:,} queued")
        await load_done(url, "noop", behind)
        await load_loose(url, "noop", behind, first=FAR)
        first = behind + 1  # after the numbers that the history has
        for turn in range(bench.repeat):
            bench.say(f"flat: round {turn + 1} of {bench.repeat}")
            async with bench.database() as fresh:
                empty.append(await _front(bench, fresh, 0))
            deep.append(await _front(bench, url, first))
            first += bench.size(JOBS, least=2000)
            async with _held_open(url):
                held.append(await _front(bench, url, first))
            first += bench.size(JOBS, least=2000)
    rates = [sample.span.flush_rate for sample in empty]
    findings = [Finding("drain of an empty table", rates, "jobs/s", binds=_binding(empty))]
    for name, samples in (("deep", deep), ("deep, a transaction held open", held)):
        theirs = [sample.span.flush_rate for sample in samples]
        findings.append(Finding(f"drain, {name}", theirs, "jobs/s", binds=_binding(samples)))
        findings.append(Finding(f"{name} / empty", ratios(theirs, rates), "x", FLAT))
    return findings


def _binding(samples: list[Sample]) -> str:
    return mean_shares(sample.shares for sample in samples).binding()


async def _front(bench: Bench, url: str, first: int) -> Sample:
    """Put jobs in front of all that wait, and let a worker run until they are done, where no drain ends."""
    jobs = bench.size(JOBS, least=2000)
    await load_loose(url, "noop", jobs, first=first, later=-86400.0)
    async with connect(url) as connection:
        limit = await connection.fetchval("select now() - interval '1 hour'")
    async with dedicated(bench, url, "noop", ready=False) as usage:
        with trio.move_on_after(_SECONDS) as scope:
            async with connect(url) as connection:
                busy = await connection.prepare(_BUSY)
                while await busy.fetchval("noop", limit):  # noqa: ASYNC110 - another process's work
                    await trio.sleep(0.05)
        if scope.cancelled_caught:
            raise CheckFailed(f"noop: {jobs} jobs were not done after {_SECONDS:.0f} s")
    await check(url, "noop", jobs, first=first, emptied=False)
    sample = await sample_of(bench, url, "noop", usage, 0.0, first=first, jobs=jobs)
    await settle(url)
    return sample


@asynccontextmanager
async def _held_open(url: str) -> AsyncIterator[None]:
    """Somebody's transaction, with a snapshot that keeps vacuum away."""
    async with connect(url) as connection, connection.transaction(isolation="repeatable_read"):
        await connection.fetchval("select count(*) from hotpath.script")
        yield
