"""Fixtures of the web's tests: a real server in this process, on a free port of its own."""

import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
sys.path.insert(0, str(Path(__file__).parent))

from store_stage import open_stage
from web_stage import serving, write_workspace


@pytest.fixture
def workspace(tmp_path):
    """A directory with a few scripts."""
    write_workspace(tmp_path)
    return tmp_path


@pytest.fixture
def serve_fixture(database_url, workspace):
    """Opens servers of one fresh database, each for as long as an `async with` lasts."""

    @asynccontextmanager
    async def opened(**options):
        async with serving(database_url, workspace, **options) as served:
            yield served

    return opened


@pytest.fixture
async def served(serve_fixture):
    """A server of a fresh database, which knows the scripts of `web_stage`."""
    async with serve_fixture() as served:
        yield served


@pytest.fixture
async def stage(database_url):
    """The store's own stage: a fresh database with the script `flow_x`."""
    async with open_stage(database_url) as stage:
        yield stage
