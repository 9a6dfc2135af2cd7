"""Flows: what a step costs when it goes through no queue, and what waits costs nobody."""

from __future__ import annotations

import statistics
import time
from uuid import UUID

import trio

import hotpath
from bench.context import WORKSPACE, Bench, connect
from bench.load import load_loose, settle
from bench.registry import CheckFailed, Finding, Target, quantile, ratios, scenario
from bench.run import Sample, dedicated, drain, for_loop
from bench.usage import mean_shares

RUNS = 60_000
IDLE_RUNS = 200
LOOP = 10_000
LOOPS = 12
SUSPENDED = 10_000
RESUMED = 200
JOBS = 200_000

RUNS_A_SECOND = Target(8_000)
IDLE_P50 = Target(3.0, at_least=False)
OVERHEAD = Target(1.0, at_least=False)
LOOP_OF_LOOSE = Target(0.7)
HELD = Target(0.97)
RESUME_P99 = Target(50.0, at_least=False)
FLAT_MEMORY = Target(1.5, at_least=False)

# Of the runs of a flow: rows of their steps, distinct ones, and those that did not succeed.
_STEPS = """
select count(*) as rows, count(distinct (d.parent, d.step)) as steps, count(distinct d.parent) as runs,
    count(*) filter (where d.state <> 1) as failed
from hotpath.job_done d join hotpath.job_done r on r.id = d.parent join hotpath.script s on s.id = r.script
where s.name = $1
"""
_INSIDE = "select sum(duration_us)::float8 / 1000000 from hotpath.job_done where parent = $1"
_TABLES = ("job_queue", "job_done", "lease", "batch")


async def check_steps(url: str, flow: str, runs: int, each: int) -> None:
    """Raise CheckFailed unless each run has `each` steps, one row each, that succeeded."""
    async with connect(url) as connection:
        row = await connection.fetchrow(_STEPS, flow)
    if row is None or not row["rows"] == row["steps"] == runs * each or row["runs"] != runs or row["failed"]:
        raise CheckFailed(f"{flow}: {runs} runs of {each} steps each, but {dict(row or {})}")


@scenario("flow-runs")
async def run_flow_runs(bench: Bench) -> list[Finding]:
    """Three-step flow of no-op Python steps, one worker: runs a second, each step's checkpoint stored."""
    samples: list[Sample] = []
    for turn in range(bench.repeat):
        bench.say(f"flow-runs: round {turn + 1} of {bench.repeat}")
        runs = bench.size(RUNS, least=500)
        async with bench.database() as url:
            await load_loose(url, "three", runs)
            samples.append(await drain(bench, url, "three", runs))
            await check_steps(url, "three", runs, 3)
    rates = [sample.span.flush_rate for sample in samples]
    binds = mean_shares(sample.shares for sample in samples).binding()
    return [
        Finding("three-step flow", rates, "runs/s", RUNS_A_SECOND, binds=binds),
        Finding("worker CPU for a run of three steps", [it.worker_cpu_us for it in samples], "us"),
    ]


@scenario("flow-latency")
async def run_flow_latency(bench: Bench) -> list[Finding]:
    """Idle: from enqueue to result of a three-step flow, as the client sees it, beside one no-op job."""
    flow_p50, flow_p99, job_p50 = [], [], []
    runs = bench.size(IDLE_RUNS, least=5)
    async with (
        bench.database() as url,
        dedicated(bench, url, "three"),
        dedicated(bench, url, "noop"),
        hotpath.open_client(url, workspace=WORKSPACE) as client,
    ):
        for turn in range(bench.repeat):
            bench.say(f"flow-latency: round {turn + 1} of {bench.repeat}")
            took: dict[str, list[float]] = {"three": [], "noop": []}
            for n in range(runs):
                for script, times in took.items():
                    await trio.sleep(0.05)
                    began = time.perf_counter()
                    job = await client.enqueue(script, {"n": n})
                    if await client.result(job) != n:
                        raise CheckFailed(f"{script}: wrong result of job {job}")
                    times.append((time.perf_counter() - began) * 1000)
            flow_p50.append(quantile(took["three"], 0.5))
            flow_p99.append(quantile(took["three"], 0.99))
            job_p50.append(quantile(took["noop"], 0.5))
    return [
        Finding("three-step flow, enqueue to result, p50", flow_p50, "ms", IDLE_P50),
        Finding("three-step flow, enqueue to result, p99", flow_p99, "ms"),
        Finding("one no-op job, enqueue to result, p50", job_p50, "ms"),
        Finding("flow / job", ratios(flow_p50, job_p50), "x"),
    ]


