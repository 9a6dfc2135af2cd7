"""Deploys under full load: what workers do in the worst second around a swap, against before."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import attrs
import trio

from bench.context import Bench, connect
from bench.load import load_loose, load_sealed
from bench.registry import CheckFailed, Finding, Target, scenario
from bench.run import collect, started
from hotpath import asyncpg_trio
from hotpath.model import Description
from hotpath.scripts.describe import describe, gently
from hotpath.scripts.locate import locate
from hotpath.store.choices import roll_back
from hotpath.store.scripts import register_version

JOBS = {"loose": 2_500_000, "sealed": 4_000_000}
"""More than are run in the time, on a fast machine, too."""
SWAPS = 3
BEFORE, BETWEEN = 6.0, 3.5
"""Seconds of load before the first deploy, and between two: the spare process has been started by then."""
STEP = 0.05
"""Seconds by which the window of one second slides."""
SOURCE = '"""Version {0}."""\n\n\ndef main(n: int) -> int:\n    """Give back `n`."""\n    return n\n'
DIP = Target(0.9)

# Jobs by the moment at which they ended, in steps; rows and distinct jobs, failures.
_ENDS = """
select count(*) as jobs, floor(
    extract(epoch from d.started_at + d.duration_us * interval '1 microsecond') / $2::float8)::int8 as step
