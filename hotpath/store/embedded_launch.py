"""From whatever lies in a home directory to a server that answers: make the cluster, clear what the dead
left, start, wait.

Everything here runs with the home's `lock` held (see `embedded`), so nobody else starts or stops anything
meanwhile.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from hotpath.store import embedded_binaries, embedded_reaper, embedded_wire
from hotpath.store.embedded_binaries import Binaries, OsUser
from hotpath.store.embedded_errors import EmbeddedPostgresError, disk_full, is_disk_full
from hotpath.store.embedded_settings import PORT, render_settings, server_settings

_INITDB_SECONDS = 300.0
_START_SECONDS = 300.0  # recovery after a crash replays up to max_wal_size
_LOG_BYTES = 10_000_000
_TAIL_BYTES = 4_000


@attrs.frozen
class Launch:
    """One attempt to have a server in `home`, with its socket in `socket_dir`, known as `name`, run as
    `user`.
    """

    home: Path
    socket_dir: Path
    name: str
    user: OsUser | None
    settings: Mapping[str, str]

    @property
    def data(self) -> Path:
        """The cluster's files."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.home / "log"

    def make_cluster(self) -> None:
        """Run initdb unless there is a cluster: never where files of another origin lie, never a second."""
        if (self.data / "PG_VERSION").exists():
            return
        if os.path.lexists(self.data):
            try:
                self.data.rmdir()  # succeeds only if it is empty
            except OSError:
                raise EmbeddedPostgresError(
                    f"{self.data} holds files that are no PostgreSQL database: "
                    "move them away, or set HOTPATH_HOME"
                ) from None
        self._check_entry()
        binaries = embedded_binaries.find_binaries(self.home, self.user, data_major=None)
        for stale in self.home.glob(".data-*"):  # of a process killed while it made a cluster
            _remove_unfinished(stale)
        making = Path(tempfile.mkdtemp(prefix=".data-", dir=self.home))
        try:
            self._own(making)
            self._initdb(binaries, making)
            # Not `include_if_exists`: a server without our settings would listen on a network port.
            self._write(making / "hotpath.conf", "listen_addresses = ''\n")
            self._write(making / "postgresql.conf", "include 'hotpath.conf'\n", append=True)
            if self.settings.get("fsync") != "off":
                _sync(making)
            making.rename(self.data)  # atomic: a half-made cluster is never taken for one
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise

    def ensure_running(self) -> None:
        """Return when the server takes connections; start it if it does not run, wait if it recovers."""
        if self._answers():
            return
        pid = embedded_reaper.postmaster_pid(self.data)
        if pid is None or not embedded_reaper.is_postmaster(pid, self.data):
            self._check_entry()
            major = self._data_major()
            binaries = embedded_binaries.find_binaries(self.home, self.user, data_major=major)
            embedded_binaries.drop_old_copies(self.home, binaries)
            self._write_settings(binaries)
        else:
            binaries = None  # it is on its way up or down; needed only should it end
        self._wait_until_up(binaries)

    # -- pieces

    def _data_major(self) -> int:
        text = (self.data / "PG_VERSION").read_text().strip()
        try:
            return int(text)
        except ValueError:
            raise EmbeddedPostgresError(
                f"{self.data / 'PG_VERSION'} is damaged: restore the directory, or set HOTPATH_HOME"
            ) from None

    def _check_entry(self) -> None:
        """Root's server user must be able to enter the home; we chmod nothing that we did not make."""
        if self.user is None:
            return
        argv: list[str | Path] = ["/bin/sh", "-c", 'test -x "$1"', "sh", self.home]
        try:
            entered = embedded_binaries.run(argv, self.user, seconds=20).returncode == 0
        except OSError as error:
            raise EmbeddedPostgresError(
                f"PostgreSQL does not run as root, and this process may not become user id {self.user.uid} "
                f"({error}): run Hotpath as an ordinary user, or set HOTPATH_DATABASE_URL to a server"
            ) from error
        if not entered:
            raise EmbeddedPostgresError(
                f"{self.home} cannot be entered by user id {self.user.uid}, whom PostgreSQL runs as: "
                "set HOTPATH_HOME to a directory that others can pass through, not below /root"
            )

    def _own(self, path: Path) -> None:
        if self.user is not None:
            os.chown(path, self.user.uid, self.user.gid, follow_symlinks=False)

    def _initdb(self, binaries: Binaries, making: Path) -> None:
        argv: list[str | Path] = [binaries.directory / "initdb", "-D", making, "-U", "hotpath", "-E", "UTF8"]
        # Trust: the socket's directory is the door, and only its owner can enter it. Not synced here but
        # once, below.
        argv += ["--no-locale", "--auth=trust", "--no-instructions", "--no-sync", "--data-checksums"]
        if (
            binaries.major >= 16
        ):  # those before cannot be told, and a killed initdb leaves its segment in /dev/shm
            argv += ["-c", "dynamic_shared_memory_type=mmap"]
        done = embedded_binaries.run(argv, self.user, seconds=_INITDB_SECONDS)
        if done.returncode != 0:
            if is_disk_full(self.home, done.stdout):
                raise disk_full(self.home, detail=done.stdout)
            raise EmbeddedPostgresError(
                f"initdb failed in {self.home}: {_last_line(done.stdout)}; try another HOTPATH_HOME",
                detail=done.stdout,
            )

    def _write_settings(self, binaries: Binaries) -> None:
        room = os.statvfs(self.home)
        # Not every build has lz4; asking costs 5 ms.
        asked = ["-c", "wal_compression=lz4", "-C", "wal_compression"]
        answer = embedded_binaries.run(
            [binaries.directory / "postgres", "-D", self.data, *asked], self.user, seconds=20
        )
        wal_lz4 = answer.returncode == 0
        settings = server_settings(
            socket_dir=self.socket_dir,
            name=self.name,
            free_bytes=room.f_bavail * room.f_frsize,
            wal_lz4=wal_lz4,
        )
        try:
            text = render_settings(settings | dict(self.settings))
        except ValueError as error:
            raise EmbeddedPostgresError(str(error)) from error
        self._write(self.data / "hotpath.conf", text)

    def _write(self, path: Path, text: str, *, append: bool = False) -> None:
        """Write a file among the server's, as its user: root must not follow a link of that user's.

        Replaced whole or not at all: settings cut short by a full disk could open a network port.
        """
        script = 'printf %s "$2" >>"$1"' if append else 'printf %s "$2" >"$1.new" && mv "$1.new" "$1"'
        done = embedded_binaries.run(
            ["/bin/sh", "-c", f"umask 077; {script}", "sh", path, text], self.user, seconds=20
        )
        if done.returncode != 0:
            if is_disk_full(self.home, done.stdout):
                raise disk_full(self.home, detail=done.stdout)
            raise EmbeddedPostgresError(
                f"cannot write {path}: {_last_line(done.stdout)}; check the directory, or set HOTPATH_HOME",
                detail=done.stdout,
            )

    def _answers(self) -> bool:
        """Whether the server takes connections, or has too many: not when it is away or recovering."""
        socket_path = self.socket_dir / f".s.PGSQL.{PORT}"
        try:
            with embedded_wire.Session(socket_path, database="postgres", user="hotpath", seconds=30):
                return True
        except embedded_wire.ServerRefused as refused:
            return not refused.sqlstate.startswith("57P")
        except OSError:
            return False

    def _wait_until_up(self, binaries: Binaries | None) -> None:
        deadline = time.monotonic() + _START_SECONDS
        child: int | None = None
        log_from = self._log_size()
        while time.monotonic() < deadline:
            if self._answers():
                return
            pid = embedded_reaper.postmaster_pid(self.data)
            if pid is not None and embedded_reaper.is_postmaster(pid, self.data):
                child = child or pid
            elif child is None or not embedded_reaper.is_alive(child):  # else it has just begun
                printed = self._printed(log_from)
                # Sessions of a killed server keep its memory for a moment: no failure, they are being ended.
                if child is not None and binaries is not None and "shared memory block" not in printed:
                    raise self._failure(printed)
                self._clear_what_the_dead_left()
                if binaries is None:
                    binaries = embedded_binaries.find_binaries(
                        self.home, self.user, data_major=self._data_major()
                    )
                    self._write_settings(binaries)
                log_from = self._log_size()
                child = self._spawn(binaries)
            time.sleep(0.01)
        raise EmbeddedPostgresError(
            f"PostgreSQL in {self.home} does not answer after {_START_SECONDS:.0f} s: see {self.log}",
            detail=self._printed(log_from),
        )

    def _spawn(self, binaries: Binaries) -> int:
        # Not pg_ctl: it pastes paths into a shell command unquoted, and cannot say how recovery goes.
        if self._log_size() > _LOG_BYTES:
            self.log.replace(self.log.with_name("log.1"))
        output = open_owned(self.log, os.O_WRONLY | os.O_APPEND, self.user)
        try:
            return detach([binaries.directory / "postgres", "-D", self.data], self.user, output=output)
        finally:
            os.close(output)

    def _clear_what_the_dead_left(self) -> None:
        """Remove a dead server's lock files, and end sessions that outlived it; only when no server lives."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self.socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        title = f"postgres: {self.name}: ".encode()
        _kill_all(lambda argv: argv[0].startswith(title), signal.SIGQUIT)

    def _log_size(self) -> int:
        try:
            return self.log.stat().st_size
        except OSError:
            return 0

    def _printed(self, since: int) -> str:
        try:
            with open(self.log, "rb") as file:
                file.seek(max(since, self._log_size() - _TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""

    def _failure(self, printed: str) -> EmbeddedPostgresError:
        if is_disk_full(self.home, printed):
            return disk_full(self.home, detail=printed)
        return EmbeddedPostgresError(
            f"PostgreSQL in {self.home} did not start: {_last_line(printed)}; see {self.log}", detail=printed
        )


def open_owned(path: Path, flags: int, owner: OsUser | None) -> int:
    """Open a plain file, made if need be, that belongs to `owner` (None: to us); returns the descriptor.

    Where root works in a user's directory, that user may have put a link there: it is not followed.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise EmbeddedPostgresError(f"{path} is in the way: a plain file belongs there; move it away")
        if owner is not None and found.st_uid != owner.uid:
            os.fchown(descriptor, owner.uid, owner.gid)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def detach(argv: Sequence[str | Path], user: OsUser | None, *, output: int) -> int:
    """Start a program that outlives us and our terminal, as nobody's child; returns its process id.

    Its output goes to the descriptor `output`.
    """
    shell = ["/bin/sh", "-c", '"$@" </dev/null >&2 & echo $!', "sh", *(os.fspath(arg) for arg in argv)]
    started = subprocess.run(
        shell,
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
        cwd="/",
        env=embedded_binaries.server_environment(),
        start_new_session=True,
        umask=0o077,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=output,
        text=True,
        check=False,
    )
    if started.returncode != 0:
        raise ChildProcessError(errno.ECHILD, f"the shell could not start {argv[0]}")
    return int(started.stdout)


