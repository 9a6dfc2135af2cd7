"""Steps of time, and series as a line of text."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.series import STEPS, begin_of, choose_step, sparkline, steps_between

TIMES = st.integers(10**9, 4 * 10**9).map(lambda second: datetime.fromtimestamp(second + 0.5, UTC))


@given(TIMES, st.timedeltas(timedelta(seconds=1), timedelta(days=14)), st.sampled_from(STEPS))
def test_steps_cover_the_time_and_no_more(since, length, step):
    """The first holds its beginning, the last its end, and they are as far apart as they are long."""
    until = since + length
    steps = steps_between(since, until, step)
    assert steps[0] <= since < steps[0] + timedelta(minutes=step)
    assert steps[-1] < until <= steps[-1] + timedelta(minutes=step)
    assert {b - a for a, b in itertools.pairwise(steps)} <= {timedelta(minutes=step)}


@given(st.timedeltas(timedelta(seconds=1), timedelta(days=14)), st.integers(20, 2000))
def test_the_shortest_step_that_fits(length, most):
    """A shorter one would make too many."""
    step = choose_step(length, most)
    assert length / timedelta(minutes=step) <= most
    shorter = [each for each in STEPS if each < step]
    assert not shorter or length / timedelta(minutes=shorter[-1]) > most


def test_days_begin_at_midnight():
    """In UTC, whatever the time zone."""
    when = datetime(2026, 11, 27, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert begin_of(when, 1440) == datetime(2026, 11, 26, tzinfo=UTC)


def test_sparkline():
    """What is not known is a gap, what is not nothing does not look like it, and a spike is not lost."""
    assert sparkline([0, 1, 100, None], 10) == "▁▂█·"
    assert sparkline([0] * 99 + [5], 10) == "▁" * 9 + "█"
    assert sparkline([0, 0], 10) == "▁▁"
    assert sparkline([], 10) == ""
