"""The steps of a run as a tree for people: loops and branches as what is in them, long loops folded.

It is made from the steps' keys alone, so that it can be drawn of any run, whatever has become of its flow.
`flow`, where it is at hand, tells loops from branches; without it what has a number is called an iteration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from hotpath.core.flow.keys import DEFAULT
from hotpath.core.flow.model import BranchAll, BranchOne

if TYPE_CHECKING:
    from hotpath.core.flow.model import Flow

FOLDED = 8
"""Iterations that are shown one by one; of more, the first, the last, and those that matter."""
FIRST, LAST, NOTABLE = 2, 1, 5
"""How many of the first, of the last, and of those that failed and of those that have not ended."""
MAX_LINES = 400
WIDTH = 110

WAITING = "waiting"
_UNENDED = ("running", "queued", WAITING)
_STATES = (*_UNENDED, "failure", "canceled", "success", "")
"""What steps are in is in the first of these states that any of them is in."""


@attrs.frozen
class StepRow:
    """One step of a run."""

    key: str
    state: str
    """`queued`, `running`, `success`, `failure` or `canceled`."""
    started_us: int | None = None
    """Microseconds since the epoch; None: it has not begun."""
    duration_ms: float | None = None
    """Of its last attempt; None: it has not ended."""
    attempt: int = 1
    error: str = ""
    """Its error's name and message, if it failed."""


@attrs.frozen
class Line:
    """One line of the tree."""

    text: str
    state: str
    """Of what it shows, for whoever wants to colour it: that of a step, `waiting`, or `""`."""


@attrs.frozen
class Drawing:
    """The characters that a tree is drawn with."""

    fork: str
    last: str
    through: str
    space: str
    cut: str
    marks: Mapping[str, str]


BOXES = Drawing(
    "├─ ", "└─ ", "│  ", "   ", "…",
    {"success": "✓", "failure": "✗", "canceled": "⊘", "running": "▶", "queued": "○", WAITING: "◷"},
)  # fmt: skip
ASCII = Drawing(
    "|- ", "`- ", "|  ", "   ", "...",
    {"success": "+", "failure": "x", "canceled": "-", "running": ">", "queued": "o", WAITING: "~"},
)  # fmt: skip


class _Node:
    """A step, or what has steps in it."""

    __slots__ = ("begun", "ended", "inside", "kind", "name", "row", "state", "waits")

    def __init__(self, name: str) -> None:
        self.name = name
        self.row: StepRow | None = None
        self.waits = ""
        self.inside: dict[str, _Node] = {}
        """By segment: a step's id, or `[3]` of an iteration or a branch."""
        self.kind = ""
        self.state = ""
        self.begun: float | None = None
        self.ended: float | None = None
        """In microseconds."""

    @property
    def is_numbered(self) -> bool:
        """Whether it has iterations or branches."""
        return next(iter(self.inside), "").startswith("[")


def draw(
    rows: Iterable[StepRow],
    *,
    waits: Mapping[str, str] | None = None,
    flow: Flow | None = None,
    drawing: Drawing = BOXES,
    width: int = WIDTH,
    max_lines: int = MAX_LINES,
) -> list[Line]:
    """The tree, in the order of `rows`, which is that of their start; no line is longer than `width`.

    `waits` says for keys of steps what the run waits for there, such as `1 of 2 approvals`. At most
    `max_lines` lines, the last of which then says that there are more.
    """
    root = _grow(rows, waits or {}, _branches_of(flow) if flow is not None else frozenset())
    lines: list[Line] = []
    for text, state in _lines_of(root, "", drawing):
        if len(lines) == max_lines:
            lines[-1] = Line(f"{drawing.cut} there is more", "")
            break
        lines.append(Line(_clip(text, width, drawing.cut), state))
    return lines


# ------------------------------------------------------------------------------------------ what is there
def _branches_of(flow: Flow) -> frozenset[str]:
    return frozenset(module.id for module in flow.every() if isinstance(module.value, BranchOne | BranchAll))


def _grow(rows: Iterable[StepRow], waits: Mapping[str, str], branches: frozenset[str]) -> _Node:
    root = _Node("")
    for row in rows:
        _place(root, row.key, branches).row = row
    for key, text in waits.items():
        _place(root, key, branches).waits = text
    _sum_up(root)
    return root


def _place(root: _Node, key: str, branches: frozenset[str]) -> _Node:
    node = root
    for segment in key.split("/"):
        name, bracket, number = segment.partition("[")
        node = node.inside.setdefault(name, _Node(name))
        if bracket:
            inside = f"[{number}"
            if name in branches or number == f"{DEFAULT}]":
                node.kind = "branch"
            node = node.inside.setdefault(inside, _Node(inside))
    return node


