"""What goes wrong, when, and to whom: drawn from a seed before anything runs, so that it can be had again."""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs

DATABASE = ("terminate", "restart", "hold")
"""Faults of the database, which every command feels; the others hit one command."""
FAULTS = {
    "kill-worker": 4,
    "kill-supervisor": 2,
    "kill-tree": 2,
    "pause-worker": 3,
    "pause-supervisor": 2,
    "terminate": 4,
    "restart": 2,
    "hold": 2,
    "skew": 1,
    "cut": 3,
    "sigterm": 2,
}
"""Kinds of faults, and how often each comes beside the others."""
MEANING = {
    "kill-worker": "kill -9 of a worker process",
    "kill-supervisor": "kill -9 of a supervisor alone; another command is started",
    "kill-tree": "kill -9 of a supervisor and all its workers; another command is started",
    "pause-worker": "SIGSTOP and SIGCONT of a worker process, for a moment or for longer than the lease",
    "pause-supervisor": "SIGSTOP and SIGCONT of a supervisor, for a moment or for longer than the lease",
    "terminate": "pg_terminate_backend of some or all of Hotpath's sessions",
    "restart": "PostgreSQL stopped (fast, immediate, or kill -9) and started again",
    "hold": "a transaction held open, perhaps with a lock on a lease",
    "skew": "a command started again with a wall clock that is an hour wrong",
    "cut": "the network between a command and the database stalled, reset or slowed",
    "sigterm": "SIGTERM of a command, which is started again",
}


@attrs.frozen
class Fault:
    """One thing that goes wrong."""

    number: int
    at: float
    """Seconds after the beginning."""
    kind: str
    how: str
    """The variant."""
    victim: int
    """Which command, modulo how many there are and counting on from it where it is busy; and which worker."""
    seconds: float
    """How long it lasts."""


def make_plan(seed: int, seconds: float, every: float, kinds: Sequence[str], lease: float) -> list[Fault]:
    """The faults of a run of `seconds`, in order of time; the same for the same arguments."""
    draw = random.Random(f"hotpath chaos {seed}")
    bag: list[str] = []
    faults: list[Fault] = []
    at = every * draw.uniform(0.5, 1.0)
    while at < seconds:
        if not bag:  # each kind comes as often as its weight in every round, in another order
            bag = [kind for kind in FAULTS if kind in kinds for _ in range(FAULTS[kind])]
            draw.shuffle(bag)
            _vary(bag, kinds)
        kind = bag.pop()
        how, lasting = _variant(draw, kind, lease)
        faults.append(Fault(len(faults) + 1, round(at, 3), kind, how, draw.randrange(1 << 16), lasting))
        at += every * draw.uniform(0.6, 1.4)
    return faults


def _vary(bag: list[str], kinds: Sequence[str]) -> None:
    """Let the first of a round be all different, so that even a short run sees most kinds."""
    firsts = [kind for kind in dict.fromkeys(reversed(bag)) if kind in kinds]
    for kind in firsts:
        bag.remove(kind)
    bag.extend(reversed(firsts))


def _variant(draw: random.Random, kind: str, lease: float) -> tuple[str, float]:
    brief = round(draw.uniform(0.2, 2.0), 2)
    match kind:
        case "pause-worker" | "pause-supervisor":
            if draw.random() < 0.3:
                return "longer than the lease", round(lease + draw.uniform(0.5, 3.0), 2)
            return "short", brief
        case "terminate":
            return draw.choice(("all", "some")), 0.0
        case "restart":
            how = draw.choice(("fast", "immediate", "kill -9"))
            return how, 10.0 if draw.random() < 0.15 and lease > 10 else round(draw.uniform(0.0, 1.5), 2)
        case "hold":
            if draw.random() < 0.5:
                return "a lock on a lease", brief
            return "a snapshot", round(draw.uniform(2.0, 15.0), 2)
        case "skew":
            return draw.choice(("an hour ahead", "an hour behind")), 0.0
        case "cut":
            how = draw.choice(("stall", "stall", "reset", "delay"))
            if how == "stall" and draw.random() < 0.4:
                return "stall, longer than the lease", round(lease + draw.uniform(0.5, 3.0), 2)
            return how, 0.0 if how == "reset" else brief
        case "sigterm":
            return "once", 0.0
        case _:
            return "", 0.0
