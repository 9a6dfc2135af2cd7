"""What a run came to, for people and for programs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs

FAULTY = (
    "lost",
    "double",
    "stuck",
    "ghosts",
    "wrong_outcome",
    "wrong_attempt",
    "charged_wrongly",
    "wrong_order",
    "early",
    "unexplained",
    "ended_by_itself",
    "left_running",
)
"""Counts that have to be 0: the exit code is 1 if any is not."""
MEANING = {
    "lost": "acknowledged, and nowhere to be found",
    "double": "more than one recorded outcome",
    "stuck": "acknowledged, and not ended when the queue had time to drain",
    "ghosts": "recorded, though never put in, or rolled back",
    "wrong_outcome": "a state or a result that no run of the job had",
    "wrong_attempt": "an attempt that the runs in the ledger contradict",
    "charged_wrongly": "charged with an attempt for a death in which it was not in hand",
    "wrong_order": "run before a job of the same claim that was due first",
    "early": "begun before its scheduled_for",
    "unexplained": "run twice for no reason",
    "ended_by_itself": "commands that ended though nobody asked them to",
    "left_running": "leases held by no live worker at the end",
}


@attrs.frozen
class Spread:
    """How long something took, in seconds, over several times."""

    times: int
    p50: float | None
    p99: float | None
    longest: float | None

    def document(self) -> dict[str, Any]:
        """In milliseconds."""
        return {
            "times": self.times,
            "p50_ms": _ms(self.p50),
            "p99_ms": _ms(self.p99),
            "max_ms": _ms(self.longest),
        }


def spread(seconds: Sequence[float]) -> Spread:
    """The median, the 99th percentile (the nearest that was seen) and the longest."""
    if not seconds:
        return Spread(0, None, None, None)
    order = sorted(seconds)

    def at(share: float) -> float:
        return order[max(0, math.ceil(share * len(order)) - 1)]

    return Spread(len(order), at(0.5), at(0.99), order[-1])


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


@attrs.define
class Report:
    """What a run came to."""

    counts: Counter[str] = attrs.field(factory=Counter)
    """Of the names in FAULTY."""
    examples: dict[str, list[str]] = attrs.field(factory=dict)
    """A few jobs of each."""
    jobs: int = 0
    runs: int = 0
    states: Counter[str] = attrs.field(factory=Counter)
    faults: Counter[str] = attrs.field(factory=Counter)
    skipped: Counter[str] = attrs.field(factory=Counter)
    """Faults that were not done, by why."""
    run_twice: Counter[str] = attrs.field(factory=Counter)
    """Further runs of an attempt, by why."""
    rescue: Spread = attrs.field(factory=lambda: spread(()))
    """From kill -9 of a worker process until its jobs are back in the queue."""
    rescue_tree: Spread = attrs.field(factory=lambda: spread(()))
    """The same for a supervisor with all its workers."""
    resume: Spread = attrs.field(factory=lambda: spread(()))
    """From PostgreSQL's first answer after a restart to the next start of a job."""
    longest_outage: float = 0.0
    """Seconds in which no job ended although some were due."""
    poison: Counter[str] = attrs.field(factory=Counter)
    seed: int = 0
    seconds: float = 0.0
    """How long faults and producers went on."""
    lease: float = 0.0
    kept: str | None = None
    """Where ledger, logs and database are, if they were kept."""

    def note(self, name: str, example: str) -> None:
        """Count one more thing that is wrong."""
        self.counts[name] += 1
        examples = self.examples.setdefault(name, [])
        if len(examples) < 5:
            examples.append(example)

    @property
    def exit_code(self) -> int:
        """1 if anything is wrong."""
        return int(any(self.counts[name] for name in FAULTY))

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "ok": self.exit_code == 0,
            "seed": self.seed,
            "jobs": self.jobs,
            "runs": self.runs,
            "seconds": round(self.seconds, 1),
            "jobs_per_second": round(self.jobs / self.seconds, 1) if self.seconds else None,
            "faults": self.faults.total(),
            "faults_by_kind": dict(sorted(self.faults.items())),
            "faults_skipped": dict(self.skipped),
            **{name: self.counts[name] for name in FAULTY},
            "examples": self.examples,
            "states": dict(self.states),
            "run_twice": self.run_twice.total(),
            "run_twice_why": dict(self.run_twice),
            "poison": dict(self.poison),
            "lease_ms": round(self.lease * 1000),
            "rescue": self.rescue.document(),
            "rescue_tree": self.rescue_tree.document(),
            "resume": self.resume.document(),
            "longest_outage_ms": _ms(self.longest_outage),
            "kept": self.kept,
        }

    def lines(self) -> list[tuple[str, str]]:
        """For people: what and how much."""
        rows = [
            ("jobs", f"{self.jobs:,}"),
            ("runs", f"{self.runs:,}"),
            ("time", f"{self.seconds:.0f} s, {self.jobs / max(self.seconds, 1e-9):,.0f} jobs/s"),
            ("faults", f"{self.faults.total():,}"),
            *((f"  {kind}", f"{count:,}") for kind, count in self.faults.most_common()),
            *((f"  not done: {why}", f"{count:,}") for why, count in self.skipped.items()),
            *((name.replace("_", " "), f"{self.counts[name]:,}") for name in FAULTY),
            ("run twice", f"{self.run_twice.total():,}"),
            *((f"  {why}", f"{count:,}") for why, count in self.run_twice.most_common()),
        ]
        if self.poison:
            rows.append(("poison jobs", f"{self.poison['jobs']:,}, {self.poison['crash']:,} failed as crash"))
        rows += [
            ("rescue, worker killed", _say(self.rescue)),
            ("rescue, tree killed", f"{_say(self.rescue_tree)}, lease {self.lease:g} s"),
            ("first start after restart", _say(self.resume)),
            ("longest outage", f"{self.longest_outage:.2f} s"),
            ("seed", str(self.seed)),
        ]
        return rows


def _say(one: Spread) -> str:
    if one.p50 is None or one.p99 is None:
        return "not measured"
    return f"p50 {one.p50 * 1000:,.0f} ms, p99 {one.p99 * 1000:,.0f} ms of {one.times}"
