"""What is known after a run, from three sources that do not know each other: the producers' list, the ledger,
the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from hotpath.chaos.commands import Ending, Identity
from hotpath.chaos.inject import Done
from hotpath.chaos.ledger import RETURNED, STARTED, SUFFIX, read_records
from hotpath.chaos.produce import ACKNOWLEDGED, CANCEL, ENTRY, MAYBE, ROLLED_BACK
from hotpath.errors import HotpathError

STATES = {1: "success", 2: "failure", 3: "canceled"}


@attrs.frozen
class Entry:
    """An acknowledged job."""

    number: int
    at: int
    """When it was acknowledged, `perf_counter_ns`."""
    priority: int
    how: int
    script: int


@attrs.define
class Listed:
    """The producers' list."""

    acknowledged: dict[bytes, Entry] = attrs.field(factory=dict)
    maybe: set[int] = attrs.field(factory=set)
    """Numbers of jobs whose acknowledgement was lost."""
    rolled_back: set[bytes] = attrs.field(factory=set)
    canceled: set[bytes] = attrs.field(factory=set)
    """Jobs whose cancel was answered with yes."""


def read_list(file: Path) -> Listed:
    """Read the producers' list."""
    listed = Listed()
    data = file.read_bytes()
    for job, number, at, priority, how, script in ENTRY.iter_unpack(
        data[: len(data) // ENTRY.size * ENTRY.size]
    ):
        if how in ACKNOWLEDGED:
            listed.acknowledged[job] = Entry(number, at, priority, how, script)
        elif how == MAYBE:
            listed.maybe.add(number)
        elif how == ROLLED_BACK:
            listed.rolled_back.add(job)
        elif how == CANCEL:
            listed.canceled.add(job)
    return listed


@attrs.define(slots=True)
class Run:
    """One run of a job, by the ledger."""

    attempt: int
    process: int
    """Index into `Ledger.processes`."""
    start: int
    end: int = 0
    """0: it was never left."""
    outcome: int = 0
    crc: int = 0

    @property
    def returned(self) -> bool:
        """Whether `main` returned a value."""
        return self.outcome == RETURNED


@attrs.frozen
class Process:
    """A worker process, by the ledger."""

    command: int
    identity: Identity
    starts: Sequence[tuple[int, bytes, int]]
    """(serial of the batch, job, attempt), in the order in which they were started."""
    last: bytes
    """The job of its last record."""


@attrs.define
class Ledger:
    """All runs."""

    runs: dict[bytes, list[Run]] = attrs.field(factory=dict)
    """By job, in order of their starts."""
    processes: list[Process] = attrs.field(factory=list)

    def all_runs(self) -> Iterator[Run]:
        """Every run, in no order."""
        for runs in self.runs.values():
            yield from runs


def read_ledger(directory: Path) -> Ledger:
    """Read the ledger of every process. Raises HotpathError for a file that is none."""
    ledger = Ledger()
    for file in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            command, pid, born = (int(part) for part in file.name.removesuffix(SUFFIX).split("-"))
        except ValueError:
            raise HotpathError(f"{file} is no ledger file: its name says no process") from None
        process = len(ledger.processes)
        open_runs: dict[tuple[bytes, int], Run] = {}
        starts: list[tuple[int, bytes, int]] = []
        last = b""
        for what, outcome, attempt, batch, job, at, crc in read_records(file.read_bytes()):
            last = job
            if what == STARTED:
                run = open_runs[job, attempt] = Run(attempt, process, at)
                ledger.runs.setdefault(job, []).append(run)
                starts.append((batch, job, attempt))
            elif (found := open_runs.pop((job, attempt), None)) is not None:
                found.end, found.outcome, found.crc = at, outcome, crc
        ledger.processes.append(Process(command, (pid, born), starts, last))
    for runs in ledger.runs.values():
        if len(runs) > 1:
            runs.sort(key=_start)
    return ledger


def _start(run: Run) -> int:
    return run.start


@attrs.frozen
class Row:
    """How a job ended, by the database."""

    state: int
    attempt: int
    priority: int
    scheduled_us: int
    """Microseconds since the epoch."""
    kind: str | None
    """Kind of its error."""
    crc: int
    """CRC-32 of the result's JSON."""


@attrs.define
class Recorded:
    """The database's side."""

    rows: dict[bytes, Row] = attrs.field(factory=dict)
    double: set[bytes] = attrs.field(factory=set)
    """Jobs with more than one final row, or with two ends of one attempt."""
    left: dict[bytes, tuple[str, bool]] = attrs.field(factory=dict)
    """Jobs that have not ended: where they are, and whether a live worker holds them."""
    numbers: dict[bytes, int | None] = attrs.field(factory=dict)
    """Of jobs that nobody acknowledged: the number in their args."""


@attrs.define
class Evidence:
    """All of it."""

    listed: Listed
    ledger: Ledger
    recorded: Recorded
    faults: Sequence[Done] = ()
    endings: Sequence[Ending] = ()
    lease: float = 15.0
    wall_minus_monotonic: int = 0
    """Nanoseconds to add to a time of the ledger for one since the epoch."""
    began: int = 0
    stopped: int = 0
    """When faults and producers began and stopped, `perf_counter_ns`."""
