"""The runtime of scripts whose `main` is an ordinary function: one job after the other, in one thread.

It is a `LaneRunner` (`runtime/chain.py`, where the hot path is) with one script.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hotpath.model import ErrorKind
from hotpath.runtime.chain import LaneRunner
from hotpath.runtime.load import WarmScript

if TYPE_CHECKING:
    from hotpath.runtime.lane import Lane
    from hotpath.runtime.protocol import Batch, Script


class SyncRuntime:
    """Runs a synchronous `main` in a lane: the module is imported, preloaded and called in one and the same
    thread.

    With `lane=None` it has a daemon thread of its own; give it a lane that runs in the main thread if the
    script needs that, or if jobs that wait in a system call are to be interrupted.
    """

    concurrency = 1

    def __init__(self, lane: Lane | None = None) -> None:
        self._runner = LaneRunner(lane)
        self._script: Script | None = None
        self._warm: WarmScript | None = None

    @asynccontextmanager
    async def open(self, script: Script) -> AsyncIterator[None]:
        """Import the script in the lane and run its `preload()`. Raises `ScriptError` for a script that
        cannot be run.
        """
        async with self._runner.open():
            self._warm = await self._runner.load(script, alone=True)
            self._script = script
            try:
                yield
            finally:
                self._script = self._warm = None

    async def run(self, batch: Batch) -> None:
        """Run every job of the batch in the lane, after the batches of earlier calls.

        From `batch.until` on, the job in hand is finished and reported and no further one starts. If
        cancelled, nothing more is reported either; the job in hand runs on in the lane, and batches given
        later wait for it.
        """
        if self._script is None or self._warm is None:
            raise RuntimeError("SyncRuntime.run() outside of `async with runtime.open(script)`")
        await self._runner.run(self._warm, self._script, batch)

    def begin(self, batch: Batch, ended: Callable[[BaseException | None], object]) -> bool:
        """The same without a task that waits, while `attend` runs: `ended` is called in the lane's thread,
        with what has broken the runtime, if anything has. False, and nothing happens, for jobs that somebody
        has to follow.
        """
        if self._script is None or self._warm is None:
            raise RuntimeError("SyncRuntime.begin() outside of `async with runtime.open(script)`")
        return self._runner.begin(self._warm, self._script, batch, ended)

    async def attend(self) -> None:
        """See to it that batches which were begun so can be interrupted; if cancelled, they are given up."""
        await self._runner.attend()

    def interrupt(self, batch: Batch, index: int, kind: ErrorKind) -> None:
        """End this job: raise `JobInterrupted` in its `main`, or have it skipped if it has not begun.

        What cannot be interrupted: code in C that does not come back, and, unless the lane is the main
        thread, what waits in a system call.
        """
        self._runner.interrupt(batch, index, kind)

    def stuck(self, after: float) -> Sequence[tuple[Batch, int, ErrorKind]]:
        """None: a job that does not end is the one that `mark` names."""
        return []
