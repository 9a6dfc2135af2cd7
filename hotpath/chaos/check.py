"""Holds the three sources of a run against each other: what was put in, what ran, what is recorded.

Nothing is believed because the database says so: an outcome counts as right only if the ledger has a run of
the job that ended that way, with that very result.
"""

from __future__ import annotations

from uuid import UUID

from hotpath.chaos.evidence import STATES, Evidence, Row, Run
from hotpath.chaos.kinds import OVERRUN, POISON, Mix
from hotpath.chaos.ledger import INTERRUPTED, RAISED
from hotpath.chaos.measure import longest_outage, resumes
from hotpath.chaos.produce import SHORT
from hotpath.chaos.reasons import Reasons
from hotpath.chaos.report import Report, spread

CRASHES = 3
"""Deaths after which a job fails for good."""
TOLERANCE_US = 20_000
"""Microseconds by which two clocks of one host may be read apart."""


def check(evidence: Evidence, mix: Mix | None, report: Report) -> Report:
    """Fill in the report. `mix` says what the built-in jobs are like; None for a user's script."""
    report.lease = evidence.lease
    report.jobs = len(evidence.listed.acknowledged)
    report.seconds = (evidence.stopped - evidence.began) / 1e9
    report.runs = sum(len(runs) for runs in evidence.ledger.runs.values())
    _faults(evidence, report)
    _places(evidence, report, mix)
    _outcomes(evidence, report, mix)
    _attempts(evidence, report)
    _order(evidence, report)
    Reasons(evidence).count(report)
    report.longest_outage = longest_outage(evidence)
    report.resume = spread(resumes(evidence))
    return report


def name(job: bytes) -> str:
    """The job's id as people read it."""
    return str(UUID(bytes=job))


def _faults(evidence: Evidence, report: Report) -> None:
    for done in evidence.faults:
        if done.skipped:
            report.skipped[f"{done.fault.kind}: {done.skipped}"] += 1
        else:
            report.faults[done.fault.kind] += 1
    by_kind: dict[str, list[float]] = {}
    for done in evidence.faults:
        if done.rescue is not None:
            by_kind.setdefault(done.fault.kind, []).append(done.rescue)
    report.rescue = spread(by_kind.get("kill-worker", ()))
    report.rescue_tree = spread(by_kind.get("kill-tree", ()))
    for ending in evidence.endings:
        if ending.was_ready:  # before that, a database that is away may end it
            report.note(
                "ended_by_itself", f"command {ending.command}, exit code {ending.code}: {ending.said}"
            )


def _places(evidence: Evidence, report: Report, mix: Mix | None) -> None:
    """Every acknowledged job in one place, and nothing that nobody put in."""
    listed, recorded = evidence.listed, evidence.recorded
    for job in listed.acknowledged:
        if job in recorded.left:
            if job in recorded.rows:
                report.note("double", f"{name(job)} has ended and is still in {recorded.left[job][0]}")
            else:
                report.note("stuck", f"{name(job)} in {recorded.left[job][0]}")
        elif job not in recorded.rows:
            report.note("lost", name(job))
    for job in recorded.double:
        report.note("double", f"{name(job)} has two outcomes")
    for job, (place, alive) in recorded.left.items():
        if place == "lease" and not alive:
            report.note("left_running", name(job))
    strangers = [
        job for source in (recorded.rows, recorded.left) for job in source if job not in listed.acknowledged
    ]
    perhaps = len(listed.maybe)
    for job in strangers:
        if job in listed.rolled_back:
            report.note("ghosts", f"{name(job)} was rolled back")
        elif mix is not None and recorded.numbers.get(job) not in listed.maybe:
            report.note("ghosts", f"{name(job)} was never put in")
        elif perhaps:
            perhaps -= 1
        else:
            report.note("ghosts", f"{name(job)}: more jobs than were put in")


