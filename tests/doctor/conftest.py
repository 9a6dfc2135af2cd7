"""Fixtures of the doctor's tests: a database to make trouble in, and a doctor for it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
sys.path.insert(0, str(Path(__file__).parents[1] / "trouble"))
sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))
sys.path.insert(0, str(Path(__file__).parents[1] / "asyncpg_trio"))

from store_stage import Stage, open_stage

from hotpath.config import Config
from hotpath.doctor.patient import Patient
from hotpath.store.database import open_database


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    """A database of its own with the script `flow_x` registered."""
    async with open_stage(database_url) as stage:
        yield stage


@pytest.fixture
def patient_of(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Patient]]:
    """Opens a database as a patient, with options of the configuration."""

    @asynccontextmanager
    async def opened(url: str, **options: Any) -> AsyncIterator[Patient]:
        config = Config(workspace=tmp_path, database_url=url, **options)
        async with open_database(config) as database:
            yield Patient(config, database)

    return opened


@pytest.fixture
async def patient(stage: Stage, patient_of) -> AsyncIterator[Patient]:
    """The stage's database as a patient."""
    async with patient_of(stage.url) as patient:
        yield patient
