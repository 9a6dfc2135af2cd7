"""Keys of steps say where a step stands; ids made from them are the same each time and never shared."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.flow.keys import DEFAULT, around, child_key, iteration_key, iteration_of, step_of, step_uuid

RUN = UUID("01985c1e-7b3a-7def-8123-456789abcdef")
IDS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,5}", fullmatch=True)
NUMBERS = st.one_of(st.integers(0, 99_999), st.just(DEFAULT))
PLACES = st.lists(st.tuples(IDS, st.one_of(st.none(), NUMBERS)), max_size=5)


@pytest.mark.parametrize(
    ("key", "step", "iteration", "outside"),
    [
        ("a", "a", "", ""),
        ("l[3]/b", "b", "3", "l"),
        ("l[3]/m[1]/b", "b", "3.1", "l[3]/m"),
        ("br[default]/c", "c", "default", "br"),
        ("s/a", "a", "", "s"),
        ("l[0]/s/br[2]/failure", "failure", "0.2", "l[0]/s/br"),
        ("l[3]", "l", "3", ""),
        ("score#2", "score#2", "", ""),
    ],
)
def test_examples(key, step, iteration, outside):
    """The keys that the documentation shows are taken apart as it says."""
    assert (step_of(key), iteration_of(key), around(key)) == (step, iteration, outside)


@given(PLACES, IDS)
def test_round_trip(places, step):
    """What a key was put together from is what it is taken apart into."""
    key = ""
    for outer, number in places:
        key = child_key(key, outer)
        if number is not None:
            key = iteration_key(key, number)
    whole = child_key(key, step)
    assert step_of(whole) == step
    assert iteration_of(whole) == ".".join(str(number) for _, number in places if number is not None)
    assert around(whole) == (key.rpartition("[")[0] if key.endswith("]") else key)


@given(PLACES, PLACES, IDS, IDS)
def test_keys_differ(places, others, step, other):
    """Two steps that stand in different places have different keys."""

    def key_of(path, last):
        key = ""
        for outer, number in path:
            key = child_key(key, outer)
            key = key if number is None else iteration_key(key, number)
        return child_key(key, last)

    same = [*map(str, places), step] == [*map(str, others), other]
    assert (key_of(places, step) == key_of(others, other)) == same


@given(st.uuids(), st.text(st.characters(codec="utf-8"), max_size=40), st.integers(0, 32767))
def test_uuid_form(run, key, generation):
    """A step's id is a UUIDv7 with the run's time, and the same each time it is asked for."""
    made = step_uuid(run, key, generation)
    step = UUID(bytes=made)
    assert step.version == 7
    assert step.variant == UUID(int=0x80 << 56).variant
    assert made[:6] == run.bytes[:6]
    assert made == step_uuid(UUID(bytes=run.bytes), str(key), generation)


def test_uuid_differs():
    """Another run, another key or another generation is another id, and so is what only looks alike."""
    other = UUID(int=RUN.int + 1)
    asked = [
        (run, key, generation)
        for run in (RUN, other)
        for key in ("a", "b", "l[0]/a", "l[1]/a", "\0a", "\1", "")
        for generation in (0, 1, 256)
    ]
    assert len({step_uuid(*each) for each in asked}) == len(asked)


def test_uuid_stays():
    """Ids do not change from one release to the next: a run that is parked now is resumed by a later one."""
    assert UUID(bytes=step_uuid(RUN, "l[3]/b", 1)) == UUID("01985c1e-7b3a-7504-a3d7-ce09703264b3")
