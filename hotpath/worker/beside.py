"""What goes on beside the work never ends it (I11): a fault in it is told with all there is to know of it,
and it begins anew.

For keepers (the house, schedules, retention, alerts, logs that are looked at): any other process does the
same, so that one of them fails here is no reason to lose the jobs that run. The heartbeat and what starts and
buries workers are not run this way: without them there is no work, and they fail loudly.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

log = logging.getLogger("hotpath.worker")

AGAIN, LONGEST_AGAIN = 1.0, 60.0
"""Seconds until it begins anew; twice as many each time, unless it went on for longer meanwhile."""


async def keep_up(what: str, run: Callable[..., Awaitable[object]], *args: Any) -> None:
    """Run it until cancelled, or until it returns."""
    pause = AGAIN
    while True:
        began = trio.current_time()
        try:
            await run(*args)
        except Exception:
            if trio.current_time() - began > LONGEST_AGAIN:
                pause = AGAIN
            log.exception("%s failed, a fault of Hotpath's; it begins anew in %.0f s", what, pause)
        else:
            return
        await trio.sleep(pause)
        pause = min(pause * 2, LONGEST_AGAIN)
