"""What every test may ask for: a PostgreSQL of its own, a fresh database in it, and a verdict when it hangs.

- `database_url`: a new database with Hotpath's schema; `empty_database_url`: one without.
- `cluster`: the server they are in, private to this run (to this xdist worker), never the one you work with.
  `HOTPATH_TEST_DATABASE_URL` names a server to use instead, with the right to create databases.
- A Trio test that hangs fails after `TEST_SECONDS` and says so.
"""

from __future__ import annotations

import compileall
import fcntl
import functools
import gc
import inspect
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import hypothesis
import pytest
import trio
from _pytest.assertion import rewrite

import hotpath
from hotpath.store.embedded import EmbeddedPostgres
from hotpath.store.embedded_wire import Session

sys.path.insert(0, str(Path(__file__).parent / "tools"))

import warm
from nest import START_AS_EVER
from thoroughness import THOROUGH, examples

TEST_SECONDS = 150.0  # several times what the longest takes on a busy machine

# Nothing here has to survive a power cut, and everything should be quick and small. Tests of crashes start
# their own servers.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
}
_NOT_YOURS = ("HOTPATH_", "PG")
_YOURS = ("HOTPATH_TEST_DATABASE_URL", "HOTPATH_PG_BIN", "HOTPATH_PG_USER")
_MEMORY_DISK = "/dev/shm"
_HOME_PREFIX = "hotpath-test-"
_CACHE = pytest.StashKey[str]()
_serial = itertools.count(1)
_sessions: dict[str, Session] = {}
"""By the server, the connection that it is administered by."""


def pytest_configure(config: pytest.Config) -> None:
    """Forget the developer's own settings: no test may touch the database he works with. Keep our bytecode,
    which hundreds of processes would make anew where PYTHONDONTWRITEBYTECODE is set.
    """
    for name in list(os.environ):
        if name == "DATABASE_URL" or (name.startswith(_NOT_YOURS) and name not in _YOURS):
            del os.environ[name]
    # Sources of versions and environments of scripts are kept there: not among yours.
    os.environ["XDG_CACHE_HOME"] = config.stash[_CACHE] = tempfile.mkdtemp(prefix="hotpath-test-cache-")
    hypothesis.settings.register_profile(
        "hotpath",
        max_examples=examples(40, 100),
        derandomize=not THOROUGH,  # as its profile for CI: what fails does so for a change, not by chance
        deadline=None,  # these two judge the machine: on a busy one each example is late, and each draw slow
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("hotpath")
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(hotpath.__file__).parent, quiet=2)
    else:
        _rewrite_share(config, int(config.workerinput["workerid"][2:]), config.workerinput["workercount"])


def _rewrite_share(config: pytest.Config, number: int, count: int) -> None:
    """Rewrite the assertions of this process's share of the tests, for the others of this run, and the next
    run, to find: that is two thirds of what collecting takes, and each process would do all of it.
    """
    places = [Path(each.partition("::")[0]) for each in config.args]
    files = {file for place in places for file in ([place] if place.is_file() else place.rglob("test_*.py"))}
    for file in sorted(files, key=lambda file: (-file.stat().st_size, file))[number::count]:
        kept = rewrite.get_cache_dir(file) / (file.stem + rewrite.PYC_TAIL)
        if rewrite._read_pyc(file, kept) is None and rewrite.try_makedirs(kept.parent):
            digest, code = rewrite._rewrite_test(file, config)
            rewrite._write_pyc(config.stash[rewrite.assertstate_key], code, digest, kept)


def pytest_collection_finish() -> None:
    """What is there now stays there: the collector need not walk the tests' whole world again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    shutil.rmtree(config.stash.get(_CACHE, ""), ignore_errors=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Bound every Trio test, before pytest-trio wraps it; virtual clocks are left alone, for them that is
    nothing.
    """
    test = getattr(item, "obj", None)
    virtual = {"mock_clock", "autojump_clock"} & set(getattr(item, "fixturenames", ()))
    if inspect.iscoroutinefunction(test) and not virtual:
        item.obj = _bounded(test)
    return (yield)


