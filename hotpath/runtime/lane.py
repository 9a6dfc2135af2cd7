"""A lane: one thread that runs one callable after another, and tells Trio when each is done.

Synchronous scripts run in one long-lived thread, because a hop between threads costs 25 µs and a job may cost
1. What is imported, preloaded and run in a lane is always in the same thread, so that thread-bound objects
(an SQLite connection, a model in a GPU context) live as long as the script does.

A lane either owns a daemon thread (`Lane().start()`) or is the calling thread for a while
(`lane.run_here()`): the latter lets a worker give the process's main thread to user code, which some
libraries insist on, with Trio in another thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

import outcome
import trio

T = TypeVar("T")


class Lane:
    """One thread's queue of work, first in, first out."""

    def __init__(self, name: str = "hotpath-jobs") -> None:
        self._name = name
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def thread(self) -> threading.Thread | None:
        """The thread that runs the work, once one does."""
        return self._thread

    def start(self) -> Lane:
        """Run the work in a daemon thread of its own: it ends with the process even if a job hangs."""
        thread = threading.Thread(target=self.run_here, name=self._name, daemon=True)
        thread.start()
        return self

    def run_here(self) -> None:
        """Run the work in the calling thread until the lane is closed.

        What the work itself raises ends with the work, save that a `KeyboardInterrupt` between two pieces of
        work is the caller's: it ends the lane and is raised here.
        """
        self._thread = threading.current_thread()
        while True:
            work = self._queue.get()
            if work is None:
                return
            work()
            del work  # nothing of the last batch stays alive while the lane waits

    def submit(self, work: Callable[[], object]) -> None:
        """Queue the work; it must not raise. `RuntimeError` if the lane is closed."""
        if self._closed:
            raise RuntimeError("this lane is closed")
        self._queue.put(work)

    async def call(self, function: Callable[[], T]) -> T:
        """Run the function in the lane and return what it returns, or raise what it raises.

        If cancelled, the function still runs (a thread cannot be interrupted), and nobody hears of its end.
        """
        done = trio.Event()
        token = trio.lowlevel.current_trio_token()
        box: list[outcome.Value[T] | outcome.Error] = []

        def work() -> None:
            box.append(outcome.capture(function))
            tell(token, done.set)

        self.submit(work)
        await done.wait()
        return box[0].unwrap()

    def close(self) -> None:
        """End the lane once what is queued has run; does not wait."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)


def tell(token: trio.lowlevel.TrioToken, function: Callable[[], object], *, idempotent: bool = False) -> None:
    """Call the function in Trio's thread, soon; if Trio has ended there is nobody left to tell. An idempotent
    one may be called once for several that tell it.
    """
    try:
        token.run_sync_soon(function, idempotent=idempotent)
    except trio.RunFinishedError:
        pass