def _remove_unfinished(cluster: Path) -> None:
    """Remove a half-made cluster and the initdb that may still be at it; what resists is left to the next
    start.
    """
    name = os.fsencode(cluster)
    for _ in range(100):
        _kill_all(lambda argv: name in argv, signal.SIGKILL)
        shutil.rmtree(cluster, ignore_errors=True)
        if not cluster.exists():
            return
        time.sleep(0.01)  # a killed process may be in the middle of a write


def _kill_all(chosen: Callable[[list[bytes]], bool], number: signal.Signals) -> None:
    """Send a signal to every process whose command line is `chosen` (Linux only)."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if chosen(process.read_bytes().split(b"\0")):
                os.kill(int(process.parent.name), number)
        except OSError:
            continue  # gone, or not ours


def _sync(directory: Path) -> None:
    """Bring a new cluster to the disk, with its file system alone: ten times faster than file by file."""
    done = None
    try:
        done = subprocess.run(["sync", "-f", str(directory)], capture_output=True, check=False)
    except OSError:
        pass  # no such program
    if done is None or done.returncode != 0:
        os.sync()


def _last_line(output: str) -> str:
    """The line of a program's output that says most: its last error, else its last line."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "error:" in line]
    return (errors or lines or ["it printed nothing"])[-1].strip()
