"""What is counted of flushes."""

from __future__ import annotations

from uuid import UUID

import attrs
import pytest

from hotpath.core.hand import Hand, LeaseFlush
from hotpath.core.tally import (
    BOUNDS,
    BUCKETS,
    BUSY,
    CANCELED,
    CLAIM,
    CLAIMS,
    FAILURE,
    FLUSHES,
    RETRIED,
    RUNS,
    SIZE,
    SUCCESS,
    Tally,
    bucket,
)


@pytest.mark.parametrize("microseconds", [0, 1, 3, 4, 15, 16, 999_999, 4**15 - 1, 4**15, 10**15])
def test_bucket(microseconds):
    """A duration is below the bound of its bucket, and not below the one before."""
    at = bucket(microseconds)
    assert 0 <= at < BUCKETS
    assert at == BUCKETS - 1 or microseconds / 1e6 < BOUNDS[at]
    assert at == 0 or microseconds / 1e6 >= BOUNDS[at - 1]


def flush(states: list[int] | None, durations: list[int]) -> LeaseFlush:
    """A flush of one lease as a hand would make it."""
    ended = [1] * len(durations) if states is None else states
    return LeaseFlush(
        None, final=True, before=0, started=[0] * len(durations), durations=durations, states=states,
        payloads=[b"1"] * len(durations), logs=[], jobs=sum(map(bool, ended)),
        failed=sum(state in (2, 3) for state in ended), busy_us=sum(durations), size=0,
        retries=[(place, 1.0) for place, state in enumerate(ended) if state == 4],
    )  # fmt: skip


def test_outcomes_are_told_apart():
    """Successes, failures, cancels, attempts that run again; places that have not ended are not counted."""
    tally = Tally()
    tally.ended(flush(None, [5] * 20 + [2**50] * 3))
    assert (tally[RUNS + bucket(5)], tally[RUNS + BUCKETS - 1]) == (20, 3)
    tally = Tally()
    tally.ended(flush(None, [3, 3, 100]))
    tally.ended(flush([1, 0, 2, 3, 4], [5, 0, 7, 9, 11]))
    assert (tally[SUCCESS], tally[FAILURE], tally[CANCELED], tally[RETRIED]) == (4, 1, 1, 1)
    assert tally[BUSY] == 106 + 32
    assert sum(tally[RUNS:]) == 7
    assert tally[RUNS + bucket(100)] == 1
    assert len(tally) == SIZE


def test_tallies_add():
    """Counts of several are added place by place; a new one is empty."""
    tally = Tally()
    tally.claimed(50)
    tally.flushed(3)
    tally.settled(70)
    more = Tally(tally)
    more.add(tally)
    assert list(more) == [2 * count for count in tally]
    assert (tally[CLAIM], tally[CLAIMS + 3], tally[FLUSHES + 1], tally[SUCCESS]) == (50, 1, 1, 1)
    assert sum(Tally()) == 0


def test_a_hands_flush_is_counted():
    """What a hand makes of its outcomes fits, whole or in parts."""
    base = UUID(int=1 << 80)
    hand = Hand(7, base, 0, 3, ids=[base] * 3, args=b"[{},{},{}]", attempts=[1] * 3, tag="t")
    hand.report((0, 1, 10, 20, b"1", None))
    hand.report((2, 2, 10, 20, b"{}", None))
    tally = Tally()
    part = hand.take()
    tally.ended(part)
    hand.report((1, 3, 10, 20, b"{}", None))
    hand.over = True
    tally.ended(attrs.evolve(hand.take()))
    assert (tally[SUCCESS], tally[FAILURE], tally[CANCELED], sum(tally[RUNS:])) == (1, 1, 1, 3)
