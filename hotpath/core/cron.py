"""When a cron expression comes due, in a time zone whose clocks change.

The fields are cronsim's: five, or six with seconds first, in Debian cron's dialect. Its walk from one match
to the next is used on wall-clock times alone; what they are in UTC is decided here, because the library does
that for five fields only, and passes over times where a zone's clocks change by half an hour.

- An expression whose minute and hour fields are both fixed (neither begins with `*`) means times of the day:
  each comes once a day. One that the clocks skip comes at the moment they are put forward, several of them at
  once; one that comes twice comes the first time.
- Any other goes by the clock as it runs: what is skipped does not come, what is repeated comes again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

import attrs

from hotpath.errors import UsageError

if TYPE_CHECKING:
    from cronsim import CronSim

FIELDS = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
LONGEST = 256
"""Characters of an expression."""
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ANY_DAY = datetime(2024, 1, 1)  # noqa: DTZ001 - a wall clock's
_SECOND = timedelta(seconds=1)


@attrs.frozen
class Cron:
    """An expression in a time zone."""

    expression: str
    zone: tzinfo = attrs.field(repr=False)
    is_fixed: bool = attrs.field(init=False, eq=False)
    """Whether it means times of the day."""

    @is_fixed.default
    def _fixed(self) -> bool:
        parts = _parts(self.expression)
        return not parts[1].startswith("*") and not parts[2].startswith("*")

    def after(self, moment: datetime) -> datetime | None:
        """The first time later than `moment`, in UTC; None: there is none within 50 years."""
        step = self._once if self.is_fixed else self._by_the_clock
        try:
            # To the second, and strictly later: a fraction of one belongs to the second before.
            return step(moment.astimezone(UTC).replace(microsecond=0))
        except OverflowError:  # the end of the calendar
            return None

    def _once(self, moment: datetime) -> datetime | None:
        """Wall-clock times, each as the moment that it means."""
        wall = _next_wall(self.expression, self._wall(moment))
        while wall is not None:
            found = self._meant(wall)
            if found > moment:
                return found
            wall = _next_wall(self.expression, wall)
        return None

    def _by_the_clock(self, moment: datetime) -> datetime | None:
        """From one change of the clocks to the next, wall-clock time is UTC and a constant."""
        while True:
            offset = self._offset(moment)
            wall = _next_wall(self.expression, self._wall(moment))
            if wall is None:
                return None
            found = wall.replace(tzinfo=UTC) - offset
            if self._offset(found) == offset:
                return self._earliest(wall, moment, found)
            # The clocks change before it, or just then: go on from there, that moment included.
            moment = self._change(moment, found) - _SECOND
            shifted = self._offset(moment + _SECOND)
            first = (moment + shifted).replace(tzinfo=None)  # on the new clock, a second before the change
            wall = _next_wall(self.expression, first)
            if wall is None:
                return None
            found = wall.replace(tzinfo=UTC) - shifted
            if self._offset(found) == shifted:
                return self._earliest(wall, moment, found)
            moment += _SECOND

    def _earliest(self, wall: datetime, moment: datetime, found: datetime) -> datetime:
        """Of a wall-clock time that comes twice, the first that is later than `moment`."""
        first = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        return first if moment < first < found and self._wall(first) == wall else found

    def _meant(self, wall: datetime) -> datetime:
        """The moment of a wall-clock time: the first of two, the end of a gap."""
        first = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        if self._wall(first) == wall:
            return first
        second = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        return self._change(min(first, second), max(first, second))

    def _change(self, before: datetime, after: datetime) -> datetime:
        """The second at which the clocks are changed, between two moments whose offsets differ."""
        offset = self._offset(before)
        seconds = range(int((after - before).total_seconds()) + 1)
        low, high = seconds[0], seconds[-1]
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(before + middle * _SECOND) == offset:
                low = middle
            else:
                high = middle
        return before + high * _SECOND

    def _offset(self, moment: datetime) -> timedelta:
        found = moment.astimezone(self.zone).utcoffset()
        assert found is not None, "the zone of an aware time"
        return found

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(tzinfo=None, fold=0)


def parse_cron(expression: str, zone: tzinfo, where: str = "cron") -> Cron:
    """The expression, checked. Raises `UsageError` that begins with `where` and names the field."""
    text = " ".join(ALIASES.get(expression.strip().lower(), expression).split())
    if len(text) > LONGEST:
        raise UsageError(f"{where}: the expression is longer than {LONGEST} characters")
    if text.startswith("@"):
        raise UsageError(f"{where}: {text!r} is none of {', '.join(ALIASES)}")
    count = len(text.split())
    if count not in (5, 6):
        raise UsageError(
            f"{where}: {text!r} has {count} field{'s' * (count != 1)}; give five, such as '30 2 * * *' "
            "(minute hour day-of-month month day-of-week), or six with the second first"
        )
    for name, part in zip(FIELDS, _parts(text), strict=True):
        _check_field(name, part, where)
    cron = Cron(text, zone)
    # All fields are good by themselves: what is wrong now is a day that none of the months has.
    if _simulated(text) is None or _next_wall(text, _ANY_DAY) is None:
        day, month = _parts(text)[3:5]
        raise UsageError(
            f"{where}: day-of-month {day!r} does not come in month {month!r}: {text!r} would never run"
        )
    return cron


def _check_field(name: str, part: str, where: str) -> None:
    """Refuse a field that is none, by itself. Raises `UsageError`."""
    parts = ["*"] * len(FIELDS)
    parts[FIELDS.index(name)] = part
    text = " ".join(parts)
    # A day that no month of its own has is none at all.
    if _simulated(text) is None or (name != "day-of-month" and _next_wall(text, _ANY_DAY) is None):
        low, high = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day-of-month": (1, 31),
                     "month": (1, 12), "day-of-week": (0, 7)}[name]  # fmt: skip
        raise UsageError(
            f"{where}: {name} {part!r} is not understood: give {low} to {high}, `*`, lists a,b, ranges a-b, "
            "steps */n"
        )


def _parts(text: str) -> list[str]:
    """The six fields."""
    parts = text.split()
    return parts if len(parts) == len(FIELDS) else ["0", *parts]


def _next_wall(text: str, wall: datetime) -> datetime | None:
    """The next wall-clock time that fits."""
    simulated = _simulated(text)
    assert simulated is not None, "it was checked"
    simulated.dt = wall
    try:
        return next(simulated)
    except (StopIteration, OverflowError, ValueError):  # none in 50 years, or none that a calendar has
        return None


@functools.lru_cache(maxsize=4096)
def _simulated(text: str) -> CronSim | None:
    """The library's view of the expression, which is set to the wall clock of each question; None: it
    cannot be read. Parsing costs several times as much as a step.
    """
    make = _library()
    # Without a zone there is nothing that it adjusts.
    return make(text)


@functools.cache
def _library() -> Callable[[str], CronSim | None]:
    from cronsim import CronSim, CronSimError  # only who has a cron schedule needs it

    def make(text: str) -> CronSim | None:
        try:
            return CronSim(text, _ANY_DAY)
        except (CronSimError, AssertionError, ValueError):
            return None

    return make
