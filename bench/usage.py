"""Who used the CPU: `/proc` sampled while a run is under way, and which resource binds.

Linux only; elsewhere nothing is sampled and the table says so.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

import attrs
import trio

PROC = Path("/proc")
SAMPLE_SECONDS = 0.025
_TREE_EVERY = 8  # samples between two looks for new processes, and at memory
_TICK = os.sysconf("SC_CLK_TCK")
_BUSY_MACHINE = 0.95  # share of all cores above which nothing else can be said to bind


@attrs.define
class _Track:
    name: str
    times: list[float] = attrs.field(factory=list)
    cpu: list[float] = attrs.field(factory=list)
    peak_rss: int = 0

    def cpu_at(self, moment: float) -> float:
        """CPU seconds used until `moment`, between the samples around it."""
        k = bisect_right(self.times, moment)
        if k == 0:
            return self.cpu[0]
        if k == len(self.times):
            return self.cpu[-1]
        share = (moment - self.times[k - 1]) / (self.times[k] - self.times[k - 1])
        return self.cpu[k - 1] + share * (self.cpu[k] - self.cpu[k - 1])


@attrs.define
class Usage:
    """Samples of the process trees below some roots, and of the machine."""

    roots: dict[str, int]
    """Name of a group (`worker`, `postgres`) to the pid at its head."""
    _tracks: dict[tuple[str, int], _Track] = attrs.field(factory=dict)
    _machine: _Track = attrs.field(factory=lambda: _Track("machine"))

    async def watch(self) -> None:
        """Sample until cancelled."""
        if not (PROC / "stat").exists():
            await trio.sleep_forever()
        turn = 0
        while True:
            self._sample(refresh=turn % _TREE_EVERY == 0)
            turn += 1
            await trio.sleep(SAMPLE_SECONDS)

    def _sample(self, *, refresh: bool) -> None:
        if refresh:
            for group, root in self.roots.items():
                for pid in _tree(root):
                    if (group, pid) not in self._tracks:
                        self._tracks[group, pid] = _Track(_name(pid) if pid != root else "head")
        for (_, pid), track in self._tracks.items():
            cpu = _cpu(pid)
            if cpu is not None:
                track.times.append(time.time())
                track.cpu.append(cpu)
                if refresh:
                    track.peak_rss = max(track.peak_rss, _rss(pid))
        with (PROC / "stat").open() as stat:
            fields = [int(field) / _TICK for field in stat.readline().split()[1:9]]
        self._machine.times.append(time.time())
        self._machine.cpu.append(sum(fields) - fields[3] - fields[4])  # without idle and iowait

    def busiest(self, group: str, since: float, until: float) -> float:
        """Cores that the busiest process of a group used on average (its head, a supervisor, not counted)."""
        return max((self._cores(track, since, until) for track in self._members(group)), default=0.0)

    def cpu(self, group: str, since: float, until: float, *, head: bool = False) -> float:
        """CPU seconds of a group's processes, without its head, or of the head alone."""
        tracks = self._members(group, head=head)
        return sum(track.cpu_at(until) - track.cpu_at(since) for track in tracks)

    def peak_rss(self, group: str) -> float:
        """Highest memory that a process of the group had, in MB; the head not counted."""
        return max((track.peak_rss for track in self._members(group)), default=0) / 1e6

    def machine(self, since: float, until: float) -> float:
        """Share of all cores that was in use, by anybody."""
        return self._cores(self._machine, since, until) / (os.cpu_count() or 1)

    def _members(self, group: str, *, head: bool = False) -> list[_Track]:
        items = self._tracks.items()
        return [it for (its, _), it in items if its == group and (it.name == "head") == head and it.times]

    @staticmethod
    def _cores(track: _Track, since: float, until: float) -> float:
        if not track.times or until <= since:
            return 0.0
        return (track.cpu_at(until) - track.cpu_at(since)) / (until - since)


@attrs.frozen
class Shares:
    """How busy each resource was, as a share of what it can give."""

    worker: float
    backend: float
    disk: float
    """Time that commits wait for the disk: their number times what an fsync takes here."""
    machine: float

    def binding(self) -> str:
        """The resource that binds and by what figure, then the others."""
        parts = {
            "worker CPU": self.worker,
            "Postgres backend CPU": self.backend,
            "disk (fsync)": self.disk,
        }
        first = max(parts, key=lambda name: parts[name])
        if self.machine > _BUSY_MACHINE and parts[first] < _BUSY_MACHINE:
            first = "all cores"
            parts[first] = self.machine
        rest = ", ".join(f"{name} {share:.0%}" for name, share in parts.items() if name != first)
        return f"{first} {parts[first]:.0%} ({rest}, machine {self.machine:.0%})"


def mean_shares(shares: Iterable[Shares]) -> Shares:
    """The mean of several rounds."""
    rows = [attrs.astuple(each) for each in shares]
    return Shares(*(sum(column) / len(rows) for column in zip(*rows, strict=True)))


def _tree(root: int) -> list[int]:
    """`root` and all its descendants that are alive."""
    found = [root]
    for pid in found:
        for task in _listdir(PROC / str(pid) / "task"):
            try:
                text = (PROC / str(pid) / "task" / task / "children").read_text()
            except OSError:
                continue
            found += [int(child) for child in text.split()]
    return found


def _listdir(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:60]
    except OSError:
        return "gone"


def _cpu(pid: int) -> float | None:
    """CPU seconds of a process and its threads; None when it is gone."""
    try:
        with open(PROC / str(pid) / "stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICK


def _rss(pid: int) -> int:
    try:
        with open(PROC / str(pid) / "statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
