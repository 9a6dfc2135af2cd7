"""When a failed attempt runs again: never too often, never too late, and only for what it is meant for."""

from __future__ import annotations

import attrs
import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from hotpath.core.retry import TIMED_OUT, decide, delay_after, names_of
from hotpath.model import Retry

BACKOFFS = ("constant", "linear", "exponential")


@st.composite
def policies(draw, *, jittery: bool = True) -> Retry:
    """Any policy that a script may have."""
    delay = draw(st.floats(0, 1e9))
    return Retry(
        attempts=draw(st.integers(1, 32767)),
        delay=delay,
        backoff=draw(st.sampled_from(BACKOFFS)),
        factor=draw(st.floats(1, 1e6)),
        max_delay=draw(st.floats(delay, 1e10)),
        jitter=draw(st.floats(0, 1)) if jittery else 0.0,
    )


@hypothesis.given(policies(), st.integers(1, 40000), st.floats(0, 1, exclude_max=True))
def test_bounds(retry, attempt, chance):
    """A delay is never negative and never above `max_delay` and its jitter; there is none once the attempts
    are used up, and always one before.
    """
    delay = decide(retry, attempt, names_of(ValueError), chance)
    assert (delay is None) == (attempt >= retry.attempts)
    if delay is not None:
        assert 0 <= delay <= retry.max_delay * (1 + retry.jitter)


@hypothesis.given(policies(jittery=False), st.integers(1, 3000), st.floats(0, 1, exclude_max=True))
def test_monotone(retry, attempt, chance):
    """Without jitter no delay is shorter than the one before, the first is `delay` itself, and chance has no
    part in it.
    """
    assert delay_after(retry, attempt, chance) == delay_after(retry, attempt, 0.5)
    assert delay_after(retry, 1, chance) == retry.delay
    assert delay_after(retry, attempt, chance) <= delay_after(retry, attempt + 1, chance)


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        (Retry(5, delay=2, backoff="constant", jitter=0), [2, 2, 2, 2]),
        (Retry(5, delay=2, backoff="linear", jitter=0), [2, 4, 6, 8]),
        (Retry(5, delay=2, jitter=0), [2, 4, 8, 16]),
        (Retry(5, delay=2, factor=3, max_delay=10, jitter=0), [2, 6, 10, 10]),
        (Retry(5, delay=0, factor=1e300, jitter=0), [0, 0, 0, 0]),
    ],
)
def test_backoff(retry, delays):
    """The three ways to grow, by example."""
    assert [decide(retry, attempt, (), 0.5) for attempt in range(1, 6)] == [*delays, None]


def test_jitter():
    """Jitter goes both ways, by its share of the delay."""
    retry = Retry(3, delay=10, jitter=0.2)
    assert [delay_after(retry, 1, chance) for chance in (0, 0.5, 0.75)] == [8, 10, 11]


class Timeout(ConnectionError):
    """A class of somebody's own."""


@pytest.mark.parametrize(
    ("on", "raised", "again"),
    [
        ((), KeyError, True),
        (ConnectionError, ConnectionResetError, True),
        ((KeyError, ConnectionError), Timeout, True),
        (ConnectionError, OSError, False),
        (Timeout, Timeout, True),
        (Timeout, ConnectionError, False),
        (f"{__name__}.Timeout", Timeout, True),
        ("elsewhere.Timeout", Timeout, False),
        ("Timeout", Timeout, True),
        (["OSError"], Timeout, True),
        ("Exception", SystemExit, False),
        (BaseException, SystemExit, True),
    ],
)
def test_on(on, raised, again):
    """`on` takes classes and names, bare or with their module; subclasses are meant too."""
    assert (decide(Retry(2, on=on), 1, names_of(raised), 0.5) is not None) == again


def test_time_outs():
    """A time-out is tried again like any failure, or as a `TimeoutError` where the policy is choosy."""
    assert decide(Retry(2), 1, TIMED_OUT, 0.5) is not None
    assert decide(Retry(2, on=TimeoutError), 1, TIMED_OUT, 0.5) is not None
    assert decide(Retry(2, on=KeyError), 1, TIMED_OUT, 0.5) is None


def test_no_policy():
    """Without a policy nothing runs again."""
    assert decide(None, 1, names_of(ValueError), 0.5) is None


def test_stored():
    """A policy comes back from JSON as it was; classes are stored by name."""
    retry = Retry(3, on=(KeyError, "a.B"))
    assert retry.on == ("builtins.KeyError", "a.B")
    assert msgspec.json.decode(msgspec.json.encode(retry), type=Retry) == retry
    assert Retry(**attrs.asdict(retry)) == retry
