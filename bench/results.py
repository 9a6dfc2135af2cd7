"""Runs as they are stored: figures, targets, and the environment they were measured in, as JSON."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from bench.context import Bench, connect
from bench.registry import Finding

RESULTS = Path(__file__).resolve().parent / "results"
_SETTINGS = """
select name, current_setting(name) as value from pg_settings
where name in ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'wal_compression',
    'shared_buffers', 'max_wal_size', 'checkpoint_timeout', 'work_mem', 'jit', 'autovacuum') order by name
"""


async def describe_environment(bench: Bench) -> dict[str, Any]:
    """Where and with what the figures were measured."""
    async with connect(bench.server) as connection:
        version = await connection.fetchval("show server_version")
        settings = {row["name"]: row["value"] for row in await connection.fetch(_SETTINGS)}
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "hotpath", "bench")),
        "python": platform.python_version(),
        "postgresql": version,
        "embedded": bench.postmaster is not None,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "fsync_ms": round(bench.fsync_seconds() * 1000, 3),
        "settings": settings,
        "quick": bench.quick,
        "repeat": bench.repeat,
        "scale": bench.scale,
    }


def document(environment: dict[str, Any], found: dict[str, list[Finding]]) -> dict[str, Any]:
    """The run as it is stored: for each scenario its findings."""
    return {
        "environment": environment,
        "scenarios": {name: [_row(finding) for finding in findings] for name, findings in found.items()},
    }


def _row(finding: Finding) -> dict[str, Any]:
    low, high = finding.spread
    target = finding.target
    return {
        "measure": finding.measure,
        "unit": finding.unit,
        "median": finding.median,
        "low": low,
        "high": high,
        "samples": finding.samples,
        "target": None if target is None else {"value": target.value, "at_least": target.at_least},
        "reached": finding.is_reached,
        "binds": finding.binds,
    }


def store(run: dict[str, Any], file: Path | None = None) -> Path:
    """Write the run to `file`, by default to a name of its own in bench/results/, and return where."""
    if file is None:
        stamp = run["environment"]["date"].replace(":", "").replace("-", "").replace("+0000", "Z")
        names = "-".join(run["scenarios"])
        file = RESULTS / f"{stamp}-{names if len(names) < 40 else 'several'}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    return file


def stored_runs(directory: Path = RESULTS) -> list[dict[str, Any]]:
    """All runs in a directory, oldest first."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(directory.glob("*.json"))]
    return sorted(runs, key=lambda run: str(run["environment"]["date"]))


def _git(*arguments: str) -> str:
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
