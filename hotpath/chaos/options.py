"""What `hotpath chaos` was asked for, checked where it is set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

from hotpath.chaos.plan import FAULTS
from hotpath.errors import UsageError
from hotpath.worker.options import LEASE

JOBS_PER_SECOND = 700
"""Jobs that are put in where nobody said how many: 1.26 million in half an hour."""
POISON_EVERY, MOST_POISON = 1000, 100
"""One built-in job in so many is deadly; in long runs fewer, so many in all: each kills three processes."""


@attrs.frozen(kw_only=True)
class ChaosOptions:
    """Options of `hotpath chaos`. Raises UsageError naming the flag."""

    name: str | None = None
    """The user's script; None: the built-in ones."""
    minutes: float = 1.0
    seed: int = 0
    workers: int = 4
    """Commands; each has `processes` worker processes."""
    processes: int = 2
    jobs: int | None = None
    lease: float = LEASE
    every: float = 3.2
    """Seconds from one fault to the next, on average."""
    faults: tuple[str, ...] = tuple(FAULTS)
    args: tuple[dict[str, Any], ...] = ({},)
    """Args of the user's jobs, taken in turn."""
    keep: bool = False

    def __attrs_post_init__(self) -> None:
        if not (math.isfinite(self.minutes) and 0 < self.minutes <= 1440):
            raise UsageError(f"--minutes must be above 0 and at most 1440, not {self.minutes:g}")
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"--seed must be from 0 to 2^63 - 1, not {self.seed}")
        if not 1 <= self.workers <= 64:
            raise UsageError(f"--workers must be from 1 to 64, not {self.workers}")
        if not 1 <= self.processes <= 64:
            raise UsageError(f"--processes must be from 1 to 64, not {self.processes}")
        if self.jobs is not None and not 1 <= self.jobs <= 100_000_000:
            raise UsageError(f"--jobs must be from 1 to 100,000,000, not {self.jobs}")
        if not (math.isfinite(self.lease) and 2 <= self.lease <= 3600):
            raise UsageError(f"--lease must be from 2 (some heartbeats) to 3600 seconds, not {self.lease:g}")
        if not (math.isfinite(self.every) and 0.2 <= self.every <= 3600):
            raise UsageError(f"--every must be from 0.2 to 3600 seconds, not {self.every:g}")
        for name in self.faults:
            if name not in FAULTS:
                raise UsageError(f"--faults: there is no fault {name!r}; there are {', '.join(FAULTS)}")
        if not self.faults:
            raise UsageError(f"--faults names none; there are {', '.join(FAULTS)}")

    @property
    def seconds(self) -> float:
        """How long faults go on."""
        return self.minutes * 60

    @property
    def wanted(self) -> int:
        """Jobs to put in."""
        return self.jobs if self.jobs is not None else max(1000, round(JOBS_PER_SECOND * self.seconds))

    @property
    def poison_every(self) -> int:
        """One built-in job in so many kills its process."""
        return max(POISON_EVERY, self.wanted // MOST_POISON)


def parse_faults(text: str | None) -> tuple[str, ...]:
    """The names in a comma-separated list; all of them where there is none."""
    if text is None:
        return tuple(FAULTS)
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def parse_args(text: str | None) -> tuple[dict[str, Any], ...]:
    """Args of the user's jobs: one JSON object, or the name of a file with one on each line.

    Raises UsageError naming the line.
    """
    if text is None:
        return ({},)
    if text.lstrip().startswith("{"):
        return (_object(text.encode(), "--args"),)
    try:
        lines: Sequence[bytes] = Path(text).read_bytes().splitlines()
    except OSError as error:
        raise UsageError(
            f"--args {text!r} is neither a JSON object nor a file that can be read: {error}"
        ) from None
    found = tuple(
        _object(line, f"--args {text}, line {number}") for number, line in enumerate(lines, 1) if line.strip()
    )
    if not found:
        raise UsageError(f"--args {text} holds no line with a JSON object")
    return found


def _object(raw: bytes, where: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise UsageError(f"{where}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value
