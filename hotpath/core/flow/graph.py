"""A flow as a Mermaid flowchart, for pages and documents that draw it.

Ids of nodes are our own and labels hold nothing that Mermaid or HTML could take for more than text, so that a
summary cannot break out of its box.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hotpath.core.flow.model import (
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
