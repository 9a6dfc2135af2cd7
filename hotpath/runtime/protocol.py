"""The protocol between a worker and whatever runs a script's jobs.

A worker claims jobs ahead and flushes outcomes behind; a runtime keeps one script warm and runs what it is
given, a *batch* at a time, because work per batch is cheap and work per job is not. The
two built-in runtimes, `SyncRuntime` and `AsyncRuntime`, use nothing that is not in this module.

The life of a runtime: the worker enters `runtime.open(script)` once, then awaits `runtime.run(batch)` for
each batch, several of them at the same time so that the next batch is at hand when one ends.
`run` returns when every job of the batch has been reported (or, once `batch.stopped`, every job that had
begun), or raises if the runtime itself is broken (the worker then stops, and whatever was not reported goes
back to the queue).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable
from uuid import UUID

if TYPE_CHECKING:
    from pathlib import Path

    from hotpath.model import ScriptVersion

Outcome: TypeAlias = "tuple[int, int, int, int, bytes, str | None]"
"""How one job ended: `(index, state, started_us, duration_us, payload, log)`.

- `index`: position of the job in its batch;
- `state`: an `OutcomeState` (1 success, 2 failure, 3 canceled);
- `started_us`: `time.perf_counter_ns() // 1000` as `main` was entered; `duration_us`: microseconds inside
  `main`;
- `payload`: JSON, UTF-8: the result, or the error object of CONTRACT;
- `log`: what the job printed and logged, or None.

A plain tuple, since a worker makes 100,000 of them a second.
"""


class Batch(Protocol):
    """Jobs that were claimed together and run by one call; given to `Runtime.run`."""

    @property
    def ids(self) -> Sequence[UUID]:
        """Ids of the jobs, in the order they are to start."""

    @property
    def args(self) -> bytes:
        """One JSON array with the args object of each job, in the same order."""

    @property
    def attempts(self) -> Sequence[int]:
        """Number of this run of each job, from 1."""

    @property
    def tag(self) -> str:
        """Tag the jobs waited in."""

    @property
    def report(self) -> Callable[[Outcome], object]:
        """Hand over the outcome of one job; callable from any thread, never blocks."""

    @property
    def stopped(self) -> bool:
        """True once no further job of it should start: jobs under way are finished and reported, then
        `run` returns.
        """

    def __len__(self) -> int:
        """Number of jobs."""


class Script(Protocol):
    """The script that a runtime is to keep warm."""

    @property
    def version(self) -> ScriptVersion:
        """Name, schema and settings, as the database has them."""

    @property
    def file(self) -> Path:
        """The source file, in the workspace."""

    @property
    def workspace(self) -> Path:
        """Directory that imports are relative to."""

    @property
    def worker(self) -> str:
        """Name of the worker, for `current_job().worker`."""


@runtime_checkable
class Runtime(Protocol):
    """Keeps one script warm and runs batches of its jobs."""

    @property
    def concurrency(self) -> int:
        """How many jobs it runs at the same time; the worker keeps at least as many in hand."""

    def open(self, script: Script) -> AbstractAsyncContextManager[Any]:
        """Load the script and its `preload()`; on exit, let go of it.

        Raises `hotpath.errors.ScriptError` (a `ScriptImportError` for a module that raises on import).
        """

    async def run(self, batch: Batch) -> None:
        """Run every job of the batch and report each one's outcome once.

        Several calls may be under way together; jobs start in the order of the calls. Look at `batch.stopped`
        before each job. If cancelled, it stops at the next job boundary; jobs it has not reported are
        released by the worker.
        """
