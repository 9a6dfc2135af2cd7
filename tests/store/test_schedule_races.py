"""Exactly one job a tick, however many tickers there are and whenever they are killed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from store_stage import NAME, Stage

from bench.simulated import Clock, run_year


@pytest.mark.slow
async def test_a_year_of_schedules(stage: Stage):
    """Of 40 schedules over half a simulated year, changes of the clocks and outages included, with three
    tickers that race and are killed in the middle of it, no tick is missing and none is doubled.
    """
    year = await run_year(stage.connect, NAME, 40, days=190, kill_every=0.03)
    assert year.sample == ()
    assert (year.missing, year.doubled) == (0, 0)
    assert year.ticks > 1000
    assert year.killed > 5


def test_outages_of_several_tickers_do_not_add_up():
    """The simulated time is moved on once from where it was seen, or it passes all that is caught up."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    clock = Clock(begin, begin + timedelta(days=365), random.Random(0))
    clock.go_on(begin, 60)
    moved = clock.now
    assert timedelta(seconds=60) <= moved - begin < timedelta(hours=31)
    for _ in range(20):
        clock.go_on(begin, 60)
    assert clock.now == moved
    clock.go_on(moved, 0.1)
    assert clock.now > moved
