"""`hotpath history`: what queues were like."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from hotpath.cli.options import Given, Since, common

if TYPE_CHECKING:
    from hotpath.store.history import History

STEPS = {
    "1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "3h": 10800, "6h": 21600, "12h": 43200,
    "1d": 86400,
}  # fmt: skip
BARS = 40
"""Characters of a sparkline."""
ROWS = 30
"""Steps that one tag is shown in, about."""


@click.command("history")
@click.option("--tag", "-t", metavar="T", help="This tag step by step; or tags by pattern, commas between.")
@click.option(
    "--since", type=Since(), default="6h", metavar="TIME", help="From when on: 6h ago, or a time. [6h]"
)
@click.option("--until", type=Since(), metavar="TIME", help="Until when. [now]")
@click.option("--step", type=click.Choice(list(STEPS)), help="Length of a step. [what suits]")
@click.option("--limit", type=click.IntRange(1, 200), default=20, metavar="N", help="Tags. [20]")
@common
def command(
    given: Given,
    *,
    tag: str | None,
    since: datetime,
    until: datetime | None,
    step: str | None,
    limit: int,
) -> int:
    """Show what queues were like: jobs that waited and ran, how long the oldest had waited, how jobs ended.

    A line for each tag, the fullest first; with the name of one tag, a line for each step. It is kept for 14
    days, to the minute as far as there is room. WAITING, RUNNING and OLDEST are the greatest of the time.
    """
    return given.run(_show, given, tag, since, until, step, limit)


async def _show(
    given: Given, tag: str | None, since: datetime, until: datetime | None, step: str | None, limit: int
) -> int:
    from hotpath.cli.output import print_json
    from hotpath.client import open_client
    from hotpath.core.series import choose_step
    from hotpath.core.tags import parse_patterns
    from hotpath.documents import history_document, utc

    patterns = None if tag is None else parse_patterns(tag.split(","), "--tag")
    is_one = patterns is not None and patterns.names is not None and len(patterns.names) == 1
    seconds: float | None = None if step is None else STEPS[step]
    if seconds is None and is_one and not given.json:
        end = until or datetime.now(since.tzinfo)
        seconds = 60.0 * choose_step(end - since, ROWS)
    async with open_client(config=given.config) as client:
        found = await client.history(
            tags=None if patterns is None else patterns.texts,
            since=utc(since), until=utc(until), step=seconds, limit=limit,
        )  # fmt: skip
    if given.json:
        print_json(history_document(found))
        return 0
    if patterns is not None and not found.tags:
        click.echo(f"hotpath: note: no tag that matches {tag} had jobs in that time", err=True)
    if is_one:
        _show_steps(found)
    else:
        _show_tags(found)
    return 0


def _show_tags(history: History) -> None:
    from hotpath.cli.output import print_table
    from hotpath.core.series import sparkline
    from hotpath.words import clock, span

    has_bars = _has_bars()
    print(f"{clock(history.since)} to {clock(history.until)}, in steps of {_step(history)}")
    print()
    heads = ("TAG", "WAITING", "RUNNING", "OLDEST", "ENDED", "FAILED")
    rows = [
        (
            "(all)" if each.tag is None else each.tag,
            _most(each.waiting),
            _most(each.running),
            span(max((age for age in each.oldest_ms if age is not None), default=None)),
            f"{sum(each.ended):,}",
            f"{sum(each.failure):,}",
            *((sparkline(each.waiting, BARS), sparkline(each.ended, BARS)) if has_bars else ()),
        )
        for each in (history.all, *history.tags)
    ]
    print_table((*heads, *(("WAITED", "THROUGHPUT") if has_bars else ())), rows, right=(1, 2, 3, 4, 5))


def _show_steps(history: History) -> None:
    from hotpath.cli.output import print_table
    from hotpath.core.series import sparkline
    from hotpath.words import clock, span

    series = history.all
    if _has_bars():
        print(f"waited  {sparkline(series.waiting, BARS)}  up to {_most(series.waiting)}")
        print(f"ended   {sparkline(series.ended, BARS)}  {sum(series.ended):,} in all")
        print()
    print_table(
        ("FROM", "WAITING", "RUNNING", "OLDEST", "ENDED", "JOBS/S", "FAILED", "RETRIED", "INSIDE MAIN"),
        [
            (
                clock(step).removesuffix(":00.000Z") + "Z",
                "-" if series.waiting[k] is None else f"{series.waiting[k]:,}",
                "-" if series.running[k] is None else f"{series.running[k]:,}",
                span(series.oldest_ms[k]),
                f"{series.ended[k]:,}",
                f"{series.ended[k] / _length(history, k):,.1f}",
                f"{series.failure[k]:,}",
                f"{series.retried[k]:,}",
                span(series.busy_ms[k]),
            )
            for k, step in enumerate(history.steps)
        ],
        right=tuple(range(1, 9)),
    )


def _length(history: History, k: int) -> float:
    """Seconds of a step; the last one may be under way."""
    return max(min(history.step_seconds, (history.until - history.steps[k]).total_seconds()), 1.0)


def _step(history: History) -> str:
    return next(name for name, seconds in STEPS.items() if seconds == history.step_seconds)


def _most(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{max(known):,}" if known else "-"


def _has_bars() -> bool:
    """Whether somebody sees it who can."""
    return sys.stdout.isatty() and (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
