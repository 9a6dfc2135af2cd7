"""What is noted of jobs in hand: each note comes out once, in order, as columns of a bounded write; and how
notes and parks fit with the outcomes of a hand.
"""

from __future__ import annotations

import threading
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.hand import Hand, SealedIds
from hotpath.core.notebook import Notebook
from hotpath.core.notes import Cached, Dispatch, Early, Mark, Parking, StepNote, columns

BASE = UUID("01920000-0000-7000-8000-000000000000")


def hand_of(size: int, notebook: Notebook | None = None, *, lease: int = 7, places=None) -> Hand:
    """A lease whose jobs note to this notebook."""
    count = size if places is None else len(places)
    hand = Hand(
        lease,
        BASE,
        3,
        3 + size,
        ids=SealedIds(BASE, [3 + place for place in (range(size) if places is None else places)]),
        args=b"[]",
        attempts=[1] * count,
        tag="t",
        places=places,
    )
    if notebook is not None:
        hand.desk = notebook
    return hand


def step(key: str, *, size: int = 2, log: str | None = None, state: int = 1) -> StepNote:
    """A step that has ended; its outcome has `size` bytes."""
    return StepNote(key, key.encode().ljust(16), 5, 1000, 7, state, 1, b"", b"x" * size, log)


def outcome(index: int):
    """A job that has ended in success."""
    return (index, 1, 1000, 5, b"1", None)


def drain(notebook: Notebook, **limits):
    """All that waits, write by write."""
    writes = []
    while (notes := notebook.take(**limits)) is not None:
        writes.append(notes)
    return writes


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 2, 30, 200]), st.sampled_from([None, "log"]))),
    st.sampled_from([1, 50, 500]),
    st.integers(1, 7),
    st.sets(st.integers(0, 20)),
)
def test_each_note_is_written_once_in_order_and_within_bounds(said, most, many, cuts):
    """Any limits, any order of adding and taking: the writes together say each note once, in order; a write
    is over its bound only for a single note.
    """
    notebook = Notebook()
    hands = [hand_of(4, notebook, lease=lease) for lease in (7, 8)]
    expected, writes = [], []
    for number, (index, size, text) in enumerate(said):
        note = step(f"s{number}", size=size, log=text)
        hands[number % 2].note(index, note)
        expected.append((hands[number % 2], index, note))
        if number in cuts:
            writes += drain(notebook, max_bytes=most, max_notes=many)
    writes += drain(notebook, max_bytes=most, max_notes=many)
    found = []
    for notes in writes:
        assert len(notes.entries) <= many
        assert notes.size <= most or len(notes.entries) == 1
        assert notes.size == sum(len(one) for one in notes.outcomes) + sum(
            len(one or "") for one in notes.logs
        )
        for at, number in enumerate(notes.step_of):
            hand, index = notes.touched[number - 1]
            assert notes.leases[number - 1] == hand.lease
            assert notes.places[number - 1] == hand.place(index)
            assert notes.runs[number - 1] == hand.ids[index]
            found.append((hand, index, (notes.keys[at], notes.outcomes[at], notes.logs[at])))
    assert found == [(hand, index, (note.key, note.outcome, note.log)) for hand, index, note in expected]
    assert not notebook.waiting


def test_columns_of_each_kind():
    """Notes of all kinds become columns side by side; of a mark the last counts, of an early result the
    first.
    """
    hand = hand_of(4, places=[1, 3])
    notes = columns(
        (hand, index, note, None)
        for index, note in [
            (1, step("a", log="said")),
            (0, Mark("m", b"1")),
            (1, Mark("m", b"2")),
            (0, Mark("m", None)),
            (1, Dispatch("d", b"i" * 16, "f/x", None, 3, 900, b'{"y":1}')),
            (1, Early(b"7")),
            (1, Early(b"8")),
            (0, Cached(b"k", 1.5, b"9")),
            (0, Cached(b"k", 2.5, b"10")),
        ]
    )
    assert notes.touched == [(hand, 1), (hand, 0)]
    assert notes.places == [3, 1]
    assert (list(notes.step_of), list(notes.keys), list(notes.scripts), list(notes.logs)) == (
        [1],
        ["a"],
        [5],
        ["said"],
    )
    assert list(zip(notes.mark_of, notes.mark_keys, notes.mark_values, strict=True)) == [
        (2, "m", b"null"),
        (1, "m", b"2"),
    ]
    assert (list(notes.child_of), list(notes.child_ids), list(notes.child_tags)) == ([1], [b"i" * 16], [None])
    assert (list(notes.child_priorities), list(notes.child_timeouts)) == ([3], [900])
    assert (list(notes.child_scripts), list(notes.child_args)) == (["f/x"], [b'{"y":1}'])
    assert (list(notes.early_of), list(notes.early_values)) == ([1], [b"7"])
    assert list(zip(notes.cache_keys, notes.cache_ttls, notes.cache_values, strict=True)) == [
        (b"k", 2.5, b"10")
    ]
    assert not notes.again


def test_step_that_is_noted_twice_is_written_once():
    """One write has each run of a step once, and one end of it, the last; failed runs before it stay."""
    hands = hand_of(2), hand_of(2, lease=8)
    said = [
        (hands[0], 0, step("a", state=4, log="first")),
        (hands[0], 0, step("a", state=2)._replace(attempt=2)),
        (hands[0], 0, step("a", size=5)._replace(attempt=2)),
        (hands[0], 0, step("a", size=6)._replace(attempt=3)),
        (hands[1], 0, step("b")),
    ]
    notes = columns((*entry, None) for entry in said)
    assert list(zip(notes.step_of, notes.keys, notes.states, notes.attempts, strict=True)) == [
        (1, "a", 4, 1),
        (1, "a", 1, 3),
        (2, "b", 1, 1),
    ]
    assert list(notes.logs) == ["first", None, None]


