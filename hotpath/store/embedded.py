"""A private PostgreSQL in one directory, shared by all Hotpath processes of one user: nobody installs or
starts a database.

The first process to need the server makes it and starts it; every process that uses it holds a shared kernel
lock on one file, which is the reference count, and which `kill -9` gives back like any other end; a detached
reaper (`embedded_reaper`) waits for that lock and stops the server when the last is gone. Whoever starts or
stops anything holds another lock meanwhile. So any process, the server included, may be killed at any moment,
and the next `start` finds its way from whatever was left:

- a database directory half made: it is made under another name and renamed when it is whole, so it never
  counts;
- `postmaster.pid` and the socket's lock file of a dead server: removed, once nothing that they name is that
  server any more (PostgreSQL itself believes any process of that number, a zombie or a stranger after a
  container's restart);
- sessions that outlived their killed server and block the next: found by the cluster's name and ended.

HOME holds `data/` (the cluster), `run/` (the socket), `log`, and the lock files `lock`, `clients`, `reaper`;
and `kept` while the server is to run though nobody uses it.
POSIX only. The calls block: from Trio use `trio.to_thread.run_sync`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from hotpath.store import embedded_launch, embedded_reaper, embedded_wire
from hotpath.store.embedded_binaries import OsUser, server_user
from hotpath.store.embedded_errors import EmbeddedPostgresError, disk_full, explain, is_disk_full
from hotpath.store.embedded_settings import PORT

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "EmbeddedStatus", "database_name", "default_home"]

USER = "hotpath"
_LOCK_SECONDS = 360.0  # longer than the longest start that another process may be busy with
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./@~-]+")  # safe in a DSN, a setting and every client, unquoted
_SOCKET_PATH_BYTES = 80  # sun_path has 108 bytes, 104 on macOS; "/.s.PGSQL.5432.lock" takes 19


def default_home() -> Path:
    """Where the cluster lives: `HOTPATH_HOME`, else `~/.local/share/hotpath` (`/var/lib/hotpath` for root).

    `~` is `HOME`, or the password database's where `HOME` is unset or empty. Where that directory does not
    exist and cannot be made (no home, or not ours to write), it is `/tmp/hotpath-UID`, which `start` refuses
    if it belongs to somebody else.
    """
    if chosen := os.environ.get("HOTPATH_HOME"):
        return Path(chosen).absolute()
    uid = os.geteuid()
    if uid == 0:
        usual = Path("/var/lib/hotpath")  # not /root: the user whom PostgreSQL runs as cannot enter that
    else:
        usual = Path(_user_directory(uid)) / ".local" / "share" / "hotpath"
    if usual.is_absolute() and _can_make(usual):
        return usual
    return Path("/tmp") / f"hotpath-{uid}"  # noqa: S108 - its owner is checked before it is used


def _user_directory(uid: int) -> str:
    if home := os.environ.get("HOME"):
        return home
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return ""


def _can_make(path: Path) -> bool:
    """Whether `path` is there with a cluster in it (then nothing else will do), or can be made or written."""
    if (path / "data").exists():
        return True
    while not os.path.lexists(path):
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def database_name(workspace: Path) -> str:
    """The database of a workspace directory, by whatever path it is named; 63 bytes at most, unquoted."""
    real = os.path.realpath(workspace)
    slug = re.sub(r"[^a-z0-9]+", "_", os.path.basename(real).lower()).strip("_")[:40]
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:10]
    return "_".join(part for part in ("hotpath", slug, digest) if part)


@attrs.frozen
class EmbeddedStatus:
    """What is known of a cluster.

    `pid` is its server's process, None when it does not run; `kept`, whether it is to run until somebody
    stops it. `version` is `18.6` from a running server, `18` from the data of a stopped one, None before the
    first start. `size` is what the data takes, in bytes.
    """

    home: Path
    running: bool
    pid: int | None
    kept: bool
    version: str | None
    size: int


class EmbeddedPostgres:
    """The cluster in one home directory; as a context manager it gives its reference up at the end.

    Keep the object for as long as the server is used: it holds the reference. A forked child shares its
    parent's.
    """

    def __init__(
        self, home: Path, *, settings: Mapping[str, str] | None = None, linger: float = 10.0
    ) -> None:
        """Name the cluster; nothing is touched before `start`.

        `settings` change the server's configuration (see `embedded_settings`) when this process is the one
        that starts it. `linger`: seconds that the server outlives its last user; below zero `start` has it
        run until `stop`, whoever uses it meanwhile, and through a crash or a restart of the machine: then
        whoever needs it next starts it.
        """
        self.home = Path(os.path.realpath(home))  # one cluster, one name, by whatever path it is reached
        self.data = self.home / "data"
        self.log = self.home / "log"
        self._settings = dict(settings or {})
        self._linger = linger
        self._reference: int | None = None
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        self._name = f"hotpath-{digest}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def socket_dir(self) -> Path:
        """The server's socket is in `run/` in the home, or elsewhere if that path is too long or odd."""
        inside = self.home / "run"
        if len(os.fsencode(inside)) <= _SOCKET_PATH_BYTES and _PLAIN_PATH.fullmatch(str(inside)):
            return inside
        # The same for root and for the user whose home it is, who may both use it.
        root_owned = (self.home.stat().st_uid if self.home.exists() else os.geteuid()) == 0
        return Path("/run" if root_owned else "/tmp") / self._name  # noqa: S108 - its owner is checked before it is used

    def dsn(self, database: str) -> str:
        """The address of one of its databases."""
        from urllib.parse import quote

        return f"postgresql://{USER}@/{quote(database, safe='')}?host={self.socket_dir}&port={PORT}"

    def start(self, database: str = "hotpath") -> str:
        """Make sure that the server runs, hold a reference to it, and return the DSN of `database` in it.

        The database is made if it is missing. Cheap when the server runs already (a few ms), and safe to call
        again: when the server was lost, it comes back. Raises `EmbeddedPostgresError`.
        """
        if not database or "\0" in database or len(database.encode()) > 63:
            raise EmbeddedPostgresError(f"not a database name: {database!r} (1 to 63 bytes)")
        held_before, kept_before = self._reference is not None, self._is_kept()
        try:
            user = self._prepare_home()
            with self._locked():
                self._prepare_socket_dir(user)
                self._hold()
                launch = embedded_launch.Launch(
                    home=self.home,
                    socket_dir=self.socket_dir,
                    name=self._name,
                    user=user,
                    settings=self._settings,
                )
                launch.make_cluster()
                self._ensure_reaper()  # before the server, lest a kill between the two leave it to nobody
                launch.ensure_running()
                self._ensure_database(database)
        except OSError as error:
            self._give_up(held_before, kept_before)
            raise explain(error, self.home) from error
        except BaseException:
            self._give_up(held_before, kept_before)
            raise
        return self.dsn(database)

    def close(self) -> None:
        """Give up this object's reference: the server stops once nobody has one. Neither waits nor fails."""
        self._give_back(held_before=False)

    def stop(self) -> None:
        """Stop the server now, whoever uses it, and wait until it is down.

        Raises `EmbeddedPostgresError` when it does not end.
        """
        if not self.data.exists():
            return
        try:
            with self._locked():
                embedded_reaper.kept(self.home).unlink(missing_ok=True)
                stopped = embedded_reaper.stop_postmaster(self.data)
        except OSError as error:
            raise explain(error, self.home) from error
        if not stopped:
            pid = embedded_reaper.postmaster_pid(self.data)
            raise EmbeddedPostgresError(
                f"the server in {self.home} (process {pid}) does not stop: see {self.log}"
            )

    def status(self) -> EmbeddedStatus:
        """Look, without starting or holding anything."""
        pid = embedded_reaper.postmaster_pid(self.data)
        if pid is not None and not embedded_reaper.is_postmaster(pid, self.data):
            pid = None
        version: str | None = None
        try:
            version = (self.data / "PG_VERSION").read_text().strip()
            with embedded_wire.Session(self._socket, database="postgres", user=USER, seconds=5) as session:
                version = session.server_version
        except (OSError, embedded_wire.ServerRefused):
            pass  # not made, not running, or not ours to see: what is known is said
        return EmbeddedStatus(
            self.home,
            running=pid is not None,
            pid=pid,
            kept=self._is_kept(),
            version=version,
            size=_size(self.data),
        )

    # -- the parts of start, in order

    @property
    def _socket(self) -> Path:
        return self.socket_dir / f".s.PGSQL.{PORT}"

    def _prepare_home(self) -> OsUser | None:
        """Make the home, check whose it is, and return whom the server runs as."""
        missing = [path for path in (self.home, *self.home.parents) if not os.path.lexists(path)]
        user = server_user(self.home)
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            # Root's server user has to pass through what we make; what others made is left as it is.
            path.chmod(0o711 if user else 0o700)
        _check_owner(self.home, user)
        return user

    def _prepare_socket_dir(self, user: OsUser | None) -> None:
        """Make the door of the server, which only its user can pass (and root)."""
        path = self.socket_dir
        if not os.path.lexists(path):
            path.mkdir(mode=0o700)
        _check_owner(path, user)
        if (
            user and path.lstat().st_uid != user.uid
        ):  # just made, or by a process killed before it came to this
            os.chown(path, user.uid, user.gid, follow_symlinks=False)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = self._open("lock")
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise EmbeddedPostgresError(
                            f"another process has been starting or stopping the server in {self.home} for "
                            f"{_LOCK_SECONDS:.0f} s: see {self.log}"
                        ) from None
                    time.sleep(0.005)
            yield
        finally:
            os.close(descriptor)  # which is the unlock

    def _open(self, name: str) -> int:
        """Open a lock file, owned as the home is, so that root and the home's owner can share one."""
        home = self.home.stat()
        owner = OsUser(home.st_uid, home.st_gid) if os.geteuid() == 0 else None
        return embedded_launch.open_owned(self.home / name, os.O_RDONLY, owner)

    def _hold(self) -> None:
        if self._reference is not None:
            if os.path.exists(self.home / "clients") and os.path.samestat(
                os.fstat(self._reference), os.stat(self.home / "clients")
            ):
                return
            self._give_back(held_before=False)  # the home was removed under us: the old file counts nothing
        descriptor = self._open("clients")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except BaseException:
            os.close(descriptor)
            raise
        self._reference = descriptor

    def _give_back(self, held_before: bool) -> None:  # noqa: FBT001 - private, and named at each call
        if self._reference is not None and not held_before:
            os.close(self._reference)
            self._reference = None

    def _give_up(self, held_before: bool, kept_before: bool) -> None:  # noqa: FBT001 - likewise
        self._give_back(held_before)
        if self._linger < 0 and not kept_before:
            with suppress(OSError):
                embedded_reaper.kept(self.home).unlink(missing_ok=True)

    def _is_kept(self) -> bool:
        return embedded_reaper.kept(self.home).exists()

    def _ensure_reaper(self) -> None:
        if self._linger < 0:
            os.close(self._open(embedded_reaper.KEPT))
        if self._is_kept() or not sys.executable:
            return
        descriptor = self._open("reaper")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # one is at work
        finally:
            os.close(descriptor)
        script = os.path.abspath(embedded_reaper.__file__)
        embedded_launch.detach(
            [sys.executable, "-I", "-S", script, str(self.home), str(self._linger)],
            None,
            output=subprocess.DEVNULL,
        )

    def _ensure_database(self, database: str) -> None:
        try:
            with embedded_wire.Session(self._socket, database=database, user=USER, seconds=30):
                return
        except embedded_wire.ServerRefused as refused:
            if refused.sqlstate == "53300":  # too many clients: it runs; whoever connects next is told so
                return
            if refused.sqlstate != "3D000":
                raise EmbeddedPostgresError(f"the embedded server refuses {database}: {refused}") from refused
        create = f"CREATE DATABASE {embedded_wire.quote_identifier(database)} TEMPLATE template0"
        try:
            with embedded_wire.Session(self._socket, database="postgres", user=USER, seconds=120) as session:
                session.execute(create)
        except embedded_wire.ServerRefused as refused:
            if refused.sqlstate == "53100" or is_disk_full(self.home, str(refused)):
                raise disk_full(self.home, detail=str(refused)) from refused
            # Made by somebody else since, or (23505) at this moment: by a session whose client was killed.
            if refused.sqlstate not in ("42P04", "23505"):
                raise EmbeddedPostgresError(f"cannot create the database {database}: {refused}") from refused


def _check_owner(path: Path, user: OsUser | None) -> None:
    """Refuse a directory that somebody else may have planted: names under /tmp can be guessed."""
    allowed = {0, os.geteuid()} | ({user.uid} if user else set())
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) and found.st_uid in allowed:
        found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise EmbeddedPostgresError(
            f"{path} is not a directory: move it away, or set HOTPATH_HOME to another directory"
        )
    if found.st_uid not in allowed:
        raise EmbeddedPostgresError(
            f"{path} belongs to user id {found.st_uid}, not to you: "
            "set HOTPATH_HOME to a directory of your own"
        )


def _size(directory: Path) -> int:
    total = 0
    for root, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512
            except OSError:
                continue  # gone since it was listed
    return total
