"""Logs that move to object storage: a directory, and a real S3 server (moto)."""

from __future__ import annotations

import logging
import os
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import trio
from store_stage import Stage, outcomes

from hotpath.config import Config, read_config
from hotpath.core.logtext import LogText
from hotpath.errors import UsageError
from hotpath.store import archive
from hotpath.store.archive import Archiver, keep_moving
from hotpath.store.database import open_database
from hotpath.store.jobs import get_log
from hotpath.store.log_store import LogStoreError, open_log_store
from hotpath.store.logs import LogPage, read_log


async def say(stage: Stage, *logs: str) -> list:
    """Run a job for each log; their ids."""
    ids = await stage.loose(len(logs))
    worker = await stage.worker()
    hand = await stage.claim(worker)
    for index, text in enumerate(logs):
        hand.report((index, 1, 1_000_000, 10, b"1", text))
    await stage.flush(worker, outcomes(hand, []))
    return ids


async def texts(stage: Stage, ids: list) -> list[str]:
    """What `get_log` gives of each."""
    return ["".join(text for _, text in await get_log(stage.connection, job)) for job in ids]


async def move_all(stage: Stage, store, after: float = 0.0) -> int:
    """Move whatever can be moved."""
    archiver, total = Archiver(store, after), 0
    while (moved := await archiver.step(stage.connection)) is not None:
        total += moved
    return total


async def read_pages(stage: Stage, job: UUID) -> list[LogPage]:
    """A log as readers see it, five characters at a time."""
    pages = [await read_log(stage.connection, job, limit_chars=5)]
    while pages[-1].next is not None:
        pages.append(await read_log(stage.connection, job, pages[-1].next, limit_chars=5))
    return pages


def objects(directory: Path) -> list[Path]:
    """The objects that are there."""
    return list(directory.rglob("*.gz"))


def block(directory: Path) -> None:
    """A file, where a directory should be."""
    directory.write_text("in the way")


def unblock(directory: Path) -> None:
    """Take it away."""
    directory.unlink()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where objects are files."""
    return tmp_path / "logs"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a bucket in an S3 server of our own."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    request = urllib.request.Request(f"http://{host}:{port}/hotpath-logs", method="PUT")
    urllib.request.urlopen(request).close()
    yield "s3://hotpath-logs/team/logs"
    server.stop()
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


LOGS = ("one\n", "two \N{SNOWMAN}\n" * 1000, "\x1b[31mthree\x1b[0m\n", "4" * 2_000_000)


@pytest.mark.slow
async def test_logs_move_to_s3_and_are_read_there(stage: Stage, s3: str):
    """What was in the database is in the bucket, in one object, and reads as before."""
    ids = await say(stage, *LOGS)
    assert await move_all(stage, open_log_store(s3)) == len(LOGS)
    assert await stage.count("job_log") == 0
    assert await stage.count("log_object") == 1
    assert await texts(stage, ids) == list(LOGS)
    assert await move_all(stage, open_log_store(s3)) == 0


async def test_a_directory_will_do(stage: Stage, directory: Path):
    """Objects are files below the day's folder; several objects where one would be too large."""
    ids = await say(stage, *LOGS)
    assert await move_all(stage, open_log_store(str(directory))) == len(LOGS)
    (found,) = objects(directory)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d/[0-9a-f]{24}\.gz", str(found.relative_to(directory)))
    assert await texts(stage, ids) == list(LOGS)


async def test_an_object_holds_so_much(stage: Stage, directory: Path, monkeypatch):
    """Logs beyond an object's size go to the next one; none is left or moved twice."""
    monkeypatch.setattr(archive, "TOGETHER", 10_000)
    said = [f"{k} " * 1000 for k in range(20)]
    ids = await say(stage, *said)
    assert await move_all(stage, open_log_store(str(directory))) == 20
    assert await stage.count("log_object") > 4
    assert await texts(stage, ids) == said


async def test_positions_move_with_the_log(stage: Stage, directory: Path):
    """Marks of time, and where something is missing, are kept beside the place."""
    text = LogText("head[notice]tail", [0, 5_000, 4, 9_000], (4, 100, 8))
    ids = await say(stage, text)
    before = await stage.connection.fetchval("select marks from hotpath.job_log")
    pages = await read_pages(stage, ids[0])
    assert len(pages) > 1
    await move_all(stage, open_log_store(str(directory)))
    assert await stage.connection.fetchval("select marks from hotpath.log_moved") == before
    assert await read_pages(stage, ids[0]) == pages


async def test_young_logs_stay(stage: Stage, directory: Path):
    """Nothing moves before its time."""
    await say(stage, "young")
    assert await move_all(stage, open_log_store(str(directory)), after=60) == 0
    assert await stage.count("job_log") == 1


