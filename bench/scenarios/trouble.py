"""How soon a job ends that is canceled, runs again when its worker was killed, starts after an outage."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import trio

import hotpath
from bench.context import WORKSPACE, Bench, connect
from bench.registry import CheckFailed, Finding, Target, quantile, scenario
from bench.run import dedicated
from hotpath.client import Client
from hotpath.store.embedded import EmbeddedPostgres

TIMES = 30
OUTAGE = 10.0
"""Seconds that the server is away."""
SECOND = Target(1000.0, at_least=False)
_WAIT = 30.0
KINDS = {"async": ("hold_async", {}), "sync, asleep": ("hold", {"how": "sleep"})}
KINDS |= {"sync, in a loop": ("hold", {"how": "spin"}), "C with the GIL": ("hold", {"how": "gil"})}


# Workers that are ready and idle: the one killed before has a successor.
_ASLEEP = """
select count(distinct d.worker) from hotpath.doze d join hotpath.worker w on w.id = d.worker
where w.stopped_at is null and d.until > now()
"""


@asynccontextmanager
async def _place() -> AsyncIterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="hotpath-bench-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def _begun(file: Path) -> float:
    """Seconds (`time.monotonic`) at which the job's file was there."""
    with trio.move_on_after(_WAIT):
        while not await trio.Path(file).exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(0.002)
        return time.monotonic()
    raise CheckFailed(f"no job has touched {file} within {_WAIT:.0f} s")


async def _hold(client: Client, script: str, n: int, file: Path, **args: object) -> UUID:
    """Enqueue a job that goes on, and wait until it runs."""
    job = await client.enqueue(script, {"n": n, "file": str(file), **args})
    await _begun(file)
    return job


@scenario("trouble")
async def run_trouble(bench: Bench) -> list[Finding]:
    """Cancel of running jobs, rescue after kill -9 of a worker, first job after a 10 s outage."""
    findings = []
    times = bench.size(TIMES, least=5)
    for kind, (script, args) in KINDS.items():
        bench.say(f"trouble: cancel, {kind}")
        took = await _cancels(bench, script, times, **args)
        findings += _figures(f"cancel to end, {kind}", took)
    bench.say("trouble: kill -9 of a worker")
    findings += _figures("kill -9 of a worker to the job's next start", await _rescues(bench, times))
    bench.say(f"trouble: outages of {OUTAGE:g} s")
    findings.append(
        Finding(
            f"server back after {OUTAGE:g} s to the first start",
            [await _outage() for _ in range(bench.repeat)],
            "ms",
            SECOND,
        )
    )
    return findings


def _figures(measure: str, took: list[float]) -> list[Finding]:
    return [
        Finding(f"{measure}, p50", [quantile(took, 0.5)], "ms"),
        Finding(f"{measure}, p99", [quantile(took, 0.99)], "ms", SECOND),
    ]


async def _cancels(bench: Bench, script: str, times: int, **args: object) -> list[float]:
    took = []
    async with (
        bench.database() as url,
        dedicated(bench, url, script),
        hotpath.open_client(url, workspace=WORKSPACE) as client,
        _place() as place,
    ):
        for n in range(times):
            job = await _hold(client, script, n, place / str(n), **args)
            await trio.sleep(0.3)  # not in its first moments
            began = time.monotonic()
            await client.cancel(job)
            ended = await client.wait(job)
            took.append((time.monotonic() - began) * 1000)
            if ended.state != "canceled":
                raise CheckFailed(f"job {job} was canceled and ended as {ended.state}: {ended.error}")
    return took


async def _rescues(bench: Bench, times: int) -> list[float]:
    """Two workers: the one with the job is killed, the other or its successor runs it again."""
    took = []
    async with (
        bench.database() as url,
        dedicated(bench, url, "hold", "--processes", "2"),
        hotpath.open_client(url, workspace=WORKSPACE) as client,
        connect(url) as connection,
        _place() as place,
    ):
        for n in range(times):
            file = place / str(n)
            while await connection.fetchval(_ASLEEP) < 2:  # noqa: ASYNC110 - of other processes
                await trio.sleep(0.05)
            job = await _hold(client, "hold", n, file, how="sleep")
            pid = await connection.fetchval(
                "select w.pid from hotpath.lease l join hotpath.worker w on w.id = l.worker"
            )
            file.unlink()
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            took.append((await _begun(file) - began) * 1000)
            await client.cancel(job)
            await client.wait(job)
            # Workers that are killed again and again and end no job between are started ever more slowly.
            for _ in range(4):
                await client.result(await client.enqueue("hold", {"n": n, "how": "quick", "file": str(file)}))
    return took


async def _outage() -> float:
    """Milliseconds from the server's first accepted connection to the first job's start."""
    async with _place() as home:
        home.chmod(0o755)  # for root the server is another user, who has to pass through
        server = EmbeddedPostgres(home, linger=1)
        try:
            url = await trio.to_thread.run_sync(server.start, "bench")
            return await _after_outage(server, url)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
                await trio.to_thread.run_sync(server.stop)
            server.close()


async def _after_outage(server: EmbeddedPostgres, url: str) -> float:
    """A job that comes due during the outage; it tells when it started, by the same wall clock."""
    async with hotpath.open_client(url, workspace=WORKSPACE) as client:
        await client.register("clock")
        async with dedicated(Bench(url), url, "clock"):
            due = datetime.now(UTC) + timedelta(seconds=OUTAGE / 2)
            job = await client.enqueue("clock", {"n": 0}, scheduled_for=due)
            await trio.to_thread.run_sync(server.stop)
            await trio.sleep(OUTAGE)
            await trio.to_thread.run_sync(server.start, "bench")
            back = time.time()
            with trio.fail_after(_WAIT):
                _, started = await client.result(job)
    return float(started - back) * 1000
