"""What a scenario is, and what it finds."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from bench.context import Bench


class CheckFailed(Exception):
    """A job is missing, doubled or wrong: the run counts for nothing."""


@attrs.frozen
class Target:
    """The figure to reach, and from which side."""

    value: float
    at_least: bool = True

    def is_met(self, value: float) -> bool:
        """Whether `value` is on the right side."""
        return value >= self.value if self.at_least else value <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"


@attrs.frozen
class Finding:
    """One measure of one run: a sample for each round."""

    measure: str
    samples: list[float]
    unit: str
    """`jobs/s`, `us`, `ms`, `s`, `MB`, or `x` for a ratio."""
    target: Target | None = None
    binds: str = ""
    """The resource that limits it, by what figure; empty where that makes no sense."""

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest sample; of more than ten, the 10th and the 90th percentile."""
        if len(self.samples) > 10:
            return quantile(self.samples, 0.1), quantile(self.samples, 0.9)
        return min(self.samples), max(self.samples)

    @property
    def is_reached(self) -> bool | None:
        """Whether the median meets the target; None without one."""
        return None if self.target is None else self.target.is_met(self.median)


Run = Callable[["Bench"], Awaitable[list[Finding]]]


@attrs.frozen
class Scenario:
    """A named measurement."""

    name: str
    summary: str
    run: Run


SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str) -> Callable[[Run], Run]:
    """Register the function below as the scenario `name`; its docstring's first line is the summary."""

    def register(run: Run) -> Run:
        summary = (run.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        SCENARIOS[name] = Scenario(name, summary, run)
        return run

    return register


def quantile(samples: Sequence[float], share: float) -> float:
    """The value below which `share` of the samples lie (nearest rank)."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Pair by pair, so that a noisy minute that hit both cancels."""
    return [a / b for a, b in zip(over, under, strict=True)]
