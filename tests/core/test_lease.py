"""The rules of what is in hand, as state machines: any order of reports, retries, releases, completions,
cancels and takes, over leases whose numbers are used again.
"""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)
from thoroughness import examples

from hotpath.core.hand import FOREVER, Hand, LeaseFlush, SealedIds
from hotpath.core.lease import NUMBERS, LeaseBook, hand_number

BASE = UUID("01920000-0000-7000-8000-000000000000")
SUCCESS, FAILURE, CANCELED, RETRY = 1, 2, 3, 4


class HandMachine(RuleBasedStateMachine):
    """One hand between its runtime, the loop and the database: each job leaves the lease exactly once."""

    @initialize(size=st.integers(1, 12), holes=st.sets(st.integers(0, 11)), lo=st.integers(0, 5))
    def claim(self, size: int, holes: set[int], lo: int) -> None:
        places = [place for place in range(size) if place not in holes] or [0]
        whole = len(places) == size
        self.hand = Hand(
            7,
            BASE,
            lo,
            lo + size,
            ids=SealedIds(BASE, [lo + place for place in places]),
            args=b"[]",
            attempts=[1] * len(places),
            tag="t",
            places=None if whole else places,
        )
        self.lo, self.size, self.places = lo, size, places
        self.said: dict[int, tuple[int, float]] = {}
        """First outcome reported of each job: state and delay."""
        self.written: dict[int, int] = {}
        """What the database was told, by index: an outcome's state, or -1 released, -2 settled."""
        self.delays: dict[int, float] = {}
        self.lost: set[int] = set()
        self.bits = 0
        self.open = True

    @property
    def count(self) -> int:
        return len(self.places)

    def some(self, data: st.DataObject, beyond: int = 0) -> int:
        """A job of the hand, or up to `beyond` off."""
        return data.draw(st.integers(-beyond, self.count - 1 + beyond))

    @precondition(lambda self: not self.hand.over)
    @rule(data=st.data(), state=st.sampled_from([SUCCESS, SUCCESS, FAILURE, CANCELED]))
    def report(self, data: st.DataObject, state: int) -> None:
        """Any job, also one that is not there or has ended before."""
        index = self.some(data, beyond=1)
        self.hand.report((index, state, 1, 1, b"%d" % index, None))
        if state == CANCELED and index in self.lost:
            return
        if 0 <= index < self.count and index not in self.written:
            self.said.setdefault(index, (state, 0.0))

    @precondition(lambda self: not self.hand.over)
    @rule(data=st.data(), delay=st.floats(-1, 1000))
    def retry(self, data: st.DataObject, delay: float) -> None:
        index = self.some(data, beyond=1)
        if index in self.said:
            return
        self.hand.retry((index, RETRY, 1, 1, b'"error"', None), delay)
        if 0 <= index < self.count and index not in self.written:
            self.said.setdefault(index, (RETRY, max(0.0, delay)))

    @precondition(lambda self: self.open and not self.hand.over)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """A completion commits: the database has the outcome already."""
        self.leave(self.some(data))

    def leave(self, index: int) -> None:
        """This one, if it has not ended."""
        left = self.hand.settle(index, 3)
        assert left == (index not in self.written)
        if left:
            self.written[index] = -2
            self.bits |= 1 << self.places[index]
            self.said.pop(index, None)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Some of what has not ended goes back; the database first, then the hand."""
        self.take_all()
        pending = self.hand.pending()
        if not pending or not self.open:
            return
        some = data.draw(st.lists(st.sampled_from(pending), unique=True, min_size=1))
        if len(some) == len(pending):
            return  # the lease would go: `drop_rest`
        for index in some:
            assert index not in self.written
            self.written[index] = -1
            self.bits |= 1 << self.places[index]
        self.hand.stop()
        self.hand.release(some)

    @rule()
    def stop(self) -> None:
        self.hand.stop()
        self.hand.hold(FOREVER)
        assert self.hand.stopped

    @precondition(lambda self: not self.hand.over)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """Interrupted for a lost lease: that it was canceled is no outcome."""
        index = self.some(data)
        self.hand.drop([index])
        self.lost.add(index)
        if self.said.get(index, (0, 0))[0] == CANCELED:
            del self.said[index]
        if index not in self.written and index not in self.said:
            self.hand.report((index, CANCELED, 1, 1, b"{}", None))

    @rule(really=st.integers(0, 3))
    def end(self, really: int) -> None:
        """The runtime returns."""
        self.hand.over = self.hand.over or not really

    def take_all(self) -> None:
        """One flush of all there is."""
        if (flush := self.hand.take()) is not None:
            self.write(flush)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), limit=st.sampled_from([1, 10, 1 << 20]), meanwhile=st.booleans())
    def take(self, data: st.DataObject, limit: int, meanwhile: bool) -> None:
        """A flush, and perhaps a completion that commits before it is sent."""
        flush = self.hand.take(limit)
        if flush is None:
            return
        pending = self.hand.pending()
        if meanwhile and pending and not self.hand.over:
            assert not flush.final
            self.leave(data.draw(st.sampled_from(pending)))
        self.write(flush)

    def write(self, flush: LeaseFlush) -> None:
        """The database is told."""
        states = [SUCCESS] * self.size if flush.states is None else list(flush.states)
        delays = dict(flush.retries)
        before = self.bits
        assert len(states) == len(flush.payloads) == self.size
        assert set(delays) == {place for place, state in enumerate(states) if state == RETRY}
        assert flush.jobs == sum(map(bool, states))
        assert flush.failed == sum(state in (FAILURE, CANCELED) for state in states)
        for place, state in enumerate(states):
            if state:
                index = self.places.index(place)
                assert index not in self.written, "an outcome of a job that had left"
                assert self.said.pop(index) == (state, delays.get(place, 0.0))
                self.written[index] = state
                self.bits |= 1 << place
        if flush.final:
            assert int.from_bytes(flush.bits or b"", "little") == before, "closed over what nobody wrote"
            assert len(self.written) == self.count, "the lease was closed with jobs in it"
            assert self.hand.over or not self.hand.settled, "a settled job may have more to log"
            self.open = False
        else:
            assert int.from_bytes(flush.bits, "little") == self.bits & ~before

    @precondition(lambda self: self.hand.over and self.open)
    @rule()
    def drop_rest(self) -> None:
        """What a turn does with a hand that is over: flush it all, give the rest back, close the lease."""
        while self.open and (self.hand.reported or not self.hand.left):
            self.take_all()
        if self.open:
            for index in self.hand.pending():
                assert index not in self.written
                self.written[index] = -1
            self.open = False
            assert not self.said
        assert sorted(self.written) == list(range(self.count)), "each job left exactly once"

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "hand") and self.open:
            assert self.hand.left == self.count - len(self.written)
            assert set(self.hand.pending()).isdisjoint(self.written)
            for index in self.said:
                assert index not in self.hand.pending() or not self.hand.reported


class BookMachine(RuleBasedStateMachine):
    """The lease book: a number stands for one lease, and for no other while a runtime may still write it."""

    def __init__(self) -> None:
        super().__init__()
        self.table: dict[int, int] = {}
        self.book = LeaseBook(self.table.__setitem__)
        self.leases: dict[int, int] = {}
        self.running: set[int] = set()
        self.serial = 0

    tokens = Bundle("tokens")

    @rule(target=tokens)
    def claim(self) -> int:
        """A claim is to be sent."""
        self.serial += 1
        token = self.book.open(self.serial)
        assert token & 0xFFFF == 0
        assert 1 <= hand_number(token) <= NUMBERS
        assert hand_number(token) <= len(self.leases.keys() | self.running) + 1, "the lowest free number"
        assert token not in self.leases
        assert token not in self.running
        self.leases[token] = self.serial
        return token

    @rule(token=tokens)
    def send_again(self, token: int) -> None:
        if token in self.leases and token not in self.running:
            self.serial += 1
            self.book.move(token, self.serial)
            self.leases[token] = self.serial

    @rule(token=tokens)
    def run(self, token: int) -> None:
        if token in self.leases:
            self.book.run(token)
            self.running.add(token)

    @rule(token=consumes(tokens))
    def close(self, token: int) -> None:
        if token in self.leases:
            self.book.close(token)
            del self.leases[token]

    @rule(data=st.data())
    def returned(self, data: st.DataObject) -> None:
        if self.running:
            token = data.draw(st.sampled_from(sorted(self.running)))
            self.book.returned(token)
            self.running.discard(token)

    @invariant()
    def table_says_what_is_held(self) -> None:
        held = {hand_number(token): lease for token, lease in self.leases.items()}
        assert {number: lease for number, lease in self.table.items() if lease} == held
        assert self.book.leases() == held
        assert sorted(self.book.held()) == sorted(held.values())


TestHandMachine = HandMachine.TestCase
TestHandMachine.settings = settings(max_examples=examples(60, 200), stateful_step_count=30, deadline=None)
TestBookMachine = BookMachine.TestCase
TestBookMachine.settings = settings(max_examples=examples(40, 100), stateful_step_count=40)


def test_book_refuses_the_hand_beyond_its_numbers():
    """65,535 hands have a number, the next one has none."""
    book = LeaseBook()
    for lease in range(1, NUMBERS + 1):
        book.open(lease)
    assert book.full
    with pytest.raises(IndexError, match="65,535"):
        book.open(1)
    book.close(5 << 16)
    assert hand_number(book.open(1)) == 5
