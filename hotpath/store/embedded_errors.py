"""The one error of the embedded PostgreSQL, and how the operating system's errors become it.

Every message is one line that says what happened and what to do; what the server printed goes into `detail`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from hotpath.errors import DatabaseUnavailableError

# What PostgreSQL and libc print when there is no room: matched in initdb's output and in the server's log.
DISK_FULL_TEXTS = ("No space left on device", "Disk quota exceeded")
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class EmbeddedPostgresError(DatabaseUnavailableError):
    """The embedded PostgreSQL cannot be found, started, shared or stopped.

    `str()` is one line for a person; `detail` holds the server's or initdb's own output, possibly long,
    possibly empty.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


def disk_full(home: Path, *, detail: str = "") -> EmbeddedPostgresError:
    """The error for a disk without room for the database."""
    return EmbeddedPostgresError(
        f"the disk that holds {home} is full: free some space there (a new database takes 60 MB), "
        "or set HOTPATH_HOME to a directory on another disk",
        detail=detail,
    )


def is_disk_full(home: Path, text: str) -> bool:
    """Whether `text` (a failed program's output) or the disk itself says that `home` has no room."""
    if any(sign in text for sign in DISK_FULL_TEXTS):
        return True
    try:
        room = os.statvfs(home)
    except OSError:
        return False
    # The log lies on the same disk: a server that died for want of space may have been unable to say so.
    return room.f_bavail * room.f_frsize < 256 * 1024


def explain(error: OSError, home: Path) -> EmbeddedPostgresError:
    """Turn an operating system error met while working under `home` into one line that says what to do."""
    path = os.fspath(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else home
    where = os.fsdecode(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(home, detail=str(error))
    if error.errno == errno.EROFS:
        return EmbeddedPostgresError(
            f"{where} is on a read-only file system: set HOTPATH_HOME to a directory you can write to"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return EmbeddedPostgresError(
            f"no permission to write {where}: set HOTPATH_HOME to a directory you can write to"
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return EmbeddedPostgresError(
            f"{where} is not a directory: move it away, or set HOTPATH_HOME to another directory"
        )
    if error.errno in (errno.EISDIR, errno.ELOOP):
        return EmbeddedPostgresError(f"{where} is in the way: a plain file belongs there; move it away")
    if error.errno in _NO_LOCKS:
        return EmbeddedPostgresError(
            f"{home} is on a file system without file locks: set HOTPATH_HOME to a local disk"
        )
    return EmbeddedPostgresError(
        f"embedded PostgreSQL: {where}: {error.strerror or error}; check the directory, or set HOTPATH_HOME"
    )
