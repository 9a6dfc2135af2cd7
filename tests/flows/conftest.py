"""Fixtures of the tests of flows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from code_stage import CodeStage


@pytest.fixture
def code_stage(tmp_path: Path) -> Iterator[CodeStage]:
    """A workspace for flows that are code; modules and the module path are as before afterwards."""
    path, modules = sys.path.copy(), set(sys.modules)
    yield CodeStage(tmp_path)
    sys.path[:] = path
    for module in set(sys.modules) - modules:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]
