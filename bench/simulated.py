"""A year of schedules in some minutes: a real mix of them ticks at a simulated clock before a real database,
with several tickers that race each other and are killed in the middle of what they do.

What has to come of it is worked out from each schedule alone. `run_year` says what is missing or doubled.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.core import schedules as rules
from hotpath.store.schedules import Schedule, get_schedule, list_schedules, set_schedule, zone_of
from hotpath.store.ticks import tick, until_next
from hotpath.store.trouble import ANY_TROUBLE

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Santiago",
    "Africa/Cairo", "Pacific/Chatham", "America/Havana", "Africa/Casablanca", "Asia/Tokyo",
    "Antarctica/Troll",
)  # fmt: skip
SHARES: tuple[tuple[float, Callable[[random.Random], dict[str, Any]]], ...] = (
    (0.0004, lambda r: {"cron": f"*/{r.choice((10, 15, 20))} * * * *"}),
    (0.0002, lambda r: {"every": f"{r.choice((7, 11, 30))}m"}),
    (0.0025, lambda r: {"cron": f"{r.randrange(60)} * * * *"}),
    (0.0020, lambda r: {"cron": f"{r.randrange(60)} {r.randrange(60)} */4 * * *"}),
    (0.06, lambda r: {"cron": f"{r.randrange(60)} {r.randrange(24)} * * *"}),
    (0.03, lambda r: {"cron": f"{r.randrange(0, 60, 5)} {r.randrange(4)} * * *"}),  # where clocks change
    (0.03, lambda r: {"cron": f"{r.randrange(60)} {r.randrange(24)} * * MON-FRI"}),
    (0.2, lambda r: {"cron": f"{r.randrange(60)} {r.randrange(24)} * * {r.randrange(7)}"}),
    (0.02, lambda r: {"every": f"{r.randrange(1, 9)}d"}),
    (0.3, lambda r: {"cron": f"{r.randrange(60)} {r.randrange(24)} {r.randrange(1, 32)} * *"}),
    (0.1, lambda r: {"cron": f"{r.randrange(60)} {r.randrange(24)} L */3 *"}),
    (0.1, lambda r: {"cron": f"0 {r.randrange(24)} * {r.randrange(1, 13)} FRI#{r.randrange(1, 5)}"}),
)
"""The mix: which share of all are made how; the rest comes once. On average a hundred ticks a year each."""
STEPS_BETWEEN_KILLS = 10
"""That all tickers together make at least."""


@attrs.frozen
class Year:
    """What came of it."""

    ticks: int
    """That had to come."""
    missing: int
    doubled: int
    """Jobs beyond one for a tick, or for no tick at all."""
    killed: int
    """Sessions of tickers."""
    sample: tuple[str, ...]
    """Some of what is wrong."""


def mix(count: int, seed: int, now: datetime) -> list[dict[str, Any]]:
    """What so many schedules are."""
    chance = random.Random(seed)
    found: list[dict[str, Any]] = []
    for share, make in SHARES:
        for _ in range(max(round(count * share), share > 0.001)):  # the quickest only among many
            given = make(chance)
            found.append(given if "every" in given else given | {"timezone": chance.choice(ZONES)})
    while len(found) < count:
        found.append({"at": now + timedelta(seconds=chance.randrange(60, 365 * 86400))})
    return found[:count]


async def make_schedules(
    connection: asyncpg_trio.Connection, script: str, count: int, seed: int
) -> list[Schedule]:
    """The mix, each with its number for an arg `n`; all that is missed is to be caught up."""
    now = await connection.fetchval("select now()")
    for n, given in enumerate(mix(count, seed, now)):
        args = {"script": script, "args": {"n": n}, "catch_up": "all", "catch_up_within": 3 * 86400.0}
        await set_schedule(connection, f"s{n:05}", given | args)
    found: list[Schedule] = []
    while page := await list_schedules(connection, after=found[-1].name if found else ""):
        found += page
    return found


def expected(schedule: Schedule, until: datetime) -> list[datetime]:
    """All its ticks up to then."""
    timing = rules.parse_timing(
        schedule.kind, schedule.expression, zone_of(schedule.timezone), schedule.anchor
    )
    ticks, at = [], schedule.next_at
    while at is not None and at <= until:
        ticks.append(at)
        at = timing.after(at)
    return ticks


@attrs.define(eq=False)
class Clock:
    """The simulated time, and what may be done by it."""

    now: datetime
    end: datetime
    chance: random.Random

    def go_on(self, seen_at: datetime, seconds: float) -> None:
        """To a while after the next tick: mostly at once, now and then after an outage. Not where another
        ticker has moved it on since `seen_at`: outages of all at once add up to more than is caught up.
        """
        if self.now != seen_at:
            return
        step = max(seconds, 0.0) + self.chance.choice((0.0, 0.2, 5.0, 40.0))
        if self.chance.random() < 0.3:
            step += self.chance.uniform(3600, 30 * 3600)
        self.now = min(self.now + timedelta(seconds=step), self.end)


async def run_year(
    connect: Callable[[], Awaitable[asyncpg_trio.Connection]],
    script: str,
    count: int,
    *,
    seed: int = 0,
    days: float = 365.0,
    tickers: int = 3,
    kill_every: float = 0.05,
    say: Callable[[str], object] = lambda _: None,
) -> Year:
    """`count` schedules over that many days. `kill_every`: seconds of real time, on average, until a ticker's
    session is killed, from when some steps were made since the last one: on a slow machine, too, they get on.
    """
    chance = random.Random(seed)
    async with _held(connect) as connection:
        schedules = await make_schedules(connection, script, count, seed)
        begin: datetime = await connection.fetchval("select now()")
        clock = Clock(begin, begin + timedelta(days=days), chance)
        sessions: dict[int, asyncpg_trio.Connection] = {}
        steps = killed = 0

        async def race(number: int) -> None:
            """One ticker: when there is nothing to be done, the time goes on."""
            nonlocal steps
            while True:
                try:
                    async with _held(connect) as own:
                        sessions[number] = own
                        while await _step(own, clock):
                            steps += 1
                        return
                except ANY_TROUBLE:
                    continue
                finally:
                    sessions.pop(number, None)

        async def kill() -> None:
            nonlocal killed
            while True:
                enough = steps + STEPS_BETWEEN_KILLS
                while steps < enough:  # noqa: ASYNC110 - it is a count
                    await trio.sleep(0.001)
                await trio.sleep(chance.expovariate(1 / kill_every))
                if not sessions:
                    continue
                victim = sessions[chance.choice(sorted(sessions))]
                killed += 1
                if chance.random() < 0.5:  # by the server, or by the ticker's own end
                    await connection.fetchval("select pg_terminate_backend($1)", victim.get_server_pid())
                else:
                    victim.terminate()

        async def tell() -> None:
            while True:
                await trio.sleep(10)
                say(f"simulated time: {clock.now:%Y-%m-%d}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            nursery.start_soon(tell)
            async with trio.open_nursery() as racing:
                for number in range(tickers):
                    racing.start_soon(race, number)
            nursery.cancel_scope.cancel()
        return await _compare(connection, schedules, clock.end, killed)


async def _step(connection: asyncpg_trio.Connection, clock: Clock) -> bool:
    """Do what is due by the simulated clock; False: the year is over, and nothing is left of it."""
    now = clock.now
    ticked = await tick(connection, now=now)
    if ticked.seen:
        if not ticked.done:
            await trio.sleep(0.001)  # in other hands
        return True
    if now >= clock.end:
        return False
    seconds, _ = await until_next(connection)
    if seconds is None:
        clock.now = clock.end
        return True
    # `until_next` goes by the database's clock.
    real: datetime = await connection.fetchval("select clock_timestamp()")
    clock.go_on(now, ((real - now) + timedelta(seconds=seconds)).total_seconds())
    return True


async def _compare(
    connection: asyncpg_trio.Connection, schedules: list[Schedule], end: datetime, killed: int
) -> Year:
    """Jobs that are there against those that have to be."""
    wanted = Counter((n, at) for n, each in enumerate(schedules) for at in expected(each, end))
    rows = await connection.fetch(
        "select (args ->> 'n')::int4 as n, scheduled_for, count(*) as count from hotpath.job_queue "
        "group by 1, 2"
    )
    there = Counter({(row["n"], row["scheduled_for"].astimezone(UTC)): row["count"] for row in rows})
    missing, doubled = wanted - there, there - wanted
    sample = [f"missing: {schedules[n].expression} {at}" for n, at in list(missing)[:3]]
    sample += [f"doubled: {schedules[n].expression} {at}" for n, at in list(doubled)[:3]]
    for each in schedules[:: max(1, len(schedules) // 50)]:
        now = await get_schedule(connection, each.name)
        if now.missed or now.skipped or now.refused or now.ticks != len(expected(each, end)):
            sample.append(f"counted wrongly: {now}")
    return Year(len(wanted), missing.total(), doubled.total(), killed, tuple(sample))


@asynccontextmanager
async def _held(
    connect: Callable[[], Awaitable[asyncpg_trio.Connection]],
) -> AsyncIterator[asyncpg_trio.Connection]:
    connection = await connect()
    try:
        yield connection
    finally:
        connection.terminate()
