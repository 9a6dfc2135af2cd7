"""What jobs write below Python: C code, `os.write(1, ...)`, and the processes that they start.

While synchronous jobs run, one after the other, the descriptors 1 and 2 lead to a file in memory. Behind each
job, and before each line that Python writes (so that the order is kept), one look at the file's size tells
whether something came: 0.2 µs. What came is that job's.

A job may leave a process behind that goes on writing. So after a job that has started one, the descriptors
lead to another file; the old one is looked at from time to time, and what still comes there goes to the
worker's own output. It is used again once nobody has it open for writing any more.

The files are the supervisor's, too: of a worker that was killed it reads what nobody has read (`position`).
When so many processes were left behind that all are in use, the worker makes further ones of its own, which
die with it.
Linux only: elsewhere the descriptors are left as they are.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, MutableSequence, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import attrs

from hotpath.runtime import joblog

if os.name == "posix":
    import _posixsubprocess
    import fcntl

SIZE_AT_ONCE = 1 << 20
"""Bytes that are read at a time."""
PUNCH = 1 << 20
"""Bytes that were read after which their memory is given back."""
LARGE = 1 << 30
"""Bytes that were read of a file after which another one is used: programs, or `ulimit -f`, may set a limit.
"""
MOST_LATE = 64
"""Files of processes that jobs have left behind; of more, what the oldest write is lost."""
_PUNCH_HOLE, _KEEP_SIZE = 2, 1  # of fallocate(2)
_UNBUFFERED = 2  # of setvbuf(3)

Position: TypeAlias = "MutableSequence[int] | memoryview[int]"
Give: TypeAlias = "Callable[[Any, bytes], object]"
"""What takes bytes and whose they are: a job, or None."""


@attrs.define(eq=False)
class _File:
    """One file in memory."""

    descriptor: int
    index: int
    """Its number, from 1, to the supervisor; 0: that has it not."""
    at: int = 0
    """Up to where it was read."""
    punched: int = 0


class Below:
    """The descriptors 1 and 2 of a worker process, as files."""

    def __init__(self, files: Sequence[int], position: Position, give: Give) -> None:
        """`files`: descriptors of empty files in memory. `position`: two words to note in which of them, from
        1, and up to where what was written is in somebody's log.
        """
        self._spare = [_File(descriptor, index) for index, descriptor in enumerate(files, 1)][::-1]
        self._position = position
        self._give = give
        self._late: list[_File] = []
        # That of the logs, which `give` takes. With one of its own, who prints in the middle of a write (a
        # destructor, say) and another thread that looks would wait for each other.
        self._lock = joblog.lock
        self._reads = False
        """Whether somebody, who has the lock, reads what was written."""
        self._real: tuple[int, int] | None = None
        """The descriptors' copies, once they were led elsewhere."""
        self._file = _File(-1, 0)
        self._writer = -1
        self.job: Any = None
        """Whose code runs."""
        self.descriptor = -1
        self.at = 0
        """Of the file in use, for whoever asks whether something came or a process was started: its size is
        another one then.
        """
        self._started = False
        """Whether a process was started since the last look behind a job."""

    @property
    def is_open(self) -> bool:
        """Whether the descriptors lead here."""
        return self._real is not None

    def open(self) -> tuple[int, int]:
        """Lead the descriptors here; return copies of what they were. Raises OSError if that cannot be, and
        changes nothing then.
        """
        with self._lock:
            if self._real is None:
                real = os.dup(1), os.dup(2)
                try:
                    self._use(self._spare.pop())
                except BaseException:
                    for descriptor in real:
                        os.close(descriptor)
                    raise
                self._real = real
                _tell_of_processes(self)
                _unbuffer()
            return self._real

    def close(self) -> None:
        """Lead them back to where they were."""
        with self._lock:
            if self._real is None:
                return
            for descriptor, copy in zip((1, 2), self._real, strict=True):
                os.dup2(copy, descriptor)
            self._read(self._file, None)
            self.sweep()
            os.close(self._writer)
            self._real = None  # not `descriptor`: a job that was given up goes on, and may print
            self._position[0] = 0

    # ------------------------------------------------------------ what came

    def look(self) -> None:
        """Give what came to the job in hand."""
        if os.lseek(self.descriptor, 0, os.SEEK_END) != self.at:
            with self._lock:
                self._read(self._file, self.job)

    def settle(self) -> None:
        """The job in hand has ended: what came until now is its own, and nothing that comes later."""
        with self._lock:
            self._read(self._file, self.job)
            if (self._started or self._file.at >= LARGE) and self._real is not None:
                self._started = False
                self._change()
                self.at = self._file.at

    def starts(self) -> None:
        """A process is started."""
        self._started = True
        self.at = -1

    def beside(self) -> None:
        """The same as `look`, from another thread and at any time; and a look at what processes write that
        jobs have left behind.
        """
        with self._lock:
            if self._real is not None:
                self.look()
                self.sweep()

    def mend(self) -> None:
        """Lead the descriptors here again, if a job has led them elsewhere."""
        ours = os.fstat(self.descriptor).st_ino
        for descriptor in (1, 2):
            if os.fstat(descriptor).st_ino != ours:
                os.dup2(self._writer, descriptor)

    def sweep(self) -> None:
        """Give what came late to nobody, and take back files that nobody writes to any more."""
        for file in self._late[:]:
            self._read(file, None)
            if _is_free(file.descriptor):
                self._read(file, None)
                self._late.remove(file)
                self._take_back(file)

    def disown(self) -> None:
        """Look at nothing any more, and note nothing where the supervisor sees it."""
        self._position = [0, 0]
        self._lock = threading.RLock()
        self._reads = True
        self.job = None

    def _read(self, file: _File, job: Any) -> None:
        """Read what has come, for this job. Not in the middle of doing that: a destructor may print."""
        if self._reads:
            return
        self._reads = True
        try:
            end = os.lseek(file.descriptor, 0, os.SEEK_END)
            if end < file.at:  # somebody has cut it
                file.at = 0
            while file.at < end:
                data = os.pread(file.descriptor, min(end - file.at, SIZE_AT_ONCE), file.at)
                if not data:
                    break
                # Behind the job, who looks at `at` without the lock: he must not think that all was given.
                self._give(job, data)
                file.at += len(data)
                if file.at - file.punched >= PUNCH:
                    _punch(file)
        finally:
            self._reads = False
            if file is self._file:
                self._position[1] = file.at
                self.at = -1 if self._started else file.at

    # ------------------------------------------------------------ the files

    def _use(self, file: _File) -> None:
        writer = os.open(f"/proc/self/fd/{file.descriptor}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            for descriptor in (1, 2):
                os.dup2(writer, descriptor)
        except BaseException:
            os.close(writer)
            raise
        self._position[0] = 0
        self._position[1] = file.at
        self._position[0] = file.index
        self._file, self._writer = file, writer
        self.descriptor, self.at = file.descriptor, file.at

    def _change(self) -> None:
        """Use another file, behind a job that has started processes."""
        old, writer = self._file, self._writer
        try:
            if not self._spare:
                self._spare.append(_File(os.memfd_create("hotpath-output"), 0))
            self._use(self._spare[-1])
        except OSError:
            return  # no descriptor left: what comes late is the next job's
        self._spare.pop()
        os.close(writer)
        self._read(old, self.job)  # what has come between the last look and now
        if _is_free(old.descriptor):
            self._take_back(old)
        else:
            self._late.append(old)
            if len(self._late) > MOST_LATE:
                os.close(self._late.pop(0).descriptor)

    def _take_back(self, file: _File) -> None:
        os.ftruncate(file.descriptor, 0)
        file.at = file.punched = 0
        self._spare.append(file)


def _is_free(descriptor: int) -> bool:
    """Whether nobody has the file open for writing: only then is there a lease to be had on it."""
    try:
        reader = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        return False
    else:
        return True
    finally:
        # Not by the closing alone: a process that was forked just now has the reader, too, and the lease with
        # it. Whoever opens the file for writing then would have the worker killed by SIGIO.
        with suppress(OSError):
            fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        os.close(reader)


def _punch(file: _File) -> None:
    """Give back the memory of what was read; the file keeps its size, so that nobody's write is lost."""
    try:
        fallocate = ctypes.CDLL(None).fallocate
        fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        fallocate(file.descriptor, _PUNCH_HOLE | _KEEP_SIZE, file.punched, file.at - file.punched)
    except (OSError, AttributeError):
        pass
    file.punched = file.at


def _unbuffer() -> None:
    """Let C's own `stdout` hold nothing back: half a line of one job would come out in the next one's log."""
    try:
        libc = ctypes.CDLL(None)
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _UNBUFFERED, ctypes.c_size_t(0))
    except (OSError, AttributeError, ValueError):
        pass


