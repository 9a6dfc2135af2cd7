"""Stored runs as a picture: SVG, written by hand, so that nothing has to be installed to see it."""

from __future__ import annotations

from html import escape
from typing import Any

from bench.table import number

WIDTH, LEFT, RIGHT = 1000, 390, 150
BAR, GAP, TITLE, MEASURE_GAP = 14, 4, 34, 10
COLOURS = ("#2f6fb5", "#d98032", "#4f9d52", "#b5485d", "#7a62a8", "#8a6d3b")
_INK, _RED = "#222", "#c0392b"


def chart(runs: list[dict[str, Any]]) -> str:
    """An SVG with a panel for each scenario: a bar for a run's median, its spread, a mark at the target."""
    parts: list[str] = []
    y = 30
    scenarios = list(dict.fromkeys(name for run in runs for name in run["scenarios"]))
    for name in scenarios:
        parts.append(_text(10, y, name, size=16, weight="bold"))
        y += TITLE - 14
        measures = list(
            dict.fromkeys(row["measure"] for run in runs for row in run["scenarios"].get(name, []))
        )
        for measure in measures:
            rows = [(index, row) for index, run in enumerate(runs) for row in _rows(run, name, measure)]
            parts += _measure(y, measure, rows)
            y += len(rows) * (BAR + GAP) + MEASURE_GAP
        y += TITLE - 10
    for index, run in enumerate(runs):
        parts.append(_rect(10, y, 12, 12, COLOURS[index % len(COLOURS)]))
        parts.append(_text(28, y + 11, _label(run)))
        y += 20
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 10}" '
        f'viewBox="0 0 {WIDTH} {y + 10}" '
        'font-family="system-ui, sans-serif" role="img">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y + 10}" fill="#fff"/>', *parts, "</svg>", ""])


def _rows(run: dict[str, Any], name: str, measure: str) -> list[dict[str, Any]]:
    return [row for row in run["scenarios"].get(name, []) if row["measure"] == measure]


def _measure(y: int, measure: str, rows: list[tuple[int, dict[str, Any]]]) -> list[str]:
    """The bars of one measure, on a scale of its own."""
    targets = [row["target"]["value"] for _, row in rows if row["target"]]
    top = max([row["high"] for _, row in rows] + targets) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / top
    parts = [_text(LEFT - 10, y + 11, measure, anchor="end")]
    for place, (index, row) in enumerate(rows):
        at = y + place * (BAR + GAP)
        parts.append(_rect(LEFT, at, row["median"] * scale, BAR, COLOURS[index % len(COLOURS)]))
        low, high = LEFT + row["low"] * scale, LEFT + row["high"] * scale
        parts.append(_line(low, at + BAR / 2, high, at + BAR / 2, _INK))
        colour = _RED if row["reached"] is False else _INK
        parts.append(_text(WIDTH - RIGHT + 10, at + 11, number(row["median"], row["unit"]), colour=colour))
    if targets:
        x = LEFT + targets[-1] * scale
        parts.append(_line(x, y - 2, x, y + len(rows) * (BAR + GAP), _RED))
    return parts


def _label(run: dict[str, Any]) -> str:
    environment = run["environment"]
    return (
        f"{environment['date']}  commit {environment['commit'] or 'unknown'}, "
        f"Python {environment['python']}, "
        f"PostgreSQL {environment['postgresql']}, {environment['cores']} cores"
        f"{', quick' if environment['quick'] else ''} (line: spread; red mark: target)"
    )


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{colour}"/>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{colour}" stroke-width="1.5"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    weight: str = "normal",
    anchor: str = "start",
    colour: str = _INK,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
