"""One worker: a runtime that is warm, a link to the database, a loop between the two."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from hotpath.core.hand import Hand
from hotpath.runtime.tracing import exporting
from hotpath.store.complete import open_completer
from hotpath.store.queries import query
from hotpath.store.work import WorkerSession
from hotpath.worker.assignment import Assignment, Listening, ScriptInHand
from hotpath.worker.clock import DatabaseClock
from hotpath.worker.fed import FedLoop
from hotpath.worker.link import open_link
from hotpath.worker.loop import Loop
from hotpath.worker.search import Search
from hotpath.worker.statistics import WorkerStatistics
from hotpath.worker.wake import Waker

if TYPE_CHECKING:
    from hotpath.runtime.protocol import Runtime
    from hotpath.worker.board import Board

CLOCK_SAMPLES = 3


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
        # What was claimed for one that is fed may be on its way: its supervisor looks for what was lost.
        open_link(assignment.dsn, assignment.worker, None if assignment.fed else lambda: list(hands)) as link,
        open_completer(assignment.dsn, assignment.worker, lambda: link.pooled) as completer,
        trio.open_nursery() as nursery,
        exporting(assignment.name) as traced,
    ):
        link.traced = traced
        clock = DatabaseClock()
        await link.guarded(WorkerSession.warm_up, claims=not assignment.fed)
        if assignment.fed:  # it writes outcomes before any claim of its own could tell the time
            await link.guarded(_read, clock)
        search = Search(assignment.version.script, tags, clock, assignment.ranks)
        waker = Waker(assignment.listen_dsn, assignment.worker, [tag for tag, _ in tags])
        kind = FedLoop if assignment.fed else Loop
        loop = kind(
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
        if assignment.fed:
            waker.deaf = False  # nobody has to wake it
        else:
            waker.wake, waker.wake_everywhere = loop.wake, loop.wake_everywhere
            nursery.start_soon(waker.run)
        task_status.started(loop)
        await loop.run()
        nursery.cancel_scope.cancel(reason="the worker is done")
    return loop.statistics()


async def _read(session: WorkerSession, clock: DatabaseClock) -> None:
    """What the time is. Several replies: a machine that has workers start is busy, and one may be late."""
    for _ in range(CLOCK_SAMPLES):
        asked_us = time.perf_counter_ns() // 1000
        clock_us = await session.connection.fetchval(query("clock"))
        clock.observe(clock_us, asked_us, time.perf_counter_ns() // 1000)


def listen(loop: Loop, told: Listening) -> None:
    """Claim from other tags from now on; jobs in hand go on, and so does a claim that is under way."""
    loop.search = Search(loop.search.script, told.tags, loop.clock, told.ranks)
    loop.waker.listen([tag for tag, _ in told.tags])
    loop.wake_everywhere()
