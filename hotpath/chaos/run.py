"""One run of `hotpath chaos`, from the empty directory to the verdict."""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import attrs
import trio

from hotpath.chaos.check import check
from hotpath.chaos.cluster import Cluster, private_cluster
from hotpath.chaos.commands import Command, end_all
from hotpath.chaos.evidence import Evidence, Recorded, Row, read_ledger, read_list
from hotpath.chaos.inject import Injector
from hotpath.chaos.kinds import Mix
from hotpath.chaos.options import ChaosOptions
from hotpath.chaos.plan import make_plan
from hotpath.chaos.produce import Producer
from hotpath.chaos.proxy import Proxy, find_upstream
from hotpath.chaos.report import Report
from hotpath.chaos.workspace import Place, make_place, put_scripts
from hotpath.client import Client, open_client
from hotpath.config import Config
from hotpath.errors import HotpathError, UsageError
from hotpath.store import chaos as store
from hotpath.store.database import Database, open_database

READY_SECONDS = 60.0
"""What the commands get to become ready before anything goes wrong."""
PATIENCE = 45.0
"""Seconds without any job's end, the lease aside, after which the queue is taken not to drain."""
LIST = "acknowledged"
APPLICATION = "hotpath chaos"
_PROC = Path("/proc/self/stat")

Say = Callable[[str], None]


async def run_chaos(config: Config, options: ChaosOptions, say: Say) -> Report:
    """Run it and check it; `say` is told each fault as it happens.

    A private cluster is used unless `config` names a database. What the run made is removed at its end,
    unless it is to be kept or something was found wrong; `Report.kept` says where it is then. Raises
    HotpathError for a script, a database or a command that cannot be started.
    """
    if not _PROC.exists():  # noqa: ASYNC240 - memory, not a disk
        raise UsageError("hotpath chaos looks at processes through /proc: run it on Linux")
    place = make_place()
    report = Report(seed=options.seed)
    keep = options.keep
    try:
        with ExitStack() as stack:
            names = put_scripts(place, options.name, config.workspace)
            cluster: Cluster | None = None
            url = config.database_url
            if url is None:
                cluster = await trio.to_thread.run_sync(stack.enter_context, private_cluster(place.home))
                url = cluster.url
            else:
                say("the database is yours: it is not restarted, and the jobs of this run stay in it")
            here = attrs.evolve(config, workspace=place.workspace, database_url=url, listen_url=None)
            await _play(here, options, names, place, cluster, report, say)
            keep = keep or report.exit_code != 0
    finally:
        if keep:
            report.kept = str(place.root)
            say(f"kept: {place.root}")
        else:
            place.remove()
    return report


async def _play(
    config: Config,
    options: ChaosOptions,
    names: Sequence[str],
    place: Place,
    cluster: Cluster | None,
    report: Report,
    say: Say,
) -> None:
    assert config.database_url is not None
    since = datetime.now(UTC) - timedelta(minutes=1)
    with _interruptible() as interrupt:
        async with (
            open_database(config, application_name=APPLICATION, connections=8) as database,
            open_client(config=config) as client,
        ):
            mark = f"{os.getpid():x}-{time.time_ns() // 1_000_000:x}"
            scripts = [(name, f"chaos/{name}/{mark}") for name in names]
            tags = await store.tag_keys(database, [tag for _, tag in scripts])
            for name, _ in scripts:
                await client.register(name)
            mix = None if options.name is not None else Mix(options.seed, options.poison_every)
            stage = _Stage(config, options, scripts, tags, place, cluster, database, client, mix, say)
            evidence = await stage.play(interrupt)
            evidence.recorded = await read_recorded(database, tags, since, set(evidence.listed.acknowledged))
            say("holding the ledger against the database")
            check(evidence, mix, report)


@contextmanager
def _interruptible() -> Iterator[trio.CancelScope]:
    """A scope that SIGINT and SIGTERM cancel; they are raised again when everything is cleared away."""
    scope = trio.CancelScope()
    got: list[int] = []
    token = trio.lowlevel.current_trio_token()

    def heard(number: int, _frame: object) -> None:
        got.append(number)
        token.run_sync_soon(scope.cancel)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, heard)
    try:
        yield scope
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if got:
        raise KeyboardInterrupt


