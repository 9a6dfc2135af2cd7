"""Which steps an expression may speak of: those that have ended by the time it is evaluated, in its own
sequence and in those around it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from hotpath.core.flow.model import (
    BranchAll,
    BranchOne,
    Call,
    Expression,
    Flow,
    ForLoop,
    Module,
    SubFlow,
    Transform,
    WhileLoop,
)
from hotpath.core.flow.scan import steps_used
from hotpath.core.flow.source import Reading


def check_references(flow: Flow, reading: Reading) -> None:
    """Write down every mention of a step that does not exist or whose result cannot be there yet."""
    _Checker(flow, reading).flow()


class _Checker:
    """Walks one flow with the set of steps whose results can be seen."""

    def __init__(self, flow: Flow, reading: Reading) -> None:
        self._flow = flow
        self._reading = reading
        self._visible: set[str] = set()
        self._above: list[str] = []  # ids of the modules that we are in
        self._home: dict[str, tuple[str | None, int]] = {}  # the module, and which of its parts, it is in
        for module in flow.top():
            self._settle(module, None, 0)

    def _settle(self, module: Module, parent: str | None, part: int) -> None:
        self._home.setdefault(module.id, (parent, part))
        if not isinstance(module.value, SubFlow):
            for at, modules in enumerate(module.parts()):
                for each in modules:
                    self._settle(each, module.id, at)

    def flow(self) -> None:
        """Check the whole flow."""
        if self._flow.preprocessor is not None:
            self._module(self._flow.preprocessor)
        self._expressions(None, (self._flow.skip,))
        for module in self._flow.modules:
            self._module(module)
            self._visible.add(module.id)
        self._expressions(None, (self._flow.early_return,))
        if self._flow.failure is not None:
            self._module(self._flow.failure)

    def _sequence(self, modules: tuple[Module, ...], behind: tuple[Transform | None, ...]) -> None:
        """The modules within another; `behind` are expressions of the latter that see their results."""
        added = []
        for module in modules:
            self._module(module)
            if module.id not in self._visible:
                added.append(module.id)
                self._visible.add(module.id)
        self._expressions(self._above[-1], behind)
        self._visible.difference_update(added)

    def _module(self, module: Module) -> None:
        behind = [module.sleep, module.stop_all.expression if module.stop_all else None]
        before: list[Transform | None] = [module.skip, module.timeout, *behind]
        stop = module.stop.expression if module.stop else None
        value = module.value
        loops = isinstance(value, WhileLoop) or (isinstance(value, ForLoop) and not value.parallel)
        if not loops:
            before.append(stop)
        if module.retry is not None:
            before.append(module.retry.retry_if)
        if isinstance(value, Call | SubFlow):
            before += (transform for _, transform in value.inputs)
        elif isinstance(value, ForLoop):
            before += (value.iterator, value.parallelism)
        elif isinstance(value, BranchOne):
            before += (branch.expression for branch in value.branches)
        self._expressions(module.id, before)
        if isinstance(value, SubFlow):
            return
        self._above.append(module.id)
        for part in module.parts():
            self._sequence(part, (stop,) if loops else ())
        self._above.pop()

    def _expressions(self, step: str | None, transforms: Iterable[Transform | None]) -> None:
        for transform in transforms:
            if not isinstance(transform, Expression):
                continue
            syntax = self._reading.syntax
            if syntax is not None and transform.path is None and (fault := syntax(transform.text)):
                self._reading.fault(step, transform.line, f"`{_short(transform.text)}`: {fault}")
                continue
            for name in _mentioned(transform):
                if name not in self._visible:
                    message = f"`results.{name}`: {self._why_not(name, step)}"
                    self._reading.fault(step, transform.line, message)

    def _why_not(self, name: str, step: str | None) -> str:
        """Why a step's result cannot be there."""
        if name not in self._home:
            near = difflib.get_close_matches(name, self._home, n=1)
            dashed = next((other for other in self._home if other.startswith(f"{name}-")), None)
            if dashed is not None:
                return f'there is no step {name}; a step with a dash is written results["{dashed}"]'
            return f"there is no step {name}" + (f" (did you mean {near[0]}?)" if near else "")
        if name in {"failure", "preprocessor"} and self._home[name][0] is None:
            return f"what the {name} module gives is no step's result"
        if name == step:
            return f"step {name} has not ended when this is evaluated; behind it, what it gave is `result`"
        if name in self._above:
            return f"step {name} has not ended when this is evaluated"
        inner, (outer, part) = name, self._home[name]
        while outer is not None and outer not in {*self._above, step}:
            inner, (outer, part) = outer, self._home[outer]
        if inner != name and inner in self._visible:
            return f"step {name} is inside {inner}; only results.{inner} can be seen from here"
        holder = self._find(outer) if outer is not None else None
        if holder is not None and isinstance(holder.value, BranchOne | BranchAll) and step is not None:
            own, at = step, self._home[step]
            while at[0] is not None and at[0] != outer:
                own, at = at[0], self._home[at[0]]
            if own == outer or at[1] != part:
                return f"step {name} is in another branch of {outer}"
        return f"step {name} comes later"

    def _find(self, name: str) -> Module | None:
        return next((module for module in self._flow.every() if module.id == name), None)


def _mentioned(expression: Expression) -> list[str]:
    path = expression.path
    if path is None:
        return sorted(steps_used(expression.text) or ())  # None: it cannot be told, so nothing is refused
    if path.root != "results" or not path.keys or not isinstance(path.keys[0], str):
        return []
    return [path.keys[0]]


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 60 else f"{plain[:57]}..."
