"""I11: a disk is full: outcomes are kept, and flushed when there is room again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from driver_cluster import _account
from servers import Server, is_root, open_server
from trouble_tools import administrator, check_once, enqueue_marks, make_database
from worker_stage import Stage, open_stage

from hotpath import asyncpg_trio

pytestmark = pytest.mark.slow


@pytest.fixture
def tiny_disk() -> Iterator[Path]:
    """A file system of a few MiB in memory."""
    if not is_root():
        pytest.skip("mounting a file system needs root")
    # Not pytest's own: another run of pytest takes from its parents what the server's account needs there.
    place = Path(tempfile.mkdtemp(prefix="hotpath-disk-"))
    place.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        place.rmdir()
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
        place.rmdir()


def fill(disk: Path, *, leave: int) -> Path:
    """Take all but `leave` bytes of the disk."""
    space = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, space.f_bavail * space.f_frsize - leave)))
    return ballast


async def test_full_disk(server: Server, tiny_disk: Path, tmp_path: Path):
    """While the tables' disk is full (53100) flushes fail and outcomes are kept; with room they are
    written, once.
    """
    space = tiny_disk / "space"
    space.mkdir()
    shutil.chown(space, _account())
    name = await make_database(server)
    async with administrator(server) as connection:
        await connection.execute(f"create tablespace tiny location '{space}'")
    try:
        async with open_stage(server.url(name), tmp_path) as stage:
            marks = await enqueue_marks(stage, 1200, 0.001)
            await _move_results(stage)
            ballast = fill(tiny_disk, leave=64 << 10)
            command = await stage.dedicate("mark")

            async def is_said() -> bool:
                return "No space left on device" in command.stderr

            await stage.until(is_said)
            written = await stage.connection.fetchval("select count(*) from hotpath.job_done")
            await trio.sleep(0.5)
            assert written == await stage.connection.fetchval("select count(*) from hotpath.job_done")
            assert command.process.returncode is None
            ballast.unlink()
            await stage.until_done(1200)
            await check_once(stage, marks, 1200)
            command.process.terminate()
            assert await command.wait() == 0, command.stderr
    finally:
        async with administrator(server) as connection:
            await connection.execute(f"drop database {name} with (force)")
            await connection.execute("drop tablespace tiny")


async def _move_results(stage: Stage) -> None:
    """Put the partitions of results on the tiny disk."""
    for row in await stage.connection.fetch(
        "select inhrelid::regclass::text as name from pg_inherits"
        " where inhparent = 'hotpath.job_done'::regclass"
    ):
        await stage.connection.execute(f"alter table {row['name']} set tablespace tiny")


async def test_full_disk_of_the_log(tiny_disk: Path, tmp_path: Path):
    """A server that crashes because its WAL has no room is away like any other; nothing acknowledged is
    lost.
    """
    with open_server("max_wal_size=4MB", "min_wal_size=2MB", base=None) as server:
        server.stop()
        wal = tiny_disk / "wal"
        await trio.run_process(["cp", "-a", str(server.data / "pg_wal"), str(wal)])
        (server.data / "pg_wal").rename(server.data / "pg_wal.old")
        (server.data / "pg_wal").symlink_to(wal)
        server.start()
        name = await make_database(server)
        async with open_stage(server.url(name), tmp_path) as stage:
            marks = await enqueue_marks(stage, 1000, 0.002)
            command = await stage.dedicate("mark")
            await stage.until_done(100)
            ballast = fill(tiny_disk, leave=0)
            chatter = "select pg_logical_emit_message(false, 'fill', repeat('x', 1000000))"
            with pytest.raises((asyncpg_trio.PostgresError, OSError)):
                await stage.connection.execute(f"{chatter} from generate_series(1, 99)")
            ballast.unlink()
            await trio.to_thread.run_sync(server.stop, signal.SIGQUIT)
            await trio.to_thread.run_sync(server.start)
            stage.connection.terminate()
            stage.connection = await asyncpg_trio.connect(server.url(name))
            await stage.until_done(1000, 45)
            assert await stage.states() == {"success": 1000}
            assert set((await trio.Path(marks).read_text()).split()) == {str(x) for x in range(1000)}
            await stage.check_empty()
            assert command.process.returncode is None
            command.process.terminate()
            assert await command.wait() == 0, command.stderr
            stage.connection.terminate()
