"""Where a benchmark runs: a PostgreSQL of its own, and a fresh database for each sample."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import attrs
import trio

import hotpath
from hotpath import asyncpg_trio
from hotpath.store.embedded import EmbeddedPostgres

WORKSPACE = Path(__file__).resolve().parent / "scripts"
TEMPLATE = f"hotpath_bench_template_{os.getpid()}"
_HOMES = "/var/tmp"  # noqa: S108 - a private directory in it; /tmp may be memory, and then fsync would cost nothing


@attrs.define
class Bench:
    """What a scenario is given: the server, how often to repeat, how large to be."""

    server: str
    """Address of a database of the server, with the right to create others."""
    repeat: int = 5
    quick: bool = False
    scale: float = 1.0
    """Factor on the sizes, for tests of the harness itself."""
    postmaster: int | None = None
    """Process id of the server; None when it is not ours, and then its CPU is not seen."""
    home: Path | None = None
    """Directory of the server, on the disk that its commits wait for; None when it is not ours."""
    _count: int = 0

    def size(self, jobs: int, least: int = 1) -> int:
        """How many jobs to run where `jobs` is the full size."""
        return max(least, int(jobs * self.scale * (0.1 if self.quick else 1)))

    def fsync_seconds(self) -> float:
        """What one fsync on the server's disk takes just now; 0 when the disk is not ours to try."""
        return 0.0 if self.home is None else probe_fsync(self.home)

    def say(self, text: str) -> None:
        """Tell the person who waits, on stderr."""
        print(text, file=sys.stderr, flush=True)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The address of a new database with the bench's scripts registered; dropped afterwards."""
        async with self.empty_database(TEMPLATE) as url:
            yield url

    @asynccontextmanager
    async def empty_database(self, template: str = "template0") -> AsyncIterator[str]:
        """The address of a new database, by default without Hotpath's schema; dropped afterwards."""
        self._count += 1
        name = f"hotpath_bench_{os.getpid()}_{self._count}"
        await self._administer(f"create database {name} template {template}")
        try:
            yield _in(self.server, name)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
                await self._administer(f"drop database if exists {name} with (force)")

    async def make_template(self) -> None:
        """A database with the schema and the scripts, which the others are copies of."""
        await self._administer(f"drop database if exists {TEMPLATE} with (force)")
        await self._administer(f"create database {TEMPLATE} template template0")
        async with hotpath.open_client(_in(self.server, TEMPLATE), workspace=WORKSPACE) as client:
            for script in sorted((*WORKSPACE.glob("*.py"), *WORKSPACE.glob("*.flow"))):
                await client.register(script.stem)

    async def drop_template(self) -> None:
        """Remove it."""
        await self._administer(f"drop database if exists {TEMPLATE} with (force)")

    async def _administer(self, statement: str) -> None:
        async with connect(self.server) as connection:
            await connection.execute(statement)


@asynccontextmanager
async def open_bench(
    *, quick: bool = False, repeat: int = 5, scale: float = 1.0, database_url: str | None = None
) -> AsyncIterator[Bench]:
    """A server for the run: a private embedded one with its usual, durable settings, or a given one."""
    if database_url is not None:
        async with _templated(Bench(database_url, repeat, quick, scale)) as bench:
            yield bench
        return
    home = Path(tempfile.mkdtemp(prefix="hotpath-bench-", dir=_HOMES if os.access(_HOMES, os.W_OK) else None))
    os.chmod(home, 0o755)  # noqa: S103 - for root the server is another user, who has to pass through
    server = EmbeddedPostgres(home, linger=1)
    try:
        url = await trio.to_thread.run_sync(server.start, "postgres")
        async with _templated(Bench(url, repeat, quick, scale, server.status().pid, home)) as bench:
            yield bench
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
            await trio.to_thread.run_sync(server.stop)
        server.close()
        shutil.rmtree(home, ignore_errors=True)


def probe_fsync(directory: Path, tries: int = 20) -> float:
    """Median seconds of a write of 8 KiB and an fdatasync, which every commit waits for."""
    took = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(tries):
            began = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 8192, 0)
            getattr(os, "fdatasync", os.fsync)(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took)


@asynccontextmanager
async def _templated(bench: Bench) -> AsyncIterator[Bench]:
    await bench.make_template()
    try:
        yield bench
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
            await bench.drop_template()


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[asyncpg_trio.Connection]:
    """A plain connection."""
    connection = await asyncpg_trio.connect(url)
    try:
        yield connection
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await connection.close()


def environment(url: str) -> dict[str, str]:
    """The environment of a `hotpath` command on this database and the bench's own workspace."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("HOTPATH_", "PG"))}
    mine.pop("DATABASE_URL", None)
    root = str(Path(__file__).resolve().parent.parent)
    return {**mine, "HOTPATH_DATABASE_URL": url, "HOTPATH_WORKSPACE": str(WORKSPACE), "PYTHONPATH": root}


def _in(server: str, database: str) -> str:
    """The server's address with another database in it."""
    return urlunsplit(urlsplit(server)._replace(path=f"/{database}"))
