"""The protocol between a worker and whatever runs a script's jobs.

A worker claims jobs ahead and flushes outcomes behind; a runtime keeps one script warm and runs what it is
given, a *batch* at a time, because work per batch is cheap and work per job is not. The
two built-in runtimes, `SyncRuntime` and `AsyncRuntime`, use nothing that is not in this module.

The life of a runtime: the worker enters `runtime.open(script)` once, then awaits `runtime.run(batch)` for
each batch, several of them at the same time so that the next batch is at hand when one ends.
`run` returns when every job of the batch has been reported (or, once `batch.stopped`, every job that had
begun), or raises if the runtime itself is broken (the worker then stops, and whatever was not reported goes
back to the queue).

What a runtime owes besides: it says which job it has in hand (`mark`), so that a death can be laid at the
right door; it starts no job after `until`; it ends jobs that overrun their time-out, as far as it can. One
that can end a job from outside offers `Interruptible` too.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, MutableSequence, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable
from uuid import UUID

if TYPE_CHECKING:
    from pathlib import Path

    from hotpath.core.notes import Note, Parking, Recalled
    from hotpath.model import ErrorKind, ScriptVersion

Outcome: TypeAlias = "tuple[int, int, int, int, bytes, str | None]"
"""How one job ended: `(index, state, started_us, duration_us, payload, log)`.

- `index`: position of the job in its batch;
- `state`: an `OutcomeState` (1 success, 2 failure, 3 canceled; 4 only in `Batch.retry`);
- `started_us`: `time.perf_counter_ns() // 1000` as `main` was entered; `duration_us`: microseconds inside
  `main`;
- `payload`: JSON, UTF-8: the result, or the error object of CONTRACT;
- `log`: what the job printed and logged, or None.

A plain tuple, since a worker makes 100,000 of them a second.
"""


class Batch(Protocol):
    """Jobs that were claimed together and run by one call; given to `Runtime.run`."""

    begun: int
    """How many of its jobs have started. A runtime that runs several at once sets it before it lets other
    tasks run; one that runs them one by one need not, `mark` says it.
    """

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
    def timeouts(self) -> Sequence[float | None] | None:
        """Seconds that each job may run, None where the script's own setting holds; None: no job has a
        time-out of its own.
        """

    @property
    def number(self) -> int:
        """Token of its first job; job i has the token `number + i`, above 0 and unlike that of any other job
        in hand.
        """

    @property
    def mark(self) -> MutableSequence[int]:
        """Two words that whoever watches this worker reads, also after its death.

        `mark[0] = number + i` as job i is about to start, before the runtime looks at `until`; 0 when no job
        is in hand or, with several at once, while none of them runs code. `mark[1]`: when the job has to end,
        in nanoseconds of `time.perf_counter_ns`; 0 where it has no time-out. It is 0 whenever `mark[0]`
        changes.
        """

    @property
    def until(self) -> int:
        """`time.perf_counter_ns()` from which no further job may start (the worker's lease ends, or it is to
        stop: then 0); look at it before each job.
        """

    @property
    def stopped(self) -> bool:
        """True once no further job of it should start: jobs under way are finished and reported, then
        `run` returns. The same as `time.perf_counter_ns() >= until`.
        """

    @property
    def canceling(self) -> Container[int]:
        """Indexes of the jobs that somebody asked to cancel, for `current_job().cancel_requested`."""

    @property
    def report(self) -> Callable[[Outcome], object]:
        """Hand over the outcome of one job; callable from any thread, never blocks."""

    def retry(self, outcome: Outcome, delay: float) -> object:
        """Like `report`, for an attempt that failed and is to run again after `delay` seconds; the outcome's
        state is `OutcomeState.RETRY` and its payload the error object.
        """

    @property
    def tokens(self) -> Sequence[int]:
        """Token of each job: what `mark[0]` says while it is in hand. `range(number, number + len)`, save in
        a batch of steps, where it is the token of the job that the step belongs to; several may have the
        same.
        """

    def note(self, index: int, note: Note, on_written: Callable[[], object] | None = None) -> object:
        """Have this written, in the order of the calls, before the outcome of job `index`; callable from any
        thread, before the outcome is reported. It goes with the next flush, within 25 ms.

        With `on_written` it does not wait for company: that is called in Trio's thread once the note is
        committed durably, and never if the job's lease was lost.
        """

    def park(self, index: int, parking: Parking, log: str | None = None) -> object:
        """Instead of an outcome: the job leaves this worker, behind its notes, and is claimed again when the
        parking says; callable from any thread. `log` is what it has printed since it began here.
        """

    async def recall(self, indexes: Sequence[int]) -> Mapping[int, Recalled]:
        """What was noted of these jobs before, by whichever worker; those of which nothing was are left out.
        Called in Trio's thread.
        """

    async def cached(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Results that were noted under these keys (`Cached`) and are still good: JSON. Called in Trio's
        thread.
        """

    async def admit(self, script: int, most: int) -> Container[int]:
        """Ask for a place for each of these jobs, of which `most` of this script may be under way, whichever
        workers have them; the indexes of those that have one. The others are to be parked, until an event of
        the key `slot:`. Called in Trio's thread.
        """

    def now_us(self) -> int:
        """The database's clock, in microseconds since the epoch, as well as it is known; callable from any
        thread.
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

        Several calls may be under way together; jobs start in the order of the calls. Look at `batch.until`
        before each job. If cancelled, it stops at the next job boundary; jobs it has not reported are
        released by the worker.
        """


@runtime_checkable
class Interruptible(Protocol):
    """What a runtime offers that can end a job from outside. Both are called in Trio's thread."""

    def interrupt(self, batch: Batch, index: int, kind: ErrorKind) -> None:
        """End this job now, if it can be done; returns at once, and does nothing for a job that has ended.

        `kind` is `CANCELED` (the job is reported with state 3 and an error of kind `canceled`; at once, if it
        has not begun) or `TIMEOUT` (a failure, or a retry, of kind `timeout`). A job that ends in success all
        the same is a success.
        """

    def stuck(self, after: float) -> Sequence[tuple[Batch, int, ErrorKind]]:
        """Jobs that were told to end more than `after` seconds ago, still run, and are not named by `mark`;
        what can be done with them is to end the process.
        """
