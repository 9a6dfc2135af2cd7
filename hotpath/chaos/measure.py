"""How long nothing went, and how soon it went on: from the ledger's times."""

from __future__ import annotations

import bisect

from hotpath.chaos.evidence import Evidence

SHORT = 200_000_000
"""Nanoseconds: gaps below this are no outage."""


def longest_outage(evidence: Evidence) -> float:
    """The longest time, in seconds, in which no run ended although jobs were due, while faults went on."""
    finals: dict[bytes, int] = {
        job: max(run.end for run in runs) for job, runs in evidence.ledger.runs.items()
    }
    ends = sorted(run.end for run in evidence.ledger.all_runs() if run.end)
    # A sweep over what is put in and what ends for the last time: how many jobs are due at each moment.
    acknowledged = sorted(
        entry.at for job, entry in evidence.listed.acknowledged.items() if finals.get(job, 0)
    )
    ended = sorted(finals[job] for job in evidence.listed.acknowledged if finals.get(job, 0))
    longest = 0
    for before, after in zip([evidence.began, *ends], ends, strict=False):
        gap = after - before
        if gap <= max(longest, SHORT) or before > evidence.stopped:
            continue
        due = bisect.bisect_right(acknowledged, before) - bisect.bisect_right(ended, before)
        if due > 0:
            longest = gap
        else:  # nothing was due at first: the outage begins with the next job that is put in
            place = bisect.bisect_right(acknowledged, before)
            if place < len(acknowledged) and acknowledged[place] < after:
                longest = max(longest, after - acknowledged[place])
    return longest / 1e9


def resumes(evidence: Evidence) -> list[float]:
    """Seconds from PostgreSQL's answer after each restart to the next start of a job, where jobs were due."""
    starts = sorted(run.start for run in evidence.ledger.all_runs())
    acknowledged = sorted(entry.at for entry in evidence.listed.acknowledged.values())
    found = []
    for done in evidence.faults:
        if done.up:
            place = bisect.bisect_right(starts, done.up)
            if place < len(starts) and bisect.bisect_right(acknowledged, done.up):
                found.append((starts[place] - done.up) / 1e9)
    return found
