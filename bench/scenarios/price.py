"""What a change cost the hot path: this checkout against an earlier one, in turns, in one run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

from bench.context import WORKSPACE, Bench, connect, environment
from bench.load import load_loose, settle
from bench.registry import CheckFailed, Finding, Target, ratios, scenario
from bench.run import Sample, drain

JOBS = 300_000
BASELINE = "HOTPATH_BENCH_BASELINE"
WITHIN = Target(1.03, at_least=False)
ROOT = str(Path(__file__).resolve().parent.parent.parent)

_COMMITS = "select xact_commit::int8 from pg_stat_database where datname = current_database()"
_WAL = "select (pg_current_wal_insert_lsn() - '0/0')::int8"


@attrs.frozen
class Cost:
    """What draining some no-op jobs took, for one job."""

    sample: Sample
    wal_bytes: float
    transactions: float
    """Less those of a worker that finds nothing to do."""


async def _hotpath(url: str, root: str, *command: str) -> None:
    """Run a `hotpath` command of the checkout `root`."""
    done = await trio.run_process(
        [sys.executable, "-m", "hotpath", *command],
        env={**environment(url), "PYTHONPATH": root},
        cwd=root,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise CheckFailed(f"hotpath {' '.join(command)} of {root}: {done.stderr.decode()}")


async def _sealed(url: str, root: str, jobs: int) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(f'{{"n": {n}}}\n' for n in range(jobs))
        file.flush()
        await _hotpath(url, root, "push", "noop", file.name, "--json")
    await settle(url)


async def _loose(url: str, root: str, jobs: int) -> None:  # noqa: ARG001 - the same by either checkout
    await load_loose(url, "noop", jobs)


async def _cost(bench: Bench, root: str, load: Callable[[str, str, int], Awaitable[None]]) -> Cost:
    """Drain a fresh database that the checkout `root` made, with that checkout's worker."""
    jobs = bench.size(JOBS, least=2000)
    async with bench.empty_database() as url:
        await _hotpath(url, root, "migrate")
        await _hotpath(url, root, "deploy", str(WORKSPACE))
        async with connect(url) as connection:
            fixed = await connection.fetchval(_COMMITS)
        await _hotpath(url, root, "dedicate", "noop", "--drain")  # what a worker's start and end take
        async with connect(url) as connection:
            fixed = await connection.fetchval(_COMMITS) - fixed
        await load(url, root, jobs)
        async with connect(url) as connection:
            wal, commits = await connection.fetchval(_WAL), await connection.fetchval(_COMMITS)
        sample = await drain(bench, url, "noop", jobs, root=root)
        async with connect(url) as connection:
            wal = await connection.fetchval(_WAL) - wal
            commits = await connection.fetchval(_COMMITS) - commits
    return Cost(sample, wal / jobs, (commits - fixed) / jobs)


@scenario("price")
async def run_price(bench: Bench) -> list[Finding]:
    """Worker CPU, WAL and transactions per no-op job against the checkout in HOTPATH_BENCH_BASELINE."""
    baseline = os.environ.get(BASELINE)
    if not baseline:
        bench.say(f"price: skipped, {BASELINE} names no checkout to compare with")
        return []
    if not (Path(baseline) / "hotpath" / "__init__.py").exists():
        raise CheckFailed(f"{BASELINE}={baseline} is no checkout of Hotpath")
    findings: list[Finding] = []
    for kind, load in (("loose", _loose), ("sealed", _sealed)):
        before, after = [], []
        for turn in range(bench.repeat):
            bench.say(f"price: {kind}, round {turn + 1} of {bench.repeat}")
            before.append(await _cost(bench, baseline, load))
            after.append(await _cost(bench, ROOT, load))
        findings += [
            Finding(f"worker CPU per {kind} job", [one.sample.worker_cpu_us for one in after], "us"),
            _against(
                f"worker CPU per {kind} job / before", before, after, lambda one: one.sample.worker_cpu_us
            ),
            Finding(f"WAL bytes per {kind} job", [one.wal_bytes for one in after], "bytes"),
            _against(f"WAL bytes per {kind} job / before", before, after, lambda one: one.wal_bytes),
            _against(f"transactions per {kind} job / before", before, after, lambda one: one.transactions),
            Finding(
                f"{kind} jobs/s / before",
                ratios(
                    [one.sample.span.flush_rate for one in after],
                    [one.sample.span.flush_rate for one in before],
                ),
                "x",
                Target(0.97),
            ),
        ]
    return findings


def _against(measure: str, before: list[Cost], after: list[Cost], pick: Callable[[Cost], float]) -> Finding:
    return Finding(measure, ratios([pick(one) for one in after], [pick(one) for one in before]), "x", WITHIN)
