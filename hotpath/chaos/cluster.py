"""The database of a run, where the user gave none: a private PostgreSQL, durable, which may be killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio

from hotpath.store.embedded import EmbeddedPostgres

NAME = "hotpath_chaos"
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill -9": signal.SIGKILL}
"""How a postmaster is stopped: in order, in a hurry, not at all."""
_DOWN_SECONDS = 60.0


@attrs.frozen
class Cluster:
    """A PostgreSQL of this run's own."""

    server: EmbeddedPostgres
    url: str

    async def restart(self, how: str, seconds: float) -> float:
        """Stop it, wait, start it; return the seconds from the stop until it answers again."""
        began = time.monotonic()
        pid = self.server.status().pid
        if pid is not None:
            os.kill(pid, SIGNALS[how])
            with trio.move_on_after(_DOWN_SECONDS):
                while self.server.status().running:  # noqa: ASYNC110 - another process's end
                    await trio.sleep(0.02)
        await trio.sleep(seconds)
        await self.ensure_running()
        return time.monotonic() - began

    async def ensure_running(self) -> None:
        """Start it unless it runs."""
        await trio.to_thread.run_sync(self.server.start, NAME)


@contextmanager
def private_cluster(home: Path) -> Iterator[Cluster]:
    """A new cluster below `home`, with the durable settings of every embedded one; stopped at the end."""
    server = EmbeddedPostgres(home, linger=1.0)  # should this program be killed, a reaper stops the server
    url = server.start(NAME)
    try:
        yield Cluster(server, url)
    finally:
        server.stop()
        server.close()
