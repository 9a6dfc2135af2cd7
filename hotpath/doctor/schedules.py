"""Schedules: whether they tick, and whether what they put in is taken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hotpath.doctor.finding import Finding, error, warning
from hotpath.doctor.patient import Patient
from hotpath.words import clock, many, span

LATE = 60.0
"""Seconds that a tick may be late."""
EARLY = 5.0
"""Seconds by which a tick may be ahead of its time."""
SHOWN = 5


async def schedules(patient: Patient) -> list[Finding]:
    """Ticks that nobody makes, ticks that were refused, and what a clock that was ahead has done."""
    rows = await patient.rows("doctor_schedules", LATE, SHOWN, EARLY)
    found = _clock(rows)
    late = [row for row in rows if row["what"] == "late"]
    if late:
        since = span((datetime.now(UTC) - late[0]["at"]).total_seconds() * 1000)
        text = (
            f"{many(late[0]['all'], 'overdue schedule')}, {late[0]['name']} for {since}: nobody has them tick"
        )
        mend = "start a worker, or `hotpath serve`: any of them does"
        names = [row["name"] for row in late]
        found.append(error("schedules", text, mend, schedules=names, since=late[0]["at"]))
    refused = [row for row in rows if row["what"] == "refused"]
    if refused:
        text = (
            f"the last tick of {many(refused[0]['all'], 'schedule')} was refused, of {refused[0]['name']} "
            "for one"
        )
        mend = f"hotpath schedule show {refused[0]['name']} says why; set it right with hotpath schedule set"
        names = [row["name"] for row in refused]
        found.append(warning("schedules", text, mend, schedules=names, last=refused[0]["at"]))
    return found


def _clock(rows: Sequence[Any]) -> list[Finding]:
    """Schedules that the database's clock has moved on, or had tick, while it was ahead."""
    found = []
    ahead = [row for row in rows if row["what"] == "ahead"]
    if ahead:
        text = (
            f"the database's clock was ahead, to {clock(ahead[0]['at'])} at least, and {ahead[0]['all']:,} "
            f"schedules wait for that time, {ahead[0]['name']} for one"
        )
        mend = "start a worker, or `hotpath serve`: any of them has them go on from now within half a minute"
        names = [row["name"] for row in ahead]
        found.append(error("clock", text, mend, schedules=names, until=ahead[0]["at"]))
    early = [row for row in rows if row["what"] == "early"]
    if early:
        text = (
            f"{early[0]['all']:,} ticks were made before their time, up to {clock(early[0]['at'])}, by a "
            f"clock of the database that was ahead, {early[0]['name']}'s for one: none is made again then"
        )
        mend = "timedatectl set-ntp true, on each host that may lead; `hotpath schedule show NAME` lists them"
        names = list(dict.fromkeys(row["name"] for row in early))
        found.append(warning("clock", text, mend, schedules=names, until=early[0]["at"]))
    return found
