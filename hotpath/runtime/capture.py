"""What a job prints and logs goes to that job's log, and to no other job's.

`sys.stdout` and `sys.stderr` are replaced, once per process, by routers that look up the running job at each
write. An idle router therefore costs a job nothing. Output of no job goes to the real stream, and so does
output that arrives when its job has ended (from a thread or task that the job left behind): it is late for
its own log and must not land in the next one.

`logging` is routed by one ordinary handler on the root logger, which writes to the routed `sys.stderr`;
stdout, stderr and logging keep their order in one text. A script that configures logging to a standard stream
itself keeps its own format.

A job may close its streams, replace them or set up `logging` anew: the next job's output goes to its own log
all the same.

What bypasses `sys.stdout` (a child process, C code writing to descriptor 1) goes to the job's log, too, where
jobs run one by one (`runtime/below.py`); else to the worker's own output.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from hotpath.runtime import joblog
from hotpath.runtime.below import Below
from hotpath.runtime.context import CLOSED, RunningJob, current
from hotpath.runtime.joblog import JobLog, Tee
from hotpath.runtime.masking import late, log_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hotpath.runtime.below import Position

LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"


def log_of(job: RunningJob | None) -> JobLog | None:
    """The log that output belongs to now, made at the first write; None when it belongs to no job that still
    runs.
    """
    if job is None:
        return None
    log = job.log
    if log is None:
        with joblog.lock:  # another thread of the job may write its first line now
            log = job.log
            if log is None:
                log = job.log = _new_log(job)
    return None if log is CLOSED else log  # type: ignore[return-value]


_tee: Tee | None = None


def set_tee(write: Tee | None) -> None:
    """Give all text that is written to a job's log to this function too, with the job's token
    (`batch.number + index`) and where in the log it stands: in the thread that writes, as it is written.
    None: to nobody.
    """
    global _tee  # noqa: PLW0603 - one worker a process
    _tee = write


def _new_log(job: RunningJob) -> JobLog:
    tee = _tee
    if tee is not None and hasattr(job.of.batch, "of_steps"):
        # The token is the run's: what a step prints has no position in that one's log.
        def tee(token: int, text: str, _: int, at: int, *, whole: Tee = tee) -> None:
            whole(token, text, -1, at)

    return log_for(job, tee)


_below: Below | None = None


def set_below(files: Sequence[int], position: Position) -> None:
    """Let what is written below Python be the jobs', where they run one by one; see `Below`."""
    global _below  # noqa: PLW0603 - one worker a process
    _below = Below(files, position, _give) if files else None


def _give(job: RunningJob | None, data: bytes) -> None:
    """Bytes that were written below Python while this job ran."""
    log = log_of(job)
    if log is None or job is None:
        if _capture.own is not None:
            text = data.decode("utf-8", "backslashreplace")
            with suppress(OSError, ValueError):  # whoever read it has gone, or the disk is full
                _capture.own.write(text if job is None else late(job, text))
        return
    log.write(_decoded(log, data))


def _decoded(log: JobLog, data: bytes) -> str:
    if log.decoder is None:
        log.decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    return log.decoder.decode(data)


