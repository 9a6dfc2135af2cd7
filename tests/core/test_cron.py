"""Cron expressions against a slow evaluator that walks through the minutes, and shares nothing with ours."""

from __future__ import annotations

import functools
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from thoroughness import examples

from hotpath.core.cron import parse_cron
from hotpath.errors import UsageError

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Cairo",
    "Asia/Kolkata", "Pacific/Chatham", "America/Havana", "Africa/Casablanca", "Asia/Beirut",
    "America/St_Johns", "Pacific/Apia", "Antarctica/Troll",
)  # fmt: skip
"""Changes by an hour, half of one and two, at midnight too; a day that was left out (Apia, 2011)."""
MINUTE = timedelta(minutes=1)


def values(text: str, low: int, high: int) -> set[int]:
    """What a field matches."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            first, last = low, high
        elif "-" in span:
            first, last = map(int, span.split("-"))
        else:
            first, last = int(span), high if step else int(span)
        found.update(range(first, last + 1, int(step or 1)))
    return found


@functools.lru_cache(maxsize=2)
def walls(zone: ZoneInfo, begin: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Every minute, and what the clock on the wall says."""
    every = (begin + k * MINUTE for k in range((end - begin) // MINUTE))
    return [(now, now.astimezone(zone).replace(tzinfo=None, fold=0)) for now in every]


def slowly(expression: str, zone: ZoneInfo, begin: datetime, end: datetime) -> list[datetime]:
    """All ticks of five fields, minute by minute. For times of the day, what the wall clock has newly reached
    counts, what it has jumped over included; what it repeats does not.
    """
    parts = expression.split()
    minutes, hours, days, months = (
        values(part, low, high)
        for part, (low, high) in zip(parts, ((0, 59), (0, 23), (1, 31), (1, 12)), strict=False)
    )
    weekdays = {day % 7 for day in values(parts[4], 0, 7)}
    needs_both = parts[2].startswith("*") or parts[4].startswith("*")

    def fits(wall: datetime) -> bool:
        day, weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        return (
            wall.minute in minutes
            and wall.hour in hours
            and wall.month in months
            and ((day and weekday) if needs_both else (day or weekday))
        )

    is_fixed = not parts[0].startswith("*") and not parts[1].startswith("*")
    found = []
    reached = (begin - MINUTE).astimezone(zone).replace(tzinfo=None, fold=0)
    for now, wall in walls(zone, begin, end):
        if not is_fixed:
            hits = fits(wall)
        else:
            new = (reached + k * MINUTE for k in range(1, max(0, (wall - reached) // MINUTE) + 1))
            hits = any(fits(each) for each in new)
            reached = max(reached, wall)
        if hits:
            found.append(now)
    return found


def quickly(expression: str, zone: ZoneInfo, begin: datetime, end: datetime) -> list[datetime]:
    """The same by the code under test."""
    cron, found = parse_cron(expression, zone), []
    at = cron.after(begin - timedelta(seconds=1))
    while at is not None and at < end:
        found.append(at)
        at = cron.after(at)
    return found


def anything(chance: random.Random) -> str:
    """An expression of five fields."""

    def field(low: int, high: int, wild: float) -> str:
        kind = chance.random()
        if kind < wild:
            return "*"
        if kind < wild + 0.15:
            return f"*/{chance.randint(1, max(2, (high - low) // 2))}"
        if kind < wild + 0.3:
            first = chance.randint(low, high)
            return f"{first}-{chance.randint(first, high)}"
        if kind < wild + 0.4:
            return ",".join(str(chance.randint(low, high)) for _ in range(3))
        return str(chance.randint(low, high))

    hours = 4 if chance.random() < 0.6 else 23  # mostly when clocks change
    return " ".join(
        [field(0, 59, 0.1), field(0, hours, 0.2), field(1, 31, 0.6), field(1, 12, 0.8), field(0, 7, 0.7)]
    )


def change_after(zone: ZoneInfo, day: datetime) -> datetime:
    """A day at whose end the clocks are other ones than at its beginning; a year later if there is none."""
    for k in range(366):
        each = day + timedelta(days=k)
        if each.astimezone(zone).utcoffset() != (each + timedelta(days=1)).astimezone(zone).utcoffset():
            return each
    return day + timedelta(days=366)


@pytest.mark.parametrize("name", ZONES)
def test_random_expressions(name):
    """Around changes of the clocks and elsewhere, from the beginning and from anywhere, every tick is there,
    and no other.
    """
    zone, chance = ZoneInfo(name), random.Random(name)
    for _ in range(examples(6, 200)):
        expression = anything(chance)
        year = 2011 if name == "Pacific/Apia" else chance.choice((2011, 2015, 2025, 2026))
        begin = datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=chance.randrange(365))
        if chance.random() < 0.75:
            begin = change_after(zone, begin) - timedelta(days=1, minutes=chance.randrange(600))
        end = begin + timedelta(days=4)
        try:
            cron = parse_cron(expression, zone)
        except UsageError as error:
            assert "never" in str(error)
            continue
        wanted = slowly(expression, zone, begin, end)
        assert quickly(expression, zone, begin, end) == wanted, expression
        for _ in range(5):
            moment = begin + timedelta(seconds=chance.randrange(4 * 86400))
            later = next((at for at in wanted if at > moment), None)
            assert later is None or cron.after(moment) == later, (expression, moment)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Europe/Berlin"])
def test_a_year_in_a_zone(name):
    """A whole year of common expressions, both changes of the clocks in it."""
    zone, begin = ZoneInfo(name), datetime(2026, 1, 1, tzinfo=UTC)
    for expression in ("30 2 * * *", "0 * * * *", "*/20 1-3 * * 0"):
        end = begin + timedelta(days=365)
        assert quickly(expression, zone, begin, end) == slowly(expression, zone, begin, end), expression


def local(expression: str, name: str, day: str, days: int = 1) -> list[str]:
    """Ticks from the midnight of a day on, by the zone's clock."""
    zone = ZoneInfo(name)
    begin = datetime.fromisoformat(day).replace(tzinfo=zone).astimezone(UTC)
    ticks = quickly(expression, zone, begin, begin + timedelta(days=days))
    return [at.astimezone(zone).isoformat()[11:] for at in ticks]


SPRING, AUTUMN = "2026-03-29", "2026-10-25"  # in Berlin: 02:00 to 03:00, and 03:00 to 02:00


@pytest.mark.parametrize(
    ("expression", "day", "ticks"),
    [
        ("30 2 * * *", SPRING, ["03:00:00+02:00"]),
        ("30 2 * * *", AUTUMN, ["02:30:00+02:00"]),
        ("0,30 2,3 * * *", SPRING, ["03:00:00+02:00", "03:30:00+02:00"]),
        ("30 * * * *", AUTUMN, ["02:30:00+02:00", "02:30:00+01:00"]),
        ("5 30 2 * * *", SPRING, ["03:00:00+02:00"]),
        ("5 30 2 * * *", AUTUMN, ["02:30:05+02:00"]),
        ("*/30 * 2 * * *", SPRING, []),
    ],
)
def test_the_days_of_change(expression, day, ticks):
    """What the documentation says of 02:30, with and without seconds."""
    found = local(expression, "Europe/Berlin", day)
    assert [at for at in found if at.startswith(("02", "03:00", "03:30"))][: len(ticks) or None] == ticks


def test_the_hour_that_comes_twice():
    """From afar its first coming is seen; in its second coming, a time of the day is over."""
    zone = ZoneInfo("Europe/Berlin")
    assert parse_cron("*/30 2 25 10 *", zone).after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(
        2026, 10, 25, 0, tzinfo=UTC
    )
    second = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 for the second time
    assert parse_cron("30 2 * * *", zone).after(second) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_seconds():
    """Six fields begin with the second; names, steps and the last day of a month are read."""
    assert local("*/20 0 0 1 * *", "UTC", "2026-01-01") == [f"00:00:{s}+00:00" for s in ("00", "20", "40")]
    zone = ZoneInfo("UTC")
    assert parse_cron("0 0 L FEB *", zone).after(datetime(2028, 1, 1, tzinfo=UTC)).day == 29
    assert parse_cron("@daily", zone).expression == "0 0 * * *"
    rare, at = parse_cron("0 0 * 2 MON#5", zone), datetime(2026, 1, 1, tzinfo=UTC)
    while (following := rare.after(at)) is not None:
        assert (following.month, following.day, following.weekday()) == (2, 29, 0)
        at = following
    assert at.year > 9900
    assert parse_cron("0 0 29 2 *", zone).after(datetime(2027, 1, 1, tzinfo=UTC)).year == 2028


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("0 0 30 2 *", "day-of-month '30' does not come in month '2'"),
        ("0 0 31 4,6 *", "day-of-month '31' does not come in month '4,6'"),
        ("60 0 * * *", "minute '60'"),
        ("0 24 * * *", "hour '24'"),
        ("0 0 0 * *", "day-of-month '0'"),
        ("0 0 * 13 *", "month '13'"),
        ("0 0 * * 8", "day-of-week '8'"),
        ("61 0 0 * * *", "second '61'"),
        ("*/0 * * * *", "minute '*/0'"),
        ("5-1 * * * *", "minute '5-1'"),
        ("0 0 * * MON#6", "day-of-week 'MON#6'"),
        ("* * * *", "has 4 fields"),
        ("", "has 0 fields"),
        ("@often", "@OFTEN".lower()),
        ("0 0 * * " + "1," * 200, "longer than"),
        ("é 0 * * *", "minute 'é'"),
    ],
)
def test_what_cannot_be(expression, named):
    """I13: an expression that is none, or never comes due, is refused, and the field named."""
    with pytest.raises(UsageError, match=r"^cron: ") as raised:
        parse_cron(expression, ZoneInfo("Europe/Berlin"))
    assert named in str(raised.value)
