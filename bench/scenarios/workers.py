"""More worker processes on the same queue."""

from __future__ import annotations

from bench.context import Bench
from bench.load import load_loose, load_sealed
from bench.registry import Finding, scenario
from bench.run import Sample, drain
from bench.usage import mean_shares

JOBS = 200_000
PROCESSES = (1, 2, 4)


@scenario("workers")
async def run_workers(bench: Bench) -> list[Finding]:
    """No-op drain by 1, 2 and 4 worker processes, loose and sealed."""
    findings = []
    for load, kind in ((load_loose, "loose"), (load_sealed, "sealed")):
        samples: dict[int, list[Sample]] = {count: [] for count in PROCESSES}
        for turn in range(bench.repeat):
            bench.say(f"workers: {kind}, round {turn + 1} of {bench.repeat}")
            for count in PROCESSES:
                jobs = bench.size(JOBS, least=2000)
                async with bench.database() as url:
                    await load(url, "noop", jobs)
                    samples[count].append(await drain(bench, url, "noop", jobs, "--processes", str(count)))
        findings += [_finding(kind, count, samples[count]) for count in PROCESSES]
    return findings


def _finding(kind: str, count: int, samples: list[Sample]) -> Finding:
    name = f"{kind}, {count} worker{'s' if count > 1 else ''}"
    binds = mean_shares(sample.shares for sample in samples).binding()
    return Finding(name, [sample.span.flush_rate for sample in samples], "jobs/s", binds=binds)
