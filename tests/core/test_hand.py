"""The jobs in hand: whatever the order of reports and takes, the flushes together say each outcome exactly
once.
"""

from __future__ import annotations

from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.hand import Hand, LeaseFlush, SealedIds, totals

BASE = UUID("01920000-0000-7000-8000-000000000000")


def hand_of(size: int, canceled: frozenset[int] = frozenset(), lo: int = 3) -> Hand:
    """A lease of `size` places, of which some were canceled before the claim."""
    places = [place for place in range(size) if place not in canceled]
    return Hand(
        7,
        BASE,
        lo,
        lo + size,
        ids=SealedIds(BASE, [lo + place for place in places]),
        args=b"[]",
        attempts=[1] * len(places),
        tag="t",
        places=places if canceled else None,
    )


class Lease:
    """What the database would keep of a lease: results by place, and the done bits it was told."""

    def __init__(self, hand: Hand) -> None:
        self.hand = hand
        self.results: dict[int, tuple[int, int, int, bytes]] = {}
        self.logs: dict[int, str] = {}
        self.open = True

    def write(self, flush: LeaseFlush) -> None:
        assert self.open, "a flush after the one that closed the lease"
        size = self.hand.size
        states = flush.states if flush.states is not None else [1] * size
        body = msgspec.json.decode(flush.body, type=list[msgspec.Raw])
        assert len(states) == len(flush.started) == len(flush.durations) == len(body) == size
        before = set(self.results)
        for place, state in enumerate(states):
            if state:
                assert place not in self.results
                self.results[place] = (
                    state,
                    flush.started[place],
                    flush.durations[place],
                    bytes(body[place]),
                )
        for ordinal, text in flush.logs:
            assert ordinal - self.hand.lo in self.results
            self.logs[ordinal - self.hand.lo] = text
        self.open = not flush.final
        said = {place for place in range(size) if flush.bits and flush.bits[place >> 3] >> (place & 7) & 1}
        assert said == (before if flush.final else set(self.results) - before)


def outcome(index: int, *, state: int = 1, size: int = 2, log: str | None = None):
    """What a runtime reports of one job."""
    return (index, state, 1000 + index, 5 + index, b'"' + b"x" * (size - 2) + b'"', log)


@st.composite
def histories(draw):
    """A lease, reports in any order, and where takes cut between them."""
    size = draw(st.integers(1, 40))
    canceled = frozenset(draw(st.sets(st.integers(0, size - 1), max_size=size // 2)))
    count = size - len(canceled)
    order = draw(st.permutations(range(count)))
    reports = [
        outcome(
            index,
            state=draw(st.sampled_from([1, 1, 1, 2, 3])),
            size=draw(st.sampled_from([2, 10, 400])),
            log=draw(st.sampled_from([None, None, f"log {index}"])),
        )
        for index in order
    ]
    cuts = draw(st.sets(st.integers(0, count), max_size=6))
    return size, canceled, reports, cuts, draw(st.sampled_from([1, 300, 1000, 8 << 20]))


@given(histories())
def test_flushes_say_each_outcome_once(history):
    """I1, I2: any order of reports, any split of takes, any limit: each outcome is in one flush, the last
    closes the lease.
    """
    size, canceled, reports, cuts, limit = history
    hand = hand_of(size, canceled)
    lease = Lease(hand)
    for number, one in enumerate(reports):
        if number in cuts:
            while (flush := hand.take(limit)) is not None:
                assert flush.size <= limit or flush.jobs == 1
                lease.write(flush)
        hand.report(one)
    hand.over = True
    while lease.open:
        flush = hand.take(limit)
        assert flush is not None
        lease.write(flush)
    places = [place for place in range(size) if place not in canceled]
    assert lease.results == {
        places[index]: (state, started, duration, payload)
        for index, state, started, duration, payload, _ in reports
    }
    assert lease.logs == {places[index]: log for index, _, _, _, _, log in reports if log}
    assert hand.left == hand.unreported == 0


def test_whole_batch_of_successes_is_said_shortly():
    """The common case carries no states: null in the statement means that all succeeded."""
    hand = hand_of(4)
    for index in (2, 0, 1, 3):
        hand.report(outcome(index))
    flush = hand.take()
    assert flush.states is None
    assert flush.final
    assert list(flush.started) == [1000, 1001, 1002, 1003]
    assert flush.some_job() == hand.ids[0]
    assert totals([flush]) == (4, 0, 26, 8)


def test_double_and_foreign_reports_are_ignored():
    """I2: a custom runtime that reports twice, or a job that is not there, ends no job twice and shifts no
    other.
    """
    hand = hand_of(3)
    lease = Lease(hand)
    for one in (outcome(1), outcome(1, state=2), outcome(-1), outcome(3)):
        hand.report(one)
    lease.write(hand.take())
    hand.report(outcome(1, state=2))
    hand.report(outcome(0))
    hand.report(outcome(2))
    flush = hand.take()
    lease.write(flush)
    assert flush.final
    assert {place: result[0] for place, result in lease.results.items()} == {0: 1, 1: 1, 2: 1}


def test_nothing_reported_is_nothing_to_flush():
    """A hand without news has no flush; one whose jobs were all canceled before has one that closes the
    lease.
    """
    hand = hand_of(2)
    assert hand.take() is None
    gone = hand_of(2, frozenset({0, 1}))
    assert gone.take() is None
    gone.over = True
    flush = gone.take()
    assert flush.final
    assert flush.jobs == flush.ended == 0


def test_parts_of_a_refused_flush_add_up():
    """I1: halves of a flush say together what it said, and the culprit's failure replaces its result."""
    hand = hand_of(8)
    lease = Lease(hand)
    for index in range(8):
        hand.report(outcome(index, log=f"{index}"))
    flush = hand.take()
    before = 0
    for places, failure in ((range(4), None), (range(4, 5), b'{"kind": "bad_result"}'), (range(5, 8), None)):
        part = flush.part(places, before, failure)
        lease.write(part)
        before |= part.ended
    lease.write(flush.closing(before))
    assert not lease.open
    assert [lease.results[place][0] for place in range(8)] == [1, 1, 1, 1, 2, 1, 1, 1]
    assert sorted(lease.logs) == [0, 1, 2, 3, 5, 6, 7]