@scenario("flow-fibo")
async def run_flow_fibo(bench: Bench) -> list[Finding]:
    """Windmill's cases, 40 x fibo(10) and 10 x fibo(33) in a sequential loop: overhead over the bare loop."""
    findings = []
    async with for_loop("fibo_step") as bare:
        for steps, number in ((40, 10), (10, 33)):
            name = f"{steps} x fibo({number})"
            over, wholes, between = [], [], []
            for turn in range(bench.repeat):
                bench.say(f"flow-fibo: {name}, round {turn + 1} of {bench.repeat}")
                count = max(2, bench.size(20 if number < 20 else 3))
                async with bench.database() as url, dedicated(bench, url, "fibo"):
                    spent, outside = await _fibo_runs(url, count, steps, number)
                between.append(statistics.median(outside) * 1000 / (1 + 0.1 * steps))
                alone = await bare.seconds(steps * count, number=number) / count
                whole = statistics.median(spent)
                wholes.append(whole * 1000)
                over.append((whole - alone) * 1000 / (1 + 0.1 * steps))
            findings += [
                Finding(f"{name}: a run, start to end", wholes, "ms"),
                Finding(f"{name}: run less bare loop / (1 ms + 0.1 ms a step)", over, "x", OVERHEAD),
                Finding(f"{name}: run less its steps / (1 ms + 0.1 ms a step)", between, "x", OVERHEAD),
            ]
    return findings


async def _fibo_runs(url: str, count: int, steps: int, number: int) -> tuple[list[float], list[float]]:
    """Seconds of each of some runs, one after the other, and of them the seconds outside of the steps."""
    spent, outside = [], []
    async with connect(url) as connection, hotpath.open_client(url, workspace=WORKSPACE) as client:
        for n in range(-1, count):  # the first is for the caches
            run = await client.enqueue("fibo", {"n": n, "numbers": [number] * steps})
            job = await client.wait(run)
            if job.result != n or job.duration_ms is None:
                raise CheckFailed(f"fibo: run {run} ended {job.state}: {job.error}")
            if n >= 0:
                spent.append(job.duration_ms / 1000)
                outside.append(spent[-1] - await connection.fetchval(_INSIDE, run))
    return spent, outside


@scenario("flow-loop")
async def run_flow_loop(bench: Bench) -> list[Finding]:
    """A loop of 10,000 parallel iterations: iterations a second against loose no-op jobs, and memory."""
    loops, loose, ratio, memory = [], [], [], []
    size, count = max(100, int(LOOP * min(1.0, bench.scale))), max(3, bench.size(LOOPS))
    for turn in range(bench.repeat):
        bench.say(f"flow-loop: round {turn + 1} of {bench.repeat}")
        jobs = bench.size(JOBS, least=2000)
        async with bench.database() as url:
            await load_loose(url, "noop", jobs)
            loose.append((await drain(bench, url, "noop", jobs)).span.flush_rate)
        seconds, few = await _loops(bench, size, count)
        loops.append(size * count / seconds)
        ratio.append(loops[-1] / loose[-1])
        _, many = await _loops(bench, size, 3 * count)
        memory.append(many / few)
    return [
        Finding(f"iterations of a parallel loop of {size:,}", loops, "1/s"),
        Finding("no-op jobs, loose", loose, "jobs/s"),
        Finding("iterations / loose jobs", ratio, "x", LOOP_OF_LOOSE),
        Finding("memory, three times as many loops / once", memory, "x", FLAT_MEMORY),
    ]


