"""One worker: a runtime that is warm, a link to the database, a loop between the two."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from hotpath.core.hand import Hand
from hotpath.runtime.tracing import exporting
from hotpath.store.complete import open_completer
from hotpath.worker.assignment import Assignment, ScriptInHand
from hotpath.worker.clock import DatabaseClock
from hotpath.worker.link import open_link
from hotpath.worker.loop import Loop
from hotpath.worker.search import Search
from hotpath.worker.statistics import WorkerStatistics
from hotpath.worker.wake import Waker

if TYPE_CHECKING:
    from hotpath.runtime.protocol import Runtime
    from hotpath.worker.board import Board


async def work(
    assignment: Assignment,
    runtime: Runtime,
    *,
    board: Board | None = None,
    tell: Callable[[dict[str, Any]], object] | None = None,
    task_status: trio.TaskStatus[Loop] = trio.TASK_STATUS_IGNORED,
) -> WorkerStatistics:
    """Run the worker until it is stopped (`Loop.stop`), or, to drain, until nothing is left.

    Started when the script is loaded and the database connected. Raises `hotpath.errors.ScriptError` for a
    script that cannot be loaded. If cancelled, jobs under way are given up; what was reported is flushed, the
    rest is given back.

    `board` is shared with a supervisor, `tell` says to it what has no place there: `{"places": [lease,
    places]}` of a lease with holes, `{"stuck": [lease, place, kind]}` of a job that cannot be ended from
    inside. The supervisor's `cancel` is `Loop.cancel`.
    """
    async with runtime.open(ScriptInHand.of(assignment)):
        return await live(assignment, runtime, board=board, tell=tell, task_status=task_status)


async def live(
    assignment: Assignment,
    runtime: Runtime,
    *,
    board: Board | None = None,
    tell: Callable[[dict[str, Any]], object] | None = None,
    task_status: trio.TaskStatus[Loop] = trio.TASK_STATUS_IGNORED,
) -> WorkerStatistics:
    """The same, with a runtime that has been opened."""
    hands: dict[int, Hand] = {}
    tags = assignment.tags
    async with (
        open_link(assignment.dsn, assignment.worker, lambda: list(hands)) as link,
        open_completer(assignment.dsn, assignment.worker, lambda: link.pooled) as completer,
        trio.open_nursery() as nursery,
        exporting(assignment.name) as traced,
    ):
        link.traced = traced
        clock = DatabaseClock()
        search = Search(assignment.version.script, tags, clock)
        waker = Waker(assignment.listen_dsn, assignment.worker, [tag for tag, _ in tags])
        loop = Loop(
            link,
            search,
            waker,
            runtime,
            drain=assignment.drain,
            board=board,
            clock=clock,
            hands=hands,
            completer=completer,
        )
        if tell is not None:
            loop.tell = tell
        waker.wake, waker.wake_everywhere = loop.wake, loop.wake_everywhere
        nursery.start_soon(waker.run)
        task_status.started(loop)
        await loop.run()
        nursery.cancel_scope.cancel(reason="the worker is done")
    return loop.statistics()
