"""A flow as values: what `flow.yaml` says, checked and compiled, ready to be run.

The names are OpenFlow's, Windmill's open format (its `openflow.openapi.yaml`), save that `rawscript` and
`script` are both a `Call` once it is known which script they mean. `core.flow.parse` makes these values,
`core.flow.engine` runs them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, TypeAlias

import attrs

from hotpath.core.flow.paths import Path


@attrs.frozen
class Static:
    """A value that is the same in every run."""

    raw: bytes
    """As JSON."""


@attrs.frozen
class Expression:
    """A JavaScript expression; `path` is set where it is a plain path, which needs no JavaScript."""

    text: str
    path: Path | None = None
    line: int = 0
    """Line in the flow's file, from 1; 0: not known."""


Transform: TypeAlias = "Static | Expression"


@attrs.frozen
class StepRetry:
    """When a failed step runs again: first at constant distances, then at growing ones."""

    constant_attempts: int = 0
    """Further runs, `constant_seconds` apart."""
    constant_seconds: float = 0.0
    exponential_attempts: int = 0
    """Further runs behind those; the n-th comes `multiplier * seconds ** n` seconds after the last."""
    multiplier: float = 1.0
    seconds: float = 1.0
    random_factor: float = 0.0
    """Per cent of an exponential delay that it varies by at random, up or down."""
    retry_if: Expression | None = None
    """Over `error`, the error object, and `result`, which is `{"error": error}`; None: always."""


@attrs.frozen
class Stop:
    """`stop_after_if`: end the sequence early, in success or with an error."""

    expression: Expression
    skip_if_stopped: bool = False
    error_message: str | None = None
    """None: a success. Empty: a default message."""


@attrs.frozen
class Suspend:
    """Wait for people behind a step."""

    required_events: int = 1
    timeout: float | None = None
    """Seconds; None: for ever."""
    continue_on_disapprove_timeout: bool = False
    form: dict[str, Any] | None = None
    """JSON Schema of the payload, if one was given."""


@attrs.frozen
class Call:
    """Runs a script: a `rawscript` or `script` module."""

    script: str
    """Name of the script, such as `f/team/score`, or `flow_x/a` for one written in the flow."""
    inputs: tuple[tuple[str, Transform], ...]
    inline: bool = False
    """Whether the script is written in the flow itself."""
    hash: str | None = None
    """Version that is asked for; None: the one in the workspace."""
    tag: str | None = None
    """The tag that the flow gives it; None: the script's own, if it has set one."""


@attrs.frozen
class Flow:
    """A whole flow."""

    path: str
    modules: tuple[Module, ...]
    summary: str = ""
    schema: dict[str, Any] = attrs.field(factory=dict)
    """JSON Schema of its args, as written."""
    failure: Module | None = None
    preprocessor: Module | None = None
    skip: Expression | None = None
    early_return: Expression | None = None
    env: dict[str, Any] = attrs.field(factory=dict)
    concurrent_limit: int | None = None
    priority: int = 0
    tag: str | None = None
    cache_ttl: float = 0.0
    timeout: float | None = None

    def every(self) -> Iterator[Module]:
        """All its modules, those within others too, in the order they are written."""
        for module in self.top():
            yield from module.every()

    def top(self) -> tuple[Module, ...]:
        """Its own modules, those for special occasions too."""
        special = (self.preprocessor, *self.modules, self.failure)
        return tuple(module for module in special if module is not None)


@attrs.frozen
class SubFlow:
    """Runs another flow as part of this one."""

    flow: Flow
    inputs: tuple[tuple[str, Transform], ...]


@attrs.frozen
class Identity:
    """Gives on what it gets."""


@attrs.frozen
class ForLoop:
    """Runs its modules once for each element of a list."""

    modules: tuple[Module, ...]
    iterator: Transform
    skip_failures: bool = False
    parallel: bool = False
    parallelism: Transform | None = None
    """At most so many iterations at a time; None: all."""
    squash: bool = False


@attrs.frozen
class WhileLoop:
    """Runs its modules again and again until something stops it."""

    modules: tuple[Module, ...]
    skip_failures: bool = False


@attrs.frozen
class Branch:
    """One way through a `BranchOne` or `BranchAll`."""

    modules: tuple[Module, ...]
    summary: str = ""
    expression: Expression | None = None
    """Of a `BranchOne`; None: its default."""
    skip_failure: bool = False
    """Of a `BranchAll`."""


@attrs.frozen
class BranchOne:
    """Runs the first branch whose expression holds, else the default."""

    branches: tuple[Branch, ...]
    default: Branch


@attrs.frozen
class BranchAll:
    """Runs all branches."""

    branches: tuple[Branch, ...]
    parallel: bool = False


Value: TypeAlias = "Call | SubFlow | Identity | ForLoop | WhileLoop | BranchOne | BranchAll"


class Durability(enum.Enum):
    """When a step's checkpoint has to be in the database."""

    RELAXED = "relaxed"
    """With the next flush, within 25 ms."""
    STRICT = "strict"
    """Before the next step begins."""


@attrs.frozen
class Module:
    """One node of a flow, with its options."""

    id: str
    value: Value
    summary: str = ""
    line: int = 0
    stop: Stop | None = None
    """`stop_after_if`: of a loop it is asked after each iteration, and ends the loop."""
    stop_all: Stop | None = None
    """`stop_after_all_iters_if`."""
    skip: Expression | None = None
    sleep: Transform | None = None
    """Seconds to wait behind it."""
    timeout: Transform | None = None
    """Seconds that one run of its script may take."""
    retry: StepRetry | None = None
    continue_on_error: bool = False
    cache_ttl: float = 0.0
    mock: Static | None = None
    priority: int | None = None
    delete_after_use: bool = False
    suspend: Suspend | None = None
    durability: Durability = Durability.RELAXED

    @property
    def is_plain(self) -> bool:
        """Whether it is a call without anything that has to be looked at before or behind it."""
        return isinstance(self.value, Call) and not (
            self.stop or self.stop_all or self.skip or self.sleep or self.timeout or self.retry
            or self.continue_on_error or self.cache_ttl or self.mock or self.suspend or self.delete_after_use
            or self.durability is Durability.STRICT
        )  # fmt: skip

    def parts(self) -> tuple[tuple[Module, ...], ...]:
        """The sequences of modules within it."""
        match self.value:
            case ForLoop(modules=modules) | WhileLoop(modules=modules):
                return (modules,)
            case BranchOne(branches=branches, default=default):
                return (*(branch.modules for branch in branches), default.modules)
            case BranchAll(branches=branches):
                return tuple(branch.modules for branch in branches)
            case SubFlow(flow=flow):
                return (flow.top(),)
        return ()

    def every(self) -> Iterator[Module]:
        """It and all the modules within it, in the order they are written."""
        yield self
        for part in self.parts():
            for module in part:
                yield from module.every()
