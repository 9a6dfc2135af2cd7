"""How soon an idle worker starts a job, against what a notification between two processes takes at all."""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any

import trio

from bench.check import check
from bench.context import Bench, connect
from bench.registry import CheckFailed, Finding, Target, quantile, scenario
from bench.run import dedicated, started

PINGS = 100
"""Jobs for each round."""
P50_OF_ROUND_TRIP = Target(2.0, at_least=False)
P99 = Target(10.0, at_least=False)
PAUSE = (0.2, 0.5)
"""Seconds between two jobs: the worker is asleep again by then."""
SETTLE = 0.05
"""Seconds of quiet around each sample: what asks must not take a core from what is measured."""


@scenario("latency")
async def run_latency(bench: Bench) -> list[Finding]:
    """Idle: from the enqueue's commit to main's start, p50 and p99, against a NOTIFY round trip."""
    p50, p99, sent, trips = [], [], [], []
    pings = bench.size(PINGS, least=5)
    async with (
        bench.database() as url,
        dedicated(bench, url, "clock"),
        started(url, "-m", "bench.ping", "notify", url) as echo,
        started(url, "-m", "bench.ping", "enqueue", url, stdin=subprocess.PIPE) as pinger,
        started(url, "-m", "bench.ping", "round-trip", url, stdin=subprocess.PIPE) as tripper,
    ):
        await _line(echo)  # it listens now
        done = 0
        for turn in range(bench.repeat):
            bench.say(f"latency: round {turn + 1} of {bench.repeat}")
            waits, from_send, round_trips = [], [], []
            for _ in range(pings):
                await trio.sleep(random.uniform(*PAUSE))
                before, after = await _ask(pinger, str(done))
                await trio.sleep(SETTLE)
                at = await _started_at(url, done)
                await trio.sleep(SETTLE)
                round_trips.append((await _ask(tripper, "x"))[0])
                waits.append((at - after) * 1000)
                from_send.append((at - before) * 1000)
                done += 1
            p50.append(quantile(waits, 0.5))
            p99.append(quantile(waits, 0.99))
            sent.append(quantile(from_send, 0.5))
            trips.append(quantile(round_trips, 0.5) * 1000)
        await check(url, "clock", done)
    return [
        Finding("enqueue commit to main, p50", p50, "ms"),
        Finding("NOTIFY round trip, p50", trips, "ms"),
        Finding("p50 / round trip", [a / b for a, b in zip(p50, trips, strict=True)], "x", P50_OF_ROUND_TRIP),
        Finding("enqueue commit to main, p99", p99, "ms", P99),
        Finding("enqueue sent to main, p50", sent, "ms"),
    ]


async def _started_at(url: str, n: int) -> float:
    """When `main` was entered for job `n`, by its own clock."""
    query = "select result from hotpath.job_done where (args->>'n')::int = $1"
    with trio.move_on_after(30):
        async with connect(url) as connection:
            while True:
                if (result := await connection.fetchval(query, n)) is not None:
                    return float(json.loads(result)[1])
                await trio.sleep(0.05)
    raise CheckFailed(f"clock: job {n} did not run within 30 s")


async def _ask(process: trio.Process, text: str) -> list[float]:
    assert process.stdin is not None
    await process.stdin.send_all(text.encode() + b"\n")
    answer: list[float] = json.loads(await _line(process))
    return answer


async def _line(process: trio.Process) -> bytes:
    stream: Any = process.stdout
    line = b""
    while not line.endswith(b"\n"):
        chunk = await stream.receive_some()
        if not chunk:
            raise CheckFailed("a helper process ended")
        line += chunk
    return line
