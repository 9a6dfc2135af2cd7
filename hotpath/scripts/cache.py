"""A private directory of this user's for what can be made anew: sources of versions, environments of scripts.

An entry is a directory named by what is in it. It is held by who uses it, with a shared lock on a file
beside it that lasts as long as the process; what nobody holds and nobody has used for long is removed when
another entry is made.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hotpath.config import Config
from hotpath.errors import ScriptError

UNUSED_DAYS = 30
"""Days after which an entry that nobody has used is removed."""
MOST_SOURCES, MOST_ENVIRONMENTS = 2_000, 50
"""Entries that are kept when a new one is made; those used last."""
_held: dict[Path, int] = {}
"""Locks of this process, by the path of the entry."""


def directory(config: Config, kind: str) -> Path:
    """Where entries of this kind are: below HOTPATH_HOME if that is set, else among the user's caches; made
    if need be. Raises `ScriptError` if it cannot be made, or others could write there.
    """
    if config.home is not None:
        base = config.home / "cache"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hotpath"
    for path in (base, base / kind):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = path.stat()
            if found.st_uid == os.geteuid() and found.st_mode & 0o077:
                path.chmod(0o700)
        except OSError as error:
            raise ScriptError(
                f"the cache {path} cannot be used: {error.strerror}; set HOTPATH_HOME to a directory of yours"
            ) from None
        if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
            raise ScriptError(
                f"the cache {path} belongs to somebody else: set HOTPATH_HOME to a directory of yours"
            )
    return base / kind


def hold(entry: Path) -> None:
    """Keep an entry from being removed while this process lives, and note that it is used."""
    if entry not in _held:
        _held[entry] = _lock(_beside(entry, "lock"), fcntl.LOCK_SH)
    os.utime(_held[entry])


@contextmanager
def making(entry: Path) -> Iterator[None]:
    """Alone with an entry while it is made, whichever processes want it. It is held from then on."""
    hold(entry)
    descriptor = _lock(_beside(entry, "making"), fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def collect(kind: Path, most: int, now: float | None = None) -> list[Path]:
    """Remove the entries of a kind that nobody holds and that have not been used for long, or are more than
    `most`; return them.
    """
    limit = (time.time() if now is None else now) - UNUSED_DAYS * 86_400
    known: list[tuple[float, Path]] = []
    for lock in kind.glob("*.lock"):
        with suppress(OSError):  # somebody else has just removed it
            known.append((lock.stat().st_mtime, lock.with_suffix("")))
    known.sort(reverse=True)
    return [
        entry for rank, (used, entry) in enumerate(known) if (used < limit or rank >= most) and _drop(entry)
    ]


def _drop(entry: Path) -> bool:
    """Remove an entry, unless somebody holds it."""
    try:
        descriptor = _lock(_beside(entry, "lock"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    try:
        shutil.rmtree(entry, ignore_errors=True)
        for word in ("making", "lock"):
            _beside(entry, word).unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _lock(file: Path, operation: int) -> int:
    """A lock on the file that has this name once it is had: a collector may remove it meanwhile."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, operation)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), file.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _beside(entry: Path, word: str) -> Path:
    return entry.with_name(f"{entry.name}.{word}")
