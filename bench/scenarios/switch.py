"""A normal worker that goes from script to script, beside a dedicated one that has a single script."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hotpath
from bench.context import WORKSPACE, Bench, connect
from bench.load import load_loose, settle
from bench.registry import CheckFailed, Finding, Target, ratios, scenario
from bench.run import collect, drain, started

SCRIPTS = 20
BATCH = 500
JOBS = 100_000
"""In batches."""
SINGLE = 20_000
"""One by one."""
OF_DEDICATED = Target(0.5)
SWITCHES = Target(1000)

# One job of each script comes first, so that all of them are warm before the clock runs.
_WARM = """
insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args)
select hotpath.uuid7(), now(), hotpath.tag_id('switch'), s.id, 9, json_build_object('n', -1)
from hotpath.script s where s.name like 'switch_%'
"""
_TAG = "insert into hotpath.tag (id, name) values (hotpath.tag_id('switch'), 'switch')"
_LOAD = """
insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args)
select hotpath.uuid7(), now() + g * interval '1 microsecond', hotpath.tag_id('switch'), s.id, 0,
    json_build_object('n', g)
from generate_series(0, $1::int - 1) g
join hotpath.script s on s.name = 'switch_' || lpad((g / $2::int % $3::int)::text, 2, '0')
"""
_SPAN = """
select count(*) as jobs, count(distinct d.id) as ids,
    count(*) filter (where d.state <> 1 or d.result::text <> d.args ->> 'n') as wrong,
    extract(epoch from min(d.started_at))::float8 as began,
    extract(epoch from max(d.started_at + d.duration_us * interval '1 microsecond'))::float8 as ended
from hotpath.job_done d where (d.args ->> 'n')::int >= 0
"""


def write_scripts(workspace: Path) -> None:
    """So many scripts that do nothing."""
    source = (WORKSPACE / "noop.py").read_text()
    for number in range(SCRIPTS):
        (workspace / f"switch_{number:02}.py").write_text(source)


async def normal(bench: Bench, jobs: int, run: int) -> float:
    """Jobs a second of a normal worker, from the first start to the last end, with `run` neighbours of one
    script each time.
    """
    async with bench.empty_database() as url:
        with tempfile.TemporaryDirectory() as workspace:
            write_scripts(Path(workspace))
            async with hotpath.open_client(url, workspace=workspace) as client:
                for number in range(SCRIPTS):
                    await client.register(f"switch_{number:02}")
            async with connect(url) as connection:
                await connection.execute(_TAG)
                await connection.execute(_WARM)
                await connection.execute(_LOAD, jobs, run, SCRIPTS)
            await settle(url)
            said: list[bytes] = []
            command = ("-m", "hotpath", "worker", "--drain", "--json", "--workspace", workspace)
            async with started(url, *command) as process:
                await collect(process.stderr, said)
                await process.wait()
            if process.returncode:
                text = b"".join(said).decode()
                raise CheckFailed(f"hotpath worker ended with {process.returncode}: {text}")
            async with connect(url) as connection:
                row = await connection.fetchrow(_SPAN)
    assert row is not None
    if not row["jobs"] == row["ids"] == jobs or row["wrong"]:
        raise CheckFailed(f"{row['jobs']} rows of {jobs} jobs, {row['wrong']} of them wrong")
    return float(jobs / (row["ended"] - row["began"]))


@scenario("switch")
async def run_switch(bench: Bench) -> list[Finding]:
    """No-ops of 20 warm scripts by a normal worker, in batches and one by one, beside a dedicated worker."""
    batches, single, dedicated = [], [], []
    for turn in range(bench.repeat):
        bench.say(f"switch: round {turn + 1} of {bench.repeat}")
        jobs = bench.size(JOBS, least=4000)
        async with bench.database() as url:
            await load_loose(url, "noop", jobs)
            dedicated.append((await drain(bench, url, "noop", jobs)).span.run_rate)
        batches.append(await normal(bench, jobs, BATCH))
        single.append(await normal(bench, bench.size(SINGLE, least=1000), 1))
    return [
        Finding("dedicated, one script", dedicated, "jobs/s"),
        Finding(f"normal, {SCRIPTS} scripts, runs of {BATCH}", batches, "jobs/s"),
        Finding("normal / dedicated, in batches", ratios(batches, dedicated), "x", OF_DEDICATED),
        Finding("switches, one by one", single, "jobs/s", SWITCHES),
    ]
