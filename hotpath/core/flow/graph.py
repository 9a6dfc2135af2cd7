"""A flow as a graph: as a Mermaid flowchart, and as boxes within boxes for whoever draws it himself.

Ids of nodes are our own and labels hold nothing that Mermaid or HTML could take for more than text, so that a
summary cannot break out of its box.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import attrs

from hotpath.core.flow.keys import DEFAULT, FAILURE, PREPROCESSOR, child_key, iteration_key
from hotpath.core.flow.model import (
    Branch,
    BranchAll,
    BranchOne,
    Call,
    Expression,
    Flow,
    ForLoop,
    Module,
    Static,
    SubFlow,
    Transform,
    WhileLoop,
)

MAX_LABEL = 80
_MEANS_MORE = re.compile(r"[^\w .,:()/+=?!'*-]")


def mermaid(flow: Flow) -> str:
    """The flow as the text of a Mermaid flowchart, loops, branches and sub-flows as boxes within boxes."""
    return "\n".join(_Chart().flow(flow)) + "\n"


def label(text: str) -> str:
    """The text as Mermaid shows it between quotes: what means more than itself as its number."""
    plain = " ".join(text.split())
    cut = plain if len(plain) <= MAX_LABEL else f"{plain[: MAX_LABEL - 3]}..."
    return _MEANS_MORE.sub(_number, cut)


def _number(match: re.Match[str]) -> str:
    return f"#{ord(match.group())};" if match.group().isprintable() else ""


class _Chart:
    """Numbers the nodes of one chart."""

    def __init__(self) -> None:
        self._count = 0

    def _node(self) -> str:
        self._count += 1
        return f"n{self._count}"

    def flow(self, flow: Flow) -> Iterator[str]:
        yield "flowchart TD"
        start, end = self._node(), self._node()
        yield f'  {start}(["{label(flow.path)}"])'
        before = start
        if flow.preprocessor is not None:
            node = self._node()
            yield from self._module(flow.preprocessor, node, "  ")
            yield f"  {before} --> {node}"
            before = node
        for module in flow.modules:
            node = self._node()
            yield from self._module(module, node, "  ")
            yield f"  {before} --> {node}"
            before = node
        yield f'  {end}(["result"])'
        yield f"  {before} --> {end}"
        if flow.failure is not None:
            node = self._node()
            yield from self._module(flow.failure, node, "  ")
            yield f'  {start} -. "on failure" .-> {node}'

    def _sequence(self, modules: tuple[Module, ...], indent: str) -> Iterator[str]:
        """Modules one behind the other; an empty box would not be drawn."""
        if not modules:
            yield f'{indent}{self._node()}["nothing"]'
        before = None
        for module in modules:
            node = self._node()
            yield from self._module(module, node, indent)
            if before is not None:
                yield f"{indent}{before} --> {node}"
            before = node

    def _box(self, node: str, title: str, modules: tuple[Module, ...], indent: str) -> Iterator[str]:
        yield f'{indent}subgraph {node}["{title}"]'
        yield from self._sequence(modules, f"{indent}  ")
        yield f"{indent}end"

    def _module(self, module: Module, node: str, indent: str) -> Iterator[str]:
        title = _title(module)
        match module.value:
            case ForLoop(modules=modules) | WhileLoop(modules=modules):
                yield from self._box(node, title, modules, indent)
            case SubFlow(flow=flow):
                yield from self._box(node, title, flow.top(), indent)
            case BranchOne() | BranchAll():
                yield from self._branches(module.value, node, title, indent)
            case _:
                yield f'{indent}{node}["{title}"]'

    def _branches(self, value: BranchOne | BranchAll, node: str, title: str, indent: str) -> Iterator[str]:
        within = f"{indent}  "
        yield f'{indent}subgraph {node}["{title}"]'
        fork = self._node()
        one = isinstance(value, BranchOne)
        yield f'{within}{fork}{{"{"which?" if one else "all"}"}}'
        branches = (*value.branches, value.default) if isinstance(value, BranchOne) else value.branches
        for branch in branches:
            inner = self._node()
            way = f"if {branch.expression.text}" if branch.expression else "otherwise" if one else "branch"
            name = label(f"{branch.summary}: {way}" if branch.summary else way)
            yield from self._box(inner, name, branch.modules, within)
            yield f"{within}{fork} --> {inner}"
        yield f"{indent}end"


def _title(module: Module) -> str:
    """Id, summary, kind, and what happens around it, on up to three lines."""
    lines = [label(f"{module.id}: {module.summary}" if module.summary else module.id), label(_kind(module))]
    if around := ", ".join(_around(module)):
        lines.append(label(around))
    return "<br/>".join(lines)


def _kind(module: Module) -> str:
    match module.value:
        case Call(script=script, inline=inline):
            return "script" if inline else script
        case SubFlow(flow=flow):
            return f"flow {flow.path}"
        case ForLoop(iterator=iterator, parallel=parallel):
            return f"for each of {_text(iterator)}{', in parallel' if parallel else ''}"
        case WhileLoop():
            return "again and again"
        case BranchOne():
            return "one branch"
        case BranchAll(parallel=parallel):
            return f"all branches{', in parallel' if parallel else ''}"
    return "gives on what it gets"


def _around(module: Module) -> Iterator[str]:
    """What happens before and behind a step."""
    if module.mock is not None:
        yield "mocked"
    if module.skip is not None:
        yield f"skipped if {module.skip.text}"
    if module.retry is not None:
        yield f"up to {module.retry.constant_attempts + module.retry.exponential_attempts} retries"
    if module.continue_on_error:
        yield "goes on after an error"
    if module.stop is not None:
        yield f"stops if {module.stop.expression.text}"
    if module.stop_all is not None:
        yield f"stops behind it if {module.stop_all.expression.text}"
    if module.suspend is not None:
        number = module.suspend.required_events
        yield f"waits for {number} approval{'s' if number > 1 else ''}"
    if module.sleep is not None:
        yield f"sleeps {_text(module.sleep)} s"


def _text(transform: Transform) -> str:
    match transform:
        case Static(raw=raw):
            return raw.decode()
        case Expression(text=text):
            return text


@attrs.frozen
class Node:
    """One box of a flow's graph."""

    id: str
    """The key that the step has in a run, with `[*]` for the number of a loop's iteration."""
    label: str
    """The step's own id, or what a branch is for."""
    kind: str
    """`script`, `inline`, `flow`, `identity`, `forloop`, `whileloop`, `branchone`, `branchall`, or `branch`:
    one of a step's branches, which is no step itself.
    """
    parent: str | None
    """The box that it is in."""
    summary: str = ""
    does: str = ""
    """What it runs or goes through, for people."""
    around: tuple[str, ...] = ()
    """What happens before and behind it, for people."""
    role: str = "step"
    """`step`, `preprocessor` or `failure`: the flow's modules for special occasions."""


