"""Run things beside a Postgres, watched: a draining worker, the SQL ceiling, a worker that stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.check import Span, check, span
from bench.context import WORKSPACE, Bench, connect, environment
from bench.registry import CheckFailed
from bench.usage import Shares, Usage

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0


@attrs.frozen
class Sample:
    """One run, checked: when its jobs ran, and who was busy meanwhile."""

    span: Span
    shares: Shares
    worker_cpu_us: float
    """CPU that the worker processes used for one job, in microseconds; the supervisor not counted."""
    worker_rss: float
    """Highest memory of a worker process, in MB."""
    began: float
    """Seconds since the epoch as the command was started."""


async def drain(
    bench: Bench,
    url: str,
    script: str,
    jobs: int,
    *options: str,
    command: tuple[str, ...] | None = None,
    root: str | None = None,
) -> Sample:
    """Drain `jobs` loaded jobs with a dedicated worker (or `command`), check them, and say what it took.

    `root`: another checkout of Hotpath, whose worker is to do it.
    """
    ceiling = command is not None
    if command is None:
        command = ("-m", "hotpath", "dedicate", script, "--drain", "--json", *options)
    began = time.time()
    errors: list[bytes] = []
    async with (
        started(url, *command, root=root) as process,
        watching(bench, process) as usage,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(collect, process.stderr, errors)
        nursery.start_soon(collect, process.stdout, [])
        await process.wait()
    if process.returncode:
        raise CheckFailed(f"{' '.join(command)} ended with {process.returncode}: {b''.join(errors).decode()}")
    await check(url, script, jobs, results=not ceiling)
    return await sample_of(bench, url, script, usage, began, head=ceiling)


async def ceiling(bench: Bench, url: str, script: str, jobs: int) -> Sample:
    """Drain the same jobs by the bare statement."""
    return await drain(bench, url, script, jobs, command=("-m", "bench.ceiling", url, script))


async def sample_of(
    bench: Bench,
    url: str,
    script: str,
    usage: Usage,
    began: float,
    *,
    first: int = 0,
    jobs: int = 1 << 30,
    head: bool = False,
) -> Sample:
    """The sample that the rows of jobs `first` to `first + jobs` and the samples of /proc amount to.

    `head`: the process that was started did the work itself (it is not a supervisor).
    """
    times = await span(url, script, first=first, jobs=jobs)
    since, until = times.first_flush, times.last_flush
    cpu = usage.cpu("worker", since, until, head=head)
    seconds = until - since
    busy = cpu / seconds if head and seconds > 0 else usage.busiest("worker", since, until)
    shares = Shares(
        worker=busy,
        backend=usage.busiest("postgres", since, until),
        disk=min(1.0, times.flushes * bench.fsync_seconds() / seconds) if seconds > 0 else 0.0,
        machine=usage.machine(since, until),
    )
    flushed = max(1, times.jobs - times.in_last)
    return Sample(times, shares, cpu / flushed * 1e6, usage.peak_rss("worker"), began)


@asynccontextmanager
async def started(
    url: str, *command: str, stdin: int | None = subprocess.DEVNULL, root: str | None = None
) -> AsyncIterator[trio.Process]:
    """A Python process on this database, with its output piped; ended when the block is left."""
    process = await trio.lowlevel.open_process(
        [sys.executable, *command],
        env=environment(url) if root is None else {**environment(url), "PYTHONPATH": root},
        cwd=root,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _STOP_SECONDS):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await process.wait()
        if process.returncode is None:
            process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await stream.aclose()


@asynccontextmanager
async def watching(bench: Bench, process: trio.Process) -> AsyncIterator[Usage]:
    """Sample the process, its children and the server while the block runs."""
    roots = {"worker": process.pid}
    if bench.postmaster is not None:
        roots["postgres"] = bench.postmaster
    usage = Usage(roots)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(usage.watch)
        yield usage
        nursery.cancel_scope.cancel(reason="the run is over")


@asynccontextmanager
async def dedicated(
    bench: Bench, url: str, script: str, *options: str, ready: bool = True
) -> AsyncIterator[Usage]:
    """A dedicated worker that stays until the block is left, watched; `ready`: asleep on its empty tag."""
    command = ("-m", "hotpath", "dedicate", script, *options)
    async with started(url, *command) as process, trio.open_nursery() as nursery:
        said: list[bytes] = []
        nursery.start_soon(collect, process.stdout, said)
        nursery.start_soon(collect, process.stderr, said)
        async with watching(bench, process) as usage:
            with trio.move_on_after(_START_SECONDS) as scope:
                async with connect(url) as connection:
                    while ready and not await connection.fetchval(_READY, script):
                        if process.returncode is not None:
                            break
                        await trio.sleep(0.02)
            if scope.cancelled_caught or process.returncode is not None:
                raise CheckFailed(f"hotpath dedicate {script} did not get ready: {b''.join(said).decode()}")
            yield usage
        process.send_signal(signal.SIGTERM)
        await process.wait()


# Asleep on the script's tag: it has looked, found nothing, and can be woken.
_READY = "select exists (select from hotpath.doze d join hotpath.script s on s.tag = d.tag where s.name = $1)"


async def collect(stream: Any, into: list[bytes]) -> None:
    """Read all that a process says."""
    async for chunk in stream:
        into.append(chunk)  # noqa: PERF401 - what has come so far is read before the stream ends


class ForLoop:
    """The bare for-loop over a script of the bench, in a process that stays."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process

    async def seconds(self, count: int, **args: Any) -> float:
        """Seconds that `count` calls of `main` take."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        await self._process.stdin.send_all(f"{count} {json.dumps(args)}\n".encode())
        line = b""
        while not line.endswith(b"\n"):
            chunk = await self._process.stdout.receive_some()
            if not chunk:
                raise CheckFailed("the for-loop's process ended")
            line += chunk
        return float(line)


@asynccontextmanager
async def for_loop(script: str) -> AsyncIterator[ForLoop]:
    """A process with the script's module imported, that loops over `main` when asked."""
    file = Path(WORKSPACE) / f"{script}.py"
    async with started("", "-m", "bench.for_loop", str(file), stdin=subprocess.PIPE) as process:
        yield ForLoop(process)
        assert process.stdin is not None
        await process.stdin.aclose()
        await process.wait()