def _sum_up(root: _Node) -> None:
    """Give each node its state and its times, from the inside out."""
    order = [root]
    for node in order:  # grows under way: without recursion, however deep
        order.extend(node.inside.values())
    for node in reversed(order):
        states = [each.state for each in node.inside.values()]
        begun = [each.begun for each in node.inside.values() if each.begun is not None]
        ended = [each.ended for each in node.inside.values()]
        row = node.row
        if row is not None:
            states.append(row.state)
            if row.started_us is not None:
                begun.append(row.started_us)
            is_over = row.started_us is not None and row.duration_ms is not None
            ended.append(row.started_us + row.duration_ms * 1000 if is_over else None)  # type: ignore[operator]
        if node.waits:
            states = [WAITING]
        node.state = min(states, key=_STATES.index, default="")
        node.begun = min(begun, default=None)
        known = [each for each in ended if each is not None]
        node.ended = max(known) if known and len(known) == len(ended) else None


# --------------------------------------------------------------------------------------------- as it is shown
def _lines_of(node: _Node, indent: str, drawing: Drawing) -> Iterator[tuple[str, str]]:
    entries = _entries(node)
    for at, (child, said) in enumerate(entries):
        is_last = at == len(entries) - 1
        head = indent + (drawing.last if is_last else drawing.fork)
        if child is None:
            yield f"{head}{drawing.cut} {said}", ""
            continue
        name, child = _shortened(child)
        yield f"{head}{drawing.marks.get(child.state, ' ')} {_label(name, child)}", child.state
        yield from _lines_of(child, indent + (drawing.space if is_last else drawing.through), drawing)


def _entries(node: _Node) -> list[tuple[_Node | None, str]]:
    """What is shown of what is in a node: a child, or, in place of many, what they are."""
    if not node.is_numbered:
        return [(child, "") for child in node.inside.values()]
    children = sorted(node.inside.values(), key=_number_of)
    if len(children) <= FOLDED:
        return [(child, "") for child in children]
    shown = {*range(FIRST), *range(len(children) - LAST, len(children))}
    for states in (("failure", "canceled"), _UNENDED):
        shown.update([at for at, child in enumerate(children) if child.state in states][:NOTABLE])
    entries: list[tuple[_Node | None, str]] = []
    left_out: list[_Node] = []
    for at, child in enumerate(children):
        if at in shown:
            if left_out:
                entries.append((None, _counted(left_out, f"{len(left_out):,} more")))
                left_out = []
            entries.append((child, ""))
        else:
            left_out.append(child)
    if left_out:
        entries.append((None, _counted(left_out, f"{len(left_out):,} more")))
    return entries


def _shortened(node: _Node) -> tuple[str, _Node]:
    """An iteration of one step is shown as that step: `[3] b`."""
    name = node.name
    if name.startswith("[") and len(node.inside) == 1 and node.row is None and not node.waits:
        node = next(iter(node.inside.values()))
        name = f"{name} {node.name}"
    return name, node


def _label(name: str, node: _Node) -> str:
    parts = [_clean(name)]
    if node.is_numbered:
        children = list(node.inside.values())
        one, many = ("branch", "branches") if node.kind else ("iteration", "iterations")
        parts[0] += ": " + _counted(children, f"{len(children):,} {one if len(children) == 1 else many}")
    elif node.state and node.state != "success" and not node.waits and not node.inside:
        parts.append(node.state)
    if node.begun is not None and node.ended is not None:
        parts.append(_span((node.ended - node.begun) / 1000))
    if node.row is not None and node.row.attempt > 1:
        parts.append(f"attempt {node.row.attempt}")
    if node.waits:
        parts.append(f"waits: {_clean(node.waits)}")
    if node.row is not None and node.row.error:
        parts.append(_clean(node.row.error))
    return "  ".join(parts)


def _counted(nodes: list[_Node], said: str) -> str:
    """`said`, and how many of the nodes are not simply done."""
    words = {"failure": "failed", "canceled": "canceled", "running": "running", "queued": "queued"}
    words[WAITING] = "waiting"
    counts = {word: sum(node.state == state for node in nodes) for state, word in words.items()}
    return ", ".join([said, *(f"{count:,} {word}" for word, count in counts.items() if count)])


def _number_of(node: _Node) -> tuple[bool, int, str]:
    """Numbers in their order, then all else."""
    inside = node.name[1:-1]
    is_number = inside.isascii() and inside.isdigit()
    return not is_number, int(inside[:18]) if is_number else 0, inside


def _span(milliseconds: float) -> str:
    """A duration, as it is shown everywhere."""
    if milliseconds < 1000:
        return f"{milliseconds:.3g} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _clean(text: str) -> str:
    """On one line, and without what a terminal would obey: messages are written by anybody."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _clip(text: str, width: int, cut: str) -> str:
    return text if len(text) <= width else text[: max(0, width - len(cut))] + cut
