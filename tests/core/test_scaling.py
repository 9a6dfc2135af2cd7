"""How many workers are needed: bounds, what it follows from, and that who heeds it does not flap."""

from __future__ import annotations

import itertools
import math
import random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples

from hotpath.core.scaling import Load, Need, Scale, Steady, check_group, check_scale, commands, need, reasons
from hotpath.errors import UsageError

IDLE = Load(
    waiting=0, held=0, work_seconds=0.0, service_seconds=0.1, arrivals=0.0, concurrency=1.0, occupied=0.0
)


def positive(most: float) -> st.SearchStrategy[float]:
    """Numbers above 0."""
    return st.floats(1e-6, most)


@st.composite
def scales(draw: st.DrawFn) -> Scale:
    """Any scale that is not refused."""
    low = draw(st.integers(0, 50))
    return Scale(
        min_workers=low, max_workers=draw(st.integers(max(low, 1), 300)),
        target_seconds=draw(st.floats(1, 1e4)), utilisation=draw(st.floats(0.05, 1)),
    )  # fmt: skip


@st.composite
def loads(draw: st.DrawFn) -> Load:
    """Anything that may be measured."""
    waiting = draw(st.integers(0, 10**6))
    service = draw(st.none() | positive(1e5))
    return Load(
        waiting=waiting, held=draw(st.integers(0, 10**4)), service_seconds=service,
        work_seconds=None if service is None else waiting * service,
        arrivals=draw(st.none() | st.floats(0, 1e6)),
        concurrency=draw(st.floats(1, 100)), occupied=draw(st.floats(0, 300)),
    )  # fmt: skip


@settings(max_examples=examples(300, 5_000))
@given(loads(), scales())
def test_it_is_bounded_and_says_why(load: Load, scale: Scale) -> None:
    """Between min and max; one at least where something waits; the reasons name the bound."""
    found = need(load, scale)
    assert scale.min_workers <= found.wanted <= scale.max_workers
    if load.waiting or load.held:
        assert found.wanted >= 1
    if found.bound is None:
        assert found.wanted == math.ceil(found.exact - 1e-9)
    words = reasons(load, scale, found)
    assert any("(max)" in word for word in words) is (found.bound == "max")
    assert f"{load.waiting:,} jobs wait" in words[0]


@settings(max_examples=examples(300, 5_000))
@given(loads(), scales(), st.integers(0, 10**6), st.integers(0, 10**4))
def test_it_never_falls_when_more_waits(load: Load, scale: Scale, waiting: int, held: int) -> None:
    """More that waits, more in hand: no fewer workers."""
    more = attrs.evolve(load, waiting=load.waiting + waiting, held=load.held + held)
    if load.service_seconds is not None:
        more = attrs.evolve(more, work_seconds=more.waiting * load.service_seconds)
    assert need(more, scale).wanted >= need(load, scale).wanted


@pytest.mark.parametrize(
    ("load", "scale", "wanted"),
    [
        ({}, {"min_workers": 0}, 0),
        ({}, {}, 1),
        ({"waiting": 1, "work_seconds": 0.1}, {"min_workers": 0}, 1),
        # Unknown length: one finds out.
        ({"waiting": 10**6, "work_seconds": None, "service_seconds": None}, {"min_workers": 0}, 1),
        # Little: 40 jobs/s of 100 ms are 4 workers, 5 at 80 %.
        ({"arrivals": 40.0}, {}, 5),
        ({"arrivals": 40.0, "concurrency": 5.0}, {}, 1),
        # 3,000 jobs of 100 ms are 300 s of work: 5 workers for a minute; and those for what arrives besides.
        ({"waiting": 3_000, "work_seconds": 300.0}, {}, 5),
        ({"waiting": 3_000, "work_seconds": 300.0, "arrivals": 40.0}, {"max_workers": 20}, 10),
        ({"waiting": 3_000, "work_seconds": 300.0, "arrivals": 40.0}, {"max_workers": 7}, 7),
        # A job cannot be shared among workers.
        ({"waiting": 2, "work_seconds": 7200.0, "service_seconds": 3600.0}, {}, 2),
        # Six run for an hour, two wait: none of the six is free within a minute.
        (
            {"waiting": 2, "held": 6, "work_seconds": 7200.0, "service_seconds": 3600.0, "occupied": 6.0},
            {},
            8,
        ),
        # Nobody is stopped in the midst of his work.
        ({"held": 6, "occupied": 6.0}, {}, 6),
        ({"held": 6, "service_seconds": None, "work_seconds": None, "occupied": 6.0}, {}, 6),
    ],
)
def test_examples(load: dict[str, float], scale: dict[str, float], wanted: int) -> None:
    """Cases whose answer can be told without the formula."""
    assert need(attrs.evolve(IDLE, **load), attrs.evolve(Scale(), **scale)).wanted == wanted  # type: ignore[arg-type]


