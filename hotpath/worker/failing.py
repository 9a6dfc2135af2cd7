"""Jobs of a script that cannot be loaded end as failures that say so, without a process."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from hotpath.core.retry import decide
from hotpath.model import OutcomeState
from hotpath.worker.handing import hand_of_segment

if TYPE_CHECKING:
    from hotpath.store.mixed import Segment
    from hotpath.worker.clock import DatabaseClock
    from hotpath.worker.link import Link
    from hotpath.worker.warm import Broken


async def fail(link: Link, clock: DatabaseClock, segment: Segment, tag: str, broken: Broken) -> int:
    """End these jobs, leased to the link's worker, or have them run again, as their script's retries say.
    Returns how many have ended.
    """
    hand = hand_of_segment(segment, tag)
    now = time.perf_counter_ns() // 1000
    retry = broken.version.description.settings.retry
    for index in range(len(hand)):
        outcome = (index, int(OutcomeState.FAILURE), now, 0, broken.error, None)
        delay = decide(retry, hand.attempts[index], broken.names, random.random())
        if delay is None:
            hand.report(outcome)
        else:
            hand.retry(outcome, delay)
    hand.over = True
    failed = 0
    while (flush := hand.take()) is not None:
        await link.cycle([flush], None, clock)
        failed += flush.jobs - len(flush.retries)
        if flush.final:
            break
    return failed
