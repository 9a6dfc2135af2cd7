"""The hub: what a server's viewers look at, read once for all of them.

    viewer (a subscription) ─ outbox (its WebSocket) ◀─ feed ◀─ one read of the database

A feed exists while it has viewers: nobody looks, nothing is read. It puts each event into the outboxes of its
viewers without waiting for any of them.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import attrs
import trio

from hotpath.store.database import Database
from hotpath.web.feeds import Glance, Jobs
from hotpath.web.glance import read_overview, read_top
from hotpath.web.live import Logs
from hotpath.web.outbox import Pace, Viewer
from hotpath.web.reads import Reads, ReadStatistics
from hotpath.web.runs_feed import Runs


@attrs.frozen
class Look:
    """What a subscription looks at."""

    channel: str
    """`overview`, `top`, `job`, `run` or `log`."""
    job: UUID | None = None
    after: Any = None
    """The last that the viewer has seen, where the channel can go on from there."""


@attrs.frozen
class HubStatistics:
    """What the hub does now."""

    viewers: int
    jobs: int
    """Jobs that are looked at, for whatever channel."""
    runs: int
    logs: int
    hears: bool
    """Whether notifications come in; until somebody looks at a log, nobody listens."""
    reads: ReadStatistics


class Hub:
    """One for a server; what it does goes on in the nursery that it is given."""

    def __init__(self, database: Database, nursery: trio.Nursery) -> None:
        self.pace = Pace()
        self._reads = Reads(database)
        self._stored = Reads(database)
        self._glances = {
            "overview": Glance("overview", self._reads, read_overview),
            "top": Glance("top", self._reads, read_top),
        }
        self._jobs = Jobs(self._reads)
        self._runs = Runs(self._reads, self._jobs, nursery)
        self._logs = Logs(database, self._reads, self._stored, self._jobs, nursery)
        self._looks: dict[Viewer, Look] = {}
        for glance in self._glances.values():
            nursery.start_soon(glance.run)
        nursery.start_soon(self._jobs.run)

    def join(self, viewer: Viewer, look: Look) -> None:
        """Let the viewer see what he asks for, from now on."""
        self._looks[viewer] = look
        match look:
            case Look("job", UUID() as job):
                self._jobs.join(viewer, job)
            case Look("run", UUID() as job):
                self._runs.join(viewer, job, look.after)
            case Look("log", UUID() as job):
                self._logs.join(viewer, job, look.after)
            case _:
                self._glances[look.channel].join(viewer)

    def leave(self, viewer: Viewer) -> None:
        """The viewer looks no longer."""
        look = self._looks.pop(viewer, None)
        match look:
            case None:
                pass
            case Look("job", UUID() as job):
                self._jobs.leave(viewer, job)
            case Look("run", UUID() as job):
                self._runs.leave(viewer, job)
            case Look("log", UUID() as job):
                self._logs.leave(viewer, job)
            case _:
                self._glances[look.channel].leave(viewer)

    def statistics(self) -> HubStatistics:
        """What the hub does now."""
        return HubStatistics(
            viewers=len(self._looks),
            jobs=len(self._jobs),
            runs=len(self._runs),
            logs=len(self._logs),
            hears=self._logs.hears,
            reads=self._reads.statistics() + self._stored.statistics(),
        )
