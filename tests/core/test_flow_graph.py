"""Flows drawn as Mermaid flowcharts."""

import re

from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.flow.graph import MAX_LABEL, label, mermaid
from hotpath.core.flow.model import (
    Branch,
    BranchOne,
    Call,
    Expression,
    Flow,
    ForLoop,
    Identity,
    Module,
    Static,
    StepRetry,
    SubFlow,
    Suspend,
)

# A node, a box, its end or an edge; nothing else is a line of a chart.
_LABEL = r"\"[^\"<>{}\[\]%&`;]*(?:(?:<br/>|#\d+;)[^\"<>{}\[\]%&`;]*)*\""
_LINE = re.compile(
    rf"flowchart TD|\s+(?:n\d+(?:\[{_LABEL}\]|\(\[{_LABEL}\]\)|\{{{_LABEL}\}})|subgraph n\d+\[{_LABEL}\]|end"
    rf"|n\d+ -->(?:\|{_LABEL}\|)? n\d+|n\d+ -\. {_LABEL} \.-> n\d+)"
)


def lines_of(flow):
    """The lines of its chart, each of which is one that Mermaid knows."""
    lines = mermaid(flow).splitlines()
    assert [line for line in lines if not _LINE.fullmatch(line)] == []
    return lines


def test_nested():
    """Loops, branches and sub-flows are boxes within boxes, each closed; steps follow one another."""
    inner = Module("c", Call("f/score", ()), retry=StepRetry(constant_attempts=2))
    branch = BranchOne((Branch((inner,), "big", Expression("results.a > 1")),), Branch(()))
    flow = Flow(
        "flow_x",
        (
            Module("a", Identity(), suspend=Suspend(2)),
            Module("l", ForLoop((Module("b", branch),), Static(b"[1]"), parallel=True)),
            Module("s", SubFlow(Flow("sub", (Module("i", Identity()),)), ())),
        ),
        failure=Module("failure", Call("flow_x/failure", (), inline=True)),
    )
    lines = lines_of(flow)
    assert sum("subgraph" in line for line in lines) == sum(line.strip() == "end" for line in lines) == 5
    text = "\n".join(lines)
    for words in (
        "waits for 2 approvals",
        "for each of #91;1#93;, in parallel",
        "big: if results.a #62; 1",
        "otherwise",
        "f/score<br/>up to 2 retries",
        "flow sub",
        '"nothing"',
        '"on failure"',
    ):
        assert words in text


@given(st.text())
def test_labels_stay_in_their_box(text):
    """Whatever a summary says, its label holds no quote, bracket, line end, entity or directive."""
    shown = label(text)
    assert re.fullmatch(r"(?:[^\"<>{}\[\]%&`;#\n\\|]|#\d+;)*", shown)
    assert len(re.sub(r"#\d+;", "x", shown)) <= MAX_LABEL


@given(st.text(), st.text())
def test_any_flow_is_a_chart(summary, expression):
    """Whatever texts a flow has, its chart has the lines of a chart only."""
    branch = BranchOne((Branch((), summary, Expression(expression)),), Branch(()))
    lines_of(Flow("x", (Module("a", branch, summary=summary, skip=Expression(expression)),)))


def test_what_means_something_to_mermaid():
    """Quotes, tags, directives and line ends are numbers or spaces."""
    assert label('"]; click\n<b>%%{init}%%') == "#34;#93;#59; click #60;b#62;#37;#37;#123;init#125;#37;#37;"
