"""Trying an alert's channels: by whoever sends in earnest, so that what is tried is what will happen."""

from __future__ import annotations

import attrs
import trio

from hotpath.store.alerts import WordState, put_test, word_states
from hotpath.store.database import Database

LOOK_EVERY = 0.2
NOBODY_SECONDS = 8.0
"""Seconds after which nobody seems to send."""
NOBODY = (
    "nobody has tried: a supervisor (hotpath dedicate, hotpath worker) or server (hotpath serve) of this "
    "database has to run"
)


async def run_test(database: Database, name: str, seconds: float) -> list[WordState]:
    """Have a test sent to each channel, and return what became of each within so many seconds. Raises
    `UnknownAlertError`.
    """
    async with database.connection() as connection:
        words = await put_test(connection, name)
    until = trio.current_time() + seconds
    nobody = trio.current_time() + min(seconds, NOBODY_SECONDS)
    while True:
        async with database.connection() as connection:
            states = await word_states(connection, words)
        now = trio.current_time()
        is_over = all(state.ended for state in states) or now >= until
        if is_over or (now >= nobody and not any(state.tries for state in states)):
            return [attrs.evolve(state, problem=NOBODY) if not state.tries else state for state in states]
        await trio.sleep(LOOK_EVERY)
