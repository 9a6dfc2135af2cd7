"""Hotpath's own tables: partitions, rights, retention."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hotpath.core.retention import FOREVER, format_size
from hotpath.doctor.finding import Finding, error, note, warning
from hotpath.doctor.patient import SECONDS, Patient, pasted
from hotpath.store.prune_plan import make_plan
from hotpath.words import clock

AHEAD = 3
"""Days ahead for which there have to be partitions."""
DAY = timedelta(days=1)
MONTH = timedelta(days=35)
NOT_KEPT = timedelta(hours=3)
"""Since the last round of retention, where there is something to drop."""
LATELY = timedelta(days=7)
NAMED = 5


async def partitions(patient: Patient) -> list[Finding]:
    """Whether results have a place today and on the next days."""
    rows = await patient.rows("doctor_days", AHEAD)
    found = []
    for missing, which in (
        ([row for row in rows if not row["stands"]], "missing"),
        ([row for row in rows if row["stands"]], "detached"),
    ):
        if not missing:
            continue
        first = missing[0]
        when = "today" if first["ahead"] == 0 else f"for {first['day'].isoformat()}"
        more = f", nor {len(missing) - 1} more" if len(missing) > 1 else ""
        text = f"{first['parent']} has no partition {when}{more}: what ends then cannot be written"
        if which == "detached":
            text += "; its table is there, and not attached"
        mend = "hotpath migrate" if which == "missing" else _attach(missing)
        make = error if first["ahead"] < 2 else warning
        found.append(make("partitions", text, mend, **{which: [_part(row) for row in missing]}))
    return found


def _part(row: Any) -> str:
    return f"{row['parent']}_{row['day']:%Y%m%d}"


def _attach(rows: Sequence[Any]) -> str:
    """The command that has detached days be partitions again: `hotpath migrate` makes those that are not."""
    statements = []
    for row in rows:
        table, part = f"hotpath.{row['parent']}", f"hotpath.{_part(row)}"
        if row["pending"]:
            statements.append(f"alter table {table} detach partition {part} finalize")
        day, next_day = (f"'{each.isoformat()} 00:00+00'" for each in (row["day"], row["day"] + DAY))
        statements.append(
            f"alter table {table} attach partition {part} for values from ({day}) to ({next_day})"
        )
    return "hotpath db psql " + " ".join(f'-c "{statement}"' for statement in statements)


async def rights(patient: Patient) -> list[Finding]:
    """Whether this role, and that of workers, may do what they have to."""
    lacking: dict[tuple[str, str, bool], list[str]] = {}
    for row in await patient.rows("doctor_rights"):
        lacking.setdefault((row["role"], pasted(row["named"]), row["mine"]), []).append(row["name"])
    found = []
    for (role, named, mine), tables in lacking.items():
        if mine and role != "hotpath_worker":
            text = f"the role {role}, by which this program is connected, may not use {_few(tables)}"
            mend = f'hotpath db psql -c "grant hotpath_worker to {named}", as the owner of the schema'
        else:
            text = f"the role {role} may not use {_few(tables)}"
            what = "grant select, insert, update, delete on all tables in schema hotpath to"
            mend = f'hotpath db psql -c "{what} {named}", as the owner of the schema'
        found.append(error("rights", text, mend, role=role, tables=tables))
    return found


async def retention(patient: Patient) -> list[Finding]:
    """Whether what is not kept goes, and the disk's bound holds."""
    async with patient.database.connection(within=SECONDS) as connection:
        plan = await make_plan(connection)
    state = await patient.row("prune_state")
    found = []
    left = [drop.part.name for drop in plan.drops if drop.part.state != "attached"]
    if left:
        text = (
            f"{_few(left)} were detached and not dropped: whoever did it was cut off, or waits for a reader"
        )
        found.append(warning("old-partitions", text, "hotpath prune", partitions=left))
    oldest = min((part.day for part in plan.rest), default=None)
    if plan.rules.keep.jobs >= FOREVER and oldest is not None and plan.now.date() - oldest > MONTH:
        size = sum(part.bytes for part in plan.rest)
        text = f"jobs are kept for ever: those since {oldest.isoformat()} take {format_size(size)}"
        mend = "hotpath retention set --jobs 30d --logs 14d; or --jobs forever, if that is meant, and --disk"
        if plan.rules.default.said.jobs is None:
            found.append(warning("retention", text, mend, oldest=oldest, bytes=size))
    late = state["ran_at"] is None or plan.now - state["ran_at"] > NOT_KEPT
    whole = [drop.part.name for drop in plan.drops if drop.part.state == "attached"]
    if state["forbidden"] and whole:
        text = f"{_few(whole)} are to be dropped, and whoever keeps house does not own the schema"
        mend = "hotpath prune, as the owner of the schema; or have one `hotpath serve` connect as the owner"
        found.append(warning("retention", text, mend, partitions=whole))
    elif whole and late:
        since = "ever" if state["ran_at"] is None else f"since {clock(state['ran_at'])}"
        text = f"{_few(whole)} are to be dropped, and nobody has kept house {since}"
        found.append(warning("retention", text, "hotpath prune", partitions=whole, ran_at=state["ran_at"]))
    disk = plan.disk
    if not disk.held:
        text = (
            f"the tables take {format_size(disk.bytes)}, above the bound of {format_size(disk.bound)}, and "
            "there is no old day left to drop"
        )
        mend = "raise it: hotpath retention set --disk SIZE; or say shorter --results, --args and --logs"
        found.append(error("disk-bound", text, mend, bytes=disk.bytes, bound=disk.bound))
    elif state["disk_at"] is not None and plan.now - state["disk_at"] < LATELY:
        text = f"{_few(state['disk_dropped'])} were dropped for the disk's sake at {clock(state['disk_at'])}"
        mend = "raise the bound, or say shorter spans: hotpath retention set"
        found.append(note("disk-bound", text, mend, dropped=state["disk_dropped"], bound=disk.bound))
    return found


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
