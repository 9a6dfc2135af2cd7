"""Flows whose workers are killed all the time: all runs end right, and nothing written is repeated."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID

import attrs
import trio

import hotpath
from bench.context import WORKSPACE, Bench, connect
from bench.registry import CheckFailed, Finding, Target, scenario
from bench.run import collect, started

RUNS = 2_000
STEPS = 5
ARMS = {
    "sync steps, worker killed": ("counted", 0.002, False),
    "async steps, worker killed": ("counted_async", 0.05, False),
    "sync steps, supervisor killed, too": ("counted", 0.002, True),
}
"""Flow, seconds that a step takes, and whether the supervisor dies, too."""
BETWEEN = {False: (20, 500), True: (500, 2_500)}
"""Steps that begin between two kills: least and most, by whether the supervisor dies, too."""
_DEADLINE = 900.0
NONE = Target(0, at_least=False)

_WORKERS = "select pid from hotpath.worker where stopped_at is null"
_RUNS = "select id, state, result, error from hotpath.job where kind = 'flow'"
# Steps that were written, and the process that wrote them.
_WRITTEN = """
select d.parent, d.step, d.state, w.pid
from hotpath.job_done d join hotpath.worker w on w.id = d.worker where d.parent is not null
"""
_LEFT = "select (select count(*) from hotpath.job_queue) + (select count(*) from hotpath.lease)"


@attrs.frozen
class Account:
    """What became of the runs of one arm; what is wrong has raised CheckFailed."""

    kills: int
    again: int
    """How often a step was run that had been begun before."""
    steps: int
    """Steps to which that happened."""
    most: int
    """How often the step that was run most often was."""
    seconds: float


@scenario("flow-kill")
async def run_flow_kill(bench: Bench) -> list[Finding]:
    """kill -9 at random during 2,000 runs of five counted steps: all end right, what is written runs once."""
    findings, count = [], bench.size(RUNS, least=20)
    for number, (name, (flow, seconds, hosts)) in enumerate(ARMS.items()):
        bench.say(f"flow-kill: {name}")
        found = await _arm(bench, flow, seconds, random.Random(number), hosts=hosts)
        bench.say(
            f"flow-kill: {count:,} runs ended right in {found.seconds:.0f} s, {found.kills} kills;"
            f" of {count * STEPS:,} steps {found.steps} ran more than once, none after it was written"
        )
        findings += [
            Finding(f"{name}: kills", [float(found.kills)], ""),
            Finding(f"{name}: steps begun again, for each kill", [found.again / max(1, found.kills)], ""),
            Finding(f"{name}: runs of the step that ran most often", [float(found.most)], ""),
            Finding(f"{name}: steps that ran again though they were written", [0.0], "", NONE),
        ]
    return findings


async def _arm(bench: Bench, flow: str, seconds: float, chance: random.Random, *, hosts: bool) -> Account:
    """Let the runs live through it, and account for each."""
    count = bench.size(RUNS, least=20)
    began = time.monotonic()
    async with bench.database() as url, _place() as place:
        file = place / "lines"
        args = ({"n": n, "file": str(file), "seconds": seconds} for n in range(count))
        async with hotpath.open_client(url, workspace=WORKSPACE) as client:
            runs = dict(zip(await client.enqueue_many(flow, args), range(count), strict=True))
        with trio.move_on_after(_DEADLINE) as scope:
            kills = await _kill_all_the_time(url, flow, file, chance, hosts=hosts)
        if scope.cancelled_caught:
            raise CheckFailed(f"{flow}: not done after {_DEADLINE:.0f} s")
        steps = await _written(url, runs)
        begun = _begun(file)
    if steps.keys() != begun.keys():
        raise CheckFailed(f"{flow}: {len(begun)} steps have left a line, {len(steps)} were written")
    late = [key for key, pids in begun.items() if pids[-1] != steps[key]]
    if late:
        raise CheckFailed(f"{flow}: {len(late)} steps ran again though they were written, such as {late[0]}")
    twice = [key for key, pids in begun.items() if len(set(pids)) != len(pids)]
    if twice:
        raise CheckFailed(f"{flow}: {len(twice)} steps ran twice in one process, such as {twice[0]}")
    again = [len(pids) - 1 for pids in begun.values() if len(pids) > 1]
    return Account(kills, sum(again), len(again), 1 + max(again, default=0), time.monotonic() - began)


async def _kill_all_the_time(url: str, flow: str, file: Path, chance: random.Random, *, hosts: bool) -> int:
    """Drain the runs with commands whose workers, or who themselves, are killed; how often that was."""
    killed: set[int] = set()
    while True:
        options = ("--drain", "--concurrency", "60", "--lease", "2" if hosts else "15")
        async with (
            started(url, "-m", "hotpath", "dedicate", flow, *options) as process,
            connect(url) as connection,
            trio.open_nursery() as nursery,
        ):
            said: list[bytes] = []
            nursery.start_soon(collect, process.stdout, [])
            nursery.start_soon(collect, process.stderr, said)

            async def kill(
                process: trio.Process = process, connection: hotpath.asyncpg_trio.Connection = connection
            ) -> None:
                while True:
                    goal = _lines(file) + chance.randint(*BETWEEN[hosts])
                    while _lines(file) < goal:  # noqa: ASYNC110 - other processes write them
                        await trio.sleep(0.002)
                    pids = {row["pid"] for row in await connection.fetch(_WORKERS)} - killed
                    await trio.sleep(chance.random() * 0.03)
                    if hosts:
                        process.send_signal(signal.SIGSTOP)  # nobody is there to see the worker die
                    for pid in pids:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                            killed.add(pid)
                    if hosts:
                        process.kill()
                        return

            nursery.start_soon(kill)
            code = await process.wait()
            nursery.cancel_scope.cancel(reason="the command has ended")
        if code == 0:
            return len(killed)
        if code != -signal.SIGKILL:
            raise CheckFailed(f"hotpath dedicate {flow} ended with {code}: {b''.join(said).decode()[-2000:]}")


async def _written(url: str, runs: Mapping[UUID, int]) -> dict[tuple[int, int], int]:
    """By run and step, the process that wrote it; raises CheckFailed unless all have ended right."""
    async with connect(url) as connection:
        ended = await connection.fetch(_RUNS)
        rows = await connection.fetch(_WRITTEN)
        left = await connection.fetchval(_LEFT)
    states = Counter(row["state"] for row in ended)
    if states != {"success": len(runs)}:
        error = next((row["error"] for row in ended if row["error"]), "")
        raise CheckFailed(f"{len(runs)} runs, but {dict(states)}: {error}")
    wrong = [row["id"] for row in ended if json.loads(row["result"]) != _right(runs[row["id"]])]
    if wrong:
        raise CheckFailed(f"{len(wrong)} runs have a wrong result, such as {wrong[0]}")
    steps = {(runs[row["parent"]], int(row["step"][1:])): row["pid"] for row in rows}
    if not len(rows) == len(steps) == STEPS * len(runs) or {row["state"] for row in rows} != {1}:
        raise CheckFailed(f"{len(rows)} rows of {len(steps)} steps, where {STEPS * len(runs)} should be")
    if left:
        raise CheckFailed(f"{left} rows are still waiting or leased")
    return steps


def _right(x: int) -> int:
    for step in range(STEPS):
        x = 3 * x + step
    return x


def _begun(file: Path) -> dict[tuple[int, int], list[int]]:
    """By run and step, the processes in which it began, in order."""
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for line in file.read_text().splitlines():
        run, step, pid = map(int, line.split())
        found[run, step].append(pid)
    return found


def _lines(file: Path) -> int:
    """About how many steps have begun: a line is ten bytes or a little more."""
    try:
        return file.stat().st_size // 12
    except OSError:
        return 0


@asynccontextmanager
async def _place() -> AsyncIterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="hotpath-bench-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
