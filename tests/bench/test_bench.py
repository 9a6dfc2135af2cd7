"""The harness: scenarios run, and a missing, doubled or wrong job fails the run. Nothing looks at speed."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import trio

from bench import scenarios
from bench.chart import chart
from bench.check import check, span
from bench.context import Bench, connect
from bench.load import load_loose, load_sealed
from bench.registry import SCENARIOS, CheckFailed, Finding, Target, quantile, ratios
from bench.results import describe_environment, document, store, stored_runs
from bench.run import ceiling, drain
from bench.table import lines
from bench.usage import Shares, Usage, _tree

assert scenarios.__all__  # importing them registers them
ROOT = Path(__file__).resolve().parents[2]
JOBS = 1200


@pytest.fixture(scope="module")
def templated(cluster):
    """The harness on the tests' own server, at a hundredth of its sizes."""
    bench = Bench(cluster, repeat=1, scale=0.01)
    trio.run(bench.make_template)
    yield bench
    trio.run(bench.drop_template)


@pytest.fixture
def harness(templated):
    """A harness, whose databases are copies of one template."""
    return templated


def run_command(*arguments):
    """`python -m bench` with these arguments."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_command_lists_the_scenarios():
    """Without arguments every scenario is listed with what it measures; an unknown one is refused by name."""
    listed = run_command()
    assert listed.returncode == 0
    for name in (
        "drain",
        "drain-async",
        "cpu",
        "sleep",
        "latency",
        "enqueue",
        "workers",
        "flat",
        "startup",
        "price",
    ):
        assert f"\n{name} " in "\n" + listed.stdout
    refused = run_command("nonsense")
    assert refused.returncode == 2
    assert "nonsense" in refused.stderr


@pytest.mark.slow
async def test_drain_runs_and_is_stored_and_drawn(harness, tmp_path):
    """The drain scenario gives figures for worker and ceiling; the stored run can be read and drawn."""
    findings = await SCENARIOS["drain"].run(harness)
    assert {finding.measure for finding in findings} >= {
        "loose / ceiling",
        "sealed / ceiling",
        "sealed / loose",
    }
    assert all(sample > 0 for finding in findings if finding.unit != "us" for sample in finding.samples)
    run = document(await describe_environment(harness), {"drain": findings})
    store(run, tmp_path / "run.json")
    assert stored_runs(tmp_path) == [json.loads(json.dumps(run))]
    assert run["environment"]["settings"]["fsync"]
    drawn = ET.fromstring(chart(stored_runs(tmp_path)))
    assert drawn.tag.endswith("svg")
    assert any("loose / ceiling" in (node.text or "") for node in drawn.iter())


@pytest.mark.slow
async def test_cost_compares_with_the_schema_before_limits(harness):
    """Each hot statement of now runs under both schemas, and every job that went in has ended."""
    findings = {finding.measure: finding for finding in await SCENARIOS["cost"].run(harness)}
    ratio = [name for name in findings if name.endswith("CPU / before")]
    assert len(ratio) == 9
    assert all(sample > 0 for name in ratio for sample in findings[name].samples)


@pytest.mark.slow
async def test_ceiling_leaves_one_row_a_job(harness):
    """The bare statement drains loose and sealed jobs alike: one row each, nothing left."""
    for load in (load_loose, load_sealed):
        async with harness.database() as url:
            await load(url, "noop", JOBS)
            sample = await ceiling(harness, url, "noop", JOBS)
            assert sample.span.jobs == JOBS


THIRD = "(args->>'n')::int = 3"
DAMAGES = {
    f"update hotpath.job_done set result = '7' where {THIRD}": "wrong result",
    f"update hotpath.job_done set state = 2 where {THIRD}": "1 failed",
    f"delete from hotpath.job_done where {THIRD}": "where 1200 jobs were enqueued",
    f"insert into hotpath.job_done select * from hotpath.job_done where {THIRD}": "1201 rows",
    """insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args)
    select hotpath.uuid7(), now(), tag, id, 0, '{"n": 1}' from hotpath.script where name = 'noop'
    """: "1 rows are still waiting",
}


@pytest.mark.slow
async def test_check_sees_what_is_wrong(harness):
    """A wrong result, a failure, a missing, a doubled and a left-over job each fail the check, by name."""
    async with harness.database() as url:
        await load_loose(url, "noop", JOBS)
        await drain(harness, url, "noop", JOBS)
        await check(url, "noop", JOBS)
        assert (await span(url, "noop")).jobs == JOBS
        async with connect(url) as connection:
            await connection.execute("alter table hotpath.job_done drop constraint job_done_pkey cascade")
            for damage, expected in DAMAGES.items():
                await connection.execute(damage)
                with pytest.raises(CheckFailed, match=expected):
                    await check(url, "noop", JOBS)
                await mend(connection)


async def mend(connection):
    """Undo the damage, whichever it was."""
    await connection.execute("delete from hotpath.job_queue")
    await connection.execute(f"delete from hotpath.job_done where {THIRD}")
    await connection.execute(
        """
        insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state, args, result)
        select hotpath.uuid7(), now(), tag, id, 0, 1, 1, '{"n": 3}', '3'
        from hotpath.script where name = 'noop'
        """
    )


async def test_a_worker_that_fails_fails_the_run(harness):
    """When the command ends with an error, the run fails and says what it said."""
    async with harness.database() as url:
        with pytest.raises(CheckFailed, match="no_such_script"):
            await drain(harness, url, "no_such_script", 1)


def test_targets_know_their_side():
    """At least and at most, and the bound itself counts as reached."""
    assert Target(0.75).is_met(0.75)
    assert not Target(0.75).is_met(0.74)
    assert Target(8, at_least=False).is_met(8)
    assert not Target(8, at_least=False).is_met(8.1)
    assert Finding("it", [1.0, 3.0, 2.0], "x", Target(2.0)).is_reached is True
    assert Finding("it", [1.0], "x").is_reached is None


def test_ratios_are_of_pairs():
    """Each round is compared with its own baseline; the spread is of those ratios."""
    finding = Finding("it", ratios([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]), "x")
    assert finding.median == 2.0
    assert finding.spread == (1.0, 3.0)
    assert quantile([5.0, 1.0, 3.0], 0.5) == 3.0


def test_table_shows_what_was_missed():
    """A missed target is marked, and the binding resource stands below its measure."""
    found = lines("drain", [Finding("loose / ceiling", [0.5], "x", Target(0.75), binds="worker CPU 99%")])
    assert found[0] == "== drain"
    assert found[2].endswith("NO")
    assert "worker CPU 99%" in found[3]


def test_the_busiest_resource_binds():
    """What is named is the highest share, or all cores when the machine is full and no single part is."""
    assert Shares(worker=0.9, backend=0.5, disk=0.1, machine=0.7).binding().startswith("worker CPU 90%")
    assert Shares(worker=0.4, backend=0.5, disk=0.1, machine=0.99).binding().startswith("all cores 99%")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="CPU is read from /proc")
async def test_usage_counts_the_cpu_of_a_child(nursery):
    """A process that computes is seen, with about as much CPU as time has passed, and with its memory."""
    command = [
        sys.executable,
        "-c",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while 1: pass'])",
    ]
    process = await trio.lowlevel.open_process(command)
    try:
        usage = Usage({"worker": process.pid})
        nursery.start_soon(usage.watch)
        with trio.fail_after(40):  # on a machine that has many others to serve, too
            while usage.busiest("worker", time.time() - 5, time.time()) < 0.02:  # noqa: ASYNC110 - it samples
                await trio.sleep(0.05)
        assert usage.peak_rss("worker") > 1
        assert usage.busiest("worker", 0, time.time()) >= 0
        nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            for pid in _tree(process.pid)[1:]:
                os.kill(pid, signal.SIGKILL)
            process.kill()
            await process.wait()
