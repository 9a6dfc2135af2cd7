"""For how long what is kept: spans and sizes as people write them, which of several rules counts, and what of
a day is over.

A day (UTC) is kept whole until it has ended, and what ended on it for as long as the rule says after that.
Nothing of a job outlives its row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

import attrs

from hotpath.model import Retention

FOREVER = 1000.0 * 366 * 86400
"""Seconds that stand for ever: a thousand years, which every clock and interval can hold."""
FOREVER_TEXT = "forever"
MOST = 100 * 366 * 86400
"""Seconds that a span may be long, if it is not for ever."""
FIELDS = ("jobs", "results", "args", "logs")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)


def parse_span(value: object) -> float:
    """Seconds of a span such as `30d`, of a number of seconds, or of `forever`. Raises ValueError that says
    what is expected.
    """
    expected = f"a span such as 12h, 30d or 8w, or `{FOREVER_TEXT}`"
    if isinstance(value, str):
        if value == FOREVER_TEXT:
            return FOREVER
        found = _SPAN.fullmatch(value)
        if found is None:
            raise ValueError(f"{expected}, not {value[:80]!r}")
        value = float(found[1]) * _UNITS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{expected}, not {value!r}")
    if value >= FOREVER:
        return FOREVER
    if value > MOST:
        raise ValueError(f"at most 100 years, or `{FOREVER_TEXT}`")
    return float(value)


def format_span(seconds: float | None) -> str | None:
    """The span in the largest unit that fits it; None for none."""
    if seconds is None:
        return None
    if seconds >= FOREVER:
        return FOREVER_TEXT
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def parse_size(value: object) -> int:
    """Bytes of a size such as `20G`, or of a number. Raises ValueError that says what is expected."""
    expected = "a size such as 500M, 20G or 1T"
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            raise ValueError(f"{expected}, not {value[:80]!r}")
        value = float(found[1]) * _SIZES[found[2].upper()]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 1 << 62:
        raise ValueError(f"{expected}, above 0, not {value!r}")
    return int(value)


def format_size(size: float | None) -> str:
    """Bytes for people."""
    if size is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


@attrs.frozen
class Keep:
    """For how long what of a script is kept, in seconds, all rules taken together."""

    jobs: float = FOREVER
    results: float = FOREVER
    args: float = FOREVER
    logs: float = FOREVER


def effective(*said: Retention | None) -> Keep:
    """What several rules add up to: of each field, the first that says something."""
    found: dict[str, float] = {}
    for field in FIELDS:
        spans = (getattr(one, field) for one in said if one is not None)
        found[field] = next((span for span in spans if span is not None), FOREVER)
    return Keep(**{field: min(span, found["jobs"]) for field, span in found.items()})


def longest(keeps: Mapping[int, Keep], default: Keep) -> Keep:
    """Of each field the longest time there is, for scripts that nobody knows yet, too."""
    every = (default, *keeps.values())
    return Keep(**{field: max(getattr(keep, field) for keep in every) for field in FIELDS})


def end_of(day: date) -> datetime:
    """When a day is over (UTC)."""
    return datetime.combine(day + timedelta(days=1), time(), UTC)


def is_over(day: date, seconds: float, now: datetime) -> bool:
    """Whether what ended on that day need not be kept any more."""
    return (now - end_of(day)).total_seconds() >= seconds


@attrs.frozen
class Due:
    """What of one day is to go: numbers of scripts."""

    jobs: frozenset[int] = frozenset()
    results: frozenset[int] = frozenset()
    args: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.jobs or self.results or self.args)

    def is_within(self, other: Due) -> bool:
        """Whether the other has all of this."""
        return (
            self.jobs <= other.jobs
            and self.results <= other.results | other.jobs
            and self.args <= other.args | other.jobs
        )


def due_of(day: date, now: datetime, keeps: Mapping[int, Keep], born: Mapping[int, datetime]) -> Due:
    """What of a day's results is to go. `born`: when each script was registered; before that it had none."""
    there = _there(day, keeps, born)
    over = _over(day, now, {span for _, keep in there for span in (keep.jobs, keep.results, keep.args)})
    if not over:
        return Due()
    jobs = frozenset(script for script, keep in there if keep.jobs in over)
    results = frozenset(script for script, keep in there if keep.results in over) - jobs
    args = frozenset(script for script, keep in there if keep.args in over) - jobs
    return Due(jobs, results, args)


def logs_due_of(day: date, now: datetime, keeps: Mapping[int, Keep], born: Mapping[int, datetime]) -> Due:
    """What of a day's logs is to go."""
    there = _there(day, keeps, born)
    over = _over(day, now, {keep.logs for _, keep in there})
    return Due(frozenset(script for script, keep in there if keep.logs in over))


def _there(day: date, keeps: Mapping[int, Keep], born: Mapping[int, datetime]) -> list[tuple[int, Keep]]:
    """Scripts that there were on that day."""
    end = end_of(day)
    return [(script, keep) for script, keep in keeps.items() if born[script] < end]


def _over(day: date, now: datetime, spans: set[float]) -> set[float]:
    """Those of the spans that are over: there are few, however many scripts there are."""
    return {span for span in spans if is_over(day, span, now)}
