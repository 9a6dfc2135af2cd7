"""A run's steps are drawn as a tree in which one finds what failed and what is not done."""

from __future__ import annotations

import pytest
from flow_making import call, every, flow, loop, one
from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.flow.keys import child_key, iteration_key
from hotpath.core.flow.tree import ASCII, Line, StepRow, draw

SECOND = 1_000_000


def done(key, start=0.0, seconds=1.0, **more):
    """A step that has succeeded."""
    return StepRow(key, "success", round(start * SECOND), seconds * 1000, **more)


def failed(key, start=0.0, error="ValueError: no", **more):
    """A step that has failed."""
    return StepRow(key, "failure", round(start * SECOND), 1000, error=error, **more)


def drawn(rows, **options):
    """The tree as text."""
    return [line.text for line in draw(rows, **options)]


ROWS = [
    done("a"),
    done("l[0]/b", 1),
    done("l[0]/c", 2),
    failed("l[1]/b", 1, attempt=3),
    done("br[default]/d", 4),
    done("s/e", 5, 90),
    StepRow("s/f", "queued"),
    StepRow("z", "running", 9 * SECOND),
]


def test_tree():
    """Steps stand under the loop, branch or sub-flow that they are in, with state, time and error."""
    assert drawn(ROWS, waits={"a": "1 of 2 approvals"}) == [
        "├─ ◷ a  1.0 s  waits: 1 of 2 approvals",
        "├─ ✗ l: 2 iterations, 1 failed  2.0 s",
        "│  ├─ ✓ [0]  2.0 s",
        "│  │  ├─ ✓ b  1.0 s",
        "│  │  └─ ✓ c  1.0 s",
        "│  └─ ✗ [1] b  failure  1.0 s  attempt 3  ValueError: no",
        "├─ ✓ br: 1 branch  1.0 s",
        "│  └─ ✓ [default] d  1.0 s",
        "├─ ○ s",
        "│  ├─ ✓ e  90.0 s",
        "│  └─ ○ f  queued",
        "└─ ▶ z  running",
    ]


def test_ascii():
    """Where a terminal has no box characters, none are used."""
    lines = drawn(ROWS, waits={"a": "1 of 2 approvals"}, drawing=ASCII, width=40)
    assert "".join(lines).isascii()
    assert lines[:4] == [
        "|- ~ a  1.0 s  waits: 1 of 2 approvals",
        "|- x l: 2 iterations, 1 failed  2.0 s",
        "|  |- + [0]  2.0 s",
        "|  |  |- + b  1.0 s",
    ]
    assert lines[5] == "|  `- x [1] b  failure  1.0 s  attemp..."


def test_states():
    """Each line says its state: that of what goes on in what it shows, else that of what failed there."""
    lines = draw(
        [done("l[0]/a"), failed("l[1]/a"), StepRow("l[2]/a", "running", 5), failed("m[0]/a"), done("m[1]/a")]
    )
    assert [line.state for line in lines] == [
        "running", "success", "failure", "running", "failure", "failure", "success",
    ]  # fmt: skip


def test_long_loop():
    """Of a long loop the first, the last, what failed and what is under way are shown, the rest counted."""
    rows = [done(f"l[{number}]/b", number) for number in range(10_000) if number not in {500, 7000, 7001}]
    rows += [failed("l[500]/b"), failed("l[7000]/b"), StepRow("l[7001]/b", "running", 5)]
    lines = drawn(rows)
    assert lines == [
        "└─ ▶ l: 10,000 iterations, 2 failed, 1 running",
        "   ├─ ✓ [0] b  1.0 s",
        "   ├─ ✓ [1] b  1.0 s",
        "   ├─ … 498 more",
        "   ├─ ✗ [500] b  failure  1.0 s  ValueError: no",
        "   ├─ … 6,499 more",
        "   ├─ ✗ [7000] b  failure  1.0 s  ValueError: no",
        "   ├─ ▶ [7001] b  running",
        "   ├─ … 2,997 more",
        "   └─ ✓ [9999] b  1.0 s",
    ]


def test_many_failures():
    """Of many failures a few are shown, the rest counted."""
    lines = drawn([failed(f"l[{number}]/b") for number in range(1000)])
    assert lines[0] == "└─ ✗ l: 1,000 iterations, 1,000 failed  1.0 s"
    assert lines[-2] == "   ├─ … 994 more, 994 failed"
    assert len(lines) == 8


def test_order():
    """Iterations stand in the order of their numbers, all else in the order it started."""
    rows = [done("z"), done("l[10]/b"), done("l[9]/b"), done("l[2]/b"), done("a")]
    assert [line.split()[2] for line in drawn(rows) if "[" not in line] == ["z", "l:", "a"]
    assert [line.split()[3] for line in drawn(rows) if "[" in line] == ["[2]", "[9]", "[10]"]


def test_flow_tells_branches():
    """With the flow at hand, branches are called so."""
    what = flow(
        loop("l", [1], call("a", "number")),
        every("e", [call("b", "number")], [call("c", "number")]),
        one("o", ("true", [call("d", "number")])),
    )
    rows = [done("l[0]/a"), done("e[0]/b"), done("e[1]/c"), done("o[0]/d")]
    heads = [line.split("  ")[0] for line in drawn(rows, flow=what) if ":" in line]
    assert heads == ["├─ ✓ l: 1 iteration", "├─ ✓ e: 2 branches", "└─ ✓ o: 1 branch"]


def test_bounded():
    """There are never more lines than asked for; the last says that there are more."""
    lines = drawn([done(f"a{number}") for number in range(1000)], max_lines=10)
    assert len(lines) == 10
    assert lines[-1] == "… there is more"
    assert drawn([]) == []


@pytest.mark.parametrize("nasty", ["a\nb", "\x1b[31mred", "a\x00b", "\u202eright", "x" * 10_000, "\r\n" * 50])
def test_nasty_messages(nasty):
    """What a script says cannot break the tree, nor write to the terminal."""
    [line] = draw([failed("a", error=f"Error: {nasty}")])
    assert line.text.isprintable()
    assert len(line.text) <= 110


@st.composite
def keys(draw_):
    """Any key."""
    key = ""
    for _ in range(draw_(st.integers(0, 4))):
        key = child_key(key, draw_(st.sampled_from("abc")))
        if draw_(st.booleans()):
            key = iteration_key(key, draw_(st.one_of(st.integers(0, 20), st.just("default"))))
    return child_key(key, draw_(st.sampled_from(["x", "y", "score#2"])))


@given(
    st.lists(
        st.builds(
            StepRow,
            keys(),
            st.sampled_from(["queued", "running", "success", "failure", "canceled"]),
            st.one_of(st.none(), st.integers(0, 10**15)),
            st.one_of(st.none(), st.floats(0, 1e9)),
            st.integers(0, 3),
            st.text(max_size=5),
        ),
        max_size=60,
    ),
    st.dictionaries(keys(), st.text(max_size=5), max_size=3),
)
def test_anything_can_be_drawn(rows, waits):
    """Whatever steps there are, the tree is drawn within its bounds, and shows those outside of loops."""
    lines = draw(rows, waits=waits, width=60, max_lines=50)
    assert all(isinstance(line, Line) and len(line.text) <= 60 and line.text.isprintable() for line in lines)
    assert len(lines) <= 50
    if len(lines) < 50:
        text = "\n".join(line.text for line in lines)
        assert all(row.key in text for row in rows if "/" not in row.key)
