"""Flows that are files, in a workspace, and `FlowRuntime` over batches that keep in memory what is noted."""

from __future__ import annotations

import itertools
import json
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from code_stage import Memory, MemoryBatch, Run, _serial

from hotpath.core.notes import Note, Recalled
from hotpath.flows.runtime import FlowRuntime
from hotpath.model import Description, ScriptVersion
from hotpath.runtime.lane import Lane
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import locate


def step(id: str, script: str, inputs: Mapping[str, str] | None = None, **options: Any) -> dict[str, Any]:
    """A module that runs a script; inputs are expressions."""
    transforms = {name: {"type": "javascript", "expr": text} for name, text in (inputs or {}).items()}
    return {"id": id, "value": {"type": "script", "path": script, "input_transforms": transforms}, **options}


def loop(id: str, iterator: str, *modules: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A for loop over what an expression says."""
    value = {
        "type": "forloopflow",
        "iterator": {"type": "javascript", "expr": iterator},
        "skip_failures": False,
        "modules": list(modules),
    }
    return {"id": id, "value": {**value, **options}}


def branches(id: str, *parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All of these at the same time."""
    return {
        "id": id,
        "value": {
            "type": "branchall",
            "parallel": True,
            "branches": [{"modules": list(part), "skip_failure": False} for part in parts],
        },
    }


def write_flow(workspace: Path, name: str, *modules: dict[str, Any], **value: Any) -> None:
    """A flow in the workspace."""
    file = workspace / f"{name}.flow" / "flow.yaml"
    file.parent.mkdir(exist_ok=True)
    schema = value.pop("schema", {"type": "object"})
    file.write_text(
        json.dumps({"summary": "", "value": {"modules": list(modules), **value}, "schema": schema})
    )


@attrs.frozen
class FlowFile:
    """A flow as a worker shows it to its runtime."""

    version: ScriptVersion
    file: Path
    workspace: Path
    worker: str = "tester-1"
    tags: tuple[str, ...] = ("flow_x",)


@attrs.define(eq=False)
class FlowBatch(MemoryBatch):
    """Runs of a flow as a worker shows them to a runtime."""

    mark: list[int] = attrs.field(factory=lambda: [0, 0])
    withheld: list[Callable[[], object]] | None = None
    """Whom to tell once notes are written; None: they are told at once."""
    gate: trio.Event | None = None
    """What `recall` and `cached` wait for."""
    ended: trio.Event = attrs.field(factory=trio.Event)

    def stop(self) -> None:
        """None of it is to begin any more."""
        self.stopped, self.until = True, 0

    def note(self, index: int, note: Note, on_written: Callable[[], object] | None = None) -> None:
        if on_written is not None and self.withheld is not None:
            self.withheld.append(on_written)
            on_written = None
        MemoryBatch.note(self, index, note, on_written)

    async def recall(self, indexes: Sequence[int]) -> Mapping[int, Recalled]:
        if self.gate is not None:
            await self.gate.wait()
        return await MemoryBatch.recall(self, indexes)

    async def cached(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        return await MemoryBatch.cached(self, keys)

    async def admit(self, script: int, most: int) -> range:
        await trio.lowlevel.checkpoint()
        return range(len(self))


@attrs.define(eq=False)
class RuntimeStage:
    """A workspace with a flow `flow_x`, and what its runs note."""

    workspace: Path
    nursery: trio.Nursery
    memory: Memory = attrs.field(factory=Memory)
    mark: list[int] = attrs.field(factory=lambda: [0, 0])
    runtime: FlowRuntime = attrs.field(init=False)
    tags: tuple[str, ...] = ("flow_x",)

    def script(self, name: str, text: str) -> None:
        """A script in the workspace."""
        (self.workspace / f"{name}.py").write_text(textwrap.dedent(text))

    def flow(self, *modules: dict[str, Any], **value: Any) -> None:
        """The flow."""
        write_flow(self.workspace, "flow_x", *modules, **value)

    @asynccontextmanager
    async def open(self, lane: Lane | None = None, **given: Any) -> AsyncIterator[FlowRuntime]:
        """The runtime of the flow."""
        located = locate("flow_x", self.workspace)
        ids = itertools.count(1)

        def versions(description: Description) -> ScriptVersion:
            steps = tuple(versions(each) for each in description.steps)
            number = next(ids)
            return ScriptVersion(number, number, description, None, steps)

        script = FlowFile(versions(await describe(located)), located.file, located.workspace, tags=self.tags)
        self.runtime = FlowRuntime(lane, **given)
        async with self.runtime.open(script):
            yield self.runtime

    def run(self, **args: Any) -> Run:
        """A run that nobody has begun."""
        from uuid import UUID

        return Run(UUID(int=(time.time_ns() // 1_000_000) << 80 | 7 << 76 | 2 << 62 | next(_serial)), args)

    def batch(self, *runs: Run, **given: Any) -> FlowBatch:
        """These runs, as they are claimed."""
        for run in runs:
            run.state, run.value, run.parked, run.log, run.delay = "", None, None, None, None
        return FlowBatch(list(runs), self.memory, mark=self.mark, **given)

    def start(self, *runs: Run, **given: Any) -> FlowBatch:
        """Have the runtime run them, beside the test; `ended` is set when it returns."""
        batch = self.batch(*runs, **given)

        async def task() -> None:
            await self.runtime.run(batch)
            batch.ended.set()

        self.nursery.start_soon(task)
        return batch

    async def play(self, *runs: Run, seconds: float = 20.0, **given: Any) -> FlowBatch:
        """Have the runtime run them, to their end or until they are parked."""
        batch = self.batch(*runs, **given)
        with trio.fail_after(seconds):
            await self.runtime.run(batch)
        return batch

    async def until(self, condition: Callable[[], Any], seconds: float = 15.0) -> Any:
        """Wait until something that other threads do has happened; what it gives."""
        with trio.fail_after(seconds):
            while not (found := condition()):  # noqa: ASYNC110 - of another thread
                await trio.sleep(0.005)
        return found

    def forget_modules(self) -> None:
        """What was imported from the workspace is not there any more."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(str(self.workspace)):
                del sys.modules[name]