def test_what_was_put_back_comes_first_and_as_it_was():
    """Writes that may have happened come again before anything newer, in their order, and say so."""
    notebook = Notebook()
    hand = hand_of(4, notebook)
    for index in range(4):
        hand.note(index, step(f"s{index}"))
    first, second = notebook.take(max_notes=1), notebook.take(max_notes=2)
    notebook.put_back([first, second])
    writes = drain(notebook)
    assert [list(notes.keys) for notes in writes] == [["s0"], ["s1", "s2"], ["s3"]]
    assert [notes.again for notes in writes] == [True, True, False]


def test_notes_of_what_is_over_are_dropped_and_counted():
    """A lease that is gone, and a job of which something was refused, have nothing more to say."""
    notebook = Notebook()
    gone, spoiled, well = (hand_of(2, notebook, lease=lease) for lease in (7, 8, 9))
    for hand in (gone, spoiled, well):
        for index in range(2):
            hand.note(index, step(f"{hand.lease}/{index}"))
    gone.gone = True
    spoiled.spoil(1, (1, 2, 0, 0, b"{}", None))
    (notes,) = drain(notebook)
    assert list(notes.keys) == ["8/0", "9/0", "9/1"]
    assert notebook.dropped == 3


def test_only_what_must_not_wait_is_urgent():
    """A note with somebody to tell wakes the loop at once; once it is taken nothing is urgent any more."""
    urged = []
    notebook = Notebook(lambda: 42.0, lambda: urged.append(1))
    hand = hand_of(2, notebook)
    assert not notebook.used
    hand.note(0, Mark("a", b"1"))
    assert (notebook.urgent, urged, notebook.since, notebook.used) == (False, [], 42.0, True)
    hand.note(0, Mark("b", b"1"), lambda: None)
    assert (notebook.urgent, urged) == (True, [1])
    notebook.take()
    assert not notebook.urgent


def test_threads_lose_no_note():
    """Notes that several threads add while another takes them come out once each."""
    notebook = Notebook()
    hand = hand_of(4, notebook)

    def add(index: int) -> None:
        for number in range(2000):
            hand.note(index, Mark(f"{index}/{number}", b"1"))

    threads = [threading.Thread(target=add, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    found = []
    while any(thread.is_alive() for thread in threads) or notebook.waiting:
        notes = notebook.take(max_notes=100)
        found += notes.mark_keys if notes is not None else []
    assert sorted(found) == sorted(f"{index}/{number}" for index in range(4) for number in range(2000))
    assert [key for key in found if key.startswith("2/")] == [f"2/{number}" for number in range(2000)]


def test_parked_jobs_are_neither_pending_nor_unreported():
    """Between its parking and the database's word a job belongs to nobody: it is not given back as one that
    has not begun, and the hand is over when the others are.
    """
    notebook = Notebook()
    hand = hand_of(3, notebook)
    hand.report(outcome(0))
    hand.park(1, Parking(until_us=5), "so far")
    assert hand.pending() == [2]
    assert hand.unreported == 1
    hand.report(outcome(2))
    assert hand.unreported == 0
    flush = hand.take()
    assert (flush.final, flush.jobs, hand.left) == (False, 2, 1)
    assert notebook.take_parks() == [hand]
    assert hand.unpark() == {1: (Parking(until_us=5), "so far")}
    hand.release([1])
    assert (hand.left, hand.unpark(), hand.pending()) == (0, {}, [])
    hand.report(outcome(1))
    hand.over = True
    last = hand.take()
    assert (last.final, last.jobs) == (True, 0)


def test_outcome_before_a_park_counts():
    """A job that has an outcome is not parked any more."""
    hand = hand_of(2, Notebook())
    hand.report(outcome(0))
    hand.park(0, Parking(until_us=None))
    hand.take()
    assert hand.unpark() == {}


def test_spoiled_job_ends_in_its_error_whatever_is_reported():
    """Of a job whose notes were refused the error counts: over an outcome that was reported before, and over
    one that is reported later.
    """
    hand = hand_of(3)
    hand.report(outcome(0))
    error = b'{"kind":"bad_result"}'
    hand.spoil(0, (0, 2, 0, 0, error, None))
    hand.spoil(1, (1, 2, 0, 0, error, None))
    hand.report(outcome(1))
    hand.report(outcome(2))
    flush = hand.take()
    assert (list(flush.states), list(flush.payloads)) == ([2, 2, 1], [error, error, b"1"])
    assert (flush.final, flush.failed) == (True, 2)


def test_flush_with_failures_in_place_of_outcomes():
    """An outcome that was collected is replaced by the error of its job's notes; others stay as they are."""
    hand = hand_of(3)
    for index in (0, 1):
        hand.report(outcome(index))
    hand.retry((2, 2, 0, 0, b"{}", None), 5.0)
    flush = hand.take()
    spoiled = flush.instead({1: b"E", 2: b"F"})
    assert (list(spoiled.states), list(spoiled.payloads)) == ([1, 2, 2], [b"1", b"E", b"F"])
    assert (spoiled.failed, spoiled.retries, spoiled.jobs, spoiled.final) == (2, [], 3, True)
    assert flush.instead({}) is flush
