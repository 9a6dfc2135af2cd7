"""Fixtures of the store's tests."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from flow_stage import Flows, make_flows
from store_stage import Stage, open_stage


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    """A database of its own with the script `flow_x` registered."""
    async with open_stage(database_url) as stage:
        yield stage


@pytest.fixture
async def flowing(stage: Stage) -> Flows:
    """The stage with `flow_x` as a flow."""
    return await make_flows(stage)
