"""Scripts written on the spot, batches of their jobs, and what came of them."""

from __future__ import annotations

import itertools
import json
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import outcome as capture
import pytest
import trio

from hotpath.model import Description, OutcomeState, ScriptVersion, Settings
from hotpath.runtime.lane import Lane
from hotpath.runtime.protocol import Outcome, Runtime
from hotpath.runtime.sync import SyncRuntime
from hotpath.runtime.trio_runtime import AsyncRuntime

_serial = itertools.count(1)


@attrs.frozen
class GivenScript:
    """A script as a worker shows it to a runtime."""

    version: ScriptVersion
    file: Path
    workspace: Path
    worker: str = "tester-1"


@attrs.frozen
class Ended:
    """How one job ended."""

    index: int
    state: str
    value: Any
    """Its result, or its error object."""
    log: str | None
    started_us: int
    duration_us: int


@attrs.define(eq=False)
class GivenBatch:
    """Jobs as a worker shows them to a runtime; keeps what is reported, in the order of the reports."""

    args: bytes
    ids: list[UUID]
    attempts: list[int]
    tag: str = "tests"
    timeouts: list[float | None] | None = None
    until: int = sys.maxsize
    number: int = attrs.field(factory=lambda: next(_serial) << 16)
    mark: list[int] = attrs.field(factory=lambda: [0, 0])
    canceling: set[int] = attrs.field(factory=set)
    begun: int = 0
    ended: list[Ended] = attrs.field(factory=list)
    delays: dict[int, float] = attrs.field(factory=dict)
    """Of the jobs that are to run again, by index."""
    shared: int | None = None
    """The one token that all jobs have, in a batch of steps of one run."""
    notes: list[Any] = attrs.field(factory=list)
    parked: dict[int, tuple[Any, str | None]] = attrs.field(factory=dict)
    """By index, what was said of jobs that were parked."""
    traces: dict[int, str] | None = None
    on_report: Callable[[Ended], object] = lambda ended: None

    @property
    def stopped(self) -> bool:
        return time.perf_counter_ns() >= self.until

    def stop(self) -> None:
        self.until = 0

    def retry(self, outcome: Outcome, delay: float) -> None:
        assert outcome[1] == OutcomeState.RETRY
        self.delays[outcome[0]] = delay
        self.report(outcome)

    @property
    def tokens(self) -> Any:
        return (
            range(self.number, self.number + len(self)) if self.shared is None else [self.shared] * len(self)
        )

    def note(self, index: int, note: Any, on_written: Any = None) -> None:
        self.notes.append((index, note))

    def park(self, index: int, parking: Any, log: str | None = None) -> None:
        assert index not in self.parked
        self.parked[index] = (parking, log)

    async def recall(self, indexes: Any) -> dict[int, Any]:
        return {}

    async def cached(self, keys: Any) -> dict[bytes, bytes]:
        return {}

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def __len__(self) -> int:
        return len(self.ids)

    def report(self, outcome: Outcome) -> None:
        index, state, started, duration, payload, log = outcome
        if log is not None:
            log.encode()  # as the driver will
        self.ended.append(
            Ended(index, OutcomeState(state).name.lower(), json.loads(payload), log, started, duration)
        )
        self.on_report(self.ended[-1])

    @property
    def in_order(self) -> list[Ended]:
        """What was reported, in the order of the jobs; each job at most once."""
        assert len({one.index for one in self.ended}) == len(self.ended)
        return sorted(self.ended, key=lambda one: one.index)

    @property
    def values(self) -> list[Any]:
        """Results and errors in the order of the jobs, all of which have ended."""
        assert len(self.ended) == len(self)
        return [one.value for one in self.in_order]


def batch_of(*args: Any, raw: bytes | None = None) -> GivenBatch:
    """A batch of one job for each of these args; `raw` replaces their JSON."""
    ids = [UUID(int=index + 1) for index in range(len(args))]
    return GivenBatch(json.dumps(args).encode() if raw is None else raw, ids, [1] * len(args))


@pytest.fixture
def make_batch() -> Callable[..., GivenBatch]:
    """Makes a batch of one job for each of its arguments."""
    return batch_of


@pytest.fixture
def make_script(tmp_path: Path) -> Iterator[Callable[..., GivenScript]]:
    """Makes a script of the text given; modules and the module path are as before afterwards."""
    path, modules = sys.path.copy(), set(sys.modules)

    def make(
        text: str, *, name: str | None = None, schema: dict[str, Any] | None = None, **settings: Any
    ) -> GivenScript:
        name = name or f"script_{next(_serial)}"
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        description = Description(
            name, "0" * 64, "async def main" in text, schema or {}, Settings(**settings)
        )
        return GivenScript(ScriptVersion(1, 1, description), file, tmp_path)

    yield make
    sys.path[:] = path
    for module in set(sys.modules) - modules:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]


def in_main_thread(test: Callable[[Lane], Any]) -> None:
    """Run the async function beside, and the lane that it is given here, as a worker process does."""
    lane = Lane()
    ends: list[capture.Outcome[Any]] = []

    def beside() -> None:
        try:
            ends.append(capture.capture(trio.run, test, lane))
        finally:
            lane.close()

    thread = threading.Thread(target=beside, daemon=True)
    thread.start()
    lane.run_here()
    thread.join()
    ends[0].unwrap()


@pytest.fixture
def beside_main() -> Callable[[Callable[[Lane], Any]], None]:
    """Runs an async function in a thread of its own; what its lane runs is in the main thread."""
    return in_main_thread


@pytest.fixture
def opened(make_script: Callable[..., GivenScript]) -> Callable[..., Any]:
    """Opens a runtime for a script of the text given; a context manager."""

    @asynccontextmanager
    async def open_runtime(
        text: str, *, concurrency: int = 100, lane: Lane | None = None, **settings: Any
    ) -> AsyncIterator[Runtime]:
        script = make_script(text, **settings)
        runtime = AsyncRuntime(concurrency) if script.version.description.is_async else SyncRuntime(lane)
        async with runtime.open(script):
            yield runtime

    return open_runtime


@pytest.fixture
def play(opened: Callable[..., Any]) -> Callable[..., Any]:
    """Runs one batch of a script of the text given, a job for each further argument: the batch."""

    async def play_batch(text: str, *args: Any, raw: bytes | None = None, **settings: Any) -> GivenBatch:
        batch = batch_of(*args, raw=raw)
        async with opened(text, **settings) as runtime:
            await runtime.run(batch)
        return batch

    return play_batch