def _outcomes(evidence: Evidence, report: Report, mix: Mix | None) -> None:
    """The recorded outcome is that of a run; the built-in jobs end as their temper says."""
    for job, row in evidence.recorded.rows.items():
        report.states[STATES[row.state]] += 1
        runs = evidence.ledger.runs.get(job, [])
        if problem := _contradiction(job, row, runs, evidence):
            report.note("wrong_outcome", f"{name(job)} {problem}")
            continue
        entry = evidence.listed.acknowledged.get(job)
        if mix is None or entry is None:
            continue
        kind = OVERRUN if entry.how == SHORT else mix.kind(entry.number)
        if kind is POISON:
            report.poison["jobs"] += 1
            report.poison["crash"] += row.kind == "crash"
        found = (STATES[row.state], row.kind if row.state == 2 else None)
        if found != kind.ends and row.kind not in ("crash", "canceled"):
            report.note("wrong_outcome", f"{name(job)}, a {kind.name} job, ended as {found}")


def _contradiction(job: bytes, row: Row, runs: list[Run], evidence: Evidence) -> str:
    """Why the ledger cannot agree with this outcome; empty if it does."""
    last = [run for run in runs if run.attempt == row.attempt]
    match STATES[row.state], row.kind:
        case "success", _:
            if not any(run.returned and run.crc == row.crc for run in last):
                return f"succeeded at attempt {row.attempt} with a result that no run of it returned"
        case "failure", "crash":
            dead = sum(not run.end or run.outcome == INTERRUPTED for run in runs)
            if dead < CRASHES and not _may_be_unseen(evidence):
                return f"failed as crash after {dead} runs that did not end"
        case "failure", "timeout":
            if not any(not run.end or run.outcome in (INTERRUPTED, RAISED) for run in last):
                return "timed out, but its last attempt ended"
        case "failure", "bad_result":
            if not any(run.returned for run in last):
                return "has a bad result that no run returned"
        case "failure", "bad_args":
            pass  # it never got as far as `main`
        case "failure", _:
            if not any(run.outcome in (RAISED, INTERRUPTED) for run in last):
                return f"failed at attempt {row.attempt}, in which no run of it raised"
        case "canceled", _:
            if job not in evidence.listed.canceled and job in evidence.listed.acknowledged:
                return "is canceled, and nobody asked for it"
    return ""


def _may_be_unseen(evidence: Evidence) -> bool:
    """Whether a crash can be charged to a job that never began: it was alone in a claim whose host died."""
    return any(done.fault.kind in ("kill-tree", "kill-supervisor") for done in evidence.faults)


def _attempts(evidence: Evidence, report: Report) -> None:
    """An attempt is charged for an end or a crash, never for a release or a lost lease (I7)."""
    processes = evidence.ledger.processes
    for job, row in evidence.recorded.rows.items():
        runs = evidence.ledger.runs.get(job)
        if not runs:
            continue
        highest = max(run.attempt for run in runs)
        if highest > row.attempt and row.state != 3:
            report.note("wrong_attempt", f"{name(job)} ran attempt {highest}, recorded is {row.attempt}")
        for attempt in range(1, row.attempt):
            of_it = [run for run in runs if run.attempt == attempt]
            if not of_it:
                if not _may_be_unseen(evidence):
                    report.note("wrong_attempt", f"{name(job)} never ran its attempt {attempt}")
            elif all(run.returned for run in of_it) and not any(
                processes[run.process].last == job for run in of_it
            ):
                report.note(
                    "charged_wrongly", f"{name(job)} returned in attempt {attempt} and was charged for it"
                )


def _order(evidence: Evidence, report: Report) -> None:
    """Within a claim: priority, then scheduled_for, then id; and nothing before it was due (I4)."""
    rows, ledger = evidence.recorded.rows, evidence.ledger
    for process in ledger.processes:
        batch, before, before_job = -1, (0, 0, b""), b""
        for serial, job, attempt in process.starts:
            row = rows.get(job)
            if row is None or attempt != 1 or row.attempt != 1:
                continue  # a come-back has another time than the one that is recorded now
            key = (-row.priority, row.scheduled_us, job)
            if serial == batch and key < before:
                report.note("wrong_order", f"{name(job)} after {name(before_job)}")
            batch, before, before_job = serial, key, job
    offset = evidence.wall_minus_monotonic
    for job, runs in ledger.runs.items():
        row = rows.get(job)
        if row is not None and row.attempt == 1:
            start = (runs[0].start + offset) // 1000
            if start < row.scheduled_us - TOLERANCE_US:
                report.note("early", f"{name(job)} by {(row.scheduled_us - start) / 1000:.0f} ms")
