"""What a worker weighs, and how soon it is ready."""

from __future__ import annotations

from bench.context import Bench
from bench.load import load_sealed
from bench.registry import Finding, Target, scenario
from bench.run import drain

JOBS = 100_000
RSS = Target(80.0, at_least=False)
READY = Target(0.7, at_least=False)


@scenario("startup")
async def run_startup(bench: Bench) -> list[Finding]:
    """Memory of a worker process, and seconds from the command's start to its first job's."""
    memory, ready = [], []
    for _ in range(bench.repeat):
        jobs = bench.size(JOBS, least=2000)
        async with bench.database() as url:
            await load_sealed(url, "noop", jobs)
            sample = await drain(bench, url, "noop", jobs)
        memory.append(sample.worker_rss)
        ready.append(sample.span.started - sample.began)
    return [
        Finding("worker RSS, highest in a drain", memory, "MB", RSS),
        Finding("command start to first job", ready, "s", READY),
    ]
