"""What Prometheus is told of the queue, read at most once a second however many ask."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import attrs
import trio

from hotpath.core.tally import (
    BOUNDS,
    BUCKETS,
    BUSY,
    CANCELED,
    CLAIM,
    CLAIMS,
    FAILURE,
    FLUSH,
    FLUSHES,
    LOST,
    RETRIED,
    RUNS,
    SIZE,
    SUCCESS,
    Tally,
)
from hotpath.documents import age
from hotpath.store.database import Database
from hotpath.store.looks import Gauges, Total, read_gauges
from hotpath.store.scaling import DEFAULT_GROUP, GroupGauge
from hotpath.store.status import TagStatus, WorkerStatus
from hotpath.version import __version__
from hotpath.web.exposition import Family, expose

FRESH_SECONDS = 1.0
"""Seconds for which what was read is told again."""
WORKERS = 1_000
"""Workers that are told one by one."""
_HISTOGRAMS = (
    ("claim", CLAIM, CLAIMS, "Round trips that claimed, with nothing to flush."),
    ("flush", FLUSH, FLUSHES, "Round trips that wrote outcomes, and claimed what came next."),
    ("run", BUSY, RUNS, "Time of one attempt inside `main`."),
)


@attrs.define(eq=False)
class Scrapes:
    """The metrics of one database."""

    database: Database
    _gauges: Gauges | None = None
    _read_at: float = 0.0
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def text(self, *, openmetrics: bool) -> str:
        """All metrics now, as text. Raises what the database raises."""
        async with self._lock:
            now = trio.current_time()
            if self._gauges is None or now - self._read_at >= FRESH_SECONDS:
                async with self.database.connection() as connection:
                    self._gauges = await read_gauges(connection)
                self._read_at = trio.current_time()
            gauges = self._gauges
        return expose(families(gauges), openmetrics=openmetrics)


def families(gauges: Gauges) -> Iterable[Family]:
    """Everything that is told, in order."""
    build = Family("hotpath_build_info", "gauge", "The program that serves this.")
    build.add(1, version=__version__)
    yield build
    yield from _of_tags(gauges.tags, gauges.now)
    yield from _of_totals(gauges.totals)
    yield from _of_workers(gauges.workers)
    yield from _of_groups(gauges.workers, gauges.groups)


def _of_tags(tags: list[TagStatus], now: datetime) -> Iterable[Family]:
    waiting = Family(
        "hotpath_jobs_waiting",
        "gauge",
        "Jobs that wait, later ones included; counted up to 100,000 of a tag and priority.",
    )
    oldest = Family("hotpath_oldest_due_seconds", "gauge", "For how long the oldest job that is due waits.")
    running = Family("hotpath_jobs_running", "gauge", "Jobs that workers hold.")
    listeners = Family("hotpath_tag_workers", "gauge", "Live workers that listen to the tag.")
    left = Family(
        "hotpath_tag_stranded", "gauge", "1: jobs of this tag are due, and no live worker will run them."
    )
    for tag in tags:
        waiting.add(tag.waiting, tag=tag.tag)
        oldest.add((age(tag.oldest_due, now) or 0) / 1000, tag=tag.tag)
        running.add(tag.running, tag=tag.tag)
        listeners.add(tag.workers, tag=tag.tag)
        left.add(int(tag.stranded is not None), tag=tag.tag)
    return waiting, oldest, running, listeners, left


def _of_totals(totals: list[Total]) -> Iterable[Family]:
    outcomes = Family("hotpath_outcomes", "counter", "Jobs that ended, as workers and supervisors told it.")
    retries = Family("hotpath_retries", "counter", "Attempts that failed and run again.")
    lost = Family(
        "hotpath_lease_losses", "counter", "Leases that a worker found to be lost: their jobs run again."
    )
    busy = Family("hotpath_busy_seconds", "counter", "Time inside `main`, all workers together.")
    scripts: dict[str, Tally] = {}
    for total in totals:
        counts = (total.counts + [0] * SIZE)[:SIZE]
        named = {"script": total.script, "tag": total.tag}
        for outcome, at in (("success", SUCCESS), ("failure", FAILURE), ("canceled", CANCELED)):
            outcomes.add(counts[at], **named, outcome=outcome)
        retries.add(counts[RETRIED], **named)
        lost.add(counts[LOST], **named)
        busy.add(counts[BUSY] / 1e6, **named)
        scripts.setdefault(total.script, Tally()).add(counts)
    yield from (outcomes, retries, lost, busy)
    for name, sum_at, first, text in _HISTOGRAMS:
        family = Family(f"hotpath_{name}_duration_seconds", "histogram", text)
        for script, tally in scripts.items():
            buckets = tally[first : first + BUCKETS]
            family.add_histogram(buckets, BOUNDS, tally[sum_at] / 1e6, script=script)
        yield family


def _of_workers(workers: list[WorkerStatus]) -> Iterable[Family]:
    states = Family("hotpath_workers", "gauge", "Workers that have not stopped, by state.")
    for state in ("running", "idle", "lost"):
        states.add(sum(worker.state == state for worker in workers), state=state)
    deaf = Family(
        "hotpath_deaf_listeners", "gauge", "Live workers that nothing can wake: they find jobs by polling."
    )
    deaf.add(sum(bool(worker.deaf) for worker in workers))
    up = Family("hotpath_worker_up", "gauge", "1: the worker lives; 0: it is past its lease.")
    occupancy = Family("hotpath_worker_occupancy", "gauge", "Share of its time inside `main`, 0 to 1.")
    rss = Family("hotpath_worker_resident_memory_bytes", "gauge", "Resident memory.")
    cpu = Family("hotpath_worker_cpu_seconds", "counter", "CPU time.")
    jobs = Family("hotpath_worker_jobs", "counter", "Jobs it has run.")
    for worker in workers[:WORKERS]:
        name = {"worker": worker.name}
        up.add(int(worker.state != "lost"), **name, script=worker.script or "", group=worker.group or "")
        for window, share in (worker.occupancy or {}).items():
            occupancy.add(share, **name, window=window)
        rss.add(worker.rss, **name)
        cpu.add(worker.cpu_seconds, **name)
        jobs.add(worker.jobs, **name)
    return states, deaf, up, occupancy, rss, cpu, jobs


def _of_groups(workers: list[WorkerStatus], scaled: list[GroupGauge]) -> Iterable[Family]:
    alive = Family("hotpath_group_workers", "gauge", "Live workers of the group.")
    wanted = Family(
        "hotpath_group_workers_wanted",
        "gauge",
        "Workers that the group needs, of groups with a scale; see `hotpath autoscale`.",
    )
    least = Family("hotpath_group_workers_min", "gauge", "Workers that it is to have at least.")
    most = Family("hotpath_group_workers_max", "gauge", "Workers that it may have at most.")
    waiting = Family(
        "hotpath_group_jobs_waiting",
        "gauge",
        "Due jobs of the group's tags that wait; counted as far as it could change the number of workers.",
    )
    held = Family("hotpath_group_jobs_running", "gauge", "Jobs of the group's tags that workers hold.")
    backlog = Family("hotpath_group_backlog_seconds", "gauge", "How long one job at a time would take.")
    arrivals = Family("hotpath_group_arrivals_per_second", "gauge", "Jobs that come in.")
    service = Family("hotpath_group_service_seconds", "gauge", "How long a job takes.")
    counts = {each.name: 0 for each in scaled}
    for worker in workers:
        if worker.tags or worker.patterns:  # not the processes that a normal worker hands jobs to
            name = worker.group or DEFAULT_GROUP
            counts[name] = counts.get(name, 0) + (worker.state != "lost")
    for name, count in sorted(counts.items()):
        alive.add(count, group=name)
    for each in scaled:
        wanted.add(each.wanted, group=each.name)
        least.add(each.min_workers, group=each.name)
        most.add(each.max_workers, group=each.name)
        waiting.add(each.waiting, group=each.name)
        held.add(each.held, group=each.name)
        backlog.add(each.work_seconds, group=each.name)
        arrivals.add(each.arrivals, group=each.name)
        service.add(each.service_seconds, group=each.name)
    return alive, wanted, least, most, waiting, held, backlog, arrivals, service
