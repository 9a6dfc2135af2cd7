"""Rules of retention, whatever is said and whenever one looks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.retention import (
    FIELDS,
    FOREVER,
    MOST,
    due_of,
    effective,
    end_of,
    format_span,
    logs_due_of,
    longest,
    parse_span,
)
from hotpath.model import Retention

DAY = date(2026, 3, 29)
SPANS = st.one_of(st.none(), st.just(FOREVER), st.integers(0, 40 * 86400).map(float))
SAID = st.one_of(st.none(), st.builds(Retention, **dict.fromkeys(FIELDS, SPANS)))
NOW = st.integers(-86400, 60 * 86400).map(lambda seconds: end_of(DAY) + timedelta(seconds=seconds))


@given(st.integers(0, MOST))
def test_a_span_is_read_as_it_was_written(seconds):
    """Whatever unit it is written in."""
    assert parse_span(format_span(seconds)) == seconds


@given(SAID, SAID, SAID)
def test_the_first_that_says_something_counts(one, other, last):
    """Field by field; nothing outlives the job; what nobody says anything of is kept for ever."""
    keep = effective(one, other, last)
    for field in FIELDS:
        said = [getattr(each, field) for each in (one, other, last) if each is not None]
        first = next((span for span in said if span is not None), FOREVER)
        assert getattr(keep, field) == min(first, keep.jobs)


@given(st.dictionaries(st.integers(1, 9), st.tuples(SAID, st.integers(-90, 1)), max_size=9), NOW)
def test_what_is_due_is_over_and_nothing_else(scripts, now):
    """Script by script and by the plain arithmetic; of scripts that there were, and never of a day that is
    not over; what was due once stays so; the longest of all is reached by none before its time.
    """
    keeps = {script: effective(said) for script, (said, _) in scripts.items()}
    born = {
        script: datetime(2026, 3, 29, 12, tzinfo=UTC) + timedelta(days=ago)
        for script, (_, ago) in scripts.items()
    }
    due, logs = due_of(DAY, now, keeps, born), logs_due_of(DAY, now, keeps, born)
    age = (now - end_of(DAY)).total_seconds()
    for script, keep in keeps.items():
        was_there = born[script] < end_of(DAY)
        goes = was_there and age >= keep.jobs
        assert (script in due.jobs) == goes
        assert (script in due.results) == (was_there and not goes and age >= keep.results)
        assert (script in due.args) == (was_there and not goes and age >= keep.args)
        assert (script in logs.jobs) == (was_there and age >= keep.logs)
    if age < 0:
        assert not due
        assert not logs
    assert due.is_within(due_of(DAY, now + timedelta(days=3), keeps, born))
    most = longest(keeps, effective(None))
    assert all(getattr(keep, field) <= getattr(most, field) for keep in keeps.values() for field in FIELDS)