def _bounded(test: Callable) -> Callable:
    @functools.wraps(test)
    async def bounded(**arguments):
        with trio.move_on_after(TEST_SECONDS) as scope:
            await test(**arguments)
        if scope.cancelled_caught:
            pytest.fail(f"{test.__name__} hung: it was not done after {TEST_SECONDS:.0f} s", pytrace=False)

    return bounded


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a database in a server of this run's own, with the rights of a superuser."""
    if url := os.environ.get("HOTPATH_TEST_DATABASE_URL"):
        yield url
        return
    base = tempfile.gettempdir()
    if os.access(_MEMORY_DISK, os.W_OK) and shutil.disk_usage(_MEMORY_DISK).free > 2 << 30:
        base = _MEMORY_DISK
    _sweep(Path(base))
    home = Path(tempfile.mkdtemp(prefix=_HOME_PREFIX, dir=base))
    home.chmod(0o755)  # for root the server is another user, who has to pass through
    server = EmbeddedPostgres(home, settings=FAST, linger=1)  # the reaper ends it even if this run is killed
    try:
        yield server.start("postgres")
    finally:
        for session in _sessions.values():
            session.__exit__(None, None, None)
        _sessions.clear()
        server.stop()
        server.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _warm() -> Iterator[None]:
    """What starts `hotpath` commands, workers and describers ends with this run."""
    warm.install()
    yield
    warm.SHARED.close()


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process starts is a Python of its own in this test, whatever it is."""
    monkeypatch.setattr(subprocess.Popen, "_execute_child", START_AS_EVER)


def _sweep(base: Path) -> None:
    """Remove the servers' homes of runs that were killed: nobody holds a reference to them any more. One that
    is being made is not held yet.
    """
    for home in base.glob(_HOME_PREFIX + "*"):
        try:
            if time.time() - home.stat().st_mtime < TEST_SECONDS:
                continue
            with open(home / "clients", "rb") as clients:
                fcntl.flock(clients, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not EmbeddedPostgres(home).status().running:
                    shutil.rmtree(home, ignore_errors=True)
        except OSError:
            continue  # in use, just being made, or somebody else's


@pytest.fixture(scope="session")
def template(cluster: str) -> Iterator[str]:
    """The name of a database that holds Hotpath's schema and nothing else, for others to be copied from."""
    name = f"hotpath_template_{os.getpid()}"
    _administer(cluster, f"CREATE DATABASE {name} TEMPLATE template0")
    trio.run(_migrate, _in(cluster, name))
    yield name
    _administer(cluster, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def _migrate(url: str) -> None:
    from hotpath import asyncpg_trio
    from hotpath.store.migrate import migrate

    connection = await asyncpg_trio.connect(url)
    try:
        await migrate(connection)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await connection.close()


@pytest.fixture(scope="session")
def databases(cluster: str) -> Callable[[str], AbstractContextManager[str]]:
    """To be called with the name of a database, for a copy of it: a context, whose value is its address."""
    return contextmanager(functools.partial(_fresh, cluster))


@pytest.fixture
def database_url(cluster: str, template: str) -> Iterator[str]:
    """The address of a new database with the schema, dropped after the test whoever is still connected."""
    yield from _fresh(cluster, template)


@pytest.fixture(scope="module")
def module_database_url(cluster: str, template: str) -> Iterator[str]:
    """The same, shared by the tests of a module."""
    yield from _fresh(cluster, template)


@pytest.fixture
def empty_database_url(cluster: str) -> Iterator[str]:
    """The address of a new database with nothing in it, dropped after the test whoever is still connected."""
    yield from _fresh(cluster, "template0")


def _fresh(cluster: str, source: str) -> Iterator[str]:
    name = f"hotpath_test_{os.getpid()}_{next(_serial)}"
    # Copying files beats writing them through WAL (7 against 50 ms) where fsync is off; PostgreSQL 15 learned
    # the choice.
    strategy = "" if _major(cluster) < 15 else " STRATEGY file_copy"
    _administer(cluster, f"CREATE DATABASE {name} TEMPLATE {source}{strategy}")
    try:
        yield _in(cluster, name)
    finally:
        _administer(cluster, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@functools.cache
def _major(cluster: str) -> int:
    return int(_administer(cluster, "SHOW server_version_num")[0][0]) // 10000


def _in(cluster: str, database: str) -> str:
    """The cluster's address with another database in it."""
    return urlunsplit(urlsplit(cluster)._replace(path=f"/{database}"))


def _administer(cluster: str, statement: str) -> list:
    """Run one statement outside of a transaction, and return its rows."""
    parts = urlsplit(cluster)
    if parts.hostname is None and (host := parse_qs(parts.query).get("host")):
        # Our own server, by the launcher's few messages: no test of the driver rests on the driver.
        # One connection for all of the run: a new one for each statement takes as long as what it asks.
        if cluster not in _sessions:
            place = Path(host[0]) / ".s.PGSQL.5432"
            _sessions[cluster] = Session(place, database=parts.path[1:], user="hotpath", seconds=50)
        return _sessions[cluster].execute(statement)
    return trio.run(_administer_elsewhere, cluster, statement)


async def _administer_elsewhere(cluster: str, statement: str) -> list:
    from hotpath import asyncpg_trio

    connection = await asyncpg_trio.connect(cluster)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await connection.close()