async def test_a_store_that_is_away_delays_and_loses_nothing(stage: Stage, directory: Path):
    """While the store refuses, logs stay where they are; then they move."""
    ids = await say(stage, "patient\n")
    block(directory)
    with pytest.raises(LogStoreError, match="cannot be"):
        await move_all(stage, open_log_store(str(directory)))
    assert await texts(stage, ids) == ["patient\n"]
    assert await stage.count("job_log") == 1
    unblock(directory)
    open_log_store.cache_clear()
    assert await move_all(stage, open_log_store(str(directory))) == 1
    assert await texts(stage, ids) == ["patient\n"]


async def test_an_object_that_nobody_noted_is_deleted(stage: Stage, directory: Path, monkeypatch):
    """Who dies between writing an object and noting it leaves the logs in the database, and the object to
    be swept.
    """
    ids = await say(stage, "twice\n")
    store = open_log_store(str(directory))
    put = store.put

    async def die(name: str, data: bytes) -> None:
        await put(name, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "put", lambda self, name, data: die(name, data))
        patched.setattr(archive, "LOOSE_AFTER", 0.0)
        with pytest.raises(KeyboardInterrupt):
            await move_all(stage, store)
        assert len(objects(directory)) == 1
        assert await texts(stage, ids) == ["twice\n"]
        assert await Archiver(store).clean(stage.connection) == 1
    assert not objects(directory)
    assert await stage.count("log_object") == 0


async def test_days_are_dropped_with_their_objects(stage: Stage, directory: Path):
    """What retention drops goes from the store, too; younger days stay."""
    ids = await say(stage, "old\n")
    store = open_log_store(str(directory))
    await move_all(stage, store)
    today = await stage.connection.fetchval("select (now() at time zone 'UTC')::date")
    assert await Archiver(store).drop_before(stage.connection, today) == 0
    assert await texts(stage, ids) == ["old\n"]
    await stage.connection.execute("update hotpath.log_object set day = day - 30")
    assert await Archiver(store).drop_before(stage.connection, today) == 1
    assert not objects(directory)
    assert await texts(stage, ids) == [""]


async def test_two_at_once_do_not_meet(stage: Stage, directory: Path):
    """Whoever comes second leaves it to the first."""
    await say(stage, "mine\n")
    other = await stage.connect()
    await other.execute("select pg_advisory_lock($1)", archive._LOCK)
    assert await Archiver(open_log_store(str(directory)), 0.0).step(stage.connection) is None
    assert await stage.count("job_log") == 1


async def test_behind_a_pooler_no_lock_is_left(stage: Stage, directory: Path, monkeypatch):
    """Behind a pooler each statement may be another session's: no lock of a session is taken. Who begins an
    object keeps the others away, until it is stored, or could have been.
    """
    ids = await say(stage, "mine\n")
    store = open_log_store(str(directory))
    one, two = (Archiver(store, 0.0, pooled=True) for _ in range(2))
    block(directory)
    with pytest.raises(LogStoreError):
        await one.step(stage.connection)
    assert not await stage.connection.fetchval("select count(*) from pg_locks where locktype = 'advisory'")
    unblock(directory)
    assert await two.step(stage.connection) is None
    assert await one.step(stage.connection) == 1
    ids += await say(stage, "again\n")
    assert await two.step(stage.connection) is None  # what `one` had begun first is not stored
    monkeypatch.setattr(archive, "STEP_WITHIN", 0.0)
    assert await two.step(stage.connection) == 1
    assert await texts(stage, ids) == ["mine\n", "again\n"]


async def test_a_keeper_moves_them_in_the_background(stage: Stage, directory: Path, monkeypatch):
    """As a supervisor does it: without anybody asking."""
    monkeypatch.setattr(archive, "EVERY", 0.05)
    config = Config(workspace=directory.parent, database_url=stage.url)
    ids = await say(stage, "moved\n")
    async with open_database(config) as database, trio.open_nursery() as nursery:
        nursery.start_soon(keep_moving, database, str(directory), 0.0)
        with trio.fail_after(20):
            while await stage.count("job_log"):  # noqa: ASYNC110 - of another connection
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert await texts(stage, ids) == ["moved\n"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("logs", "neither an address"),
        ("ftp://host/logs", "scheme 'ftp'"),
        ("s3://key:secret@bucket/x", "credentials"),
        ("s3:///prefix", "names no bucket"),
    ],
)
def test_addresses_that_cannot_be(value: str, said: str, tmp_path: Path):
    """A wrong HOTPATH_LOG_STORE is refused by name before anything is read or written; no secret is shown."""
    with pytest.raises(UsageError, match=said) as caught:
        read_config(tmp_path, {"HOTPATH_LOG_STORE": value})
    assert "HOTPATH_LOG_STORE" in str(caught.value)
    assert "secret@" not in str(caught.value)


def test_seconds_that_cannot_be(tmp_path: Path):
    """So is a wrong HOTPATH_LOG_STORE_AFTER."""
    with pytest.raises(UsageError, match="HOTPATH_LOG_STORE_AFTER must be a number of seconds"):
        read_config(tmp_path, {"HOTPATH_LOG_STORE_AFTER": "soon"})
