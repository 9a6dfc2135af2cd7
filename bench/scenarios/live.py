"""Logs while they are printed: how soon a follower has a line, what it costs the workers when somebody looks,
and what a thousand viewers of one log cost the server.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import attrs
import trio

import hotpath
from bench.context import WORKSPACE, Bench, environment
from bench.counting import Count, counting
from bench.registry import CheckFailed, Finding, Target, quantile, ratios, scenario
from bench.run import dedicated
from bench.usage import Usage
from hotpath.client import Client
from hotpath.remote import open_remote

SCRIPT = "talk"
PRINTS = 200
PAUSE = 0.0537
"""Seconds between two prints: no multiple of anybody's tick."""
P95 = Target(300.0, at_least=False)
WATCHED = 50
"""Jobs that are watched; each says ten lines a second."""
BESIDES = 200_000
"""Jobs that run beside those in one turn."""
TURNS = 2
"""Turns of each arm, for each round that is asked for."""
COST = Target(1.03, at_least=False)
VIEWERS = 1000
WATCH_SECONDS = 10.0
FLAT = Target(1.1, at_least=False)


@scenario("live")
async def run_live(bench: Bench) -> list[Finding]:
    """Live logs: print to follower; CPU and statements of watched workers; memory of many viewers."""
    return [*await _latency(bench), *await _cost(bench), *await _viewers(bench)]


@asynccontextmanager
async def _served(url: str) -> AsyncIterator[tuple[str, int]]:
    """`hotpath serve` on this database: its URL and its process."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "hotpath", "serve", "--port", "0", "--json"],
        env=environment(url),
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some() or b"{}\n"
        yield json.loads(line)["urls"][0], process.pid
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 20):
            process.terminate()
            await process.wait()


async def _latency(bench: Bench) -> list[Finding]:
    p50, p95 = [], []
    async with (
        bench.database() as url,
        _served(url) as (server, _),
        dedicated(bench, url, SCRIPT),
        hotpath.open_client(url, workspace=WORKSPACE) as client,
        open_remote(server) as remote,
    ):
        for turn in range(bench.repeat):
            bench.say(f"live: prints, round {turn + 1} of {bench.repeat}")
            lines = bench.size(PRINTS, least=20)
            job = await client.enqueue(SCRIPT, {"n": turn, "lines": lines, "pause": PAUSE})
            waits: list[float] = []
            async with remote.subscribe("log", job=job) as log:
                async for event in log:
                    now = time.time()
                    waits += [(now - float(line)) * 1000 for line in event.get("text", "").splitlines()]
            if len(waits) != lines:
                raise CheckFailed(f"{len(waits)} of {lines} lines came")
            p50.append(quantile(waits, 0.5))
            p95.append(quantile(waits, 0.95))
    return [
        Finding("print to a follower's frame, p50", p50, "ms"),
        Finding("print to a follower's frame, p95", p95, "ms", P95),
    ]


@attrs.frozen
class _Turn:
    """What some jobs took while others talked."""

    worker_us: float
    """CPU of the worker process for one job."""
    all_us: float
    """The supervisor's with it."""
    asked: float
    """Round trips of the worker to the database for one job."""
    supervising: float
    """Round trips of the supervisor a second."""


async def _cost(bench: Bench) -> list[Finding]:
    """The same jobs beside the same talkers, in turns: nobody looks; all talkers and the overview are
    followed.
    """
    alone: list[_Turn] = []
    watched: list[_Turn] = []
    jobs = bench.size(BESIDES, least=200)
    async with (
        bench.database() as url,
        counting(url) as count,
        _served(url) as (server, _),
        dedicated(bench, count.url, SCRIPT, "--concurrency", str(2 * WATCHED)) as usage,
        hotpath.open_client(url, workspace=WORKSPACE) as client,
    ):
        talking = await client.enqueue_many(
            SCRIPT, [{"n": -1, "lines": 1_000_000, "pause": 0.1} for _ in range(WATCHED)]
        )
        await _turn(client, usage, count, jobs)  # not counted: the worker learns how long a job takes
        for turn in range(bench.repeat * TURNS):
            bench.say(f"live: cost, turn {turn + 1} of {bench.repeat * TURNS}")
            alone.append(await _turn(client, usage, count, jobs))
            async with _followed(server, talking):
                watched.append(await _turn(client, usage, count, jobs))
        for job in talking:
            await client.cancel(job)
    return [
        Finding(
            f"worker CPU per job, {WATCHED} watched",
            ratios([turn.worker_us for turn in watched], [turn.worker_us for turn in alone]), "x", COST,
        ),
        Finding(
            "the same with the supervisor",
            ratios([turn.all_us for turn in watched], [turn.all_us for turn in alone]), "x",
        ),
        Finding(
            f"statements per job, {WATCHED} watched",
            ratios([turn.asked for turn in watched], [turn.asked for turn in alone]), "x", COST,
        ),
        Finding("statements of the supervisor, nobody looks", [turn.supervising for turn in alone], "/s"),
        Finding("the same, all followed", [turn.supervising for turn in watched], "/s"),
    ]  # fmt: skip


