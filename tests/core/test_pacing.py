"""Pacing: claims hold a fixed slice of work, bounded in jobs and bytes; looks and polls are rationed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.pacing import (
    AHEAD_US,
    ALONE_US,
    FIRST_CLAIM,
    FIRST_WAIT,
    LONGEST_WAIT,
    LOOK_EVERY,
    LOOK_SHARE,
    MAX_AHEAD,
    MAX_ARGS_BYTES,
    MAX_CLAIM,
    MAX_RESULT_BYTES,
    SLICE_US,
    IdlePolls,
    LookRation,
    Pace,
)


def paced(service_us: float, concurrency: int = 1) -> Pace:
    """A pace that has measured jobs of this length."""
    pace = Pace(concurrency)
    pace.observe(1, int(service_us), 2)
    return pace


@given(
    st.integers(1, 5000),
    st.integers(0, 100_000_000),
    st.floats(0, 1e8),
    st.floats(0, 1e8),
    st.integers(0, 10_000),
    st.integers(0, 3),
    st.booleans(),
)
def test_claims_are_bounded(concurrency, service_us, args_bytes, result_bytes, jobs, batches, measured):
    """I1: whatever was measured, a claim is none or 1 to 500 jobs, within the bytes unless it is a single
    job.
    """
    pace = Pace(concurrency, service_us, measured, args_bytes, result_bytes)
    want = pace.want(jobs, batches if jobs else 0)
    assert 0 <= want <= MAX_CLAIM
    assert want <= 1 or want * args_bytes <= MAX_ARGS_BYTES
    assert want <= 1 or want * result_bytes <= MAX_RESULT_BYTES


@given(st.integers(1, 3000), st.integers(1, 100_000_000))
def test_an_idle_worker_always_claims(concurrency, service_us):
    """I1: with nothing in hand a worker asks for at least one job, measured or not."""
    assert Pace(concurrency).want(0, 0) >= 1
    assert paced(service_us, concurrency).want(0, 0) >= 1


@pytest.mark.parametrize(
    ("service_us", "want"), [(1, MAX_CLAIM), (1000, SLICE_US // 1000), (60_000, 1), (10**7, 1)]
)
def test_claim_is_a_slice_of_work(service_us, want):
    """A batch holds the same work whatever a job takes; slow jobs are claimed one by one."""
    assert paced(service_us).want(0, 0) == want


def test_first_claims_are_small_and_single():
    """Nobody knows yet how long a job takes: a few, and no second batch before the first has told."""
    pace = Pace()
    assert pace.want(0, 0) == FIRST_CLAIM
    assert pace.want(FIRST_CLAIM, 1) == 0


def test_one_batch_ahead_and_no_more():
    """One batch is prefetched while one runs; jobs over a second are not claimed ahead at all."""
    assert paced(100).want(500, 1) > 0
    assert paced(100).want(1000, 2) == 0
    assert paced(ALONE_US + 1).want(1, 1) == 0


@given(st.integers(2, 3000), st.integers(1, 10**7))
def test_concurrent_worker_fills_its_slots(concurrency, service_us):
    """A concurrent worker that runs fewer jobs than it could claims again, until slots and what is ahead
    are full.
    """
    pace = paced(service_us, concurrency)
    jobs = claims = 0
    while want := pace.want(jobs, 1 if jobs else 0):
        jobs += want
        claims += 1
        assert claims < 100
    assert jobs >= concurrency
    assert jobs <= concurrency + MAX_AHEAD
    assert jobs <= concurrency + max(1, AHEAD_US * concurrency / service_us)


def test_estimate_follows_what_jobs_take():
    """The measure moves to a new pace within a few batches."""
    pace = paced(1_000_000)
    for _ in range(20):
        pace.observe(100, 100 * 50, 200)
    assert 50 <= pace.service_us < 1_000_000 * 0.7**20 + 51


def test_idle_polls_double_up_to_a_second():
    """Going idle, polls come at 2, 4, 8 ... 1,000 ms; work starts them anew."""
    polls = IdlePolls()
    waits = [polls.next_wait() for _ in range(12)]
    assert waits[:3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert waits[-1] == LONGEST_WAIT
    polls.reset()
    assert polls.next_wait() == FIRST_WAIT


def test_looks_are_rationed():
    """I4, I10: a full look comes once a second, but costs a fiftieth of the time at most."""
    ration = LookRation()
    assert ration.due(0)
    ration.taken(0, 0.001)
    assert not ration.due(LOOK_EVERY - 0.01)
    assert ration.due(LOOK_EVERY)
    assert ration.affordable(LOOK_SHARE * 0.001)
    ration.taken(1, 0.1)
    assert not ration.affordable(1 + LOOK_SHARE * 0.1 - 0.1)
    assert not ration.due(5.9)
    assert ration.due(6)
