"""The producers of `hotpath chaos` put in as many jobs as were asked for, whatever goes wrong meanwhile."""

from __future__ import annotations

from pathlib import Path

import trio

from hotpath.chaos.evidence import read_list
from hotpath.chaos.produce import Producer
from hotpath.client import Client, open_client
from hotpath.config import Config
from hotpath.errors import DatabaseUnavailableError
from hotpath.store import chaos as store


async def test_what_trouble_uses_up_is_put_in_later(database_url: str, tmp_path: Path, monkeypatch):
    """A database that is away while all is due costs tries, not jobs: a run of three jobs proves nothing."""
    failing = 12
    real_many, real_one = Client.enqueue_many, Client.enqueue

    def away():
        nonlocal failing
        if failing:
            failing -= 1
            msg = "away"
            raise DatabaseUnavailableError(msg)

    async def many(self, *args, **more):
        away()
        return await real_many(self, *args, **more)

    async def one(self, *args, **more):
        away()
        return await real_one(self, *args, **more)

    monkeypatch.setattr(Client, "enqueue_many", many)
    monkeypatch.setattr(Client, "enqueue", one)
    monkeypatch.setattr("hotpath.chaos.produce.PAUSE", 0.01)
    (tmp_path / "ledger").mkdir()
    (tmp_path / "noop.py").write_text("def main() -> None: ...\n")
    config = Config(workspace=tmp_path, database_url=database_url)
    async with open_client(config=config) as client:
        await client.register("noop")
        (tag,) = await store.tag_keys(client.database, ["chaos/made"])
        producer = Producer(
            client=client, scripts=[("noop", "chaos/made")], mix=None, args=[{}], wanted=1600, seconds=1.0,
            seed=7, file=tmp_path / "list", ledger=tmp_path / "ledger", log=tmp_path / "log",
        )  # fmt: skip
        with trio.fail_after(60):
            await producer.run()
        there = len(await store.jobs_left(client.database, [tag]))
    assert failing == 0
    listed = read_list(tmp_path / "list")
    assert len(listed.acknowledged) == producer.acknowledged == there == 1600
    assert producer.taken - producer.missed == 1600 < producer.taken
