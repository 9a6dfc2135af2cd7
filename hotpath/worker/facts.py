"""What is said of workers with their heartbeat, besides that they live: what they are about, how full they
are, what they have counted.

Once a second at most of a worker, every few seconds of what is counted: both in the heartbeat's own
statement.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import attrs

from hotpath.core.occupancy import STRETCHES, Window
from hotpath.core.tally import CANCELED, FAILURE, SUCCESS, Tally
from hotpath.store.workers import Counts, Facts
from hotpath.worker.statistics import WorkerStatistics

EVERY = 1.0
"""Seconds between two facts of one worker."""
COUNT_EVERY = 10.0
"""Seconds between two reports of counts."""
TOUCH_EVERY = 3600.0
"""Seconds after which counts are said again though they are the same: rows that nobody says are swept."""
RECENT = 5.0
"""Seconds that "now" means where jobs/s are told."""
Tallies: TypeAlias = "Mapping[str, Sequence[int]]"
"""By tag, what was counted."""
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def rss_of(pid: int) -> int | None:
    """Resident bytes of a process; None where the system does not say."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return None


def cpu_of(pid: int) -> int | None:
    """CPU time of a process so far, microseconds, to the hundredth of a second; None where the system does
    not say.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            return (int(fields[11]) + int(fields[12])) * 1_000_000 // _TICK
    except (OSError, IndexError, ValueError):
        return None


@attrs.frozen
class Row:
    """A row of `hotpath.worker` that is no process's, to be kept alive: that of a normal worker itself."""

    lost: Callable[[], object]
    """Called when its lease is."""
    deaf: Callable[[], bool]
    """Whether nothing can wake it."""


@attrs.define(eq=False)
class Facing:
    """One worker as it was seen over time."""

    pid: int
    tags: Sequence[str] | None
    """Whose rates are told, in this order; None: of those that it has met."""
    concurrency: int = 1
    _time: Window = attrs.field(factory=Window)
    _ended: dict[str, Window] = attrs.field(factory=dict)
    _looked_at: float = 0.0
    _was_ready: bool = False
    _job: tuple[int, int] | None = None
    _since: float = 0.0

    def look(
        self,
        worker: int,
        statistics: WorkerStatistics,
        tallies: Tallies,
        job: tuple[int, int] | None,
        since: float | None = None,
        *,
        ready: bool = True,
    ) -> Facts | None:
        """What is to be said of it now; None when the last time was just now.

        `job` is the lease and place of the one whose code runs, `since` the seconds since it was first seen
        if that is known. `ready`: whether it takes jobs; that it does so is said at once.
        """
        now = time.monotonic()
        if job != self._job:
            self._job, self._since = job, now
        if now - self._looked_at < EVERY and ready == self._was_ready:
            return None
        self._looked_at, self._was_ready = now, ready
        self._time.add(now, statistics.occupied)
        rates = []
        for tag in sorted(tallies) if self.tags is None else self.tags:
            window = self._ended.setdefault(tag, Window())
            counts = tallies.get(tag)
            window.add(now, 0 if counts is None else counts[SUCCESS] + counts[FAILURE] + counts[CANCELED])
            rates.append(round(window.rate(RECENT), 3))
        shares = [round(min(1.0, self._time.rate(each) / self.concurrency), 4) for each in STRETCHES]
        return Facts(
            worker=worker,
            rss=rss_of(self.pid),
            cpu_us=cpu_of(self.pid),
            lease=None if job is None else job[0],
            place=None if job is None else job[1],
            ago=None if job is None else now - self._since if since is None else since,
            under_way=statistics.under_way,
            occupied=shares if ready else None,
            rates=rates,
            deaf=statistics.deaf,
        )


@attrs.define(eq=False)
class Keeper:
    """Adds up what its workers count, those that have ended included, and says it from time to time."""

    script: int
    tags: Sequence[tuple[int, str]]
    """Key and name of each."""
    key: int = attrs.field(factory=lambda: secrets.randbits(63))
    _living: dict[int, Callable[[], Tallies]] = attrs.field(factory=dict)
    _past: dict[str, Tally] = attrs.field(factory=dict)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _said: dict[str, list[int]] = attrs.field(factory=dict)
    _sent: dict[str, list[int]] = attrs.field(factory=dict)
    _said_at: float = attrs.field(factory=time.monotonic)
    _touched_at: float = attrs.field(factory=time.monotonic)
    _failed: bool = False

    def follow(self, worker: int, tallies: Callable[[], Tallies]) -> None:
        """This worker counts; `tallies` gives what it has so far."""
        with self._lock:
            self._living[worker] = tallies

    def ended(self, worker: int) -> None:
        """It is no more: what it has counted stays."""
        with self._lock:
            tallies = self._living.pop(worker, None)
            for tag, counts in tallies().items() if tallies is not None else ():
                self._past.setdefault(tag, Tally()).add(counts)

    def note(self, what: int, count: int = 1) -> None:
        """Something happened to its jobs that no worker could count, on the tag that comes first."""
        if not count:  # of a script that could not be loaded nobody knows a tag yet
            return
        with self._lock:
            self._past.setdefault(self.tags[0][1], Tally())[what] += count

    def total(self) -> dict[str, list[int]]:
        """By tag, all that was counted."""
        with self._lock:
            sums = {tag: Tally(counts) for tag, counts in self._past.items()}
            for tallies in self._living.values():
                for tag, counts in tallies().items():
                    sums.setdefault(tag, Tally()).add(counts)
        return {tag: list(counts) for tag, counts in sums.items()}

    def due(self, *, finally_: bool = False) -> list[Counts]:
        """What is to be said with this heartbeat; nothing most of the time. One that fails is followed by
        one without: counts are not worth a lease.
        """
        now = time.monotonic()
        self._sent = {}
        if not finally_ and (self._failed or now - self._said_at < COUNT_EVERY):
            self._failed = False
            return []
        self._said_at = now
        again = now - self._touched_at >= TOUCH_EVERY
        if again:
            self._touched_at = now
        keys = {name: key for key, name in self.tags}
        self._sent = {
            tag: counts
            for tag, counts in self.total().items()
            if tag in keys and (again or self._said.get(tag) != counts)
        }
        self._failed = bool(self._sent)
        return [
            Counts(keeper=self.key, script=self.script, tag=keys[tag], counts=counts)
            for tag, counts in self._sent.items()
        ]

    def heard(self) -> None:
        """The heartbeat got through."""
        self._failed = False
        self._said.update(self._sent)
        self._sent = {}
