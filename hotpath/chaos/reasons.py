"""Why a job ran again: I3 allows a second run of an attempt only after a crash, a lost lease or a release."""

from __future__ import annotations

import bisect
from itertools import pairwise

from hotpath.chaos.evidence import Evidence, Run
from hotpath.chaos.inject import Done
from hotpath.chaos.plan import DATABASE
from hotpath.chaos.report import Report

SETTLE = 10_000_000_000
"""Nanoseconds after a fault in which its consequences may still show, the lease aside."""
NAMES = {
    "kill-worker": "its worker was killed",
    "kill-supervisor": "its supervisor was killed",
    "kill-tree": "its worker and supervisor were killed",
    "pause-worker": "its worker was frozen",
    "pause-supervisor": "its supervisor was frozen",
    "terminate": "sessions of the database were ended",
    "restart": "the database was restarted",
    "hold": "a row was held locked",
    "skew": "its command was stopped",
    "cut": "its network was cut",
    "sigterm": "its command was stopped",
}
POISONED = "a job that fails as crash shared its process"
DIED = "its process died, or was ended by its supervisor"
UNEXPLAINED = "unexplained"


class Reasons:
    """Finds for each further run what came between it and the one before."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._killed: dict[tuple[int, int], Done] = {
            victim: done for done in evidence.faults for victim in done.killed
        }
        self._faults = sorted((done for done in evidence.faults if not done.skipped), key=_began)
        self._begins = [done.began for done in self._faults]
        self._died, self._poisoned = self._find_dead()

    def count(self, report: Report) -> None:
        """Count further runs of the same attempt by their reason."""
        for job, runs in self._evidence.ledger.runs.items():
            if len(runs) < 2:
                continue
            by_attempt: dict[int, list[Run]] = {}
            for run in runs:
                by_attempt.setdefault(run.attempt, []).append(run)
            for same in by_attempt.values():
                for first, second in pairwise(same):
                    why = self._why(first, second)
                    report.run_twice[why] += 1
                    if why == UNEXPLAINED:
                        report.note("unexplained", f"{job.hex()} attempt {first.attempt}")

    def _why(self, first: Run, second: Run) -> str:
        process = self._evidence.ledger.processes[first.process]
        if (done := self._killed.get(process.identity)) is not None and done.began <= second.start:
            return NAMES[done.fault.kind]
        if first.process in self._poisoned:
            return POISONED
        # The latest fault that this command can have felt, of those that may still have had consequences.
        lasting = round(self._evidence.lease * 1e9) + SETTLE
        found: Done | None = None
        for done in reversed(self._faults[: bisect.bisect_right(self._begins, second.start)]):
            ended = done.ended or second.start
            touches = done.fault.kind in DATABASE or done.command == process.command
            if touches and ended + lasting >= first.start:
                found = done
                break
        if found is not None:
            return NAMES[found.fault.kind]
        return DIED if first.process in self._died else UNEXPLAINED

    def _find_dead(self) -> tuple[set[int], set[int]]:
        """Processes with a run that was never left, though no fault killed them; and those of them in which a
        job was that failed as crash at last.
        """
        processes, rows = self._evidence.ledger.processes, self._evidence.recorded.rows
        died, poisoned = set(), set()
        for job, runs in self._evidence.ledger.runs.items():
            for run in runs:
                if not run.end and processes[run.process].identity not in self._killed:
                    died.add(run.process)
                    if (row := rows.get(job)) is not None and row.kind == "crash":
                        poisoned.add(run.process)
        return died, poisoned


def _began(done: Done) -> int:
    return done.began
