"""The documents of flows and their runs as types: see `hotpath.web.shapes`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from hotpath.model import State
from hotpath.web.shapes import JobDocument


class FlowNode(msgspec.Struct, kw_only=True):
    """One box of a flow's graph."""

    id: str
    """The key that the step has in a run, with `[*]` for the number of a loop's iteration."""
    label: str
    kind: str
    """`script`, `inline`, `flow`, `identity`, `forloop`, `whileloop`, `branchone`, `branchall`, or `branch`:
    one of a step's branches, which is no step itself.
    """
    parent: str | None
    """The box that it is in."""
    summary: str
    does: str
    """What it runs or goes through, for people."""
    around: list[str]
    """What happens before and behind it, for people."""
    role: str
    """`step`, `preprocessor` or `failure`."""


class FlowEdge(msgspec.Struct, kw_only=True, rename={"source": "from", "target": "to"}):
    """What comes behind what, within one box."""

    source: str
    target: str
    label: str


class FlowGraph(msgspec.Struct, kw_only=True):
    """A flow as a graph."""

    script: str
    hash: str
    """Of the version that new runs have."""
    summary: str
    nodes: list[FlowNode] = []
    edges: list[FlowEdge] = []
    reason: str | None = None
    """Why there is no graph, or why it may not be that of the version that runs."""


class StepDocument(msgspec.Struct, kw_only=True):
    """One step of a run; it is a job, with args and a result."""

    step: str
    """Its key, such as `l[3]/b`."""
    iteration: str
    id: UUID
    script: str | None
    state: State
    attempt: int
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: float | None
    worker: str | None
    error: dict[str, Any] | None


class WaitDocument(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that a run waits for."""

    kind: str
    """`sleep`, `retry`, `suspend`: an approval, or `child`: a job."""
    step: str
    since: datetime | UnsetType | None = UNSET
    until: datetime | UnsetType | None = UNSET
    required: int | UnsetType = UNSET
    """Approvals that it needs."""
    answers: int | UnsetType = UNSET
    """Approvals that it has."""
    form: Any = UNSET
    """JSON Schema of an approval's payload."""
    job: UUID | UnsetType | None = UNSET
    script: str | UnsetType | None = UNSET
    tag: str | UnsetType | None = UNSET
    state: str | UnsetType | None = UNSET


class RunDocument(msgspec.Struct, kw_only=True):
    """A run of a flow."""

    job: JobDocument
    steps: list[StepDocument]
    more_steps: bool
    """Whether it has more steps than these."""
    waits: list[WaitDocument]


class Resumed(msgspec.Struct):
    """What was said to a run."""

    id: UUID
    step: str
    approved: bool
