"""How many workers a group needs, and how to get there without flapping.

What is asked of the workers is three numbers, each in workers: what *arrives* (Little's law: jobs a second
times seconds a job, at the utilisation that is aimed at), what *waits* (its work, done within the target),
and what they are *occupied* with now, since nobody is to be stopped in the midst of his work.
`hotpath.scale_need` in SQL says the same; a test holds the two together.

`Steady` is for whoever starts and stops workers: more at once, fewer only when fewer were enough for all of a
cool-down, and clearly so.
"""

from __future__ import annotations

import math

import attrs

from hotpath.core.group_document import MAX_NAME, check_name
from hotpath.core.tags import parse_patterns
from hotpath.errors import UsageError

MOST = 10_000
"""Workers of one group, at most."""
SLACK = 1.1
"""Fewer workers are enough only if they would be with so much more to do."""
ROUND = 1e-9
"""What a sum of fractions may be off by."""


@attrs.frozen(kw_only=True)
class Scale:
    """What is wanted of one group."""

    min_workers: int = 1
    """0: when nothing waits and nothing has come lately, none."""
    max_workers: int = 10
    target_seconds: float = 60.0
    """Within which what waits is to be done."""
    cooldown_seconds: float = 120.0
    """For so long fewer workers must have been enough before some are stopped."""
    utilisation: float = 0.8
    """Share of their time that workers are to be occupied by what arrives."""
    processes: int | None = None
    """Workers of one started command, or pod; None: as the group is configured, else one."""
    tags: tuple[str, ...] | None = None
    """Patterns of the tags that count; None: those of the group's configuration, or of its workers."""


@attrs.frozen(kw_only=True)
class Load:
    """What is asked of one group, as it was measured."""

    waiting: int
    """Jobs that are due and wait."""
    held: int
    """Jobs that workers hold."""
    work_seconds: float | None
    """How long one job at a time would take for those that wait; None: nobody knows."""
    service_seconds: float | None
    """How long a job takes; None: none has ended yet."""
    arrivals: float | None
    """Jobs a second that come in; None: there was no earlier look to compare with."""
    concurrency: float
    """Jobs at a time in one worker."""
    occupied: float
    """Workers' worth of time inside `main`, over 15 seconds, of those with something in hand."""


@attrs.frozen(kw_only=True)
class Need:
    """How many workers are needed, and what of."""

    wanted: int
    exact: float
    """Before it was rounded up and put between the bounds."""
    arriving: float
    """Workers for what arrives."""
    draining: float
    """Workers for what waits."""
    stuck: float
    """Workers that will not be free within the target."""
    bound: str | None
    """Why it is not the exact number: `min`, `max`, `one` (something waits or runs), or None."""


def need(load: Load, scale: Scale) -> Need:
    """The number of workers that a group with this load needs. Never falls when more waits."""
    service, target, concurrency = load.service_seconds, scale.target_seconds, load.concurrency
    arriving = draining = stuck = 0.0
    if service is not None and load.arrivals is not None:
        # Of a job that takes longer than the target what falls within it: the job itself is counted below.
        arriving = load.arrivals * min(service, target) / (concurrency * scale.utilisation)
    if load.work_seconds is not None:
        # A job cannot be shared: more workers than jobs are of no use.
        draining = min(load.work_seconds / (concurrency * target), load.waiting / concurrency)
    if service is not None and service > target:
        stuck = load.occupied * (1.0 - target / service)
    exact = max(arriving + draining, load.occupied, stuck + draining)
    rounded = min(math.ceil(exact - ROUND), MOST)
    floor = 1 if load.waiting + load.held > 0 else 0
    wanted = max(scale.min_workers, min(scale.max_workers, max(floor, rounded)))
    bound = None
    if wanted != rounded:
        bound = "max" if wanted < rounded else "min" if wanted == scale.min_workers else "one"
    return Need(
        wanted=wanted, exact=exact, arriving=arriving, draining=draining, stuck=stuck, bound=bound
    )  # fmt: skip


