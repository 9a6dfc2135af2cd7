"""What somebody asked for who wants a command, or a part of it, to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import attrs
import trio

from hotpath.worker import leaving


@attrs.define(eq=False)
class Stop:
    """How often somebody asked this command to end. The first time lets jobs under way end within the grace,
    the second has them given back at once.
    """

    count: int = 0
    is_preparing: bool = False
    """Whether nothing can have been claimed yet."""
    asked: trio.Event = attrs.field(factory=trio.Event)
    at_once: trio.Event = attrs.field(factory=trio.Event)
    told: list[Callable[[], object]] = attrs.field(factory=list)
    """Called each time: the parts, which are to end with the whole."""

    def __call__(self) -> None:
        """Ask once more."""
        self.count += 1
        self.asked.set()
        if self.count > 1:
            self.at_once.set()
            if self.is_preparing:
                os._exit(0)  # a database that is being made cannot be interrupted otherwise
        for tell in list(self.told):
            tell()

    def part(self) -> Stop:
        """Of something that ends with this at the latest."""
        part = Stop()
        for _ in range(self.count):
            part()
        self.told.append(part)
        return part

    def forget(self, part: Stop) -> None:
        """The part has ended."""
        if part in self.told:
            self.told.remove(part)

    async def heed_signals(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        try:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                leaving.heed()
                task_status.started()
                async for _ in signals:
                    self()
        finally:
            leaving.heed_no_more()
