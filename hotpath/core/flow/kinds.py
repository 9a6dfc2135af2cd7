"""What a step does: the kinds of `value` that a module of OpenFlow has."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import attrs

from hotpath.core.flow.model import (
    Branch,
    BranchAll,
    BranchOne,
    Call,
    Flow,
    ForLoop,
    Identity,
    Module,
    Static,
    SubFlow,
    Value,
    WhileLoop,
)
from hotpath.core.flow.options import expression, read_expression, read_inputs, read_transform
from hotpath.core.flow.source import Fields, Reading, kind_of
from hotpath.core.names import fault_of as fault_of_name

MAX_MODULES = 10_000
"""Of a flow, its sub-flows' included."""
MAX_DEPTH = 50
"""How deep modules may lie in one another, sub-flows included."""
MAX_ID = 100

ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
EDITOR = frozenset({"notes", "groups", "assets", "is_trigger", "lock", "labels", "description"})
_NOT_A_STEP = "; a flow's `concurrent_limit` is"
REFUSED_STEP = {
    "concurrent_limit": _NOT_A_STEP,
    "custom_concurrency_key": _NOT_A_STEP,
    "concurrency_key": _NOT_A_STEP,
    "concurrency_time_window_s": _NOT_A_STEP,
    "debounce_delay_s": "",
    "debounce_key": "",
}
_KINDS = (
    "rawscript", "script", "flow", "identity", "forloopflow", "whileloopflow", "branchone", "branchall",
)  # fmt: skip


@attrs.frozen
class SubFlowFound:
    """A flow that another one calls."""

    flow: Flow
    modules: int
    depth: int


class Around(Protocol):
    """What lies around a flow. What cannot be given is said: the fault, as text."""

    def inline(self, step: str, content: str) -> str | None:
        """Take the source of a script that is written in the flow, or `!inline FILE`; what is wrong with it,
        if anything.
        """

    def script(self, path: str, version: str | None) -> str | None:
        """What is wrong with calling this script in this version, if anything."""

    def flow(self, path: str) -> SubFlowFound | str:
        """A flow of the workspace, or what is wrong with calling it."""


class TooLargeError(Exception):
    """The flow has too many modules to go on reading."""


@attrs.define
class Tally:
    """What has been read of a flow so far."""

    modules: int = 0
    """Sub-flows' included."""
    depth: int = 0
    """Of the deepest module."""
    inputs: dict[tuple[str, str], int] = attrs.field(factory=dict)
    """Line of each input, by step and name."""

    def add(self, modules: int, depth: int) -> None:
        """Count modules that lie so deep. Raises `TooLargeError`."""
        self.modules += modules
        self.depth = max(self.depth, depth)
        if self.modules > MAX_MODULES:
            raise TooLargeError


Sequence: TypeAlias = "Callable[[list[Any], Fields, str, int], tuple[Module, ...]]"
"""Reads the modules of a list: the list, the options it is one of, its name, and how deep its modules lie."""


