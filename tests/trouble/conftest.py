"""Fixtures of the tests of database trouble: servers of their own, which they may break."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))
sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
sys.path.insert(0, str(Path(__file__).parents[1] / "asyncpg_trio"))

from servers import PGBOUNCER, Pooler, Server, open_pgbouncer, open_server
from trouble_tools import make_database
from worker_stage import Stage, open_stage


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A cluster that may be restarted, crashed and filled."""
    with open_server() as running:
        yield running


@pytest.fixture(scope="session")
def pooler(server: Server) -> Iterator[Pooler]:
    """PgBouncer in transaction mode before it."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    with open_pgbouncer(server) as running:
        yield running


@pytest.fixture
async def database(server: Server) -> str:
    """The name of a new database in the server."""
    if not server.running:
        server.start()
    return await make_database(server, one_of_many=True)


@pytest.fixture
async def stage(server: Server, database: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage whose commands reach the server by its socket."""
    async with open_stage(server.url(database), tmp_path) as stage:
        yield stage
        stage.connection.terminate()  # it may not be the one that the stage began with
