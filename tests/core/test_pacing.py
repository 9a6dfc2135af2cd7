"""Pacing: claims hold a fixed slice of work, bounded in jobs and bytes; looks and polls are rationed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.pacing import (
    AHEAD_US,
    ALONE_US,
    CROWDED_FOR,
    FIRST_CLAIM,
    FIRST_WAIT,
    LONGEST_WAIT,
    LOOK_EVERY,
    LOOK_LATEST,
    LOOK_SHARE,
    LOOKS,
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
    """I4, I10: a full look comes once a second, but costs a fiftieth of the time at most; that of ten seconds
    at least, since what was passed is found by nothing else.
    """
    ration = LookRation()
    assert ration.due(0)
    for _ in range(LOOKS):
        ration.taken(0, 0.001)
    assert not ration.due(LOOK_EVERY - 0.01)
    assert ration.due(LOOK_EVERY)
    assert ration.affordable(LOOK_SHARE * 0.001)
    for _ in range(LOOKS):
        ration.taken(1, 0.1)
    assert not ration.affordable(1 + LOOK_SHARE * 0.1 - 0.1)
    assert not ration.due(5.9)
    assert ration.due(6)
    for _ in range(LOOKS):
        ration.taken(6, 3.0)
    assert not ration.due(6 + LOOK_LATEST - 0.1)
    assert not ration.affordable(6 + LOOK_LATEST - 0.1)
    assert ration.due(6 + LOOK_LATEST)


def test_a_look_that_was_held_up_says_nothing_of_the_cost():
    """I4: one look that took half a second, on a busy machine, does not put off the next for 50 s."""
    ration = LookRation()
    ration.taken(0, 0.5)  # also the first, of which nobody knows better
    assert ration.due(LOOK_EVERY)
    for now in range(1, 10):
        ration.taken(now, 0.001)
    ration.taken(10, 0.5)
    assert ration.due(10 + LOOK_EVERY)
    assert not ration.affordable(10 + LOOK_SHARE * 0.001 - 0.01)
    ration.taken(11, 0.5)
    ration.taken(12, 0.5)
    assert ration.due(12 + LOOK_EVERY)
    ration.taken(13, 0.5)  # they do cost that
    assert not ration.due(13 + LOOK_EVERY)


def test_due_jobs_that_no_claim_gets_are_looked_for():
    """I4: others are done with them in a moment; then they were passed, and are looked for: within the share,
    or once a second, whatever it costs.
    """
    for cost, later in ((0.002, LOOK_SHARE * 0.002), (0.5, LOOK_EVERY)):
        ration = LookRation()
        for _ in range(LOOKS):
            ration.taken(100, cost)
        ration.missed(100)
        ration.missed(100 + later - CROWDED_FOR / 2)  # it is the first time that counts
        assert not ration.due(100 + later - 0.001)
        assert ration.due(100 + later + 0.001)
        ration.got()
        assert not ration.due(100 + later + 0.001)
        ration.missed(100 + later)
        assert not ration.due(100 + later + CROWDED_FOR / 2)
        assert ration.due(100 + later + CROWDED_FOR + 0.001)
        ration.taken(102, cost)  # what that does not find is another's
        assert not ration.due(102 + LOOK_EVERY - 0.001)


def test_who_does_not_see_what_was_passed_asks_once_a_second():
    """I4, I10: where no look has told; while there is something, until it is looked for."""
    ration = LookRation()
    assert ration.doubtful(0)
    ration.taken(100, 0.5)
    assert not ration.doubtful(100 + LOOK_EVERY - 0.001)
    assert ration.doubtful(100 + LOOK_EVERY)
    ration.asked(102)
    assert not ration.doubtful(102 + LOOK_EVERY - 0.001)
    ration.missed(102)
    assert ration.doubtful(102.001)
    ration.got()
    assert not ration.doubtful(102.002)
    assert ration.doubtful(102 + LOOK_EVERY)