class ValueReader:
    """Reads what the steps of one flow do; `sequence` reads the steps within them."""

    def __init__(self, reading: Reading, path: str, around: Around, tally: Tally, sequence: Sequence) -> None:
        self._reading = reading
        self._path = path
        self._around = around
        self._tally = tally
        self._sequence = sequence

    def read(self, fields: Fields, depth: int) -> Value:
        """The `value` of a module that lies so deep; one that does nothing if it is wrong."""
        inner = fields.inner("value")
        if inner is None:
            fields.fault("value", "is missing: it says what the step does")
            return Identity()
        if not isinstance(fields.given["value"], dict):
            return Identity()
        kind = inner.get("type")
        match kind:
            case "rawscript":
                return self._rawscript(inner)
            case "script":
                return self._script(inner)
            case "flow":
                return self._sub_flow(inner, depth)
            case "identity":
                inner.flag("flow")
                inner.close(EDITOR)
                return Identity()
            case "forloopflow":
                return self._for_loop(inner, depth)
            case "whileloopflow":
                return self._while_loop(inner, depth)
            case "branchone":
                return self._branch_one(inner, depth)
            case "branchall":
                return self._branch_all(inner, depth)
            case "aiagent":
                inner.fault("type", "`aiagent` is not supported: AI agents do not run here")
            case None:
                inner.fault("type", f"is missing; it is one of {', '.join(_KINDS)}")
            case _:
                inner.fault("type", f"{str(kind)[:60]!r} is unknown; known are {', '.join(_KINDS)}")
        return Identity()

    def _rawscript(self, fields: Fields) -> Value:
        language, content = fields.text("language"), fields.text("content")
        inputs, tag = read_inputs(fields, self._tally.inputs), read_tag(fields)
        fields.get("path")
        fields.close(EDITOR, REFUSED_STEP)
        step = fields.step or ""
        if language != "python3":
            what = f"{language[:40]} is not supported" if language else "is missing"
            fields.fault("language", f"{what}; scripts are `python3`")
        elif content is None:
            fields.fault("content", "is missing: give the script, or `!inline FILE`")
        elif ID.fullmatch(step) and (fault := self._around.inline(step, content)):
            fields.fault("content", f": {fault}")
        return Call(f"{self._path}/{step}", inputs, inline=True, tag=tag)

    def _script(self, fields: Fields) -> Value:
        path, version = fields.text("path"), fields.text("hash")
        inputs, tag = read_inputs(fields, self._tally.inputs), read_tag(fields, "tag_override")
        fields.close(EDITOR, REFUSED_STEP)
        if path is None:
            fields.fault("path", "is missing: it names the script")
        elif path.startswith("hub/"):
            fields.fault(
                "path", "is one of Windmill's hub, which is not there: copy the script into the workspace"
            )
        elif fault := fault_of_name(path):
            fields.fault("path", f"{path[:80]!r} cannot be the name of a script: {fault}")
        elif fault := self._around.script(path, version or None):
            fields.fault("hash" if fault.startswith("version ") else "path", f": {fault}")
        return Call(path or "", inputs, hash=version or None, tag=tag)

    def _sub_flow(self, fields: Fields, depth: int) -> Value:
        path, inputs = fields.text("path"), read_inputs(fields, self._tally.inputs)
        fields.close(EDITOR | {"tag_override"}, REFUSED_STEP)
        if path is None:
            fields.fault("path", "is missing: it names the flow")
            return Identity()
        if fault := fault_of_name(path):
            fields.fault("path", f"{path[:80]!r} cannot be the name of a flow: {fault}")
            return Identity()
        found = self._around.flow(path)
        if isinstance(found, str):
            fields.fault("path", f": {found}")
            return Identity()
        self._tally.add(found.modules, depth + found.depth)
        if depth + found.depth > MAX_DEPTH:
            fields.fault("path", f"has steps {depth + found.depth} deep; at most {MAX_DEPTH} are allowed")
        return SubFlow(found.flow, inputs)

    def _body(self, fields: Fields, key: str, depth: int) -> tuple[Module, ...]:
        return self._sequence(fields.list(key), fields, key, depth + 1)

    def _for_loop(self, fields: Fields, depth: int) -> Value:
        given = fields.get("iterator")
        known = len(self._reading.faults)
        iterator = read_transform(fields, "iterator", _is_list)
        if iterator is None and len(self._reading.faults) == known:
            fault = (
                "is missing: it gives the list to loop over" if given is None else "has no value: give a list"
            )
            fields.fault("iterator", fault)
        squash, parallel = fields.flag("squash"), fields.flag("parallel")
        if squash and parallel:
            fields.fault("squash", "and `parallel` contradict each other: keep one")
        loop = ForLoop(
            modules=self._body(fields, "modules", depth),
            iterator=iterator or Static(b"[]"),
            skip_failures=fields.flag("skip_failures"),
            parallel=parallel,
            parallelism=read_transform(fields, "parallelism", _is_parallelism),
            squash=squash,
        )
        fields.close(EDITOR)
        return loop

    def _while_loop(self, fields: Fields, depth: int) -> Value:
        if fields.flag("parallel"):
            fields.fault("parallel", "cannot be: a while loop asks after each iteration whether to go on")
        fields.get("parallelism")
        fields.flag("squash")
        modules = self._body(fields, "modules", depth)
        if not modules:
            fields.fault("modules", "is empty: the loop would never end")
        loop = WhileLoop(modules, skip_failures=fields.flag("skip_failures"))
        fields.close(EDITOR)
        return loop

    def _branches(self, fields: Fields, depth: int, *, one: bool) -> tuple[Branch, ...]:
        found = []
        given = fields.list("branches")
        for at, each in enumerate(given):
            line = self._reading.lines.of(given, at) or fields.line("branches")
            name = f"branches[{at}]"
            inner = Fields(self._reading, each, fields.step, name=fields.name_of(name), line=line)
            when = read_expression(inner, "expr") if one else None
            if one and when is None and isinstance(each, dict) and not inner.given.get("expr"):
                inner.fault("expr", "is missing: it says when the branch is taken")
            branch = Branch(
                modules=self._sequence(inner.list("modules"), inner, f"{name}.modules", depth + 1),
                summary=inner.text("summary") or "",
                expression=when or (expression("false", line) if one else None),
                skip_failure=not one and inner.flag("skip_failure"),
            )
            inner.close(EDITOR | {"parallel", "expr", "skip_failure"})
            found.append(branch)
        return tuple(found)

    def _branch_one(self, fields: Fields, depth: int) -> Value:
        branches = self._branches(fields, depth, one=True)
        default = Branch(self._body(fields, "default", depth))
        fields.close(EDITOR)
        return BranchOne(branches, default)

    def _branch_all(self, fields: Fields, depth: int) -> Value:
        found = BranchAll(self._branches(fields, depth, one=False), parallel=fields.flag("parallel"))
        fields.close(EDITOR)
        return found


def _is_list(value: Any) -> str | None:
    return None if isinstance(value, list) else f"must be a list, not {kind_of(value)}"


def _is_parallelism(value: Any) -> str | None:
    whole = not isinstance(value, bool) and isinstance(value, int | float) and value == value // 1
    return None if whole and value >= 1 else "must be a whole number of at least 1"


def read_tag(fields: Fields, key: str = "tag") -> str | None:
    """The tag that a step or a flow gives its jobs."""
    tag = fields.text(key)
    if not tag:
        return None
    if not tag.isprintable() or len(tag.encode()) > 255:
        fields.fault(key, "must be 1 to 255 printable characters")
        return None
    return tag
