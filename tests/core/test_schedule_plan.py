"""Which ticks become jobs: late ones, missed ones, those that would overlap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.cron import parse_cron
from hotpath.core.schedules import (
    GRACE,
    MOST_TICKS,
    Due,
    Every,
    Once,
    check_every,
    check_policies,
    parse_span,
    parse_time,
    plan,
    set_back,
)
from hotpath.errors import UsageError

BEGIN = datetime(2026, 11, 27, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """So long after the beginning."""
    return BEGIN + timedelta(seconds=seconds)


def due(step: float = 10.0, next_at: datetime | None = BEGIN, **more) -> Due:
    """A schedule that ticks every `step` seconds."""
    return Due(timing=Every(step, BEGIN), next_at=next_at, **more)


def test_on_time():
    """A tick that has come is a job, one that has not is next."""
    found = plan(due(), after(0.01))
    assert (found.ticks, found.next_at) == ((BEGIN,), after(10))
    assert plan(due(next_at=after(10)), after(9)).ticks == ()


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_late_is_not_missed(catch_up):
    """What is late by less than the grace becomes jobs whatever is caught up."""
    found = plan(due(catch_up=catch_up), after(55))
    assert len(found.ticks) == 6
    assert found.missed == 0


def test_catch_up():
    """After an hour: nothing but what is not missed; the last; all."""
    now = after(3600 + 5)
    hourly = {"step": 1000.0}
    none = plan(due(**hourly, catch_up="none"), now)
    assert (none.ticks, none.missed, none.next_at) == ((), 4, after(4000))
    last = plan(due(**hourly, catch_up="last"), now)
    assert (last.ticks, last.missed, last.next_at) == ((after(3000),), 3, after(4000))
    every = plan(due(**hourly, catch_up="all"), now)
    assert (every.ticks, every.missed) == (tuple(map(after, (0, 1000, 2000, 3000))), 0)


def test_last_gives_way_to_one_on_time():
    """Where a tick is not missed, none before it is caught up."""
    found = plan(due(step=100, catch_up="last"), after(310))
    assert (found.ticks, found.missed) == ((after(300),), 3)


def test_within():
    """What is older than the bound is not caught up."""
    now, bound = after(10_000), timedelta(seconds=2500)
    found = plan(due(step=1000, catch_up="all", within=bound), now)
    assert (found.ticks, found.missed) == ((after(8000), after(9000), after(10_000)), 8)
    old = plan(due(step=100_000, catch_up="last", within=bound), now)
    assert (old.ticks, old.missed) == ((), 1)


def test_many_come_in_parts():
    """A transaction has a bounded number of ticks; the next one goes on from there."""
    now, item, seen = after(1000), due(step=1, catch_up="all"), []
    while True:
        found = plan(item, now)
        seen += found.ticks
        assert len(found.ticks) <= MOST_TICKS
        if found.next_at > now:
            break
        item = due(step=1, next_at=found.next_at, catch_up="all")
    assert seen == [after(k) for k in range(1001)]


@pytest.mark.parametrize("catch_up", ["none", "last"])
@pytest.mark.parametrize("cron", ["* * * * * *", "* 30 4 * * *", "0 0 1 1 *"])
def test_a_long_outage_takes_no_time(catch_up, cron):
    """Years of missed seconds are passed over and not counted one by one; the last tick is found, though."""
    timing = parse_cron(cron, ZoneInfo("Europe/Berlin"))
    first = timing.after(BEGIN)
    now = BEGIN + timedelta(days=800, hours=3)
    found = plan(Due(timing=timing, next_at=first, catch_up=catch_up, within=timedelta(days=366)), now)
    assert all(at >= now - GRACE for at in found.ticks) or catch_up == "last"
    assert found.next_at > now
    if catch_up == "last":
        assert found.ticks
        assert timing.after(found.ticks[-1]) == found.next_at


@given(
    step=st.floats(1, 5000), late=st.floats(0, 100_000), catch_up=st.sampled_from(["none", "last", "all"]),
    within=st.floats(60, 100_000),
)  # fmt: skip
def test_every_tick_is_a_job_or_missed(step, late, catch_up, within):
    """Each tick up to now is a job, counted as missed, or still to be done; none twice, in order."""
    step, now = round(step, 3), after(late)
    item = due(step=step, catch_up=catch_up, within=timedelta(seconds=within))
    found = plan(item, now)
    assert list(found.ticks) == sorted(set(found.ticks))
    assert all(at <= now for at in found.ticks)
    passed = (found.next_at - BEGIN) / timedelta(seconds=step)
    counted = len(found.ticks) + found.missed
    assert counted == pytest.approx(passed) or (counted <= passed and found.missed >= 999)
    assert found.next_at > now or len(found.ticks) == MOST_TICKS


def test_overlap():
    """While the job before goes on, a tick is a job, none, or one that is held; later ones are skipped."""
    now = after(25)  # three ticks
    assert len(plan(due(is_busy=True), now).ticks) == 3
    skip = plan(due(is_busy=True, overlap="skip"), now)
    assert (skip.ticks, skip.held_at, skip.skipped) == ((), None, 3)
    one = plan(due(overlap="skip"), now)
    assert (one.ticks, one.held_at, one.skipped) == ((BEGIN,), None, 2)
    held = plan(due(is_busy=True, overlap="queue_one"), now)
    assert (held.ticks, held.held_at, held.skipped) == ((), BEGIN, 2)
    still = plan(due(next_at=after(30), is_busy=True, held_at=BEGIN, overlap="queue_one"), after(31))
    assert (still.ticks, still.held_at, still.skipped) == ((), BEGIN, 1)
    free = plan(due(next_at=after(30), held_at=BEGIN, overlap="queue_one"), after(25))
    assert (free.ticks, free.held_at, free.skipped, free.next_at) == ((BEGIN,), None, 0, after(30))
    behind = plan(due(overlap="queue_one"), after(15))
    assert (behind.ticks, behind.held_at) == ((BEGIN,), after(10))


def test_set_back():
    """After a clock that was ahead, from now on; a tick of the last minute is not missed, unless it was
    decided about: the schedule was set since, or the clock was ahead by less.
    """
    timing, now, ahead = Every(10, BEGIN), after(105), after(9000)
    assert set_back(timing, now, ahead, BEGIN, None) == after(50)
    assert set_back(timing, now, ahead, after(72), after(60)) == after(80)
    assert set_back(timing, now, ahead, after(8000), after(8990)) == after(50)
    assert set_back(timing, now, after(150), BEGIN, None) == after(110)
    assert set_back(Once(after(50)), now, ahead, BEGIN) == after(50)
    assert set_back(Once(after(40)), now, ahead, BEGIN) is None
    assert set_back(Every(10, after(8001)), now, ahead, None) == after(51)


def test_once():
    """One tick, and then it is over."""
    found = plan(Due(timing=Once(BEGIN), next_at=BEGIN), after(1))
    assert (found.ticks, found.next_at) == ((BEGIN,), None)


def test_times_and_spans():
    """A time without an offset is one of the zone; spans have units."""
    zone = ZoneInfo("Europe/Berlin")
    assert parse_time("2026-07-01T12:00", zone, "at") == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert parse_time("2026-07-01T12:00Z", zone, "at") == datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert [parse_span(text, "x") for text in ("90", "90s", "1.5h", "7d")] == [90, 90, 5400, 604800]
    for bad in ("2026-03-29T02:30", "soon", "9999-12-31T23:59:59-12:00", ""):
        with pytest.raises(UsageError, match=r"^at: "):
            parse_time(bad, zone, "at")
    for bad in ("", "x", "1y", "-5s", "1e9", "٣s", "1 h"):
        with pytest.raises(UsageError, match=r"^every: "):
            parse_span(bad, "every")
    for bad in (0.5, 1e12, float("nan")):
        with pytest.raises(UsageError, match=r"^every: "):
            check_every(bad)


@pytest.mark.parametrize(
    ("policies", "named"),
    [
        (("sometimes", 86400, "allow"), "catch_up"),
        (("all", 86400, "never"), "overlap"),
        (("all", 5, "allow"), "catch_up_within"),
        (("all", float("nan"), "allow"), "catch_up_within"),
        (("all", 86400, "skip"), "overlap skip contradicts"),
        (("all", 86400, "queue_one"), "overlap queue_one contradicts"),
    ],
)
def test_policies_that_cannot_be(policies, named):
    """I13: what is none, or contradicts the other, is refused by name."""
    with pytest.raises(UsageError) as raised:
        check_policies(*policies)
    assert str(raised.value).startswith(named)
