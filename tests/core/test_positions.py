"""Positions: known priorities and the gaps between them are all priorities, each once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.positions import BEGINNING, FIRST_ID, HIGHEST, LOWEST, MAX_KNOWN, SLACK, Positions

NOW = datetime(2030, 1, 1, tzinfo=UTC)
JOB = UUID(int=5)
PRIORITIES = st.lists(
    st.one_of(
        st.integers(LOWEST, HIGHEST), st.sampled_from([LOWEST, LOWEST + 1, -1, 0, 1, HIGHEST - 1, HIGHEST])
    ),
    max_size=30,
)


@given(PRIORITIES)
def test_known_and_gaps_cover_each_priority_once(priorities):
    """I4: no priority is missed and none is looked at twice, whatever is known."""
    positions = Positions()
    positions.look(priorities)
    known, _, _ = positions.known()
    upper, lower = positions.gaps()
    ranges = sorted([(one, one) for one in known] + list(zip(lower, upper, strict=True)))
    assert ranges[0][0] == LOWEST
    assert ranges[-1][1] == HIGHEST
    assert all(low <= high for low, high in ranges)
    assert all(after[0] == before[1] + 1 for before, after in pairwise(ranges))


@given(PRIORITIES)
def test_known_and_gaps_are_highest_first(priorities):
    """I4: the claim takes the first it finds, so both come highest first."""
    positions = Positions()
    positions.look(priorities)
    assert positions.known()[0] == sorted(set(priorities), reverse=True)
    upper, lower = positions.gaps()
    assert upper == sorted(upper, reverse=True)
    assert lower == sorted(lower, reverse=True)


def test_look_forgets_where_claims_ended():
    """I4: after a full look each priority is walked from its beginning."""
    positions = Positions()
    positions.advance(3, NOW, JOB, NOW)
    positions.look([3, 1])
    assert positions.since == {3: (BEGINNING, FIRST_ID), 1: (BEGINNING, FIRST_ID)}


def test_advance_leaves_room_for_commits_out_of_order():
    """I4: a young position keeps a slack behind it, an old one is exact: equal times are not walked again."""
    positions = Positions()
    positions.advance(0, NOW, JOB, NOW)
    assert positions.since[0] == (NOW - SLACK, FIRST_ID)
    old = NOW - timedelta(minutes=1)
    positions.advance(1, old, JOB, NOW)
    assert positions.since[1] == (old, JOB)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=20))
def test_positions_never_go_back_between_looks(claims):
    """I10: dead index entries once passed are not walked again before the next full look."""
    positions = Positions()
    for priority, seconds in claims:
        before = dict(positions.since)
        positions.advance(priority, NOW - timedelta(seconds=seconds), JOB, NOW)
        assert all(positions.since[known] >= place for known, place in before.items())


def test_settle_moves_all_forward():
    """I10: when nothing due was found, the next claim starts at that time in each known priority."""
    positions = Positions()
    positions.look([2, 1])
    positions.settle(NOW)
    assert positions.since == {2: (NOW, FIRST_ID), 1: (NOW, FIRST_ID)}
    positions.settle(NOW - timedelta(hours=1))
    assert positions.since[1] == (NOW, FIRST_ID)


def test_number_of_positions_is_bounded():
    """I10: a thousand priorities do not cost the claim a thousand probes; the gaps still cover the rest."""
    positions = Positions()
    positions.look(range(1000, 0, -1))
    assert positions.known()[0] == list(range(1000, 1000 - MAX_KNOWN, -1))
    positions.know(5)
    positions.advance(6, NOW, JOB, NOW)
    assert len(positions.since) == MAX_KNOWN
    assert positions.gaps() == ([HIGHEST, 1000 - MAX_KNOWN], [1001, LOWEST])
