"""Fixtures of the worker's tests."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from worker_stage import Stage, open_stage


@pytest.fixture
async def stage(database_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """A database of its own, a workspace with scripts, a client, and room for commands."""
    async with open_stage(database_url, tmp_path) as stage:
        yield stage
