"""Worker processes, and those that describe scripts, without the half second of computing that a Python takes
which imports `hotpath`: forked by one that has done so, where `subprocess.Popen` would start one.

A process that has none of the asker's threads, and nothing that a forked process could be surprised by, forks
on request, and the asker adopts what it has forked: that is its child as if started by `Popen`, with the
arguments, environment, descriptors, session and signals asked for. Whatever else is asked of `Popen`, and all
with HOTPATH_TEST_THOROUGH=1, is started as ever.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import inspect
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_CHILD_SUBREAPER = 36
MOST = 64
"""Descriptors that a request may have."""
_ROOT = Path(__file__).parents[2]
WORKER = ("-m", "hotpath.worker.process")
COMMAND = ("-m", "hotpath")
DESCRIBER = ("-P", str(_ROOT / "hotpath/scripts/child.py"))

START_AS_EVER = subprocess.Popen._execute_child
"""How a process is started by `exec`."""
_signature = inspect.signature(START_AS_EVER)
_PLAIN = {
    "preexec_fn": None,
    "close_fds": True,
    "shell": False,
    "process_group": -1,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
}
"""What may be asked of `Popen` of what it can be asked, beside what is passed on."""


# ---------------------------------------------------------------------------------- who asks


class Nest:
    """The one who forks, as who asks knows him."""

    def __init__(self, control: Callable[[], socket.socket]) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._python = _python_of(os.environ)
        self._prctl = ctypes.CDLL(None).prctl

    def install(self) -> None:
        """Have `subprocess.Popen` ask for what can be forked."""

        def start(process: subprocess.Popen, *given: Any) -> None:
            if not self._fork(process, given):
                START_AS_EVER(process, *given)

        subprocess.Popen._execute_child = start

    def _fork(self, process: subprocess.Popen, given: Sequence[Any]) -> bool:
        """Whether that was possible."""
        asked = _signature.bind(process, *given).arguments
        arguments = asked["args"]
        if isinstance(arguments, (str, bytes, os.PathLike)):
            return False
        arguments = list(map(os.fspath, arguments))
        env = os.environ if asked["env"] is None else asked["env"]
        if (
            arguments[:1] != [sys.executable]
            or tuple(arguments[1:3]) not in KINDS
            or any(asked[name] != value for name, value in _PLAIN.items())
            or _python_of(env) != self._python
        ):
            return False
        standard = [
            each if each >= 0 else number
            for number, each in enumerate((asked["p2cread"], asked["c2pwrite"], asked["errwrite"]))
        ]
        passed = sorted(map(int, asked["pass_fds"]))
        request = {
            "arguments": arguments[1:],
            "env": dict(env),
            "cwd": os.fspath(asked["cwd"] or os.getcwd()),
            "descriptors": [0, 1, 2, *passed],
            "session": bool(asked["start_new_session"]),
        }
        with self._lock:
            pid = self._ask(json.dumps(request).encode(errors="surrogatepass"), [*standard, *passed])
        if not pid:
            return False
        process.pid, process._child_created = pid, True
        process._close_pipe_fds(
            *(asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
        )
        return True

    def _ask(self, message: bytes, descriptors: list[int]) -> int:
        """The pid of what was forked and is our child now; 0 if nobody is there who forks."""
        try:
            control = self._control()
            self._prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            socket.send_fds(control, [message], descriptors)
            return int(control.recv(100) or 0)
        except OSError:
            return 0
        finally:
            self._prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _python_of(env: Mapping[str, str]) -> dict[str, str]:
    """What a Python takes from its environment as it starts."""
    return {name: value for name, value in env.items() if name.startswith(("PYTHON", "LC_", "LANG", "LD_"))}


# --------------------------------------------------------------------------------- who forks


def answer(
    control: socket.socket, request: Mapping[str, Any], descriptors: list[int]
) -> Callable[[], object] | None:
    """Fork what is asked for, so that the asker adopts it, and tell him its pid. In what was forked, returns
    what it is to run.
    """
    told, tell = os.pipe()
    middle = os.fork()
    if middle:
        os.close(tell)
        for descriptor in descriptors:
            os.close(descriptor)
        pid = os.read(told, 20)
        os.close(told)
        os.waitpid(middle, 0)
        control.send(pid or b"0")
        return None
    wait, hold = os.pipe()
    if os.fork():
        os._exit(0)  # what it has forked goes to its nearest forebear that takes in orphans: the asker
    os.close(hold)
    if request["session"]:
        os.setsid()
    os.write(tell, b"%d" % os.getpid())
    os.read(wait, 1)  # until it is adopted
    place(descriptors, request["descriptors"])
    arguments = request["arguments"]
    kind = tuple(arguments[:2])
    if kind == COMMAND:
        open_nest().install()
    settle(request)
    return lambda: KINDS[kind](arguments[2:])


def place(descriptors: Sequence[int], numbers: Sequence[int]) -> None:
    """Have these descriptors by these numbers, and no others."""
    above = max(*descriptors, *numbers) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above) for descriptor in descriptors]
    os.closerange(3, above)
    for descriptor, number in zip(moved, numbers, strict=True):
        os.dup2(descriptor, number)
    os.closerange(above, above + len(moved) + MOST)


def settle(request: Mapping[str, Any]) -> None:
    """Have the environment, directory, signals and standard streams of a process that was just started."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    encoding, errors = encoding or "utf-8", errors or "strict"
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(
        io.BufferedReader(io.FileIO(0, closefd=False)), encoding=encoding, errors=errors
    )
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding=encoding, errors=errors
    )
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


def end_after(run: Callable[[], object]) -> NoReturn:
    """Run this and end as Python does, but for taking all modules to pieces, which takes longer than most of
    what is run.
    """
    code = 0
    try:
        run()
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        traceback.print_exception(error)
        code = 1
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120
    os._exit(code & 0xFF)


def _work(arguments: Sequence[str]) -> None:
    from hotpath.worker import process

    sys.modules["__main__"] = process
    sys.path[0] = os.getcwd()
    sys.argv[:] = [process.__file__, *arguments]
    process.main()


def _describe(arguments: Sequence[str]) -> None:
    from hotpath.scripts import child

    for name in [name for name in sys.modules if name.startswith("hotpath.worker.")]:
        del sys.modules[name]  # scripts of tests tell by these where they are
    sys.modules["__main__"] = child
    sys.path[0:1] = []
    sys.path.append(str(_ROOT))
    child._run(*map(int, arguments))


def command(arguments: Sequence[str]) -> None:
    """Be `hotpath ARGUMENTS`, whose workers and commands are forked, too."""
    from hotpath.cli import main

    sys.argv[:] = ["hotpath", *arguments]
    main()


KINDS: dict[tuple[str, ...], Callable[[Sequence[str]], object]] = {
    WORKER: _work,
    DESCRIBER: _describe,
    COMMAND: command,
}
"""By how they are started, what can be forked."""


def open_nest() -> Nest:
    """Fork one who forks for this process. In what he has forked, this runs it, and does not return."""
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        return Nest(lambda: control)
    control.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)  # nobody is to wait for the end of what we hold
    os.close(nothing)
    while True:
        message, descriptors, _, _ = socket.recv_fds(theirs, 1 << 20, MOST)
        if not message:
            os._exit(0)
        run = answer(theirs, json.loads(message), descriptors)
        if run is not None:
            theirs.detach()  # its number may be another's by now
            end_after(run)
