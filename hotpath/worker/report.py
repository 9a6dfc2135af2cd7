"""What `hotpath dedicate` tells its user: that it is ready, how far it is, what it did."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import attrs
import msgspec
import trio

from hotpath.model import ScriptVersion
from hotpath.worker.options import DedicateOptions, NormalOptions, WorkerOptions
from hotpath.worker.statistics import WorkerStatistics

REFRESH = 0.25


@attrs.define(eq=False)
class Reporter:
    """Writes to stderr for people, to stdout as JSON lines where that was asked for."""

    options: WorkerOptions
    version: ScriptVersion | None = None
    """None: it never came to that."""
    tags: Sequence[str] = ()
    stream: TextIO = attrs.field(factory=lambda: sys.stderr)
    _ready: int = 0

    def ready(self, worker: str, rss: int) -> None:
        """A worker process is ready for jobs."""
        assert self.version is not None, "a worker has a script"
        self._ready += 1
        if self.options.json:
            self._json(
                {
                    "event": "ready",
                    "worker": worker,
                    "script": self.version.description.path,
                    "tags": list(self.tags),
                    "rss": rss,
                }
            )
        elif (
            isinstance(self.options, DedicateOptions)
            and self._ready == self.options.processes
            and not self.options.quiet
        ):
            description = self.version.description
            kind = "flow" if description.kind == "flow" else "async" if description.is_async else "sync"
            count = "1 worker" if self._ready == 1 else f"{self._ready} workers"
            self._line(
                f"hotpath: {self.version.description.path} is ready: {count} ({kind}), "
                f"tag {', '.join(self.tags)}"
            )

    def swapped(self, version: ScriptVersion) -> None:
        """The workers run another version from now on."""
        self.version = version
        description = version.description
        if self.options.json:
            self._json({"event": "swapped", "script": description.path, "version": description.hash})
        elif not self.options.quiet:
            self._line(f"hotpath: {description.path} runs as version {description.hash[:12]} now")

    async def run(self, statistics: Callable[[], Sequence[WorkerStatistics]]) -> None:
        """On a terminal, while draining: a line that shows the progress. Until cancelled."""
        if self.options.quiet or self.options.json or not self.options.drain or not self.stream.isatty():
            await trio.sleep_forever()
        assert self.version is not None, "workers have a script"
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(pulse_style="cyan"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=Console(file=self.stream),
            transient=True,
        ) as progress:
            bar = progress.add_task(self.version.description.path, total=None, rate="")
            last_jobs, last_at = 0, time.monotonic()
            while True:
                await trio.sleep(REFRESH)
                jobs, failed = total(statistics())
                now = time.monotonic()
                rate = (jobs - last_jobs) / (now - last_at)
                last_jobs, last_at = jobs, now
                text = f"{jobs:,} jobs, {rate:,.0f}/s" + (f", {failed:,} failed" if failed else "")
                progress.update(bar, rate=text)

    def summary(self, statistics: Sequence[WorkerStatistics], elapsed: float, *, drained: bool) -> None:
        """What was done, after the last worker has ended."""
        jobs, failed = total(statistics)
        starts = [one.first_claim for one in statistics if one.first_claim is not None]
        ends = [one.last_flush for one in statistics if one.last_flush is not None]
        seconds = max(ends) - min(starts) if starts and ends else 0.0
        released = sum(one.released for one in statistics)
        retried = sum(one.retried for one in statistics)
        document: dict[str, Any] = {
            "event": "drained" if drained else "stopped",
            "jobs": jobs,
            "success": jobs - failed,
            "failure": failed,
            "retried": retried,
            "released": released,
            "parked": sum(one.parked for one in statistics),
            "seconds": round(seconds, 6),
            "jobs_per_second": round(jobs / seconds, 1) if seconds else None,
            "busy_seconds": round(sum(one.busy for one in statistics), 6),
            "cycles": sum(one.cycles for one in statistics),
            "elapsed_seconds": round(elapsed, 6),
        }
        if self.options.json:
            self._json(document)
        elif not self.options.quiet:
            waits = sum(one.parked for one in statistics)
            if not jobs and waits:
                self._line(f"hotpath: {'drained' if drained else 'stopped'}: no run has ended, some wait")
                return
            if not jobs:
                self._line("hotpath: nothing to run" if drained else "hotpath: stopped, no job was run")
                return
            rate = f", {jobs / seconds:,.0f} jobs/s" if seconds else ""
            back = f", {retried:,} retried" if retried else ""
            back += f", {released:,} given back" if released else ""
            word = "drained" if drained else "stopped"
            self._line(
                f"hotpath: {word}: {jobs:,} jobs ({jobs - failed:,} success, {failed:,} failure{back}) "
                f"in {seconds:.2f} s{rate}"
            )

    def _json(self, document: dict[str, Any]) -> None:
        _say(document)

    def _line(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()


@attrs.define(eq=False)
class NormalReporter:
    """What `hotpath worker` tells while it runs, to stderr for people, to stdout as JSON lines."""

    options: NormalOptions
    stream: TextIO = attrs.field(factory=lambda: sys.stderr)

    def listening(self, worker: str, patterns: Sequence[str]) -> None:
        """It takes jobs of these tags."""
        slots = self.options.slots
        if self.options.json:
            _say({"event": "ready", "worker": worker, "script": None, "tags": list(patterns), "slots": slots})
        elif not self.options.quiet:
            count = "1 slot" if slots == 1 else f"{slots} slots"
            self._line(f"hotpath: worker {worker} is ready: {count}, tags {', '.join(patterns)}")

    def warm(self, script: str, worker: str, rss: int) -> None:
        """A process takes jobs of this script."""
        if self.options.json:
            _say({"event": "warm", "worker": worker, "script": script, "rss": rss})

    def warn(self, text: str) -> None:
        """Something is odd about what it was asked."""
        if not self.options.quiet:
            self._line(f"hotpath: {text}")

    def _line(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stdout.flush()


def total(statistics: Sequence[WorkerStatistics]) -> tuple[int, int]:
    """Jobs and failures of all workers."""
    return sum(one.jobs for one in statistics), sum(one.failed for one in statistics)