def reasons(load: Load, scale: Scale, needed: Need) -> list[str]:
    """Everything that went into it, in words."""
    found = []
    service = load.service_seconds
    took = "of unknown length (none has ended yet)" if service is None else f"of {_seconds(service)}"
    if load.work_seconds is None:
        found.append(f"{load.waiting:,} jobs wait, {took}")
    else:
        found.append(
            f"{load.waiting:,} jobs wait, {_seconds(load.work_seconds)} of work to be done in "
            f"{_seconds(scale.target_seconds)}, {load.concurrency:g} at a time: {needed.draining:.2f}"
        )
    if load.arrivals is None:
        found.append("how many arrive is not known yet")
    else:
        found.append(
            f"{load.arrivals:,.2f} jobs/s arrive, {took}, at {scale.utilisation:.0%}: {needed.arriving:.2f}"
        )
    found.append(f"{load.occupied:.2f} workers are occupied, {load.held:,} jobs in hand")
    if needed.stuck:
        found.append(f"{needed.stuck:.2f} of them beyond the target")
    match needed.bound:
        case "max":
            found.append(f"no more than {scale.max_workers} (max)")
        case "min":
            found.append(f"no fewer than {scale.min_workers} (min)")
        case "one":
            found.append("one at least, as something waits or runs")
    return found


@attrs.frozen
class Steady:
    """How many workers to keep, from one look to the next."""

    workers: int
    looks: tuple[tuple[float, int, float], ...] = ()
    """When, wanted and exact, of the looks within the cool-down, and the last before it."""

    def after(self, at: float, needed: Need, scale: Scale) -> Steady:
        """The same after a look at the time `at` (seconds): more at once; fewer when no look within the
        cool-down wanted more, with some slack.
        """
        looks = [*self.looks, (at, needed.wanted, needed.exact)]
        while len(looks) > 1 and looks[1][0] <= at - scale.cooldown_seconds:
            del looks[0]
        workers = max(scale.min_workers, min(scale.max_workers, self.workers))
        if needed.wanted > workers:
            workers = needed.wanted
        elif looks[0][0] <= at - scale.cooldown_seconds:
            exact = max(exact for _, _, exact in looks)
            enough = max(*(wanted for _, wanted, _ in looks), math.ceil(SLACK * exact - ROUND))
            workers = min(workers, enough)
        return Steady(workers, tuple(looks))


def check_scale(scale: Scale) -> Scale:
    """The same, if it can be. Raises `UsageError` that names the option."""
    if not 0 <= scale.min_workers <= MOST:
        raise UsageError(f"--min takes 0 to {MOST:,} workers, not {scale.min_workers}")
    if not 1 <= scale.max_workers <= MOST:
        raise UsageError(f"--max takes 1 to {MOST:,} workers, not {scale.max_workers}")
    if scale.min_workers > scale.max_workers:
        raise UsageError(
            f"--min {scale.min_workers} is more than --max {scale.max_workers}: lower --min or raise --max"
        )
    for name, value, least, most in (
        ("--target", scale.target_seconds, 1.0, 86_400.0),
        ("--cooldown", scale.cooldown_seconds, 0.0, 3_600.0),
        ("--utilisation", scale.utilisation, 0.05, 1.0),
        ("--processes", 1 if scale.processes is None else scale.processes, 1, 1_000),
    ):
        if not least <= value <= most:
            raise UsageError(f"{name} takes {least:g} to {most:g}, not {value:g}")
    if scale.tags is not None:
        parse_patterns(scale.tags)
    return scale


def check_group(name: str) -> str:
    """The same, if it can be the name of a group that is configured. Raises `UsageError`."""
    try:
        check_name(name)
    except UsageError:
        raise UsageError(
            f"GROUP takes a name of up to {MAX_NAME} letters, digits, dots and dashes, not {name[:40]!r}"
        ) from None
    return name


def commands(workers: int, scale: Scale) -> int:
    """Commands (or pods) that have so many workers: as few as will do, and none that goes beyond the maximum,
    save the first, and those that the minimum takes.
    """
    each = scale.processes or 1
    least = -(-scale.min_workers // each)
    return min(-(-workers // each), max(scale.max_workers // each, least, 1))


def _seconds(value: float) -> str:
    if 0 < value < 1e-3:
        return f"{value * 1e6:.3g} µs"
    return (
        f"{value * 1e3:.3g} ms" if 0 < value < 1 else f"{value:,.3g} s" if value < 1000 else f"{value:,.0f} s"
    )
