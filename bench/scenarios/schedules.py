"""Exactly one job a tick: over a simulated year, and in real time while servers are killed."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import trio

import hotpath
from bench.context import WORKSPACE, Bench, connect
from bench.registry import CheckFailed, Finding, Target, quantile, scenario
from bench.run import collect, started
from bench.simulated import expected, run_year
from hotpath import asyncpg_trio
from hotpath.store.schedules import Schedule

COUNT = 10_000
SECONDS = 600
TICKING = 100
NONE = Target(0, at_least=False)
TIMINGS: tuple[dict[str, Any], ...] = (
    {"cron": "* * * * * *"}, {"cron": "*/2 * * * * *"}, {"every": 1}, {"every": 5},
    {"cron": "*/3 * * * * *", "timezone": "Asia/Kolkata"},
)  # fmt: skip
SERVERS = (
    ("dedicate", "noop", "--json"),
    ("dedicate", "noop", "--json"),
    ("serve", "--port", "0"),
)
_LIVES = (3.0, 9.0)  # seconds until a server is killed
_SETTLE = 10.0

_JOBS = """
select (j.args ->> 'n')::int4 as n, j.scheduled_for as at, count(*) as count,
    max(extract(epoch from j.created_at - j.scheduled_for))::float8 * 1000 as late
from hotpath.job j group by 1, 2
"""


@scenario("schedules")
async def run_schedules(bench: Bench) -> list[Finding]:
    """10,000 schedules over a simulated year; second ticks in real time while servers are killed -9."""
    return [*await _year(bench), *await _real_time(bench)]


async def _year(bench: Bench) -> list[Finding]:
    count = bench.size(COUNT, least=100)
    bench.say(f"schedules: a simulated year of {count} schedules")
    async with bench.database() as url:

        async def open_one() -> asyncpg_trio.Connection:
            return await asyncpg_trio.connect(url)

        began = time.monotonic()
        year = await run_year(open_one, "noop", count, say=bench.say)
        took = time.monotonic() - began
    bench.say(f"schedules: {year.ticks:,} ticks, {year.killed} kills, {took:.0f} s")
    if year.sample:
        raise CheckFailed(f"{year.missing} missing, {year.doubled} doubled: {'; '.join(year.sample)}")
    return [
        Finding("a simulated year: ticks missed", [float(year.missing)], "ticks", NONE),
        Finding("a simulated year: ticks doubled", [float(year.doubled)], "ticks", NONE),
        Finding("a simulated year: ticks", [float(year.ticks)], "ticks"),
        Finding("a simulated year: ticks/s", [year.ticks / took], "ticks/s"),
    ]


async def _real_time(bench: Bench) -> list[Finding]:
    seconds, count = bench.size(SECONDS, least=10) if not bench.quick else 30, bench.size(TICKING, least=10)
    bench.say(f"schedules: {count} with ticks every second or so, {seconds} s, servers killed -9")
    async with (
        bench.database() as url,
        hotpath.open_client(url, workspace=WORKSPACE) as client,
        trio.open_nursery() as nursery,
    ):
        for n in range(count):
            await client.set_schedule(
                f"t{n:03}", script="noop", args={"n": n}, catch_up="all", **TIMINGS[n % len(TIMINGS)]
            )
        first = await client.schedules()
        killed: list[int] = []
        for k, command in enumerate(SERVERS):
            nursery.start_soon(_killed_again_and_again, url, command, random.Random(k), killed)
        await trio.sleep(seconds)
        for each in first:
            await client.pause_schedule(each.name)
        async with connect(url) as connection:
            late = await check_ticks(connection, first, await client.schedules())
        nursery.cancel_scope.cancel()
    bench.say(f"schedules: {len(late):,} ticks, {len(killed)} servers killed")
    return [
        Finding("real time: ticks missed or doubled", [0.0], "ticks", NONE),
        Finding("real time: ticks", [float(len(late))], "ticks"),
        Finding("real time: servers killed", [float(len(killed))], "kills"),
        Finding("real time: tick to its job, p50", [quantile(late, 0.5)], "ms"),
        Finding("real time: tick to its job, p99", [quantile(late, 0.99)], "ms"),
    ]


async def _killed_again_and_again(
    url: str, command: tuple[str, ...], chance: random.Random, killed: list[int]
) -> None:
    while True:
        async with started(url, "-m", "hotpath", *command) as process, trio.open_nursery() as nursery:
            nursery.start_soon(collect, process.stderr, [])
            nursery.start_soon(collect, process.stdout, [])
            await trio.sleep(chance.uniform(*_LIVES))
            process.kill()
            killed.append(process.pid)
            await process.wait()


async def check_ticks(
    connection: asyncpg_trio.Connection, first: list[Schedule], last: list[Schedule]
) -> list[float]:
    """How late each tick's job was, in milliseconds. Raises `CheckFailed` unless each tick up to the last of
    its schedule is one job, and that one was made when it was paused.
    """
    there = {(row["n"], row["at"].astimezone(UTC)): row for row in await connection.fetch(_JOBS)}
    wanted: Counter[tuple[int, datetime]] = Counter()
    for n, (before, after) in enumerate(zip(first, last, strict=True)):
        if after.last_at is None or (after.updated_at - after.last_at).total_seconds() > _SETTLE:
            raise CheckFailed(f"{after.name} had stopped at {after.last_at}")
        wanted.update((n, at) for at in expected(before, after.last_at))
    found = Counter({key: row["count"] for key, row in there.items()})
    if found != wanted:
        missing, doubled = wanted - found, found - wanted
        raise CheckFailed(
            f"{missing.total()} missing, {doubled.total()} doubled: {list(missing)[:3]} {list(doubled)[:3]}"
        )
    return [row["late"] for row in there.values()]
