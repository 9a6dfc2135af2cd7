"""The guard: looks at each worker's board ten times a second, and ends those that must not go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import trio

from hotpath.core.watch import SECOND, Kill
from hotpath.worker.heir import Heir, open_heir

if TYPE_CHECKING:
    from hotpath.worker.lives import Life

log = logging.getLogger("hotpath.worker")

TICK = 0.1
"""Seconds between two looks."""
LOST = SECOND
"""Nanoseconds that a worker whose lease is lost gets to flush what still counts."""
LEAVE = 5.0
"""Seconds that a process gets to end once it has said that its work is settled."""


async def guard(lives: Callable[[], Iterable[Life]]) -> None:
    """Watch the workers, until cancelled."""
    async with open_heir() as heir:
        await _watch(lives, heir)


async def _watch(lives: Callable[[], Iterable[Life]], heir: Heir) -> None:
    settled: dict[int, float] = {}
    while True:
        await trio.sleep(TICK)
        now = time.perf_counter_ns()
        heir.tell(life.child.pid for life in lives())
        for life in list(lives()):
            child = life.child
            if child.returncode is not None or child.killed is not None:
                continue
            if child.is_over:
                # Threads that its jobs have left behind may keep it from ending.
                if trio.current_time() - settled.setdefault(life.worker, trio.current_time()) > LEAVE:
                    child.kill()
                continue
            kill = life.watch.look(now, child.look())
            if kill is None and life.lost_at is not None and now - life.lost_at >= LOST:
                kill = Kill(None, None, "its lease was lost")
            if kill is not None:
                log.warning("worker %s is killed: %s", life.name, kill.reason, extra={"worker": life.name})
                child.kill(kill)
            life.wear()