@attrs.define
class Queue:
    """A queue over time, its workers kept by `Steady`: a look each 5 s, arrivals of two minutes."""

    scale: Scale
    service: float
    seed: int
    waiting: float = 0.0
    steady: Steady = attrs.field(default=Steady(1))
    history: list[int] = attrs.field(factory=list)
    _arrived: list[float] = attrs.field(factory=list)
    _occupied: list[float] = attrs.field(factory=list)

    def run(self, rate: float, seconds: int, noise: float = 0.3, burst: int = 0) -> None:
        """So many seconds of arrivals, each second's with noise."""
        chance = random.Random(self.seed + len(self.history))
        self.waiting += burst
        for _ in range(seconds):
            came = max(0.0, rate * (1 + chance.uniform(-noise, noise)))
            workers = self.steady.workers
            done = min(self.waiting + came, workers / self.service)
            self.waiting += came - done
            self._arrived.append(came)
            self._occupied.append(done * self.service)
            if len(self._arrived) % 5 == 0:
                load = Load(
                    waiting=int(self.waiting), held=0, work_seconds=int(self.waiting) * self.service,
                    service_seconds=self.service, concurrency=1.0,
                    arrivals=sum(self._arrived[-120:]) / min(len(self._arrived), 120),
                    occupied=min(workers, sum(self._occupied[-15:]) / 15),
                )  # fmt: skip
                found = need(load, self.scale)
                self.steady = self.steady.after(float(len(self._arrived)), found, self.scale)
            self.history.append(self.steady.workers)


@settings(max_examples=examples(25, 300), deadline=None)
@given(st.floats(0.5, 12.0), st.floats(0.001, 2.0), st.integers(0, 10**6))
def test_a_steady_rate_is_met_without_flapping(erlangs: float, service: float, seed: int) -> None:
    """Within minutes the queue is as short as wanted, and after that the number of workers stays."""
    queue = Queue(Scale(min_workers=0, max_workers=40, cooldown_seconds=120), service, seed)
    queue.run(erlangs / service, 900)
    settled = queue.history[-1]
    queue.run(erlangs / service, 1800)
    late = queue.history[900:]
    assert erlangs <= min(late)
    assert max(late) <= erlangs / 0.8 * 1.1 + 2
    changes = sum(a != b for a, b in itertools.pairwise(late))
    assert changes <= 4, (settled, late)
    assert queue.waiting * service <= erlangs * 10


@settings(max_examples=examples(25, 300), deadline=None)
@given(st.integers(1_000, 100_000), st.floats(0.01, 0.2), st.integers(0, 10**6))
def test_a_burst_is_drained_and_forgotten(burst: int, service: float, seed: int) -> None:
    """A burst has workers at once, is gone in time, and then there are none again."""
    scale = Scale(min_workers=0, max_workers=400, target_seconds=60, cooldown_seconds=60)
    queue = Queue(scale, service, seed)
    queue.run(0, 5)
    queue.run(0, 10, burst=burst)
    assert queue.history[-1] >= min(400, burst * service / 60 * 0.8)
    queue.run(0, 240)
    assert queue.waiting == 0
    queue.run(0, 400)
    assert queue.history[-1] == 0
    steps = [b - a for a, b in itertools.pairwise(queue.history) if a != b]
    assert sum(a * b < 0 for a, b in itertools.pairwise(steps)) <= 1


