"""The ledger: each run of a job is written by the job itself, to a file that is not the database.

One file a process, opened to append; one record of RECORD bytes as `main` is entered and one as it is left,
each by one `os.write`, so that what was written is there whatever kills the process. Times are
`perf_counter_ns`, which all processes of a host share and no skewed wall clock moves.

`wrap` is what the file calls that `hotpath chaos` puts into its workspace in place of the script.
"""

from __future__ import annotations

import functools
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hotpath.core.storable import encode
from hotpath.errors import HotpathError
from hotpath.runtime.context import RunningJob, running_job
from hotpath.scripts.load import load
from hotpath.scripts.settings import PLACE
from hotpath.scripts.signature import is_async

RECORD = struct.Struct("<BBHI16sQQ")
"""What, outcome, attempt, serial of the batch, job, time in ns, CRC-32 of the result's JSON."""
STARTED, ENDED = 1, 2
RETURNED, RAISED, INTERRUPTED = 1, 2, 3
"""How `main` was left: with a value, by an exception, by a cancellation or an exit."""
SUFFIX = ".ledger"
COMMAND = "HOTPATH_CHAOS_COMMAND"
"""Environment variable with the number of the command that a process belongs to."""


def birth(pid: int) -> int:
    """When the process was started, in clock ticks since boot: with the pid it names a process for good.

    Raises OSError if there is none.
    """
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


class Writer:
    """The ledger of this process; opened at the first job."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1
        self._batch = 0
        self._of: object = None

    def write(self, what: int, job: RunningJob, outcome: int = 0, crc: int = 0) -> None:
        """Append one record about this job."""
        if self._descriptor < 0:
            self._open()
        of = job.of
        if of is not self._of:
            self._of = of
            self._batch += 1
        batch, index = of.batch, job.index
        record = RECORD.pack(
            what,
            outcome,
            batch.attempts[index],
            self._batch,
            batch.ids[index].bytes,
            time.perf_counter_ns(),
            crc,
        )
        os.write(self._descriptor, record)

    def _open(self) -> None:
        pid = os.getpid()
        name = f"{os.environ.get(COMMAND, '0')}-{pid}-{birth(pid)}{SUFFIX}"
        self._descriptor = os.open(self._directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def ledgered(main: Callable[..., Any], directory: Path) -> Callable[..., Any]:
    """`main`, with a record as it is entered and one as it is left."""
    write = Writer(directory).write

    def left(job: RunningJob, error: BaseException) -> None:
        write(ENDED, job, RAISED if isinstance(error, Exception) else INTERRUPTED)

    if is_async(main):

        @functools.wraps(main)
        async def wrapped_async(*args: Any, **kwargs: Any) -> Any:
            job = running_job()
            write(STARTED, job)
            try:
                value = await main(*args, **kwargs)
            except BaseException as error:
                left(job, error)
                raise
            write(ENDED, job, RETURNED, _crc(value))
            return value

        return wrapped_async

    @functools.wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        job = running_job()
        write(STARTED, job)
        try:
            value = main(*args, **kwargs)
        except BaseException as error:
            left(job, error)
            raise
        write(ENDED, job, RETURNED, _crc(value))
        return value

    return wrapped


def _crc(value: Any) -> int:
    try:
        return zlib.crc32(encode(value))
    except Exception:  # noqa: BLE001 - a result that cannot be stored: Hotpath says so, not the ledger
        return 0


def wrap(names: dict[str, Any], name: str, file: str, workspace: str, directory: str) -> None:
    """Make the calling module, whose globals are `names`, stand for the script in `file`."""
    loaded = load(name, Path(file), Path(workspace))
    names["main"] = ledgered(loaded.main, Path(directory))
    if loaded.preload is not None:
        names["preload"] = loaded.preload
    said = getattr(loaded.module, PLACE, None)
    if said is not None:
        names[PLACE] = said


def read_records(data: bytes) -> list[tuple[int, int, int, int, bytes, int, int]]:
    """The records of one file, without half a one at its end. Raises HotpathError for anything else."""
    whole = len(data) // RECORD.size * RECORD.size
    records = list(RECORD.iter_unpack(data[:whole]))
    if any(record[0] not in (STARTED, ENDED) for record in records):
        raise HotpathError("a ledger file is damaged: was it written by another version of Hotpath?")
    return records