async def _loops(bench: Bench, size: int, count: int) -> tuple[float, float]:
    """Seconds inside some loops, one after the other, and the worker's highest memory, in MB."""
    spent = 0.0
    async with (
        bench.database() as url,
        dedicated(bench, url, "loop") as usage,
        hotpath.open_client(url, workspace=WORKSPACE) as client,
    ):
        for n in range(count):
            job = await client.wait(await client.enqueue("loop", {"n": n, "size": size}))
            if job.result != [n, size * (size - 1) // 2] or job.duration_ms is None:
                raise CheckFailed(f"loop: run {job.id} ended {job.state}: {job.error}")
            spent += job.duration_ms / 1000
        await check_steps(url, "loop", count, size + 2)
        return spent, usage.peak_rss("worker")


@scenario("flow-wait")
async def run_flow_wait(bench: Bench) -> list[Finding]:
    """Ten thousand suspended runs: a no-op drain beside them, and how soon one goes on when it may."""
    without, beside, p50, p99 = [], [], [], []
    many = bench.size(SUSPENDED, least=50)
    for turn in range(bench.repeat):
        bench.say(f"flow-wait: round {turn + 1} of {bench.repeat}")
        jobs = bench.size(JOBS, least=2000)
        async with bench.database() as url:
            await load_loose(url, "noop", jobs)
            without.append((await drain(bench, url, "noop", jobs)).span.flush_rate)
        async with bench.database() as url:
            async with dedicated(bench, url, "wait"):
                runs = await _suspend(url, many)
                took = await _resume(url, runs[: bench.size(RESUMED, least=5)])
            await settle(url)
            await load_loose(url, "noop", jobs)
            beside.append((await drain(bench, url, "noop", jobs)).span.flush_rate)
        p50.append(quantile(took, 0.5))
        p99.append(quantile(took, 0.99))
    return [
        Finding(f"no-op drain beside {many:,} suspended runs", beside, "jobs/s"),
        Finding("no-op drain without", without, "jobs/s"),
        Finding("beside / without", ratios(beside, without), "x", HELD),
        Finding("resume to result, p50", p50, "ms"),
        Finding("resume to result, p99", p99, "ms", RESUME_P99),
    ]


async def _suspend(url: str, many: int) -> list[UUID]:
    """Runs that wait for an approval."""
    async with hotpath.open_client(url, workspace=WORKSPACE) as client:
        runs = list(await client.enqueue_many("wait", ({"n": n} for n in range(many))))
    async with connect(url) as connection:
        with trio.move_on_after(300) as scope:
            while await connection.fetchval(_NOT_PARKED):  # noqa: ASYNC110 - another process's work
                await trio.sleep(0.1)
        if scope.cancelled_caught:
            raise CheckFailed(f"wait: {many} runs did not all suspend within 300 s")
        for table in _TABLES:
            await connection.execute(f"vacuum (analyze) hotpath.{table}")
    return runs


_NOT_PARKED = """
select exists (select from hotpath.batch b where b.next < b.n) or exists (select from hotpath.lease)
    or exists (select from hotpath.job_queue q where q.scheduled_for <= now() + interval '1 hour')
"""


async def _resume(url: str, runs: list[UUID]) -> list[float]:
    """Milliseconds from the approval of each to its result."""
    took = []
    async with hotpath.open_client(url, workspace=WORKSPACE) as client:
        for run in runs:
            await trio.sleep(0.02)
            began = time.perf_counter()
            await client.resume(run)
            await client.result(run)
            took.append((time.perf_counter() - began) * 1000)
    return took
