"""What a schedule is, when it comes due, and which of its ticks become jobs.

A *tick* is one of its times. No clock here: `now` is the database's, an argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

import attrs

from hotpath.core.cron import Cron, parse_cron
from hotpath.errors import UsageError

CATCH_UP = ("none", "last", "all")
"""What becomes of ticks that nobody was there for: nothing, a job for the last of them, one for each."""
OVERLAP = ("allow", "skip", "queue_one")
"""What a tick does while the job before has not ended: a job beside it, none, one behind it at most."""
GRACE = timedelta(seconds=60)
"""A tick that is late by less is not missed, whatever `catch_up` says."""
WITHIN = 86400.0
"""Seconds: the age up to which missed ticks are caught up, unless the schedule says otherwise."""
MAX_WITHIN = 366 * 86400.0
SHORTEST = 1.0
"""Seconds between two ticks of an interval."""
LONGEST = 3660 * 86400.0
MOST_TICKS = 100
"""Ticks of one schedule that one transaction makes jobs of; the rest follows in the next."""
FARTHEST = timedelta(days=36_600)
"""How far ahead a time may be that comes once."""
COUNTED = 1000
"""Missed ticks that are counted after one outage; there may be more."""

_TICKLESS = timedelta(microseconds=1)
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


class Timing(Protocol):
    """When a schedule comes due."""

    def after(self, moment: datetime) -> datetime | None:
        """The first tick later than `moment`; None: there is none."""


@attrs.frozen
class Every:
    """Always the same time apart, counted from `anchor`, whatever the clocks on the wall do."""

    seconds: float
    anchor: datetime

    def after(self, moment: datetime) -> datetime | None:
        """The first tick later than `moment`. An anchor that is later is none to wait for: it comes of a
        clock that was ahead.
        """
        step = timedelta(seconds=self.seconds)
        try:
            return self.anchor + ((moment - self.anchor) // step + 1) * step
        except OverflowError:  # the end of the calendar
            return None


@attrs.frozen
class Once:
    """One tick."""

    at: datetime

    def after(self, moment: datetime) -> datetime | None:
        """It, as long as it is ahead."""
        return self.at if self.at > moment else None


def parse_timing(kind: str, expression: str, zone: tzinfo, anchor: datetime) -> Cron | Every | Once:
    """What the stored words mean. Raises `UsageError` that names the field."""
    match kind:
        case "cron":
            return parse_cron(expression, zone)
        case "every":
            return Every(parse_span(expression, "every"), anchor)
    return Once(parse_time(expression, zone, "at"))


def parse_span(text: str, where: str) -> float:
    """Seconds of a span such as `90`, `90s`, `1.5h`, `7d`. Raises `UsageError`."""
    found = _SPAN.fullmatch(text.strip()) if len(text) <= 40 and text.isascii() else None
    if found is None:
        raise UsageError(f"{where}: {text[:40]!r} is no span of time, such as 90s, 10m, 2h or 7d")
    return float(found[1]) * _UNITS[found[2] or "s"]


def check_every(seconds: float) -> float:
    """Refuse an interval that is too short or too long, or finer than a millisecond. Raises `UsageError`."""
    if not SHORTEST <= seconds <= LONGEST:
        raise UsageError(
            f"every: {seconds:g} s is not from {SHORTEST:g} s to {LONGEST / 86400:g} days; push many jobs at "
            "once instead of ticking faster"
        )
    return round(seconds, 3)


def parse_time(text: str, zone: tzinfo, where: str) -> datetime:
    """A time in UTC; without an offset of its own it is one of the zone. Raises `UsageError`."""
    try:
        found = datetime.fromisoformat(text.strip())
        if found.tzinfo is not None:
            return found.astimezone(UTC)
        meant = found.replace(tzinfo=zone, fold=0).astimezone(UTC)
        exists = meant.astimezone(zone).replace(tzinfo=None, fold=0) == found
    except (ValueError, OverflowError):
        raise UsageError(f"{where}: {text[:60]!r} is not a time; give 2026-12-31T18:00, or with Z") from None
    if not exists:
        raise UsageError(f"{where}: {text} does not exist in {zone}: the clocks skip it; give another time")
    return meant


@attrs.frozen(kw_only=True)
class Due:
    """A schedule that may have something to do."""

    timing: Timing
    next_at: datetime | None
    """Its next tick that nothing was done about."""
    held_at: datetime | None = None
    """A tick that waits for the job before to end."""
    is_busy: bool = False
    """Whether that job has not ended; of no account where jobs may overlap."""
    catch_up: str = "last"
    within: timedelta = timedelta(seconds=WITHIN)
    overlap: str = "allow"


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be done about it, in one transaction."""

    ticks: tuple[datetime, ...]
    """Each becomes a job."""
    next_at: datetime | None
    held_at: datetime | None = None
    missed: int = 0
    """Ticks that nobody was there for, and that are not caught up."""
    skipped: int = 0
    """Ticks that were not allowed to overlap."""