def open_below() -> Below | None:
    """From now on what is written below Python is the job's that runs; call it when the script is loaded.
    None where that cannot be had.
    """
    below = _below
    if below is None or below.is_open:
        return below
    try:
        copies = below.open()
    except OSError:
        return None
    with _capture.lock:
        own = [
            open(copy, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - as long as the process
            for copy in copies
        ]
        # Also what belongs to no job is to go where it went.
        sys.__stdout__, sys.__stderr__ = own  # type: ignore[misc]
        for router, stream in zip((_capture.stdout, _capture.stderr), own, strict=True):
            if router is not None:
                router.real = stream
        _capture.own = own[1]
    return below


def close_below() -> None:
    """Lead the descriptors back to where they were."""
    if _below is not None:
        _below.close()


def look_beside() -> None:
    """Give what was written below Python to the job that runs, from another thread."""
    if _below is not None and _below.is_open:
        _below.beside()


def step_begins(job: RunningJob) -> RunningJob | None:
    """A step of the job in hand begins, in the same thread: what is written below Python is the step's until
    `step_ends`, which is to be given what this returns.
    """
    below = _below
    if below is None or below.job is None:
        return None
    below.look()
    before: RunningJob = below.job
    below.job = job
    return before


def step_ends(before: RunningJob | None) -> None:
    """The step has ended."""
    if before is not None and _below is not None:
        _below.look()
        _below.job = before


def _printed(job: RunningJob) -> None:
    """What the job has printed is written: if it is to end, it may be here. Called by what its code calls."""
    press = job.of.press
    if press is not None and press.by is not None:
        press.by.printed(job.of)


class Router(io.TextIOBase):
    """A standard stream that writes to the running job's log, or else to the real stream."""

    def __init__(self, real: TextIO, descriptor: int) -> None:
        self.real = real
        self._descriptor = descriptor
        self._buffer = RouterBuffer(self)

    def write(self, text: str) -> int:
        """Write to the running job's log, else to the real stream. Returns the number of characters."""
        job = current.get()
        if job is None:
            return self.real.write(text)
        log = job.log
        if not log:
            log = log_of(job)
            if log is None:
                return self.real.write(late(job, text))
        if _below is not None and text != "\n" and _below.job is not None:
            _below.look()  # what came before; `print` writes the line's end by itself
        log.write(text)  # type: ignore[union-attr]  # refuses what is no text, as any text stream does
        if job.of.disturbed:
            _printed(job)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        """Write each line as it is."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the real stream, unless a job writes."""
        if log_of(current.get()) is None:
            self.real.flush()

    @property
    def buffer(self) -> RouterBuffer:
        """The same for bytes."""
        return self._buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """A log is UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What is not UTF-8 is written as escapes."""
        return "backslashreplace"

    @property
    def name(self) -> str:
        """Name of the real stream."""
        return getattr(self.real, "name", "<hotpath>")

    @property
    def mode(self) -> str:
        """A standard stream is written."""
        return "w"

    @property
    def line_buffering(self) -> bool:
        """Nothing is held back."""
        return True

    def reconfigure(self, **_: Any) -> None:
        """Accepted and ignored: a job's log is text already."""

    def isatty(self) -> bool:
        """A job's log is no terminal."""
        return log_of(current.get()) is None and self.real.isatty()

    def fileno(self) -> int:
        """A descriptor for child processes: what they write is the job's where that can be told, else the
        worker's own output.
        """
        if _below is not None and _below.is_open and log_of(current.get()) is not None:
            return self._descriptor
        return self.real.fileno()

    def writable(self) -> bool:
        """Always."""
        return True

    def readable(self) -> bool:
        """Never."""
        return False

    def seekable(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Accepted and ignored: a job must not close the stream of all others."""


class RouterBuffer(io.BufferedIOBase):
    """`sys.stdout.buffer`: bytes are read as UTF-8, what is not UTF-8 as escapes."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def write(self, data: Any) -> int:
        """Write bytes to the running job's log, else to the real stream. Returns their number."""
        view = memoryview(data)
        job = current.get()
        log = log_of(job)
        if log is None:
            if job is not None and job.of.masking is not None:
                self._router.real.write(late(job, bytes(view).decode("utf-8", "backslashreplace")))
                return view.nbytes
            real = getattr(self._router.real, "buffer", None)
            if real is None:
                self._router.real.write(bytes(view).decode("utf-8", "backslashreplace"))
            else:
                self._router.real.flush()
                real.write(view)
            return view.nbytes
        if _below is not None and _below.job is not None:
            _below.look()
        log.write(_decoded(log, bytes(view)))
        if job is not None and job.of.disturbed:
            _printed(job)
        return view.nbytes

    def flush(self) -> None:
        """Flush the real stream, unless a job writes."""
        self._router.flush()

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The real stream's descriptor."""
        return self._router.fileno()

    def isatty(self) -> bool:
        """A job's log is no terminal."""
        return self._router.isatty()

    def close(self) -> None:
        """Accepted and ignored, as `Router.close`."""


class _Capture:
    """The one pair of routers of this process and how many runtimes use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.stdout: Router | None = None
        self.stderr: Router | None = None
        self.handler: logging.Handler | None = None
        self.level: int | None = None
        self.own: TextIO | None = None
        """The worker's own output, where the descriptors lead elsewhere."""


_capture = _Capture()


@contextmanager
def capturing() -> Iterator[None]:
    """Route the standard streams by job while this is open; nests, and any thread may hold it."""
    with _capture.lock:
        _capture.users += 1
        if _capture.users == 1:
            sys.stdout = _capture.stdout = Router(sys.stdout, 1)
            sys.stderr = _capture.stderr = Router(sys.stderr, 2)
    try:
        yield
    finally:
        with _capture.lock:
            _capture.users -= 1
            if _capture.users == 0:
                _uninstall()


def unbuffer() -> None:
    """Let a text stream that the script's module has put around `sys.stdout.buffer` hold nothing back, or one
    job's text would come out in the next one's log; call it when the module has been imported.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, RouterBuffer):
            stream.reconfigure(write_through=True)


def capture_logging() -> None:
    """Let `logging` reach the jobs' logs from level INFO up; call it when the script's module has been
    imported.

    After the import, because a script that calls `logging.basicConfig(...)` would find the root logger taken
    and its format and level ignored. A root logger that already writes to a routed stream is left as the
    script wants it.
    """
    with _capture.lock:
        if _capture.stderr is None or _capture.handler is not None:
            return
        root = logging.getLogger()
        if _is_routed(root):
            return
        handler = logging.StreamHandler(_capture.stderr)
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        root.addHandler(handler)
        _capture.handler = handler
        if root.level == logging.WARNING:  # the default: nobody chose it
            _capture.level = root.level
            root.setLevel(logging.INFO)


def _is_routed(root: logging.Logger) -> bool:
    routed = (_capture.stdout, _capture.stderr)
    return any(getattr(handler, "stream", None) in routed for handler in root.handlers)


def mend(out: TextIO, err: TextIO) -> None:
    """Put right what a job has done to the streams of all: `sys.stdout` and `sys.stderr` are to be these, the
    descriptors 1 and 2 open (else the next socket gets the number, and somebody's output), and the root
    logger is to reach the jobs' logs. Costs 3 µs where nothing is wrong: call it once a batch.
    """
    sys.stdout, sys.stderr = out, err
    for descriptor in (1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            _occupy(descriptor)
    if _below is not None and _below.is_open:
        _below.mend()
    if _capture.stderr is not None and not _is_routed(logging.getLogger()):
        _reach_logs()


def _occupy(descriptor: int) -> None:
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != descriptor:
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
    except OSError:  # no descriptor left: the script's own trouble
        pass


def _reach_logs() -> None:
    with _capture.lock:
        if _capture.handler is not None:
            logging.getLogger().addHandler(_capture.handler)
            return
    capture_logging()


def _uninstall() -> None:
    root = logging.getLogger()
    if _capture.handler is not None:
        root.removeHandler(_capture.handler)
        if _capture.level is not None and root.level == logging.INFO:
            root.setLevel(_capture.level)
    if _capture.stdout is not None and sys.stdout is _capture.stdout:
        sys.stdout = _capture.stdout.real
    if _capture.stderr is not None and sys.stderr is _capture.stderr:
        sys.stderr = _capture.stderr.real
    _capture.stdout = _capture.stderr = _capture.handler = _capture.level = None
