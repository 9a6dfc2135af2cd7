"""Jobs and workers: who is dead, deaf or old; what waits long, is stranded, or kills its workers."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta

from hotpath import __version__
from hotpath.doctor.finding import Finding, error, note, warning
from hotpath.doctor.patient import SECONDS, Patient
from hotpath.store.jobs import oldest_id
from hotpath.store.status import read_status
from hotpath.store.stranded import resume_command
from hotpath.words import many, span

LOST = 5.0
"""Seconds that a dead worker's jobs may wait for whoever takes them back."""
OVERDUE = 600.0
"""Seconds that a job may be due."""
POISONED = timedelta(days=1)
LOOKED_AT = 10_000
"""Failures of that time that are looked at, the last first."""
PARKED = 7 * 86400.0
"""Seconds that a run may wait to be woken."""
SHOWN = 5


async def workers(patient: Patient) -> list[Finding]:
    """Workers that are dead and hold jobs, cannot be woken, or run something old."""
    found = []
    now = datetime.now(UTC)
    for row in await patient.rows("doctor_lost", LOST):
        gone = span((now - row["last_ping"]).total_seconds() * 1000)
        text = f"worker {row['name']} on {row['host']} has not been heard of for {gone} and holds jobs"
        mend = "start any worker: its keeper takes them back within a second, for instance `hotpath serve`"
        found.append(error("lost-worker", text, mend, **dict(row)))
    async with patient.database.connection(within=SECONDS) as connection:
        status = await read_status(connection)
    alive = [worker for worker in status.workers if worker.state in ("running", "idle")]
    deaf = sorted(worker.name for worker in alive if worker.deaf)
    if deaf:
        text = f"{', '.join(deaf[:SHOWN])}: nothing can wake them, so they find jobs by polling once a second"
        mend = "set HOTPATH_LISTEN_URL to the server's own address, past any pooler, and restart them"
        found.append(warning("deaf-worker", text, mend, workers=deaf))
    programs: dict[str, list[str]] = {}
    for worker in alive:
        programs.setdefault(worker.program or "unknown", []).append(worker.name)
    if len(programs) > 1 or (programs and __version__ not in programs):
        versions = ", ".join(f"{version} ({len(names)})" for version, names in sorted(programs.items()))
        text = f"live workers run hotpath {versions}; this is {__version__}"
        mend = "upgrade hotpath-runtime on all hosts and restart the workers, one by one"
        found.append(warning("versions", text, mend, programs=programs, here=__version__))
    return found


async def versions(patient: Patient) -> list[Finding]:
    """Workers that run a version of their script which is not the current one."""
    rows = await patient.rows("doctor_versions")
    found = []
    for script in sorted({row["script"] for row in rows}):
        behind = [row for row in rows if row["script"] == script]
        text = (
            f"{many(len(behind), 'live worker')} of {script} on version {behind[0]['runs']}; deployed is "
            f"{behind[0]['deployed']}"
        )
        names = [row["name"] for row in behind]
        mend = (
            f"hotpath scripts {shlex.quote(script)} says why they have not swapped it in; a worker in a "
            "program of yours never does: restart it"
        )
        found.append(warning("versions", text, mend, workers=names, deployed=behind[0]["deployed"]))
    return found


async def waiting(patient: Patient) -> list[Finding]:
    """Tags whose jobs nobody will run, or that have been due for long."""
    async with patient.database.connection(within=SECONDS) as connection:
        status = await read_status(connection)
    found = []
    for each in status.stranded:
        mend = each.text.rpartition("start one with: ")[2]
        found.append(
            error("stranded", each.text, mend, tag=each.tag, script=each.script, waiting=each.waiting)
        )
    now = datetime.now(UTC)
    paused = {row["tag"]: row for row in await patient.rows("doctor_paused")}
    for name, row in paused.items():
        why = f" ({row['reason']})" if row["reason"] else ""
        since = span((now - row["paused_at"]).total_seconds() * 1000)
        text = f"tag {name} has been paused for {since} by {row['paused_by'] or 'somebody'}{why}"
        found.append(note("paused", text, resume_command(name), **dict(row)))
    for tag in status.tags:
        if tag.oldest_due is None or tag.stranded is not None or tag.tag in paused:
            continue
        due = (now - tag.oldest_due).total_seconds()
        if due >= OVERDUE:
            text = (
                f"the oldest job of tag {tag.tag} has been due for {span(due * 1000)}; {tag.waiting:,} wait"
            )
            named = shlex.quote(tag.tag)
            mend = (
                f"`hotpath jobs --tag {named} --state queued` and `hotpath job ID` say why; or more workers"
            )
            evidence = {
                "tag": tag.tag,
                "since": tag.oldest_due,
                "workers": tag.workers,
                "waiting": tag.waiting,
            }
            found.append(warning("overdue", text, mend, **evidence))
    return found


async def suspects(patient: Patient) -> list[Finding]:
    """Jobs that may kill, or have killed, their workers."""
    found = []
    rows = await patient.rows("doctor_suspects", SHOWN)
    if rows:
        ids = [str(row["id"]) for row in rows]
        text = f"{many(rows[0]['all'], 'waiting job')} may have killed a worker, one of {rows[0]['script']}"
        mend = (
            f"hotpath job {ids[0]}; nothing needs to be done: each runs alone, and fails after three crashes"
        )
        found.append(note("suspects", text, mend, jobs=ids))
    since = datetime.now(UTC) - POISONED
    rows = await patient.rows("doctor_poisoned", oldest_id(since), SHOWN, LOOKED_AT)
    if rows:
        ids = [str(row["id"]) for row in rows]
        text = (
            f"{many(rows[0]['all'], 'job')} of the last day failed after three workers were killed, the last "
            f"one of {rows[0]['script']}"
        )
        mend = f"hotpath logs {ids[0]}; mend the script, then hotpath retry {ids[0]}"
        found.append(warning("suspects", text, mend, jobs=ids))
    return found


async def parked(patient: Patient) -> list[Finding]:
    """Runs that have waited long for somebody or something."""
    rows = await patient.rows("doctor_parked", PARKED, SHOWN)
    if not rows:
        return []
    ids = [str(row["id"]) for row in rows]
    since = rows[0]["since"]
    text = f"{many(rows[0]['all'], 'run')} parked for more than a week, the oldest of {rows[0]['script']}"
    mend = f"hotpath job {ids[0]} says for what; hotpath resume {ids[0]}, or hotpath cancel {ids[0]}"
    return [warning("parked", text, mend, runs=ids, oldest=since)]
