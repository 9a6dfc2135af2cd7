"""Jobs that compute: how much of the time is spent inside `main`, and how near to the bare for-loop they run.

The work is counted in turns of a loop, not in time, so both do the same. Worker and for-loop take turns of
a second in two processes that stay, because a machine's speed drifts by more than the 2 % that are to be
seen.
"""

from __future__ import annotations

from itertools import pairwise

import trio

import hotpath
from bench.check import check
from bench.context import WORKSPACE, Bench
from bench.registry import CheckFailed, Finding, Target, ratios, scenario
from bench.run import ForLoop, Sample, dedicated, for_loop, sample_of
from bench.usage import mean_shares
from hotpath.client import Client

TURN_SECONDS = 1.0
"""What one turn of the worker or of the for-loop should take."""
TURNS = 4
"""Turns of each, for each round that is asked for."""
LENGTHS = {"100 us": 100e-6, "1 ms": 1e-3, "10 ms": 10e-3, "100 ms": 100e-3}
INSIDE = {"100 us": Target(0.94), "1 ms": Target(0.99), "10 ms": Target(0.99), "100 ms": Target(0.99)}
OF_LOOP = {"1 ms": Target(0.97), "10 ms": Target(0.97), "100 ms": Target(0.97)}
_DEADLINE_FACTOR = 60.0


async def calibrate(loop: ForLoop, seconds: float) -> int:
    """Turns of the spin loop that take about `seconds`."""
    turns = 100_000
    took = min([await loop.seconds(1, turns=turns) for _ in range(9)])
    return max(1, int(turns * seconds / took))


@scenario("cpu")
async def run_cpu(bench: Bench) -> list[Finding]:
    """CPU jobs of 100 us to 100 ms: share of the time inside main, and jobs/s against the for-loop."""
    findings = []
    for length, seconds in LENGTHS.items():
        bench.say(f"cpu: jobs of {length}")
        findings += await _one_length(bench, length, seconds)
    return findings


async def _one_length(bench: Bench, length: str, seconds: float) -> list[Finding]:
    jobs = bench.size(int(TURN_SECONDS / seconds), least=5)
    samples: list[Sample] = []
    loops: list[float] = []
    async with bench.database() as url, for_loop("spin") as bare:
        turns = await calibrate(bare, seconds)
        async with (
            dedicated(bench, url, "spin") as usage,
            hotpath.open_client(url, workspace=WORKSPACE) as client,
        ):
            first = await _turn(client, jobs, 0, turns)  # not counted: the worker learns how long a job takes
            for _ in range(bench.repeat * TURNS):
                loops.append(await bare.seconds(jobs, turns=turns))
                after = await _turn(client, jobs, first, turns)
                samples.append(await sample_of(bench, url, "spin", usage, 0.0, first=first, jobs=jobs))
                first = after
            loops.append(await bare.seconds(jobs, turns=turns))
        await check(url, "spin", first)
    # Against the mean of the loop before and the loop after.
    base = [jobs / ((one + two) / 2) for one, two in pairwise(loops)]
    rates = [sample.span.run_rate for sample in samples]
    binds = mean_shares(sample.shares for sample in samples).binding()
    inside = [sample.span.inside_share for sample in samples]
    return [
        Finding(f"CPU jobs of {length}", rates, "jobs/s", binds=binds),
        Finding(f"inside main at {length}", inside, "x", INSIDE[length]),
        Finding(f"against the for-loop at {length}", ratios(rates, base), "x", OF_LOOP.get(length)),
    ]


async def _turn(client: Client, jobs: int, first: int, turns: int) -> int:
    """Enqueue `jobs` jobs numbered from `first`, wait until they are done, and return the next number."""
    ids = await client.enqueue_many("spin", [{"n": first + n, "turns": turns} for n in range(jobs)])
    with trio.move_on_after(TURN_SECONDS * _DEADLINE_FACTOR) as scope:
        await client.wait(ids[-1])  # one worker, in order: the last is last
    if scope.cancelled_caught:
        raise CheckFailed(f"spin: {jobs} jobs were not done after {TURN_SECONDS * _DEADLINE_FACTOR:.0f} s")
    return first + jobs
