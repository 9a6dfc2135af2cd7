"""What a worker makes of the database's clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotpath.worker.clock import WINDOW_US, DatabaseClock

OFFSET = 1_700_000_000_000_000


@given(st.lists(st.tuples(st.integers(1, 3_000_000), st.integers(0, 500_000)), min_size=1, max_size=60))
def test_the_quickest_reply_of_the_last_seconds_is_believed(replies):
    """However slow replies are, the offset is never ahead of the truth, and as near as the best one."""
    clock, now, recent = DatabaseClock(), 0, []
    for pause, delay in replies:
        now += pause
        clock.observe(OFFSET + now - delay, now - delay - pause, now)
        recent.append((now, delay))
        best = min(delay for at, delay in recent if at >= now - WINDOW_US)
        assert OFFSET - best <= clock.offset_us <= OFFSET


def test_a_clock_that_is_set_back_is_followed():
    """Ten seconds after the database's clock was set back by a minute, the worker has it right."""
    clock = DatabaseClock()
    for second in range(20):
        clock.observe(OFFSET + second * 1_000_000, second * 1_000_000 - 1000, second * 1_000_000)
    for second in range(20, 31):
        clock.observe(OFFSET + (second - 60) * 1_000_000, second * 1_000_000 - 1000, second * 1_000_000)
    assert clock.offset_us == OFFSET - 60_000_000


def test_a_clock_that_is_set_forward_is_followed_at_once():
    """The first reply after the step tells."""
    clock = DatabaseClock()
    clock.observe(OFFSET, -1000, 0)
    clock.observe(OFFSET + 61_000_000, 999_000, 1_000_000)
    assert clock.offset_us == OFFSET + 60_000_000


def test_a_quick_reply_counts_for_as_long_as_all_others_are_late():
    """On a busy machine each reply may wait for a commit. A worker's times do not lie 200 ms before another's
    for that, as if more had run at a time than a limit allows.
    """
    clock = DatabaseClock()
    clock.observe(OFFSET, -1000, 0)
    for minute in range(1, 11):
        now = minute * 60_000_000
        clock.observe(OFFSET + now - 200_000, now - 300_000, now)
    assert OFFSET - 15_000 <= clock.offset_us <= OFFSET


def test_clocks_that_drift_apart_are_followed():
    """What is kept of a quick reply wanes: a database's clock that goes slower is not overtaken for long."""
    clock, now = DatabaseClock(), 0
    clock.observe(OFFSET, -1000, 0)
    for now in range(0, 600_000_000, 1_000_000):
        truth = OFFSET + now - now // 100_000  # 10 ppm
        clock.observe(truth - 50_000, now - 60_000, now)
    assert OFFSET - now // 100_000 - 50_000 <= clock.offset_us <= OFFSET - now // 100_000
