"""Retention is kept by whoever keeps house, soon after the rules have changed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

from retention_stage import add_days, age_scripts, attached, name
from store_stage import open_stage

from hotpath.config import Config
from hotpath.store.database import open_database
from hotpath.store.retention import set_rule
from hotpath.worker import keeping as module
from hotpath.worker.changes import Changes
from hotpath.worker.keeping import Keeping


async def test_a_changed_rule_is_heeded_soon(database_url, tmp_path, monkeypatch, caplog):
    """A round follows a change of the rules, and none another change; whoever keeps house says what went."""
    caplog.set_level(logging.INFO, "hotpath.worker")
    monkeypatch.setattr(module, "SOON", 0.01)
    config = Config(workspace=tmp_path, database_url=database_url)
    async with open_stage(database_url) as stage, open_database(config) as database:
        await age_scripts(stage)
        await add_days(stage, 3)
        changes = Changes()
        async with trio.open_nursery() as nursery:
            keeping = Keeping(database, changes, first=1e6)
            nursery.start_soon(keeping.run)
            nursery.start_soon(changes.follow, database)
            while keeping._said is None:  # noqa: ASYNC110 - what it has read is nobody's business but a test's
                await trio.sleep(0.01)
            await stage.connection.execute("select hotpath.config_changed('group:x')")
            await set_rule(stage.connection, None, {"logs": "2d"})
            await set_rule(stage.connection, None, {"logs": "1d"})
            while not any("1 partitions dropped" in record.message for record in caplog.records):  # noqa: ASYNC110 - what is said last
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert await attached(stage, "job_log") == []
        assert await attached(stage, "job_done") == [name("job_done", 3)]


async def test_what_the_server_refuses_is_told(database_url, tmp_path, caplog):
    """A statement that is cut short each time is no weather: nothing would ever be dropped."""
    async with open_stage(database_url) as stage:
        await stage.connection.execute("alter table hotpath.pruned rename to gone")
    config = Config(workspace=tmp_path, database_url=database_url)
    async with open_database(config) as database, trio.open_nursery() as nursery:
        nursery.start_soon(Keeping(database, Changes(), first=0.01).run)
        while "cannot be dropped just now" not in caplog.text:  # noqa: ASYNC110 - it is said, and that is all
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert caplog.records[0].levelno == logging.WARNING
