"""`--wait` of a deploy: until each worker has made something of what is current now."""

from __future__ import annotations

import attrs
import pytest
import trio
from store_stage import open_stage

from hotpath.cli.options import Given
from hotpath.cli.rollout import wait_taken
from hotpath.config import read_config
from hotpath.store.choices import refuse_version
from hotpath.store.database import open_database
from hotpath.store.scripts import register_version


@pytest.mark.parametrize("goes_back", [False, True])
async def test_what_was_said_of_another_version_is_no_answer(database_url, tmp_path, goes_back):
    """A worker that could not run the version before, and has not looked at this one yet, is waited for; be
    this one new, or the one that it runs.
    """
    config = read_config(tmp_path, {}, database_url=database_url)
    async with open_stage(database_url) as stage, open_database(config) as database:
        worker = (await stage.worker()).worker
        made = [attrs.evolve(stage.version.description, hash=letter * 64) for letter in "de"]
        broken, good = [await register_version(stage.connection, each, deploy=True) for each in made]
        await refuse_version(stage.connection, [worker], broken.id, "it cannot be imported")
        if goes_back:
            good = await register_version(stage.connection, stage.version.description, deploy=True)
        fine = []

        async def wait() -> None:
            fine.append(await wait_taken(Given(), database, [good.description.path], 50))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(0.3)
            assert fine == []
            await refuse_version(stage.connection, [worker], None, None)
            await stage.connection.execute(
                "update hotpath.worker set version = $1 where id = $2", good.id, worker
            )
            await say_ready(stage, worker)
        assert fine == [True]


async def test_what_still_loads_does_not_run(database_url, tmp_path, capsys):
    """A worker that has begun to load the version is waited for; if that takes too long, that is said."""
    config = read_config(tmp_path, {}, database_url=database_url)
    async with open_stage(database_url) as stage, open_database(config) as database:
        worker = (await stage.worker()).worker
        described = stage.version.description
        assert not await wait_taken(Given(), database, [described.path], 0.3)
        said = capsys.readouterr()
        assert said.out == ""
        assert f"loads version {described.hash[:12]}: that is not done in time" in said.err
        await say_ready(stage, worker)
        assert await wait_taken(Given(), database, [described.path], 0.3)
        assert capsys.readouterr().out.startswith("runs ")


async def say_ready(stage, worker):
    """It takes jobs."""
    await stage.connection.execute("update hotpath.worker set occupied = '{0, 0, 0}' where id = $1", worker)
