"""`hotpath doctor`: what is wrong here, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.doctor.finding import Finding


@click.command("doctor")
@common
def command(given: Given) -> int:
    """Examine the database, the workers, and what lies between; show what is wrong, what shows it, and the
    command that mends it. Changes nothing.

    Exits 0 if nothing is wrong (warnings are no errors), 1 if something is, 3 without a database.
    """
    return given.run(_examine, given)


async def _examine(given: Given) -> int:
    from hotpath.cli.output import print_json
    from hotpath.doctor.examine import examine
    from hotpath.doctor.finding import finding_document

    done = await examine(given.config)
    if given.json:
        findings = [finding_document(finding) for finding in done.findings]
        print_json({"ok": done.exit_code == 0, "checks": done.checks, "findings": findings})
        return done.exit_code
    for finding in done.findings:
        _print(finding)
    counts = ", ".join(
        f"{number} {name if number == 1 else name + 's'}"
        for name in ("error", "warning", "note")
        if (number := sum(finding.severity == name for finding in done.findings))
    )
    print(f"{done.checks} {'check' if done.checks == 1 else 'checks'}: {counts or 'nothing is wrong'}")
    return done.exit_code


def _print(finding: Finding) -> None:
    from hotpath.cli.output import printable

    print(printable(f"{finding.severity.upper():<8} {finding.code}: {finding.text}"))
    shown = {name: value for name, value in finding.evidence.items() if value not in (None, [], "")}
    if shown:
        print(printable("         evidence: " + ", ".join(f"{k}={_text(v)}" for k, v in shown.items())))
    print(printable(f"         mend: {finding.mend}") + "\n")


def _text(value: object) -> str:
    from datetime import datetime

    from hotpath.words import clock

    if isinstance(value, datetime):
        return clock(value)
    if isinstance(value, list):
        return ",".join(map(str, value[:5])) + (",…" if len(value) > 5 else "")
    return str(value)
