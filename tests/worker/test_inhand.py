"""What a worker makes of the marks that its runtime leaves."""

from __future__ import annotations

import uuid

import pytest

from hotpath.core.hand import Hand
from hotpath.core.pacing import Pace
from hotpath.worker.inhand import InHand
from hotpath.worker.loop import Loop

MILLISECOND = 1_000_000


class OneAtATime:
    """All that is asked of a runtime here."""

    concurrency = 1


@pytest.fixture
def in_hand() -> InHand:
    """Jobs of a millisecond: patience is short."""
    pace = Pace(1)
    pace.observe(100, 100_000, 100)
    return InHand(OneAtATime(), pace)


def taken(in_hand: InHand, lease: int, jobs: int = 5) -> Hand:
    """A hand that the runtime is given."""
    ids = [uuid.uuid4() for _ in range(jobs)]
    hand = Hand(lease, ids[0], 0, jobs, ids=ids, args=b"[]", attempts=[1] * jobs, tag="t")
    hand.number = in_hand.book.open(lease)
    in_hand.take(hand)
    return hand


def test_one_job_that_stays_is_slow(in_hand: InHand):
    """The same job at two looks far enough apart keeps those behind it waiting."""
    hand = taken(in_hand, 7)
    in_hand.mark[0] = hand.number + 1
    assert not in_hand.look(0)
    assert in_hand.look(2000 * MILLISECOND)


def test_another_hands_job_with_the_same_token_is_not(in_hand: InHand):
    """Numbers of hands are used again: two looks may find the same token, and two jobs."""
    hand = taken(in_hand, 7)
    token = hand.number + 1
    in_hand.mark[0] = token
    assert not in_hand.look(0)
    in_hand.returned(hand)
    in_hand.book.close(hand.number)
    later = taken(in_hand, 8)
    assert later.number == hand.number
    in_hand.mark[0] = token
    assert not in_hand.look(2000 * MILLISECOND)


def test_what_a_worker_that_is_replaced_has_claimed_is_run(in_hand: InHand):
    """It claims no more and gives nothing back; if it is to stop as well, nothing more of it begins."""
    loop = Loop(None, None, None, OneAtATime(), completer=None)
    hand = loop.hands[7] = taken(in_hand, 7)
    loop.stop(whole=True)
    assert not hand.stopped
    assert loop.stopping
    loop.stop()
    assert hand.stopped
