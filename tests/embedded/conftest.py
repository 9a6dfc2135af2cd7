"""A place for one cluster, the processes that use it, and the means to kill any of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotpath.store.embedded import EmbeddedPostgres
from hotpath.store.embedded_wire import Session

# Says `ready` once it holds a reference, and keeps it until its standard input ends. What a shell puts in the
# background, or `nohup` starts, has some signals ignored, and so have its children: not here.
CLIENT = """
import signal, sys
from pathlib import Path
from hotpath.store.embedded import EmbeddedPostgres
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
server = EmbeddedPostgres(Path(sys.argv[1]), linger=float(sys.argv[2]))
server.start()
print("ready", flush=True)
sys.stdin.read()
"""


def eventually(condition: Callable[[], object], *, seconds: float = 50) -> None:
    """Wait until the condition holds; fail the test if it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def processes() -> Iterator[tuple[int, list[bytes]]]:
    """Every process that lives (zombies have no command line) with its command line."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if command:
            yield int(entry.name), command.rstrip(b"\0").split(b"\0")


def parents() -> dict[int, int]:
    """The parent of every process."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    return found


class Site:
    """One home, and whoever uses it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._handles: list[EmbeddedPostgres] = []
        self._started: list[subprocess.Popen[str]] = []

    def server(self, **options) -> EmbeddedPostgres:
        """A handle on the cluster; the server outlives its users by 0.3 s unless told otherwise."""
        handle = EmbeddedPostgres(self.home, **({"linger": 0.3} | options))
        self._handles.append(handle)
        return handle

    def client(self, *, linger: float = 0.3, wait: bool = True, **options) -> subprocess.Popen[str]:
        """Another process that uses the cluster until its standard input is closed."""
        process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(self.home), str(linger)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            **options,
        )
        self._started.append(process)
        if wait:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        return process

    def run(self, argv: list[str], **options) -> subprocess.Popen[str]:
        """Any other process, ended with the test."""
        process = subprocess.Popen(argv, text=True, **options)
        self._started.append(process)
        return process

    def sql(self, statement: str, *, database: str = "hotpath") -> list[list[str | None]]:
        """Run one statement in the cluster as it is now."""
        path = EmbeddedPostgres(self.home).socket_dir / ".s.PGSQL.5432"
        with Session(path, database=database, user="hotpath", seconds=30) as session:
            return session.execute(statement)

    def postmasters(self) -> list[int]:
        """The servers of this home that live: never more than one."""
        data = os.fsencode(self.home / "data")
        return [pid for pid, argv in processes() if argv[0].endswith(b"/postgres") and data in argv]

    def reapers(self) -> list[int]:
        """The reapers that watch this home."""
        home = os.fsencode(self.home)
        return [
            pid
            for pid, argv in processes()
            if home in argv and any(b"embedded_reaper" in arg for arg in argv)
        ]

    def sessions(self) -> list[int]:
        """The server's own children, also those that outlived it."""
        title = f"postgres: {EmbeddedPostgres(self.home)._name}: ".encode()
        return [pid for pid, argv in processes() if argv[0].startswith(title)]

    def kill_server(self) -> None:
        """Kill the server and all its children at once, as a power cut or the out-of-memory killer does."""
        for pid in [*self.postmasters(), *self.sessions()]:
            kill(pid)

    def stopped(self) -> bool:
        """Nothing of the server is left."""
        return not self.postmasters() and not self.sessions()

    def end(self) -> None:
        """End whatever this test began."""
        for handle in self._handles:
            handle.close()
        for process in self._started:
            process.kill()
            with process:
                pass  # closes its pipes and waits for it
        for pid in self.reapers():
            kill(pid)
        self.kill_server()


def kill(pid: int) -> None:
    """`kill -9`, if it is there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def directory() -> Path:
    """A new directory that every user can pass through (pytest's own are closed to others), in memory if
    there is room.
    """
    shared = "/dev/shm"
    roomy = os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 2 << 30
    path = Path(tempfile.mkdtemp(prefix="hotpath-embedded-", dir=shared if roomy else None))
    path.chmod(0o755)
    return path


@pytest.fixture
def base() -> Iterator[Path]:
    """An empty directory, removed after the test."""
    path = directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def sites() -> Iterator[Callable[[Path], Site]]:
    """Make sites wherever a test wants; all are ended with it."""
    made: list[Site] = []

    def make(home: Path) -> Site:
        made.append(Site(home))
        return made[-1]

    yield make
    for site in made:
        site.end()


@pytest.fixture
def new_site(base: Path, sites: Callable[[Path], Site]) -> Site:
    """A home where nothing was ever started."""
    return sites(base / "home")


@pytest.fixture(scope="session")
def made_home() -> Iterator[Path]:
    """A home with a cluster that was started and stopped once: copying it is ten times faster than making
    one.
    """
    path = directory()
    server = EmbeddedPostgres(path / "home", linger=-1, settings={"fsync": "off"})
    server.start()
    server.stop()
    server.close()
    yield path / "home"
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def site(base: Path, sites: Callable[[Path], Site], made_home: Path) -> Site:
    """A home with a cluster that is stopped."""
    subprocess.run(["cp", "-a", str(made_home), str(base / "home")], check=True)
    return sites(base / "home")