def plan(due: Due, now: datetime) -> Plan:
    """Decide about all ticks up to `now`, or `MOST_TICKS` of them."""
    late = now - max(due.within, GRACE) if due.catch_up == "all" else now - GRACE
    dropped, last, at = _pass_over(due, late)
    ticks: list[datetime] = []
    while at is not None and at <= now and len(ticks) < MOST_TICKS:
        ticks.append(at)
        at = due.timing.after(at)
    if due.catch_up == "last" and last is not None and not ticks and last >= now - due.within:
        ticks, dropped = [last], dropped - 1
    held, skipped = due.held_at, 0
    if due.overlap != "allow":
        waiting = [*([] if held is None else [held]), *ticks]
        ticks, waiting = ([], waiting) if due.is_busy else (waiting[:1], waiting[1:])
        held = waiting[0] if waiting and due.overlap == "queue_one" else None
        skipped = len(waiting) - (held is not None)
    return Plan(ticks=tuple(ticks), next_at=at, held_at=held, missed=dropped, skipped=skipped)


def _pass_over(due: Due, late: datetime) -> tuple[int, datetime | None, datetime | None]:
    """How many ticks are older than `late`, as far as they are counted, the last of them, and the first that
    is not.
    """
    count, last, at = 0, None, due.next_at
    while at is not None and at < late and count < COUNTED:
        count, last, at = count + 1, at, due.timing.after(at)
    if at is not None and at < late:
        last = _last_before(due.timing, late, at)
        at = due.timing.after(late - _TICKLESS)
    return count, last, at


def _last_before(timing: Timing, late: datetime, known: datetime) -> datetime:
    """The last tick before `late`; `known` is one. What is looked through grows from a minute on."""
    span = GRACE
    while True:
        last, at = None, timing.after(max(late - span, known))
        while at is not None and at < late:
            last, at = at, timing.after(at)
        if last is not None or late - span <= known:
            return last or known
        span *= 8


def set_back(timing: Timing, now: datetime, moved_at: datetime, *known: datetime | None) -> datetime | None:
    """The next tick of a schedule that was moved on at `moved_at`, by a clock that was ahead; None: none.

    What was late by less than `GRACE` was not missed, and who looks may come so late; but nothing comes of
    the time before any of `known`, at which it was set or ticked. Where the clock was ahead by less than
    that, all up to now has been decided about.
    """
    since = now
    if moved_at - now > GRACE:
        since = max([now - GRACE, *(each for each in known if each is not None and each <= now)])
    return timing.after(since)


def coming(timing: Timing, first: datetime | None, count: int) -> Iterator[datetime]:
    """`first` and the ticks after it, `count` in all."""
    at = first
    for _ in range(count):
        if at is None:
            return
        yield at
        at = timing.after(at)


def check_policies(catch_up: str, within: float, overlap: str) -> None:
    """Refuse policies that are none, or that contradict each other. Raises `UsageError`."""
    if catch_up not in CATCH_UP:
        raise UsageError(f"catch_up must be one of {', '.join(CATCH_UP)}, not {catch_up!r}")
    if overlap not in OVERLAP:
        raise UsageError(f"overlap must be one of {', '.join(OVERLAP)}, not {overlap!r}")
    if not GRACE.total_seconds() <= within <= MAX_WITHIN:
        raise UsageError(
            f"catch_up_within must be from {GRACE.total_seconds():g} s to {MAX_WITHIN / 86400:g} days, not "
            f"{within:g} s"
        )
    if catch_up == "all" and overlap != "allow":
        raise UsageError(
            f"overlap {overlap} contradicts catch_up all: of the ticks that come at once it lets one run; "
            "use catch_up last, or overlap allow"
        )
