"""The table of a run, for people."""

from __future__ import annotations

from typing import Any

from bench.registry import Finding

_HEAD = ("measure", "median", "spread", "target", "reached")


def number(value: float, unit: str) -> str:
    """A figure with as many digits as mean something, and its unit."""
    if unit == "x":
        return f"{value:.3f}"
    if unit == "jobs/s":
        return f"{value:,.0f} jobs/s" if value >= 100 else f"{value:,.2f} jobs/s"
    return f"{value:,.2f} {unit}"


def lines(name: str, findings: list[Finding]) -> list[str]:
    """The scenario's findings, aligned; below each what binds it."""
    rows = [_HEAD]
    for finding in findings:
        low, high = finding.spread
        digits = number(low, finding.unit).removesuffix(finding.unit).strip()
        reached = {None: "", True: "yes", False: "NO"}[finding.is_reached]
        spread = f"{digits} – {number(high, finding.unit).removesuffix(finding.unit).strip()}"
        target = "" if finding.target is None else f"{finding.target} {finding.unit.replace('x', '')}".strip()
        rows.append((finding.measure, number(finding.median, finding.unit), spread, target, reached))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    found = [f"== {name}"]
    binds = ["", *[finding.binds for finding in findings]]
    for row, bound in zip(rows, binds, strict=True):
        cells = [row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].rjust(widths[2])]
        found.append("  ".join([*cells, row[3].ljust(widths[3]), row[4]]).rstrip())
        if bound:
            found.append(f"    binds: {bound}")
    return found


def heading(environment: dict[str, Any]) -> str:
    """One line about where this was measured."""
    return (
        f"PostgreSQL {environment['postgresql']}, Python {environment['python']}, "
        f"{environment['cores']} cores "
        f"({environment['cpu']}), fsync {environment['fsync_ms']} ms, "
        f"synchronous_commit {environment['settings'].get('synchronous_commit')}, "
        f"commit {environment['commit'] or 'unknown'}{' with changes' if environment['changed'] else ''}, "
        f"load {environment['load_before']:.1f}"
    )
