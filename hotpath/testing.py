"""For the tests of your own scripts: run one job through the real runtime, without a database.

    def test_score():
        done = trio.run(hotpath.testing.run_job, "f/team/score", {"x": 1})
        assert done.result == 2
        assert "scored" in done.log

Args are checked and decoded, output is captured, the result is encoded and errors become error objects,
exactly as in a worker. The script's module is imported into the calling process, once.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

from hotpath.core.notes import Note, OnWritten, Parking, Recalled
from hotpath.core.schema import ArgsValidator
from hotpath.model import OutcomeState, ScriptVersion, State
from hotpath.runtime.choose import choose
from hotpath.runtime.protocol import Outcome
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import locate

__all__ = ["Done", "run_job"]


_PARKED = msgspec.json.encode(
    {
        "name": "Parked",
        "message": "it waits, for a time or for somebody, which a test's job cannot: run it by a worker",
        "traceback": "",
        "kind": "exception",
    }
)


@attrs.frozen
class Done:
    """How a job ended."""

    state: State
    result: Any
    """What `main` returned, as it comes out of the database: JSON."""
    error: dict[str, Any] | None
    """The error object: name, message, traceback, kind."""
    log: str
    """What the job printed and logged."""
    duration_ms: float
    retry_after: float | None = None
    """Seconds after which the job would run again, for a failure that a `Retry` or `RetryLater` covers."""


@attrs.frozen
class _Script:
    """What the runtime is to keep warm."""

    version: ScriptVersion
    file: Path
    workspace: Path
    worker: str = "test"


@attrs.define(eq=False)
class _Batch:
    """A batch of one job."""

    args: bytes
    tag: str
    timeouts: tuple[float | None, ...]
    attempts: tuple[int, ...]
    outcomes: list[Outcome] = attrs.Factory(list)
    delay: float | None = None
    ids: list[uuid.UUID] = attrs.Factory(lambda: [uuid.uuid4()])
    number: int = 1
    mark: list[int] = attrs.Factory(lambda: [0, 0])
    until: int = sys.maxsize
    stopped: bool = False
    canceling: frozenset[int] = frozenset()
    tokens: tuple[int, ...] = (1,)
    begun: int = 0

    @property
    def report(self) -> Any:
        return self.outcomes.append

    def retry(self, outcome: Outcome, delay: float) -> None:
        self.outcomes.append(outcome)
        self.delay = delay

    def note(self, index: int, note: Note, on_written: OnWritten = None) -> None:
        if on_written is not None:
            on_written()  # it is as durable as it gets

    def park(self, index: int, parking: Parking, log: str | None = None) -> None:
        now = time.perf_counter_ns() // 1000
        self.outcomes.append((0, int(OutcomeState.FAILURE), now, 0, _PARKED, log))

    async def recall(self, indexes: Sequence[int]) -> dict[int, Recalled]:
        return {}

    async def cached(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        return {}

    async def admit(self, script: int, most: int) -> range:
        return range(1)

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def __len__(self) -> int:
        return 1


async def run_job(
    script: str | Path,
    args: Mapping[str, Any] | None = None,
    workspace: str | Path = ".",
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - the job's, as `Client.enqueue` takes it
    attempt: int = 1,
) -> Done:
    """Run one job of a script, given by its name in the workspace or by the path of its file: attempt number
    `attempt`, which may take `timeout` seconds (by default what the script says).

    Raises what `Client.enqueue` would raise: `UnknownScriptError`, `ScriptImportError`, `BadArgsError`.
    An exception in `main` is not raised: it is in `Done.error`, as it would be stored.
    """
    located = locate(str(script), Path(workspace))
    description = await describe(located)
    raw = ArgsValidator(description.schema).encode({} if args is None else args)
    runtime = choose(description)
    tag = description.settings.tag or description.path
    batch = _Batch(b"[" + raw + b"]", tag, timeouts=(timeout,), attempts=(attempt,))
    version = ScriptVersion(0, 0, description)
    async with runtime.open(_Script(version, located.file, located.workspace)):
        await runtime.run(batch)
    ((_, state, _, duration_us, payload, log),) = batch.outcomes
    document = msgspec.json.decode(payload)
    succeeded = state == OutcomeState.SUCCESS
    return Done(
        state=State.FAILURE if state == OutcomeState.RETRY else State[OutcomeState(state).name],
        result=document if succeeded else None,
        error=None if succeeded else document,
        log=log or "",
        duration_ms=duration_us / 1000,
        retry_after=batch.delay,
    )
