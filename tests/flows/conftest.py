"""Fixtures of the tests of flows."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "worker"))

from code_stage import CodeStage
from runtime_stage import RuntimeStage
from worker_stage import Stage, open_stage


@pytest.fixture
def code_stage(tmp_path: Path) -> Iterator[CodeStage]:
    """A workspace for flows that are code; modules and the module path are as before afterwards."""
    path, modules = sys.path.copy(), set(sys.modules)
    yield CodeStage(tmp_path)
    sys.path[:] = path
    for module in set(sys.modules) - modules:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]


@pytest.fixture
async def flow_stage(tmp_path: Path) -> AsyncIterator[RuntimeStage]:
    """A workspace for a flow that is a file; what was imported from there is forgotten afterwards."""
    path = sys.path.copy()
    async with trio.open_nursery() as nursery:
        stage = RuntimeStage(tmp_path, nursery)
        yield stage
        nursery.cancel_scope.cancel(reason="the test is over")
    sys.path[:] = path
    stage.forget_modules()


@pytest.fixture
async def stage(database_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """A database of its own, a workspace with scripts, a client, and room for commands."""
    async with open_stage(database_url, tmp_path) as stage:
        yield stage
