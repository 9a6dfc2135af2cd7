"""Fixtures of the driver's conformance tests."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from driver_cluster import Cluster, running_cluster

from hotpath import asyncpg_trio


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A server of this run's own."""
    with running_cluster() as running:
        yield running


@pytest.fixture
def dsn(cluster: Cluster) -> str:
    """The server's URL, by Unix socket."""
    return cluster.dsn()


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg_trio.Connection]:
    """A connection, closed behind the test."""
    opened = await asyncpg_trio.connect(dsn)
    yield opened
    await opened.close()
