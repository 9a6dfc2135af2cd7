"""How soon a changed configuration of a group is what its workers do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

import hotpath
from bench.context import WORKSPACE, Bench, environment
from bench.registry import Finding, Target, scenario
from hotpath.client import Client

GROUP = "bench"
CHANGES = 40
"""Changes of each kind; at the smallest a handful."""
SOON = Target(1000.0, at_least=False)
WITHIN = 30.0


@scenario("config")
async def run_config(bench: Bench) -> list[Finding]:
    """Milliseconds from a committed change of a group to workers that do what it says."""
    changes = bench.size(CHANGES, least=4)
    async with bench.database() as url, hotpath.open_client(url, workspace=WORKSPACE) as client:
        await client.set_group(GROUP, tags=["bench-0"], processes=1)
        async with _worker(client, url, "worker"):
            await _tags(client, 0)  # which has the script loaded, and the client listen
            normal = [await _tags(client, number) for number in range(changes + 1, 2 * changes + 1)]
        async with _worker(client, url, "dedicate", "noop"):
            tags = [await _tags(client, number) for number in range(1, changes + 1)]
            limits = [await _in_force(client, max_jobs=10**6 + number) for number in range(changes)]
            restarts = [
                await _in_force(client, env={"N": str(number)}) for number in range(max(4, changes // 4))
            ]
            processes = [
                await _in_force(client, processes=2 - number % 2) for number in range(max(4, changes // 4))
            ]
    found = []
    for measure, samples in (
        ("tags: to the end of a job that waits", tags),
        ("tags of a normal worker: likewise", normal),
        ("limits: to what the database says is in force", limits),
        ("environment: to the last worker replaced", restarts),
        ("processes, one more or one less: likewise", processes),
    ):
        found.append(Finding(measure, samples, "ms", SOON))
        found.append(Finding(f"{measure}, the slowest", [max(samples)], "ms", SOON))
    return found


@asynccontextmanager
async def _worker(client: Client, url: str, *command: str) -> AsyncIterator[None]:
    """A worker of the group, of which the database knows that it runs the newest configuration."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "hotpath", *command, "--group", GROUP, "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment(url),
        cwd=WORKSPACE,
    )
    try:
        await _until_in_force(client)
        yield
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 15):
            process.terminate()
            await process.wait()
        if process.returncode is None:
            process.kill()


async def _tags(client: Client, number: int) -> float:
    """A job waits in a tag that nobody listens to; now the group does."""
    tag = f"bench-{number}"
    job = await client.enqueue("noop", {"n": number}, tag=tag)
    await client.set_group(GROUP, tags=[tag])
    began = time.perf_counter()
    with trio.fail_after(WITHIN):
        await client.result(job)
    return (time.perf_counter() - began) * 1000


async def _in_force(client: Client, **changes: Any) -> float:
    await client.set_group(GROUP, **changes)
    began = time.perf_counter()
    await _until_in_force(client)
    return (time.perf_counter() - began) * 1000


async def _until_in_force(client: Client) -> None:
    """Until as many live workers as there should be, and no others, run the newest configuration."""
    group = await client.group(GROUP)
    wanted = group.config.processes or 1
    with trio.fail_after(WITHIN):
        while True:
            workers = await client.group_workers(GROUP)
            if len(workers) == wanted and all(each.revision == group.revision for each in workers):
                return
            await trio.sleep(0.005)