@attrs.frozen(eq=False)
class _Stage:
    config: Config
    options: ChaosOptions
    scripts: Sequence[tuple[str, str]]
    tags: list[int]
    place: Place
    cluster: Cluster | None
    database: Database
    client: Client
    mix: Mix | None
    say: Say

    async def play(self, interrupt: trio.CancelScope) -> Evidence:
        """Start everything, let things go wrong, let the queue drain, end everything; what is known then."""
        options = self.options
        plan = make_plan(options.seed, options.seconds, options.every, options.faults, options.lease)
        self.say(
            f"seed {options.seed}: {len(plan)} faults in {options.seconds:.0f} s, {options.wanted:,} jobs, "
            f"{options.workers} commands of {options.processes} processes"
        )
        producer = Producer(
            client=self.client,
            scripts=self.scripts,
            mix=self.mix,
            args=options.args,
            wanted=options.wanted,
            seconds=options.seconds,
            seed=options.seed,
            file=self.place.root / LIST,
            ledger=self.place.ledger,
            log=self.place.logs / "producers.log",
        )
        commands = [self._command(number) for number in range(options.workers)]
        injector = Injector(
            commands=commands,
            database=self.database,
            cluster=self.cluster,
            tags=self.tags,
            lease=options.lease,
            own_sessions=self.cluster is None,
            say=self.say,
        )
        began = stopped = 0
        async with self._running(commands):
            with interrupt:  # inside: the commands are ended in order whatever happens
                await _all_ready(commands)
                began = time.perf_counter_ns()
                with trio.move_on_after(options.seconds + 2 * options.lease + 60):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(producer.run)
                        nursery.start_soon(injector.run, plan)
                producer.stopped = True
                stopped = time.perf_counter_ns()
                if self.cluster is not None:
                    await self.cluster.ensure_running()
                self.say(f"faults are over; {producer.acknowledged:,} jobs were put in; the queue drains")
                await self._drain()
        if interrupt.cancelled_caught:
            raise KeyboardInterrupt
        return Evidence(
            listed=read_list(self.place.root / LIST),
            ledger=read_ledger(self.place.ledger),
            recorded=Recorded(),
            faults=injector.done,
            endings=[ending for command in commands for ending in command.endings],
            lease=options.lease,
            wall_minus_monotonic=time.time_ns() - time.perf_counter_ns(),
            began=began,
            stopped=stopped,
        )

    def _command(self, number: int) -> Command:
        script, tag = self.scripts[number % len(self.scripts)]
        url = self.config.database_url
        assert url is not None
        try:
            proxy = Proxy(find_upstream(url), self.place.sockets, number)
        except UsageError as why:
            proxy = None
            if not number:
                self.say(f"the network is not cut: the database URL has {why}")
        return Command(
            number=number,
            script=script,
            tag=tag,
            processes=self.options.processes,
            lease=self.options.lease,
            workspace=self.place.workspace,
            logs=self.place.logs,
            skew_path=self.place.skew,
            proxy=proxy,
            url=url,
        )

    @asynccontextmanager
    async def _running(self, commands: Sequence[Command]) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            for command in commands:
                if command.proxy is not None:
                    await nursery.start(command.proxy.serve)
            async with trio.open_nursery() as running:
                for command in commands:
                    running.start_soon(command.keep)
                try:
                    yield
                finally:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
                        await _close_all(commands)
                        for pid, _ in await end_all(self.place.workspace):
                            self.say(f"process {pid} outlived its command, and was killed")
            nursery.cancel_scope.cancel(reason="the commands have ended")

    async def _drain(self) -> None:
        """Wait until no job is left, or until none has ended for PATIENCE and a lease."""
        left, moved = -1, time.monotonic()
        while time.monotonic() - moved < PATIENCE + self.options.lease:
            try:
                now = len(await store.jobs_left(self.database, self.tags))
            except HotpathError:
                now = left
            if now == 0:
                return
            if now != left:
                left, moved = now, time.monotonic()
            await trio.sleep(0.1 if left < 1000 else 1.0)


async def _close_all(commands: Sequence[Command]) -> None:
    async with trio.open_nursery() as nursery:
        for command in commands:
            nursery.start_soon(command.close)


async def _all_ready(commands: Sequence[Command]) -> None:
    with trio.move_on_after(READY_SECONDS):
        for command in commands:
            while not command.ready.is_set():
                if command.endings:
                    ending = command.endings[0]
                    raise HotpathError(f"a worker ended with exit code {ending.code}: {ending.said}")
                await trio.sleep(0.02)
        return
    raise HotpathError(f"the workers are not ready after {READY_SECONDS:.0f} s")


async def read_recorded(
    database: Database, tags: Sequence[int], since: datetime, acknowledged: set[bytes]
) -> Recorded:
    """What the database says of the jobs of these tags that have ended since."""
    recorded = Recorded()
    pages = store.EndedJobs(database, tags, since)
    while page := await pages.page():
        for row in page:
            job = row["id"].bytes
            if job in recorded.rows:
                recorded.double.add(job)
            result = row["result"]
            recorded.rows[job] = Row(
                row["state"],
                row["attempt"],
                row["priority"],
                row["scheduled_us"],
                row["kind"],
                zlib.crc32(result.encode()) if result is not None else 0,
            )
    for row in await store.jobs_left(database, tags):
        recorded.left[row["id"].bytes] = (row["place"], row["alive"])
    for job, _ in await store.double_ends(database, tags, since):
        recorded.double.add(job.bytes)
    strangers = [job for job in recorded.rows if job not in acknowledged]
    found = await store.numbers_of(database, [UUID(bytes=job) for job in strangers], since)
    recorded.numbers = {job.bytes: number for job, number in found.items()}
    return recorded
