"""Limits: none is exceeded, and what they cost where they leave room."""

from __future__ import annotations

from bench.context import Bench, connect
from bench.load import load_loose, load_sealed
from bench.registry import Finding, Target, ratios, scenario
from bench.run import Sample, drain
from bench.usage import mean_shares

HELD = 100_000
"""Jobs that eight workers run under a limit which is below their number."""
WORKERS = 8
NARROW = 4
TURNS = 2_000
"""Of a loop, in each of them: they take long enough to meet."""
JOBS = 200_000
WIDE = 1000
"""Two batches: as many as a worker holds, one that runs and one ahead."""

NO_OVERSHOOT = Target(0, at_least=False)
LIMITED_OF_UNLIMITED = Target(0.5)

# Jobs that ran at the same time: the most, and for how many starts they were more than allowed.
_OVERLAP = """
with e as (
    select started_at as at, 1 as step from hotpath.job_done
    union all
    select started_at + duration_us * interval '1 microsecond', -1 from hotpath.job_done),
n as (select step, sum(step) over (order by at, step) as n from e)
select max(n)::int4 as most, count(*) filter (where step = 1 and n > $1::int4)::int4 as over from n
"""


@scenario("limits")
async def run_limits(bench: Bench) -> list[Finding]:
    """100,000 jobs, 8 workers, 4 at a time: none beyond it; and no-op rates with a limit of two batches."""
    over, most, narrow = [], [], []
    rates: dict[str, list[Sample]] = {}
    for turn in range(bench.repeat):
        bench.say(f"limits: round {turn + 1} of {bench.repeat}")
        if turn == 0:
            jobs = bench.size(HELD, least=500)
            async with bench.database() as url:
                await _limit(url, "spin", NARROW)
                await load_sealed(url, "spin", jobs, turns=TURNS)
                narrow.append(await drain(bench, url, "spin", jobs, "--processes", str(WORKERS)))
                async with connect(url) as connection:
                    row = await connection.fetchrow(_OVERLAP, NARROW)
                assert row is not None, "sums are one row"
                over.append(float(row["over"]))
                most.append(float(row["most"]))
        jobs = bench.size(JOBS, least=2000)
        for load, kind in ((load_loose, "loose"), (load_sealed, "sealed")):
            for limit in (0, WIDE):
                async with bench.database() as url:
                    await load(url, "noop", jobs)
                    if limit:
                        await _limit(url, "noop", limit)
                    name = f"{kind}, {f'limit {limit:,}' if limit else 'no limit'}"
                    rates.setdefault(name, []).append(await drain(bench, url, "noop", jobs))
    findings = [
        Finding(f"starts beyond {NARROW} at a time, {WORKERS} workers", over, "jobs", NO_OVERSHOOT),
        Finding("most at a time", most, "jobs"),
        Finding(f"rate, {NARROW} at a time, {WORKERS} workers", _rates(narrow), "jobs/s"),
    ]
    for name, samples in rates.items():
        binds = mean_shares(sample.shares for sample in samples).binding()
        findings.append(Finding(name, _rates(samples), "jobs/s", binds=binds))
    for kind in ("loose", "sealed"):
        limited, free = _rates(rates[f"{kind}, limit {WIDE:,}"]), _rates(rates[f"{kind}, no limit"])
        name = f"{kind}: limit of two batches / no limit"
        findings.append(Finding(name, ratios(limited, free), "x", LIMITED_OF_UNLIMITED))
    return findings


async def _limit(url: str, script: str, concurrency: int) -> None:
    async with connect(url) as connection:
        limits = f'{{"concurrency": {concurrency}}}'
        await connection.execute("select hotpath.limit_set($1, $2::jsonb)", script, limits)


def _rates(samples: list[Sample]) -> list[float]:
    return [sample.span.flush_rate for sample in samples]
