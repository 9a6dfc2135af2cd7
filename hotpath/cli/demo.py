"""`hotpath demo`: the main job on real input, and how fast beside the bare for-loop; then a flow."""

from __future__ import annotations

import json
import platform
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hotpath.demo.compare import Comparison, Pass
    from hotpath.demo.flow import FlowRun

_SHOWN_DIFFERENCES = 5


def run_demo(directory: Path | None = None, *, as_json: bool = False, database_url: str | None = None) -> int:
    """Run the demo on the files below `directory`, by default the standard library, and the flow on its own
    files; print what came of it.

    Returns the exit code: 1 when any outcome differs from the for-loop's, or the flow's numbers are wrong.
    `database_url`: a database other than the one every command would use.
    """
    import trio

    from hotpath.demo.compare import compare, make_workspace, standard_library
    from hotpath.demo.flow import draw_run, install, run_flow
    from hotpath.store.embedded import default_home

    say = partial(print, file=sys.stderr if as_json else sys.stdout, flush=True)
    tell = _quiet if as_json else say
    workspace = make_workspace(default_home())
    install(workspace)
    where = directory or standard_library()
    if not as_json:
        say(f"Hotpath runs flow_x on every .py file below {where} (Python {platform.python_version()}).\n")
    found = trio.run(compare, where, workspace, tell, database_url)
    if not as_json:
        say("\n" + "\n".join(_lines(found)))
        say("\nThen a flow, on the orders that a shop's branches send (see examples/etl):")
    flow = trio.run(run_flow, workspace, tell, database_url)
    if as_json:
        print(json.dumps({**_document(found, workspace), "flow": _flow_document(flow)}))
    else:
        boxes = "utf" in (sys.stdout.encoding or "").lower()
        say("\n" + "\n".join([*draw_run(flow, workspace, boxes=boxes), "", *_flow_lines(flow)]))
        say("\nTry next:\n" + "\n".join(f"  {each}" for each in _next_commands(found, flow, workspace)))
    return 1 if found.differing or flow.wrong else 0


def _quiet(_line: str) -> None:
    pass


def _lines(found: Comparison) -> list[str]:
    """The report on the main job, for people."""
    lines = _table(found)
    lines += ["", *_verdict(found)]
    if found.failed is not None and found.failed.error is not None:
        error = found.failed.error
        path = found.failed.args.get("path", "")
        lines += ["", f"One file that failed, as its job {found.failed.id} has it:", f"  {path}"]
        text = str(error.get("traceback") or f"{error['name']}: {error['message']}").rstrip()
        lines += [f"  {line}" for line in text.splitlines()]
    return lines


def _flow_lines(flow: FlowRun) -> list[str]:
    """The report on the flow, for people."""
    times = f"{flow.busy_ms:.0f} ms in steps; both commands took {flow.command_seconds:.2f} s"
    lines = [f"{len(flow.steps)} steps, {flow.tries - len(flow.steps)} tries of them failed first; {times}."]
    if flow.job.result:
        got = flow.job.result
        aside = f"{got['rows_set_aside']} rows and {len(got['files_set_aside'])} files set aside"
        lines.append(
            f"{got['orders']} orders from {got['files']} files, {got['total_eur']} EUR; {aside}; "
            f"approved by {got['approved_by']}."
        )
    if flow.wrong:
        lines.append("WRONG:")
        lines += [f"  {each}" for each in flow.wrong]
    else:
        lines.append("Checked: the report and the database are what the same functions give by hand.")
    return lines


def _table(found: Comparison) -> list[str]:
    from hotpath.demo.compare import totals

    loop, worker = totals(found.before.outcomes), totals(found.worker.outcomes)
    rows = [("", "for-loop", "hotpath")]
    rows += [(name.replace("_", " "), _cell(loop[name]), _cell(worker[name])) for name in loop]
    width = max(max(len(row[1]), len(row[2])) for row in rows)
    lines = [f"{name:<18}{left:>{width}}  {right:>{width}}" for name, left, right in rows]
    lines.append("")
    lines.append(_timing("for-loop, before", found.before))
    apart = f"whose own two passes are {found.drift:.0%} apart"
    lines.append(_timing("hotpath", found.worker) + f"   {found.ratio:.1%} of the for-loop, {apart}")
    lines.append(_timing("for-loop, after", found.after))
    return lines


def _timing(name: str, measured: Pass) -> str:
    return f"{name:<18}{measured.seconds:>8.2f} s  {measured.per_second:>7,.0f} jobs/s"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['name']} ({value['lines']:,} lines)" if value else "none"
    return f"{value:,}"


def _verdict(found: Comparison) -> list[str]:
    jobs, megabytes = len(found.files), found.total_bytes / 1e6
    took = f"The command took {found.command_seconds:.2f} s from start to exit"
    lines = [
        f"{jobs:,} jobs over {megabytes:.1f} MB of source; each has its row, state, result, times and log.",
        f"Hotpath's time: first job's start to last one's end, {found.inside_main:.1%} of it inside main.",
        f"{took}, the push before it {found.push_seconds:.2f} s.",
    ]
    if found.differing:
        lines.append(f"WRONG: {len(found.differing):,} files have another outcome than in the for-loop:")
        lines += [f"  {path}" for path in found.differing[:_SHOWN_DIFFERENCES]]
    else:
        lines.append("Checked: every file has the same result or the same error as in the for-loop.")
    return lines


def _next_commands(found: Comparison, flow: FlowRun, workspace: Path) -> list[str]:
    from hotpath.demo.compare import SCRIPT, command_path

    call = f"{command_path()} --workspace {workspace}"
    commands = [f"{call} status", f"{call} run {SCRIPT} -a path={found.files[0]} --local"]
    commands.insert(1, f"{call} job {found.failed.id}" if found.failed else f"{call} jobs --limit 5")
    commands.append(f"{call} job {flow.job.id}")
    return commands


def _flow_document(flow: FlowRun) -> dict[str, Any]:
    """The report on the flow, for programs."""
    return {
        "run": str(flow.job.id),
        "state": flow.job.state.value,
        "result": flow.job.result,
        "steps": len(flow.steps),
        "tries": flow.tries,
        "steps_ms": flow.busy_ms,
        "commands_ms": flow.command_seconds * 1000,
        "approved_step": flow.approved,
        "question": flow.question,
        "wrong": flow.wrong,
    }


def _document(found: Comparison, workspace: Path) -> dict[str, Any]:
    """The report, for programs."""
    from hotpath.demo.compare import totals

    return {
        "files": len(found.files),
        "bytes": found.total_bytes,
        "workspace": str(workspace),
        "same": not found.differing,
        "differing": found.differing,
        "totals": totals(found.worker.outcomes),
        "for_loop_totals": totals(found.before.outcomes),
        "for_loop_ms": [found.before.seconds * 1000, found.after.seconds * 1000],
        "worker_ms": found.worker.seconds * 1000,
        "command_ms": found.command_seconds * 1000,
        "push_ms": found.push_seconds * 1000,
        "jobs_per_second": found.worker.per_second,
        "for_loop_ratio": found.ratio,
        "for_loop_drift": found.drift,
        "inside_main": found.inside_main,
        "failed_job": None if found.failed is None else str(found.failed.id),
        "failed_error": None if found.failed is None else found.failed.error,
    }
