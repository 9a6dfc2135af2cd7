"""The server says that it is up and how it listens, for the doctor: he may be asked anywhere."""

from __future__ import annotations

import random
from contextlib import suppress

import trio

from hotpath.store.database import Database
from hotpath.store.servers import EVERY, Standing
from hotpath.store.trouble import ANY_TROUBLE

WITHIN = 5.0
"""Seconds that saying so may take."""
FAREWELL = 1.0
"""The same, at the end."""


async def stand(database: Database, standing: Standing) -> None:
    """Say so again and again, until cancelled; and then, that it is over."""
    try:
        while True:
            with suppress(*ANY_TROUBLE):  # others tell of it
                async with database.connection(within=WITHIN) as connection:
                    if standing.clock.apart is None:  # what the first reply shows is said with the second
                        await standing.say(connection)
                    await standing.say(connection)
            await trio.sleep(EVERY * random.uniform(0.8, 1.2))
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL), suppress(*ANY_TROUBLE):
            async with database.connection(within=FAREWELL) as connection:
                await standing.gone(connection)
