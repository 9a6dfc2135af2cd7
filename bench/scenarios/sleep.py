"""Jobs that wait: 100 ms of sleep each, many at a time in one async worker."""

from __future__ import annotations

from bench.context import Bench
from bench.load import load_sealed
from bench.registry import Finding, Target, scenario
from bench.run import Sample, drain
from bench.usage import mean_shares

NAP_SECONDS = 0.1
WAVES = 40
"""How many naps each place takes one after the other: enough for the start not to count."""
CONCURRENCY = {1: None, 100: None, 1000: Target(0.95), 3000: Target(0.80)}


@scenario("sleep")
async def run_sleep(bench: Bench) -> list[Finding]:
    """100 ms sleeping async jobs at concurrency 1, 100, 1,000 and 3,000, against the ideal."""
    findings = []
    for concurrency, target in CONCURRENCY.items():
        bench.say(f"sleep: concurrency {concurrency:,}")
        samples = [await _one(bench, concurrency) for _ in range(bench.repeat)]
        ideal = concurrency / NAP_SECONDS
        rates = [sample.span.run_rate for sample in samples]
        binds = mean_shares(sample.shares for sample in samples).binding()
        name = f"100 ms naps, {concurrency:,} at a time"
        findings.append(Finding(name, rates, "jobs/s", binds=binds))
        findings.append(Finding(f"{name} / ideal", [rate / ideal for rate in rates], "x", target))
    return findings


async def _one(bench: Bench, concurrency: int) -> Sample:
    jobs = concurrency * max(2, int(WAVES * min(1.0, bench.scale)))  # --quick too: it is seconds, not jobs
    async with bench.database() as url:
        await load_sealed(url, "nap", jobs)
        return await drain(bench, url, "nap", jobs, "--concurrency", str(concurrency))
