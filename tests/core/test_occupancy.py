"""How full a worker is, from what it says now and then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.occupancy import Occupied, Window

SECOND = 1_000_000


def test_a_long_job_counts_before_it_ends():
    """What a job has taken so far counts, and is not counted again when it has ended."""
    occupied = Occupied()
    for _ in range(100):
        occupied.under_way(1, SECOND // 10)
    assert occupied.total_us == 10 * SECOND
    occupied.ended(round(10.05 * SECOND))
    assert occupied.total_us == round(10.05 * SECOND)


def test_looks_that_find_short_jobs_do_not_add_up():
    """A look that happens to find a short job under way credits too much, and that is taken back."""
    occupied = Occupied()
    for _ in range(1000):
        occupied.under_way(1, SECOND // 10)
        occupied.ended(SECOND // 100)
    assert occupied.total_us == 10 * SECOND
    occupied.under_way(1, SECOND // 10)
    occupied.under_way(0, SECOND // 10)
    assert occupied.total_us == 10 * SECOND


def test_several_at_a_time():
    """Of a worker that runs several jobs, one that ends leaves what the others have taken."""
    occupied = Occupied(several=True)
    for _ in range(100):
        occupied.under_way(10, SECOND // 10)
    occupied.ended(10 * SECOND)
    assert occupied.total_us == 100 * SECOND
    for _ in range(9):
        occupied.ended(10 * SECOND)
    assert occupied.total_us == 100 * SECOND
    occupied.under_way(0, SECOND // 10)
    assert occupied.total_us == 100 * SECOND


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200_000), st.integers(0, 400_000)), max_size=50))
def test_never_less_than_what_was_said(turns):
    """Whatever comes in whatever order, all that outcomes said is in it, and when nothing runs no more."""
    occupied, said = Occupied(several=True), 0
    for jobs, elapsed, busy in turns:
        occupied.under_way(jobs, elapsed)
        occupied.ended(busy)
        said += busy
        assert occupied.total_us >= said
    occupied.under_way(0, 1)
    assert occupied.total_us == said


@pytest.mark.parametrize(("seconds", "rate"), [(15.0, 0.25), (300.0, 0.5), (1800.0, 0.5)])
def test_rates_over_stretches(seconds, rate):
    """The rate over each stretch, to a few percent, however long ago it began."""
    window = Window()
    value = 0.0
    for at in range(7200):
        value += 0.25 if at >= 7170 else 0.5
        window.add(float(at), value)
    assert window.rate(seconds) == pytest.approx(rate, abs=0.03)


def test_rate_of_a_young_worker():
    """Since the first sample, where that is less than the stretch."""
    window = Window()
    assert window.rate(15.0) == 0.0
    window.add(100.0, 0.0)
    assert window.rate(15.0) == 0.0
    window.add(104.0, 2.0)
    assert window.rate(15.0) == window.rate(1800.0) == 0.5


def test_windows_stay_small():
    """A day of samples is kept as some hundreds."""
    window = Window()
    for at in range(86_400):
        window.add(float(at), float(at))
    assert len(window._samples) + len(window._old) < 300
    assert window.rate(1800.0) == pytest.approx(1.0)