@attrs.frozen
class Edge:
    """What comes behind what, within one box."""

    source: str
    target: str
    label: str = ""


def graph_of(flow: Flow) -> tuple[list[Node], list[Edge]]:
    """The flow as boxes within boxes, those outside first, and what comes behind what."""
    nodes: list[Node] = []
    edges: list[Edge] = []
    _add_flow(flow, "", None, nodes, edges)
    return nodes, edges


def _add_flow(flow: Flow, outer: str, parent: str | None, nodes: list[Node], edges: list[Edge]) -> None:
    """The modules of a flow, or of one that is a part of another."""
    chain = [_add(module, child_key(outer, module.id), parent, nodes, edges) for module in flow.modules]
    if flow.preprocessor is not None:
        key = child_key(outer, PREPROCESSOR)
        chain.insert(0, _add(flow.preprocessor, key, parent, nodes, edges, role=PREPROCESSOR))
    edges += [Edge(before, behind) for before, behind in pairwise(chain)]
    if flow.failure is not None:
        _add(flow.failure, child_key(outer, FAILURE), parent, nodes, edges, role=FAILURE)


def _add_chain(
    modules: tuple[Module, ...], outer: str, parent: str, nodes: list[Node], edges: list[Edge]
) -> None:
    chain = [_add(module, child_key(outer, module.id), parent, nodes, edges) for module in modules]
    edges += [Edge(before, behind) for before, behind in pairwise(chain)]


def _add(
    module: Module, key: str, parent: str | None, nodes: list[Node], edges: list[Edge], *, role: str = "step"
) -> str:
    """A module and all within it; returns its key."""
    value = module.value
    kind = type(value).__name__.lower()
    match value:
        case Call(inline=inline):
            kind = "inline" if inline else "script"
        case SubFlow():
            kind = "flow"
    nodes.append(
        Node(key, module.id, kind, parent, module.summary, _kind(module), tuple(_around(module)), role)
    )
    match value:
        case ForLoop(modules=modules) | WhileLoop(modules=modules):
            _add_chain(modules, iteration_key(key, "*"), key, nodes, edges)
        case SubFlow(flow=flow):
            _add_flow(flow, key, key, nodes, edges)
        case BranchOne(branches=branches, default=default):
            numbered: list[tuple[int | str, Branch]] = [*enumerate(branches), (DEFAULT, default)]
            for number, branch in numbered:
                _add_branch(branch, iteration_key(key, number), key, nodes, edges)
        case BranchAll(branches=branches):
            for number, branch in enumerate(branches):
                _add_branch(branch, iteration_key(key, number), key, nodes, edges)
    return key


def _add_branch(branch: Branch, key: str, parent: str, nodes: list[Node], edges: list[Edge]) -> None:
    way = f"if {branch.expression.text}" if branch.expression else ""
    if not way:
        way = "otherwise" if key.endswith(f"[{DEFAULT}]") else "branch"
    nodes.append(Node(key, branch.summary or way, "branch", parent, branch.summary, way))
    _add_chain(branch.modules, key, key, nodes, edges)
