"""I11: the primary dies and its standby takes over; who is pointed at a standby alone is told so."""

from __future__ import annotations

import os
import pwd
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest
import trio
from servers import Server, open_server, open_standby, run_as
from trouble_tools import administrator, enqueue_marks, make_database, reconnect
from worker_stage import Stage, open_stage

from hotpath import asyncpg_trio

pytestmark = pytest.mark.slow

REPLICATED = ("wal_level=replica", "max_wal_senders=4", "synchronous_standby_names=standby")


@attrs.frozen
class Pair:
    """A primary and its synchronous standby."""

    primary: Server
    standby: Server

    def url(self, database: str) -> str:
        """Both hosts, the one that takes no writes first."""
        hosts = f"127.0.0.1:{self.standby.port},127.0.0.1:{self.primary.port}"
        return f"postgresql://postgres@{hosts}/{database}?sslmode=disable"


@contextmanager
def open_pair() -> Iterator[Pair]:
    """Two servers; what the first one acknowledges, the second one has."""
    with open_server(*REPLICATED) as primary:
        # Until the standby is there nobody could acknowledge anything.
        primary.stop()
        primary.settings = (*primary.settings, "synchronous_standby_names=")
        primary.start()
        with open_standby(primary) as standby:
            primary.settings = primary.settings[:-1]
            primary.stop()
            primary.start()
            yield Pair(primary, standby)


@pytest.fixture(scope="module")
def pairs() -> Iterator[Callable[[], Pair]]:
    """Gives a pair that is whole: the former one, unless a test has ended its primary."""
    made: list[Pair] = []
    with ExitStack() as stack:

        def whole() -> Pair:
            if not made or not made[-1].primary.running:
                made.append(stack.enter_context(open_pair()))
            return made[-1]

        yield whole


@pytest.fixture
def pair(pairs: Callable[[], Pair]) -> Pair:
    """Two servers; what the first one acknowledges, the second one has."""
    return pairs()


async def test_standby_alone(pair: Pair, tmp_path: Path):
    """A command whose only host is a standby ends at once with exit code 3 and one line that says so."""
    name = await make_database(pair.primary)
    (tmp_path / "double.py").write_text("def main(x: int):\n    return x\n")
    url = f"postgresql://postgres@127.0.0.1:{pair.standby.port}/{name}?sslmode=disable"
    for words in (("dedicate", "double"), ("status",)):
        done = await trio.run_process(
            [sys.executable, "-m", "hotpath", *words],
            stdin=b'{"x": 1}\n',
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, "HOTPATH_DATABASE_URL": url, "HOTPATH_WORKSPACE": str(tmp_path)},
        )
        assert done.returncode == 3
        (line,) = done.stderr.decode().splitlines()
        assert "read-only" in line


async def test_failover(pair: Pair, tmp_path: Path):
    """The worker goes over to the promoted standby by itself; nothing acknowledged is lost, nothing
    double.
    """
    name = await make_database(pair.primary)
    async with open_stage(pair.url(name), tmp_path) as stage:
        await reconnect(stage, pair.primary, name)  # what the standby shows may be of a moment ago
        marks = await enqueue_marks(stage, 600, 0.002)
        command = await stage.dedicate("mark")
        await stage.until_done(100)
        (pid,) = await stage.worker_pids()
        await trio.to_thread.run_sync(pair.primary.stop, signal.SIGQUIT)
        promote = [pair.standby.bin_dir / "pg_ctl", "-D", pair.standby.data, "promote"]
        await trio.to_thread.run_sync(run_as, _account_of(pair.standby), promote)
        stage.connection.terminate()
        stage.connection = await asyncpg_trio.connect(pair.standby.url(name))
        await stage.until_done(600, 45)
        assert await stage.states() == {"success": 600}
        assert {row["attempt"] for row in await stage.rows()} == {1}
        assert set((await trio.Path(marks).read_text()).split()) == {str(x) for x in range(600)}
        await stage.check_empty()
        assert await stage.worker_pids() == [pid], command.stderr
        command.process.terminate()
        assert await command.wait() == 0, command.stderr
        stage.connection.terminate()


def _account_of(server: Server) -> str | None:
    return pwd.getpwuid(os.stat(server.data).st_uid).pw_name if os.geteuid() == 0 else None


async def test_primary_turns_read_only(stage: Stage, server: Server, database: str):
    """Where writes are refused of a sudden (25006) the worker waits, keeps what it has, and goes on
    afterwards.
    """
    marks = await enqueue_marks(stage, 600, 0.002)
    command = await stage.dedicate("mark")
    await stage.until_done(50)
    async with administrator(server) as administrator_:
        alter = f"alter database {database} set default_transaction_read_only = on"
        await administrator_.execute(alter)
        await administrator_.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", database
        )
        await trio.sleep(1.5)
        assert command.process.returncode is None
        await administrator_.execute(alter.replace("= on", "= off"))
    stage.connection.terminate()
    stage.connection = await asyncpg_trio.connect(server.url(database))
    await stage.until_done(600, 45)
    assert len((await trio.Path(marks).read_text()).split()) == 600
    assert await stage.states() == {"success": 600}
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
