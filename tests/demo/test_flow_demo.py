"""The flow of the demo: real workers run it, a token approves it, and what is wrong with it is noticed."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from uuid import uuid4

import attrs
import pytest

import hotpath
from hotpath.demo import flow
from hotpath.demo.flow import APPROVER, FlowRun, draw_run, install, run_flow
from hotpath.errors import HotpathError
from hotpath.model import Job, State
from hotpath.store.flows import RunStep

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path):
    """A workspace with the demo's flow in it."""
    install(tmp_path / "demo")
    return tmp_path / "demo"


def some_step(key, attempt=1):
    """A step that has ended."""
    return RunStep(key, uuid4(), State.SUCCESS, NOW, NOW, 2.5, attempt, "w", f"etl/{key}", None)


def some_job(result, state=State.SUCCESS, error=None):
    """A run that has ended."""
    return Job(
        id=uuid4(), script="etl", tag="etl", state=state, priority=0, scheduled_for=NOW, created_at=NOW,
        started_at=NOW, finished_at=NOW, duration_ms=1.0, worker="w", attempt=1, args={}, result=result,
        error=error,
    )  # fmt: skip


def test_install_brings_all_there_is(workspace):
    """The flow, its scripts, the flow as code and the files are copied; doing it again touches nothing."""
    names = {file.relative_to(workspace).as_posix() for file in workspace.rglob("*") if file.is_file()}
    assert {"etl.flow/flow.yaml", "etl.flow/load.inline_script.py", "etl_code.py", "orders.py"} <= names
    assert sum(name.startswith("incoming/") for name in names) == 13
    before = {name: (workspace / name).stat().st_mtime_ns for name in names}
    (workspace / "orders.py").write_text("changed = True\n")
    install(workspace)
    assert {name for name in names if (workspace / name).stat().st_mtime_ns != before[name]} == {"orders.py"}
    assert "def merge" in (workspace / "orders.py").read_text()
    assert not [file for file in workspace.rglob(".*") if file.is_file()]


@pytest.mark.slow
async def test_flow_runs_to_its_end(workspace, database_url):
    """It waits where it is to, goes on once it is approved, and its numbers are those that calling the same
    functions gives; each step is there, with its tries.
    """
    said = []
    found = await run_flow(workspace, said.append, database_url)
    assert found.wrong == []
    assert found.job.state is State.SUCCESS
    assert found.job.result["approved_by"] == APPROVER["name"]
    assert found.approved == "ask"
    assert "39,657.38 EUR" in found.question
    keys = {step.key for step in found.steps}
    assert {"files", "merge", "aside[0]/quarantine", "load", "ask", "report", "each_file[12]/check"} <= keys
    assert found.tries == len(found.steps) + flow.FLAKY
    assert said.count("$ hotpath dedicate etl --drain") == 2
    assert not list(workspace.glob("out-*"))
    tree = draw_run(found, workspace, boxes=True)
    assert any("each_file: 13 iterations, 2 failed" in line for line in tree)
    assert any("load" in line and line.endswith("attempt 3") for line in tree)
    assert all(line.isascii() for line in draw_run(found, workspace, boxes=False))


@pytest.mark.slow
async def test_a_flow_that_fails_is_told(workspace, database_url):
    """Without any file to read the run fails, nobody is asked, and the error says why."""
    for file in (workspace / "incoming").iterdir():
        file.unlink()
    with pytest.raises(HotpathError, match=r"is failure and waits for nobody.*no CSV file"):
        await run_flow(workspace, lambda _: None, database_url)


async def test_what_an_interrupted_demo_left_is_canceled(workspace, database_url):
    """Runs of this workspace that wait are canceled before another demo begins, those of others are not."""
    async with hotpath.open_client(database_url, workspace=workspace) as client:
        ours = await client.enqueue("etl", {"incoming": str(workspace / "incoming"), "out": "x"})
        other = await client.enqueue("etl", {"incoming": "/elsewhere", "out": "x"})
        await flow._clear(client, workspace / "incoming")
        assert (await client.job(ours)).state is State.CANCELED
        assert (await client.job(other)).state is State.QUEUED


@pytest.fixture
def good(workspace, tmp_path):
    """What the flow leaves behind when all is well: the run, its steps, its directory."""
    report, orders = flow._by_hand(workspace)
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text(json.dumps(report))
    with closing(sqlite3.connect(out / "orders.db")) as db, db:
        db.execute("create table orders (id text primary key, cents integer)")
        db.executemany("insert into orders values (?, ?)", orders.items())
    return some_job(report), [some_step("files"), some_step("load", flow.FLAKY + 1)], workspace, out


def test_all_well(good):
    """Nothing is wrong with what is right."""
    assert flow._check(*good) == []


def test_wrong_numbers_are_named(good):
    """A number of the report that is not what the functions give is named, with both."""
    job, steps, workspace, out = good
    wrong = flow._check(attrs.evolve(job, result={**job.result, "orders": 7}), steps, workspace, out)
    assert wrong[0] == "orders is 7; by hand the functions give 380"
    assert "report.json" in wrong[1]


def test_a_wrong_database_is_named(good):
    """An order that is missing or another is noticed; so is a step that was not tried again."""
    job, _, workspace, out = good
    with closing(sqlite3.connect(out / "orders.db")) as db, db:
        db.execute("update orders set cents = cents + 1 where id = (select min(id) from orders)")
    wrong = flow._check(job, [some_step("load")], workspace, out)
    assert [line.split()[0] for line in wrong] == ["orders.db", "loading"]


def test_a_failed_run_is_named(good):
    """Of a run that failed, its error is what is wrong."""
    _, steps, workspace, out = good
    job = some_job(None, State.FAILURE, {"name": "ValueError", "message": "no"})
    assert flow._check(job, steps, workspace, out) == ["the run ended as failure: ValueError: no"]


def test_tries_count_what_was_repeated():
    """Tries are attempts of all steps, and their times are added up."""
    run = FlowRun(some_job({}), [some_step("a"), some_step("b", 3)], "ask", "?", 1.0, [])
    assert run.tries == 4
    assert run.busy_ms == 5.0
