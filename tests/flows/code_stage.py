"""Runs of flows that are code, through the real runtimes, with what they note kept in memory."""

from __future__ import annotations

import itertools
import json
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import trio

from hotpath.core.notes import (
    Cached,
    Checkpoint,
    Child,
    Dispatch,
    Event,
    Mark,
    Note,
    Parking,
    Recalled,
    StepNote,
)
from hotpath.model import Description, OutcomeState, ScriptVersion, Settings
from hotpath.runtime.protocol import Outcome, Runtime
from hotpath.runtime.sync import SyncRuntime
from hotpath.runtime.trio_runtime import AsyncRuntime

_serial = itertools.count(1)
BATCHES: list[MemoryBatch] = []
"""All that were played; the last is the one in hand."""


@attrs.frozen
class FlowScript:
    """A script as a worker shows it to a runtime."""

    version: ScriptVersion
    file: Path
    workspace: Path
    worker: str = "tester-1"
    secret: bytes | None = bytes(range(32))


@attrs.define(eq=False)
class Run:
    """What is kept of one run, and how it ended here the last time."""

    id: UUID
    args: dict[str, Any]
    attempt: int = 1
    known: Recalled = attrs.field(factory=Recalled)
    steps: list[StepNote] = attrs.field(factory=list)
    """Every note of a step, in order."""
    sent: list[Dispatch] = attrs.field(factory=list)
    notes: list[Note] = attrs.field(factory=list)
    """Everything, in order."""
    parked: Parking | None = None
    state: str = ""
    value: Any = None
    log: str | None = None
    delay: float | None = None

    def keep(self, note: Note) -> None:
        """As the database does."""
        self.notes.append(note)
        match note:
            case StepNote():
                self.steps.append(note)
                if note.state != OutcomeState.RETRY:
                    self.known.steps[note.key] = Checkpoint(note.state, note.outcome, note.args, note.id)
            case Mark(key, value) if value is not None:
                self.known.marks[key] = value
            case Mark(key):
                self.known.marks.pop(key, None)
            case Dispatch():
                self.sent.append(note)
                self.known.children[note.key] = Child(note.id, 0, b"null")

    @property
    def keys(self) -> list[str]:
        """Of all steps that were noted."""
        return [note.key for note in self.steps]

    def mark(self, key: str) -> Any:
        """What was noted under this name."""
        return json.loads(self.known.marks[key])


@attrs.define(eq=False)
class Memory:
    """What all runs of a test have noted, and the hour."""

    cache: dict[bytes, bytes] = attrs.field(factory=dict)
    ahead: float = 0.0
    """Seconds by which it is later."""
    recalls: int = 0


@attrs.define(eq=False)
class MemoryBatch:
    """Runs as a worker shows them to a runtime."""

    runs: list[Run]
    memory: Memory
    tag: str = "tests"
    timeouts: Sequence[float | None] | None = None
    until: int = sys.maxsize
    number: int = attrs.field(factory=lambda: next(_serial) << 16)
    mark: list[int] = attrs.field(factory=lambda: [0, 0])
    canceling: set[int] = attrs.field(factory=set)
    begun: int = 0
    stopped: bool = False
    notes: int = 0

    @property
    def ids(self) -> list[UUID]:
        return [run.id for run in self.runs]

    @property
    def args(self) -> bytes:
        return json.dumps([run.args for run in self.runs]).encode()

    @property
    def attempts(self) -> list[int]:
        return [run.attempt for run in self.runs]

    @property
    def tokens(self) -> range:
        return range(self.number, self.number + len(self.runs))

    def __len__(self) -> int:
        return len(self.runs)

    def report(self, outcome: Outcome) -> None:
        index, state, _, _, payload, log = outcome
        run = self.runs[index]
        assert not run.state, "it has ended before"
        run.state, run.value, run.log = OutcomeState(state).name.lower(), json.loads(payload), log

    def retry(self, outcome: Outcome, delay: float) -> None:
        self.runs[outcome[0]].delay = delay
        self.report(outcome)

    def note(self, index: int, note: Note, on_written: Callable[[], object] | None = None) -> None:
        assert not self.runs[index].state
        self.notes += 1
        if isinstance(note, Cached):
            self.memory.cache[note.key] = note.value
        self.runs[index].keep(note)
        if on_written is not None:
            on_written()

    def park(self, index: int, parking: Parking, log: str | None = None) -> None:
        self.runs[index].state, self.runs[index].parked, self.runs[index].log = "parked", parking, log

    async def recall(self, indexes: Sequence[int]) -> Mapping[int, Recalled]:
        await trio.lowlevel.checkpoint()
        self.memory.recalls += 1
        found = {index: self.runs[index].known for index in indexes}
        return {
            index: attrs.evolve(known, steps=dict(known.steps), marks=dict(known.marks))
            for index, known in found.items()
            if known.steps or known.marks or known.events or known.children
        }

    async def cached(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        return {key: self.memory.cache[key] for key in keys if key in self.memory.cache}

    def now_us(self) -> int:
        return time.time_ns() // 1000 + int(self.memory.ahead * 1e6)


@attrs.define(eq=False)
class CodeStage:
    """A workspace with flows, and what they note."""

    workspace: Path
    memory: Memory = attrs.field(factory=Memory)

    def run(self, **args: Any) -> Run:
        """A run that nobody has begun."""
        return Run(UUID(int=(time.time_ns() // 1_000_000) << 80 | 7 << 76 | 2 << 62 | next(_serial)), args)

    def script(self, text: str, *, kind: str = "flow", **settings: Any) -> FlowScript:
        """A script with this source."""
        name = f"flow_{next(_serial)}"
        file = self.workspace / f"{name}.py"
        file.write_text("from __future__ import annotations\nimport hotpath\n" + textwrap.dedent(text))
        description = Description(
            name, "0" * 64, "async def main" in text, {}, Settings(**settings), kind=kind
        )
        return FlowScript(ScriptVersion(1, 1, description), file, self.workspace)

    async def play(self, text: str | FlowScript, *runs: Run, seconds: float = 10.0) -> MemoryBatch:
        """Have these runs claimed once, by a worker with this script."""
        script = self.script(text) if isinstance(text, str) else text
        runtime: Runtime = AsyncRuntime(100) if script.version.description.is_async else SyncRuntime()
        for run in runs:
            run.state, run.value, run.parked, run.log, run.delay = "", None, None, None, None
        batch = MemoryBatch(list(runs), self.memory)
        BATCHES.append(batch)
        with trio.fail_after(seconds):
            async with runtime.open(script):
                await runtime.run(batch)
        assert all(run.state for run in runs)
        return batch

    def approve(self, run: Run, key: str, payload: Any = None, *, approved: bool = True) -> None:
        """Somebody answers."""
        event = Event(approved, json.dumps(payload).encode(), "ann")
        run.known.events.setdefault(key, []).append(event)

    def end_child(self, run: Run, key: str, value: Any, *, state: int = 1) -> None:
        """A job that was sent has ended."""
        child = run.known.children[key]
        run.known.children[key] = Child(child.id, state, json.dumps(value).encode())
        run.known.steps[key] = Checkpoint(state, json.dumps(value).encode(), run.sent[-1].args, child.id)