async def _turn(client: Client, usage: Usage, count: Count, jobs: int) -> _Turn:
    since, asked, supervising = time.time(), count.of("hotpath worker"), count.of("hotpath supervisor")
    ids = await client.enqueue_many(SCRIPT, [{"n": n} for n in range(jobs)])
    for job in ids[-4 * WATCHED :]:
        await client.wait(job)
    until = time.time()
    worker = usage.cpu("worker", since, until) / jobs * 1e6
    head = usage.cpu("worker", since, until, head=True) / jobs * 1e6
    return _Turn(
        worker_us=worker,
        all_us=worker + head,
        asked=(count.of("hotpath worker") - asked) / jobs,
        supervising=(count.of("hotpath supervisor") - supervising) / (until - since),
    )


@asynccontextmanager
async def _followed(server: str, jobs: Sequence[UUID]) -> AsyncIterator[None]:
    """Somebody follows these jobs and the overview; the block begins when each has been heard of."""
    heard: set[UUID] = set()
    all_heard = trio.Event()
    async with open_remote(server) as remote, trio.open_nursery() as nursery:

        async def follow(job: UUID) -> None:
            async with remote.subscribe("log", job=job) as log:
                async for _ in log:
                    heard.add(job)
                    if len(heard) == len(jobs):
                        all_heard.set()

        async def look() -> None:
            async with remote.subscribe("overview") as overview:
                async for _ in overview:
                    pass

        nursery.start_soon(look)
        for job in jobs:
            nursery.start_soon(follow, job)
        with trio.fail_after(60):
            await all_heard.wait()
        yield
        nursery.cancel_scope.cancel(reason="nobody looks any more")


async def _viewers(bench: Bench) -> list[Finding]:
    """Memory of the server with many viewers of one log: soon, and after a while of talk; and what one of
    them sees of it.
    """
    viewers = bench.size(VIEWERS, least=20)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < viewers + 256:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(viewers + 256, hard), hard))
    growth, each, late = [], [], []
    async with (
        bench.database() as url,
        dedicated(bench, url, SCRIPT),
        hotpath.open_client(url, workspace=WORKSPACE) as client,
    ):
        job = await client.enqueue(SCRIPT, {"n": 0, "lines": 1_000_000, "pause": 0.1})
        for turn in range(bench.repeat):
            bench.say(f"live: {viewers} viewers, round {turn + 1} of {bench.repeat}")
            waits: list[float] = []
            async with _served(url) as (server, pid), trio.open_nursery() as nursery:
                before = _rss(pid)
                nursery.start_soon(_time, server, job, waits)
                for _ in range(viewers - 1):
                    await nursery.start(_view, server, job)
                await trio.sleep(2)
                soon = _rss(pid)
                waits.clear()
                await trio.sleep(WATCH_SECONDS)
                growth.append(_rss(pid) / soon)
                each.append((soon - before) / viewers / 1e3)
                late.append(quantile(waits, 0.95))
                nursery.cancel_scope.cancel(reason="all is seen")
        await client.cancel(job)
    return [
        Finding(f"server memory after {WATCH_SECONDS:g} s of {viewers} viewers", growth, "x", FLAT),
        Finding("memory for each of them, kB", each, "kB"),
        Finding("print to the frame of one of them, p95", late, "ms"),
    ]


async def _time(server: str, job: UUID, waits: list[float]) -> None:
    """Follow the job, and note how old each line is."""
    async with open_remote(server) as remote, remote.subscribe("log", job=job) as log:
        async for event in log:
            now = time.time()
            waits += [(now - float(line)) * 1000 for line in event.get("text", "").splitlines()]


async def _view(server: str, job: UUID, *, task_status: trio.TaskStatus[None]) -> None:
    """Follow the job and look at nothing: a viewer that costs this machine little."""
    host, _, port = server.removeprefix("http://").rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        await stream.send_all(
            f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await stream.receive_some()
        text = json.dumps({"op": "subscribe", "id": 1, "channel": "log", "job": str(job)}).encode()
        await stream.send_all(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)  # masked with zeros
        task_status.started()
        while await stream.receive_some(1 << 16):
            pass


def _rss(pid: int) -> int:
    """Bytes of memory that a process has."""
    with open(f"/proc/{pid}/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