def test_fewer_only_after_the_cool_down() -> None:
    """Up at once, down to what was enough for all of the cool-down; bounds at once."""
    scale = Scale(min_workers=0, max_workers=10, cooldown_seconds=60)

    def wants(exact: float) -> Need:
        return need(attrs.evolve(IDLE, occupied=exact), scale)

    steady = Steady(1).after(0, wants(8), scale)
    assert steady.workers == 8
    for at in (10, 30, 59):
        steady = steady.after(at, wants(2), scale)
        assert steady.workers == 8
    steady = steady.after(65, wants(4), scale)
    assert steady.workers == 8  # the look at 0 is the last before the window, and wanted 8
    steady = steady.after(75, wants(2), scale)
    assert steady.workers == 5  # 4, and the slack
    steady = steady.after(130, wants(4.6), scale)
    assert steady.workers == 5
    assert steady.after(131, wants(0), attrs.evolve(scale, max_workers=2)).workers <= 2
    assert Steady(0).after(0, wants(0), attrs.evolve(scale, min_workers=3)).workers == 3


def test_nothing_for_long_is_none() -> None:
    """With a minimum of 0, no workers after the cool-down, and one as soon as something waits."""
    scale = Scale(min_workers=0, cooldown_seconds=30)
    steady = Steady(2).after(0, need(IDLE, scale), scale)
    assert steady.workers == 2
    steady = steady.after(31, need(IDLE, scale), scale)
    assert steady.workers == 0
    assert steady.after(32, need(attrs.evolve(IDLE, waiting=1, work_seconds=0.1), scale), scale).workers == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"min_workers": -1}, "--min"),
        ({"max_workers": 0}, "--max"),
        ({"min_workers": 11}, "--min 11 is more than --max 10"),
        ({"target_seconds": 0.0}, "--target"),
        ({"target_seconds": math.nan}, "--target"),
        ({"cooldown_seconds": -1.0}, "--cooldown"),
        ({"utilisation": 1.5}, "--utilisation"),
        ({"utilisation": 0.0}, "--utilisation"),
        ({"processes": 0}, "--processes"),
        ({"tags": ()}, "--tags"),
        ({"tags": ("!!",)}, "--tags"),
    ],
)
def test_a_bad_scale_is_refused(change: dict[str, object], named: str) -> None:
    """By the name of the option."""
    with pytest.raises(UsageError) as raised:
        check_scale(attrs.evolve(Scale(), **change))  # type: ignore[arg-type]
    assert str(raised.value).startswith(named)


@pytest.mark.parametrize("name", ["", " a", "a\n", "a b", "x" * 101])
def test_a_bad_group_is_refused(name: str) -> None:
    """Its name is one that `hotpath group set` takes."""
    with pytest.raises(UsageError, match="GROUP"):
        check_group(name)


def test_commands() -> None:
    """Rounded up: half a pod is a pod."""
    scale = Scale(min_workers=0, max_workers=8, processes=4)
    assert [commands(n, scale) for n in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
    assert commands(3, Scale()) == 3


@given(scales(), st.integers(1, 20), st.data())
@settings(max_examples=examples(300, 5_000))
def test_commands_stay_within_the_bounds(scale: Scale, each: int, data: st.DataObject) -> None:
    """Their workers are as many as are wanted, as far as the maximum allows; the minimum, and one that has to
    be there, go before it.
    """
    scale = attrs.evolve(scale, processes=each)
    wanted = data.draw(st.integers(scale.min_workers, scale.max_workers))
    count = commands(wanted, scale)
    assert count * each <= max(scale.max_workers, scale.min_workers + each - 1, each)
    assert count * each >= min(wanted, scale.max_workers - each + 1)
    assert count * each >= scale.min_workers
    assert (count == 0) == (wanted == 0)
