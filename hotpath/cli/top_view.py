"""How `hotpath top` looks: one document as tables, and the tables on a terminal of some size."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs

from hotpath.words import span

if TYPE_CHECKING:
    from rich.console import ConsoleDimensions, RenderableType
    from rich.text import Text

STYLES = {"lost": "bold red", "STRANDED": "bold red", "stopped": "dim", "running": "green", "idle": "dim"}
_OCCUPANCY = "15s"
_LEAST = 16  # characters that the column which gives room keeps, if it needs them


@attrs.frozen
class View:
    """One table."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[int]
    """Columns that are aligned on the right."""
    grows: int
    """The column that takes the room that is left, and gives some where there is too little."""
    spare: Sequence[int]
    """Columns that are left out where there is too little, in this order."""


def headline(document: dict[str, Any]) -> str:
    """The time, and what can be said in a line."""
    workers = document["workers"]
    lost = sum(worker["state"] == "lost" for worker in workers)
    running = sum(tag["running"] for tag in document["tags"])
    waiting = sum(tag["waiting"] for tag in document["tags"])
    more = any(tag["more_waiting"] for tag in document["tags"])
    left = sum(tag.get("stranded") is not None for tag in document["tags"])
    parts = [
        f"{_when(document['now']):%H:%M:%S}Z",
        f"{document['jobs_per_second']:,.1f} jobs/s",
        f"{waiting:,}{'+' if more else ''} waiting",
        f"{running:,} running",
        f"{len(workers) - lost} workers" + (f", {lost} lost" if lost else ""),
        *([f"{left} {'tag is' if left == 1 else 'tags are'} STRANDED"] if left else []),
    ]
    return "  ".join(parts)


def tables(document: dict[str, Any]) -> list[View]:
    """Tags, workers, failures."""
    now = _when(document["now"])
    return [_tags(document["tags"]), _workers(document["workers"], now), _failures(document["failures"], now)]


def _tags(tags: Sequence[dict[str, Any]]) -> View:
    return View(
        "TAGS",
        ("TAG", "WAITING", "RUNNING", "OLDEST DUE", "JOBS/S", "WORKERS", ""),
        [
            (
                tag["tag"],
                f"{tag['waiting']:,}{'+' if tag['more_waiting'] else ''}",
                f"{tag['running']:,}",
                span(tag["oldest_due_age_ms"]),
                f"{tag['jobs_per_second']:,.1f}",
                str(tag["workers"]),
                "PAUSED" if tag.get("paused") else "STRANDED" if tag.get("stranded") else "",
            )
            for tag in tags
        ],
        right=(1, 2, 3, 4, 5),
        grows=0,
        spare=(5, 3),
    )


def _workers(workers: Sequence[dict[str, Any]], now: datetime) -> View:
    return View(
        "WORKERS",
        ("WORKER", "SCRIPT", "STATE", "RUNNING", "BUSY", "JOBS", "UP", "PING"),
        [
            (
                worker["name"],
                worker["script"] or ", ".join(worker["tags"]) or "-",
                worker["state"],
                f"{worker['running']:,}",
                _busy(worker.get("occupancy")),
                f"{worker['jobs']:,}",
                span(_age(worker["started_at"], now)),
                span(_age(worker["last_ping"], now)),
            )
            for worker in workers
        ],
        right=(3, 4, 5, 6, 7),
        grows=1,
        spare=(6, 7, 5, 3),
    )


def _failures(failures: Sequence[dict[str, Any]], now: datetime) -> View:
    return View(
        "FAILED LATELY",
        ("AGO", "SCRIPT", "JOB", "ERROR"),
        [
            (
                span(_age(failure["finished_at"], now)),
                failure["script"],
                failure["id"],
                f"{failure['error']['name']}: {failure['error']['message']}",
            )
            for failure in failures
        ],
        right=(0,),
        grows=3,
        spare=(2,),
    )


def screen(
    document: dict[str, Any], size: ConsoleDimensions, *, source: str | None = None, trouble: str = ""
) -> RenderableType:
    """All of it, cut to a terminal of this size."""
    from rich.console import Group

    head = _text(f"hotpath top  {headline(document)}", "bold")
    foot = (
        _text(trouble, "bold red") if trouble else _text(f"q quits{f'  {source}' if source else ''}", "dim")
    )
    views = tables(document)
    room = size.height - 2
    parts: list[RenderableType] = [head]
    for view, rows in zip(views, _shares([len(view.rows) for view in views], room), strict=True):
        if rows is not None:
            parts += ["", _table(view, rows, size.width)]
            room -= min(rows, len(view.rows)) + 2
    parts += [""] * max(room, 0)
    return Group(*parts, foot)


def _shares(wanted: Sequence[int], room: int) -> list[int | None]:
    """How many rows each of the tables gets: small ones all of theirs, the others what is left; None: it is
    not shown. A table takes two lines besides.
    """
    shares: list[int | None] = [None] * len(wanted)
    left = room
    shown = [k for k, count in enumerate(wanted) if count]
    for done, k in enumerate(sorted(shown, key=lambda k: wanted[k])):
        fair = left // (len(shown) - done) - 2
        if fair < 1:
            continue
        shares[k] = min(wanted[k], fair)
        left -= min(wanted[k], fair) + 2
    return shares


def _table(view: View, rows: int, width: int) -> RenderableType:
    from rich.table import Table

    cut = len(view.rows) - rows
    shown = view.rows[: rows - 1] if cut > 0 else view.rows
    columns = _columns(view, shown, width)
    table = Table(box=None, width=width, padding=(0, 2, 0, 0), header_style="bold cyan")
    for k in columns:
        table.add_column(
            view.heads[k],
            justify="right" if k in view.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if k == view.grows else None,
        )
    for row in shown:
        table.add_row(*(_text(row[k], STYLES.get(row[k], "")) for k in columns))
    if cut > 0:
        table.add_row(_text(f"and {cut + 1:,} more", "dim"))
    return table


def _columns(view: View, rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """The columns that there is room for."""
    widths = [max(len(line[k]) for line in (view.heads, *rows)) + 2 for k in range(len(view.heads))]
    widths[view.grows] = min(widths[view.grows], _LEAST)
    columns = list(range(len(view.heads)))
    for k in view.spare:
        if sum(widths[k] for k in columns) > width:
            columns.remove(k)
    return columns


def _text(text: str, style: str = "") -> Text:
    """Text without markup and without anything that could take over the terminal."""
    from rich.text import Text

    plain = "".join(each if each.isprintable() else " " for each in text)
    return Text(plain, style=style, no_wrap=True, overflow="ellipsis")


def _busy(occupancy: dict[str, float] | None) -> str:
    share = (occupancy or {}).get(_OCCUPANCY)
    return "-" if share is None else f"{share:.0%}"


def _when(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _age(since: str | None, now: datetime) -> float | None:
    """Milliseconds since then."""
    return None if since is None else max((now - _when(since)).total_seconds() * 1000, 0.0)