from hotpath.job_done d join hotpath.script s on s.id = d.script where s.name = $1 group by 2 order by 2
"""
_NOW = "select extract(epoch from clock_timestamp())::float8"
_COUNTS = """
select count(*) as rows, count(distinct d.id) as ids, count(*) filter (where d.state <> 1) as failed
from hotpath.job_done d join hotpath.script s on s.id = d.script where s.name = $1
"""
_SWAPPED = """
select count(*) filter (where w.version = $1::int4) = $2::int8 and count(*) = $2 from hotpath.worker w
where w.stopped_at is null and w.script = (select v.script from hotpath.script_version v where v.id = $1)
"""


ARMS = ("none", "beside", "ahead")
"""What is deployed: nothing; by a deployer on the same processors; versions that were registered before."""
AS_LONG = 0.3
"""Seconds that a swap takes, about: so long the arm without deploys waits."""


@attrs.frozen
class Round:
    """One run of a few deploys, or of as much time without."""

    before: float
    """Jobs/s before the first, the median second."""
    lowest: float
    """Jobs/s in the worst second from the first deploy to the end of the last swap."""
    dips: list[float]
    """For each swap, its worst second against the two beside it: the rate drifts by more within a round."""
    seconds: list[float]
    """From each deploy until only the new version is run."""


@scenario("deploy")
async def run_deploy(bench: Bench) -> list[Finding]:
    """No-op jobs under full load while versions are deployed: each swap's worst second against the seconds
    beside it, and the worst second of all the time against before; with the deployer on the same processors,
    with versions that were registered before and are made current, as when it runs elsewhere, and without any
    deploy: what the machine's own noise makes of the same sums.
    """
    findings = []
    gently.set(True)  # as `hotpath deploy` does
    for load, kind in ((load_loose, "loose"), (load_sealed, "sealed")):
        rounds: dict[str, list[Round]] = {arm: [] for arm in ARMS}
        for turn in range(bench.repeat):
            bench.say(f"deploy: {kind}, round {turn + 1} of {bench.repeat}")
            for arm, done in rounds.items():
                async with bench.database() as url:
                    await load(url, "noop", bench.size(JOBS[kind], least=20_000))
                    done.append(await _round(url, arm))
        before = [each.before for done in rounds.values() for each in done]
        findings.append(Finding(f"before the first deploy, {kind}", before, "jobs/s"))
        for arm, done in rounds.items():
            what = {"none": "no deploy", "beside": "deployer beside", "ahead": "registered ahead"}[arm]
            dips = [one for each in done for one in each.dips]
            shares = [each.lowest / each.before for each in done]
            target = None if arm == "none" else DIP
            findings += [
                Finding(f"a swap's second / those beside it, {kind}, {what}", dips, "x", target),
                Finding(f"worst of all seconds / before, {kind}, {what}", shares, "x"),
            ]
            if arm != "none":
                seconds = [one for each in done for one in each.seconds]
                findings.append(Finding(f"deploy to swapped, {kind}, {what}", seconds, "s"))
    return findings


async def _round(url: str, arm: str) -> Round:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        command = ("-m", "hotpath", "dedicate", "noop", "--json", "--workspace", folder)
        marks: list[tuple[float, float]] = []
        known: dict[int, Description] = {}
        async with connect(url) as connection:
            for number in range(SWAPS + 1 if arm == "ahead" else 1):
                known[number] = await _save(workspace, number)
                await register_version(connection, known[number], deploy=True)
            if arm == "ahead":
                await _save(workspace, 0)
                await roll_back(connection, "noop", known[0].hash)
            async with started(url, *command) as process, trio.open_nursery() as nursery:
                nursery.start_soon(collect, process.stdout, [])
                nursery.start_soon(collect, process.stderr, [])
                await _until(connection, "select exists (select from hotpath.job_done)")
                await trio.sleep(BEFORE)
                for number in range(1, SWAPS + 1):
                    began = await connection.fetchval(_NOW)
                    if arm == "none":
                        await trio.sleep(AS_LONG)
                    else:
                        if arm == "ahead":
                            (workspace / "noop.py").write_text(SOURCE.format(number), "utf-8")
                            version = (await roll_back(connection, "noop", known[number].hash)).after
                        else:
                            description = await _save(workspace, number)
                            version = await register_version(connection, description, deploy=True)
                        await _until(connection, _SWAPPED, version.id, 1)
                    marks.append((began, await connection.fetchval(_NOW)))
                    await trio.sleep(BETWEEN)
                process.terminate()
                await process.wait()
            counts = await connection.fetchrow(_COUNTS, "noop")
            assert counts is not None, "a query without groups has one row"
            if counts["failed"] or counts["rows"] != counts["ids"]:
                raise CheckFailed(f"jobs failed or ran twice: {dict(counts)}")
            ends = {row["step"]: row["jobs"] for row in await connection.fetch(_ENDS, "noop", STEP)}
        return Round(*_rates(ends, marks), [ended - began for began, ended in marks])


async def _save(workspace: Path, number: int) -> Description:
    (workspace / "noop.py").write_text(SOURCE.format(number), "utf-8")
    return await describe(locate("noop", workspace))


async def _until(connection: asyncpg_trio.Connection, question: str, *args: int) -> None:
    with trio.fail_after(60):
        while not await connection.fetchval(question, *args):  # noqa: ASYNC110 - of other processes
            await trio.sleep(0.02)


def _rates(ends: dict[int, int], marks: list[tuple[float, float]]) -> tuple[float, float, list[float]]:
    """The median second before the first deploy; the worst one from there to the end of the last swap; and
    for each swap the worst second it is in, against the mean of the second before that and the one after.
    """
    width = round(1 / STEP)
    first, last = min(ends) + 1, max(ends) - width - 1

    def second(start: int) -> int:
        return sum(ends.get(start + i, 0) for i in range(width))

    spans = [(round(began / STEP), round(ended / STEP)) for began, ended in marks]
    begin, end = spans[0][0], spans[-1][1]
    # Its first second is that of the start, not the load.
    quiet = [second(start) for start in range(first + width, begin - width + 1)]
    if not quiet or last < end + width:
        raise CheckFailed("the jobs were used up before the last swap: make them more")
    dips = []
    for began, ended in spans:
        worst = min(range(began - width + 1, ended + 1), key=second)
        dips.append(2 * second(worst) / (second(worst - width) + second(worst + width)))
    return statistics.median(quiet), min(second(start) for start in range(begin - width + 1, end + 1)), dips
