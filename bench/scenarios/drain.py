"""No-op jobs: what a job costs when it does nothing, against the bare statement and the bare for-loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bench.context import Bench
from bench.load import load_loose, load_sealed
from bench.registry import Finding, Target, ratios, scenario
from bench.run import Sample, ceiling, drain, for_loop
from bench.usage import mean_shares

JOBS = 200_000
Load = Callable[[str, str, int], Awaitable[None]]

LOOSE_OF_CEILING = Target(0.75)
SEALED_OF_CEILING = Target(0.60)
SEALED_OF_LOOSE = Target(1.3)
CPU_SYNC = Target(8.0, at_least=False)
CPU_ASYNC = Target(11.0, at_least=False)


async def one(bench: Bench, load: Load, script: str, arm: Callable[..., Awaitable[Sample]]) -> Sample:
    """Load a fresh database and drain it with `arm`."""
    jobs = bench.size(JOBS, least=2000)
    async with bench.database() as url:
        await load(url, script, jobs)
        return await arm(bench, url, script, jobs)


def _rates(samples: list[Sample]) -> list[float]:
    return [sample.span.flush_rate for sample in samples]


def _binding(samples: list[Sample]) -> str:
    return mean_shares(sample.shares for sample in samples).binding()


@scenario("drain")
async def run_drain(bench: Bench) -> list[Finding]:
    """No-op drain by one sync worker, loose and sealed, against the SQL ceiling and the bare for-loop."""
    loose, sealed, loose_ceiling, sealed_ceiling = [], [], [], []
    loop = []
    async with for_loop("noop") as bare:
        for turn in range(bench.repeat):
            bench.say(f"drain: round {turn + 1} of {bench.repeat}")
            jobs = bench.size(JOBS, least=2000)
            loose_ceiling.append(await one(bench, load_loose, "noop", ceiling))
            loose.append(await one(bench, load_loose, "noop", drain))
            sealed_ceiling.append(await one(bench, load_sealed, "noop", ceiling))
            sealed.append(await one(bench, load_sealed, "noop", drain))
            loop.append(jobs / await bare.seconds(jobs))
    both = loose + sealed
    return [
        Finding("no-op drain, loose", _rates(loose), "jobs/s", binds=_binding(loose)),
        Finding("SQL ceiling, loose", _rates(loose_ceiling), "jobs/s", binds=_binding(loose_ceiling)),
        Finding("loose / ceiling", ratios(_rates(loose), _rates(loose_ceiling)), "x", LOOSE_OF_CEILING),
        Finding("no-op drain, sealed", _rates(sealed), "jobs/s", binds=_binding(sealed)),
        Finding("SQL ceiling, sealed", _rates(sealed_ceiling), "jobs/s", binds=_binding(sealed_ceiling)),
        Finding("sealed / ceiling", ratios(_rates(sealed), _rates(sealed_ceiling)), "x", SEALED_OF_CEILING),
        Finding("sealed / loose", ratios(_rates(sealed), _rates(loose)), "x", SEALED_OF_LOOSE),
        Finding("worker CPU per no-op job", [it.worker_cpu_us for it in both], "us", CPU_SYNC),
        Finding("bare for-loop over the no-op", loop, "jobs/s"),
    ]


@scenario("drain-async")
async def run_drain_async(bench: Bench) -> list[Finding]:
    """No-op drain by one async worker, loose and sealed, against the SQL ceiling."""
    loose, sealed, floor = [], [], []
    for turn in range(bench.repeat):
        bench.say(f"drain-async: round {turn + 1} of {bench.repeat}")
        floor.append(await one(bench, load_loose, "noop_async", ceiling))
        loose.append(await one(bench, load_loose, "noop_async", drain))
        sealed.append(await one(bench, load_sealed, "noop_async", drain))
    both = loose + sealed
    return [
        Finding("async no-op drain, loose", _rates(loose), "jobs/s", binds=_binding(loose)),
        Finding("async no-op drain, sealed", _rates(sealed), "jobs/s", binds=_binding(sealed)),
        Finding("async loose / ceiling", ratios(_rates(loose), _rates(floor)), "x"),
        Finding("worker CPU per async no-op job", [it.worker_cpu_us for it in both], "us", CPU_ASYNC),
    ]
