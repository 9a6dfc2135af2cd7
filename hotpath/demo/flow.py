"""Run a flow over real files: orders with everything that is wrong with them (`examples/etl`).

A dedicated worker runs it until it waits for somebody's approval, and goes home; the approval is given by a
token, and another worker runs what is left. What comes of it is held against the same functions, called one
after the other.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs

import hotpath
from hotpath.core.flow.tree import ASCII, BOXES, StepRow, draw
from hotpath.demo.worker import drain
from hotpath.errors import HotpathError
from hotpath.model import Job, State
from hotpath.scripts.flow_file import load_flow
from hotpath.scripts.locate import locate
from hotpath.store.flows import RunStep

FLOW = "etl"
APPROVER = {"name": "Ada", "comment": "looks right"}
FLAKY = 2
"""How many times loading finds the database locked."""


@attrs.frozen
class FlowRun:
    """What the flow did."""

    job: Job
    """The run, as it ended."""
    steps: list[RunStep]
    approved: str
    """Key of the step that waited for it."""
    question: str
    """What was approved."""
    command_seconds: float
    """Of both `dedicate` commands, from start to exit."""
    wrong: list[str]
    """What is not as it should be; empty when all is well."""

    @property
    def tries(self) -> int:
        """Runs of steps, those that failed and were repeated counted."""
        return sum(max(step.attempt, 1) for step in self.steps)

    @property
    def busy_ms(self) -> float:
        """Time that the steps ran, added up."""
        return sum(step.duration_ms or 0.0 for step in self.steps)


def draw_run(found: FlowRun, workspace: Path, *, boxes: bool) -> list[str]:
    """The steps of the run as a tree; `boxes`: whether whoever reads it can see more than ASCII."""
    rows = [
        StepRow(
            step.key,
            step.state.value,
            None if step.started_at is None else round(step.started_at.timestamp() * 1e6),
            step.duration_ms,
            step.attempt,
            "" if step.error is None else f"{step.error['name']}: {step.error['message']}",
        )
        for step in found.steps
    ]
    flow = load_flow(locate(FLOW, workspace)).flow
    return [line.text for line in draw(rows, flow=flow, drawing=BOXES if boxes else ASCII)]


def install(workspace: Path) -> None:
    """Put the flow, its scripts and its files into the workspace, as this version of Hotpath has them."""
    _copy(resources.files("hotpath.demo").joinpath("etl"), workspace)


def _copy(source: Traversable, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for each in source.iterdir():
        if each.is_dir() and each.name != "__pycache__":
            _copy(each, target / each.name)
        elif each.is_file():
            content = each.read_bytes()
            file = target / each.name
            if not file.exists() or file.read_bytes() != content:
                draft = target / f".{each.name}.{time.time_ns()}"
                draft.write_bytes(content)
                draft.replace(file)  # at once: another demo may be reading it


async def run_flow(workspace: Path, say: Callable[[str], None], database_url: str | None = None) -> FlowRun:
    """Run the flow in a workspace where it is installed, approve it when it asks, check what came of it.

    `say` is told how far it is. Raises HotpathError when the worker does not end as it should, or the run
    does not wait where it is to.
    """
    incoming = workspace / "incoming"
    with tempfile.TemporaryDirectory(prefix="out-", dir=workspace) as out:
        args = {"incoming": str(incoming), "out": out, "flaky": FLAKY}
        async with hotpath.open_client(database_url, workspace=workspace) as client:
            await _clear(client, incoming)
            await client.register(FLOW)
            run = await client.enqueue(FLOW, args)
            say(f"$ hotpath dedicate {FLOW} --drain")
            began = time.perf_counter()
            await drain(FLOW, workspace, say, database_url)
            command_seconds = time.perf_counter() - began
            key, question = await _approve(client, run)
            say(f"  {question}")
            say(f"  No worker has it while it waits. {APPROVER['name']} approves, with a token.")
            say(f"$ hotpath dedicate {FLOW} --drain")
            began = time.perf_counter()
            await drain(FLOW, workspace, say, database_url)
            command_seconds += time.perf_counter() - began
            job = await client.job(run)
            steps = await client.steps(run)
        wrong = _check(job, steps, workspace, Path(out))
    return FlowRun(job, steps, key, question, command_seconds, wrong)


async def _clear(client: Any, incoming: Path) -> None:
    """Cancel what an interrupted demo left waiting."""
    for job in await client.jobs(state=State.QUEUED, script=FLOW, limit=1000):
        if job.args.get("incoming") == str(incoming):
            await client.cancel(job.id)


async def _approve(client: Any, run: UUID) -> tuple[str, str]:
    """Approve as `hotpath resume RUN --token` and `hotpath resume TOKEN` do; the step, and what it asked."""
    waits = [wait for wait in await client.waits(run) if wait.kind == "suspend"]
    if len(waits) != 1:
        job = await client.job(run)
        said = "" if job.error is None else f": {job.error['name']}: {job.error['message']}"
        raise HotpathError(f"run {run} is {job.state} and waits for nobody{said}; see: hotpath job {run}")
    key: str = waits[0].key
    asked = next(step for step in await client.steps(run) if step.key == key)
    question = (await client.job(asked.id)).result
    token = await client.resume_token(run)
    await client.resume_by_token(token, APPROVER, approver=APPROVER["name"])
    return key, question


# ---------------------------------------------------------------- the checks


def _check(job: Job, steps: list[RunStep], workspace: Path, out: Path) -> list[str]:
    """What is not as it should be."""
    if job.state is not State.SUCCESS:
        error = job.error or {}
        return [f"the run ended as {job.state}: {error.get('name')}: {error.get('message')}"]
    expected, orders = _by_hand(workspace)
    wrong = [
        f"{name} is {job.result.get(name)!r}; by hand the functions give {value!r}"
        for name, value in expected.items()
        if job.result.get(name) != value
    ]
    if json.loads((out / "report.json").read_text()) != job.result:
        wrong.append("report.json is not what the run gave")
    with contextlib.closing(sqlite3.connect(out / "orders.db")) as db:
        stored = dict(db.execute("select id, cents from orders"))
    if stored != orders:
        wrong.append(f"orders.db holds {len(stored)} orders, not the {len(orders)} that the files have")
    loading = next((step for step in steps if step.key == "load"), None)
    if loading is None or loading.attempt != FLAKY + 1:
        wrong.append(f"loading was to find the database locked {FLAKY} times")
    return wrong


def _by_hand(workspace: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The report, and the orders in cents, by calling the same functions without any flow."""
    spec = importlib.util.spec_from_file_location("hotpath_demo_orders", workspace / "orders.py")
    if spec is None or spec.loader is None:
        raise HotpathError(f"no module: {workspace / 'orders.py'}")
    orders = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(orders)
    incoming = str(workspace / "incoming")
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        files = orders.list_files(incoming)
        parts = []
        for name in files:
            try:
                parts.append(orders.check_rows(**orders.read_file(incoming, name)))
            except ValueError as error:
                parts.append({"error": {"message": str(error)}})
        merged = orders.merge(files, parts)
        aside = orders.quarantine(out, merged["rejected"], merged["unreadable"])
        loaded = orders.load(out, merged["orders"])
        report = orders.report(out, merged, aside, loaded, APPROVER)
    return report, {order["id"]: order["cents"] for order in merged["orders"]}
