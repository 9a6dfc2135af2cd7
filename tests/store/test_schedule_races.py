"""Exactly one job a tick, however many tickers there are and whenever they are killed."""

from __future__ import annotations

import pytest
from store_stage import NAME, Stage

from bench.simulated import run_year


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
