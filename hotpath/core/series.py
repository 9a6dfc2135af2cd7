"""Time in steps, for what is told of the past; and how such a series looks in a line of text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

STEPS = (1, 5, 15, 30, 60, 180, 360, 720, 1440)
"""Minutes of a step that are offered. All divide a day, so that steps begin where people expect it."""
HOUR = 60
_BARS = "▁▂▃▄▅▆▇█"
_GAP = "·"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def choose_step(span: timedelta, most: int) -> int:
    """The shortest step, in minutes, of which `span` has at most `most`."""
    minutes = span.total_seconds() / 60
    return next((step for step in STEPS if minutes / step <= most), STEPS[-1])


def begin_of(when: datetime, step: int) -> datetime:
    """When the step of so many minutes began that `when` is in."""
    return when - (when - _EPOCH) % timedelta(minutes=step)


def steps_between(since: datetime, until: datetime, step: int) -> list[datetime]:
    """Beginnings of the steps of so many minutes from the one with `since` to the last one before
    `until`.
    """
    first, length = begin_of(since, step), timedelta(minutes=step)
    return [first + k * length for k in range(-((first - until) // length))]


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The series as bars, the greatest of each part of it in one character; None: nothing is known."""
    if not values:
        return ""
    width = min(width, len(values))
    parts = [values[k * len(values) // width : (k + 1) * len(values) // width] for k in range(width)]
    tops = [max((value for value in part if value is not None), default=None) for part in parts]
    most = max((top for top in tops if top is not None), default=0)
    return "".join(_GAP if top is None else _bar(top, most) for top in tops)


def _bar(value: float, most: float) -> str:
    if value <= 0 or most <= 0:
        return _BARS[0]
    # What is not nothing does not look like it.
    return _BARS[max(1, round(value / most * (len(_BARS) - 1)))]