# ---------------------------------------------------------------- processes

_told: list[Below] = []
"""Who wants to know that a process was started; empty until somebody does."""


def _forget() -> None:
    """In a process that a job has forked: what is written is its parent's to read."""
    for below in _told:
        below.disown()
    _told.clear()


def _starts(*_: object) -> None:
    for below in _told:
        below.starts()


def _tell_of_processes(below: Below) -> None:
    """Have `started` set when Python starts a process. By the few functions that do: a hook for audit events
    would slow down `id()`.
    """
    if _told:
        _told[:] = [below]
        return
    _told.append(below)
    os.register_at_fork(after_in_child=_forget)
    os.register_at_fork(before=_starts)  # os.fork, os.spawn*, pty, multiprocessing's "fork"
    for owner, name in (
        (subprocess.Popen, "_execute_child"),
        (os, "system"),
        (os, "posix_spawn"),
        (os, "posix_spawnp"),
        (_posixsubprocess, "fork_exec"),  # multiprocessing's other ways: not by subprocess, nor by os.fork
    ):
        function = getattr(owner, name, None)
        if function is not None:
            setattr(owner, name, _noticed(function))


def _noticed(function: Callable[..., Any]) -> Callable[..., Any]:
    def starting(*args: Any, **kwargs: Any) -> Any:
        _starts()
        return function(*args, **kwargs)

    starting.__name__, starting.__doc__ = function.__name__, function.__doc__
    return starting


def make_files(count: int) -> list[int]:
    """Descriptors of that many files in memory, for a worker and its supervisor; none where that cannot
    be.
    """
    if not hasattr(os, "memfd_create") or not os.path.isdir("/proc/self/fd"):
        return []
    files: list[int] = []
    try:
        while len(files) < count:
            files.append(os.memfd_create("hotpath-output"))
    except OSError:
        for descriptor in files:
            os.close(descriptor)
        return []
    return files
