"""What is configured in the database: groups and alerts."""

from __future__ import annotations

from hotpath.doctor.finding import Finding, error, note, warning
from hotpath.doctor.patient import SECONDS, Patient
from hotpath.store.groups import group_workers, list_groups, remarks

LATE = 120.0
"""Seconds that an alert may not be looked at."""
SHOWN = 5
_HOUSE = "start a worker, or `hotpath serve`: any of them does it"


async def groups(patient: Patient) -> list[Finding]:
    """Workers that cannot run with their group's configuration; and what in one is perhaps not meant."""
    async with patient.database.connection(within=SECONDS) as connection:
        found = []
        known = await list_groups(connection)
        behind: dict[tuple[str, str, str], list[str]] = {}
        for worker in await group_workers(connection):
            if worker.trouble is not None:
                behind.setdefault((worker.group, worker.host, worker.trouble), []).append(worker.name)
        for (name, host, trouble), workers in behind.items():
            is_one = len(workers) == 1
            who = f"worker {workers[0]} does" if is_one else f"{len(workers)} workers on {host} do"
            mend = f"hotpath group show {name}"
            if all(group.name != name for group in known):
                mend = f"hotpath group set {name}, or stop what runs {'it' if is_one else 'them'}"
            text = f"{who} not run as group {name} says: {trouble}"
            found.append(error("groups", text, mend, workers=workers[:SHOWN], host=host, group=name))
        for group in known:
            for remark in await remarks(connection, group.name, group.config):
                text = f"group {group.name}: {remark.text}"
                mend = f"hotpath group show {group.name}; nothing, if that is meant"
                found.append(note("groups", text, mend, group=group.name, field=remark.field))
    return found


async def alerts(patient: Patient) -> list[Finding]:
    """Alerts that reach nobody."""
    found = []
    late = []
    for row in await patient.rows("doctor_alerts", LATE):
        if row["words"]:
            words = "1 word" if row["words"] == 1 else f"{row['words']} words"
            text = f"{words} of alert {row['name']} not delivered: {row['problem']}"
            mend = f"hotpath alert test {row['name']}"
            found.append(warning("alerts", text, mend, alert=row["name"], words=row["words"]))
        if row["late"]:
            late.append(row["name"])
    if late:
        text = f"nobody looks whether {', '.join(late[:SHOWN])} should fire"
        found.append(warning("alerts", text, _HOUSE, alerts=late))
    return found
