"""`hotpath` commands without the third of a second that Python takes to start and import: forked by a process
that has done so (`warm_server.py`), else as real as any other.

What a test asks about the start itself needs a cold one: `sys.executable -m hotpath`. All are cold with
HOTPATH_TEST_THOROUGH=1.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
from nest import Nest
from thoroughness import THOROUGH

_SERVER = Path(__file__).with_name("warm_server.py")


class Warm:
    """The process that forks; started when it is first needed, ended with `close`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None

    def open(self) -> socket.socket:
        """The connection to it, by which it is asked."""
        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            command = [sys.executable, str(_SERVER), str(theirs.fileno())]
            with theirs:
                self._process = subprocess.Popen(
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                )
            assert self._control.recv(100) == b"ready"
        return self._control

    def start(
        self, arguments: Sequence[str], env: Mapping[str, str], cwd: str | Path, standard: Sequence[int]
    ) -> WarmProcess:
        """Start `hotpath ARGUMENTS` on these three descriptors."""
        reader, writer = os.pipe()
        request = {"arguments": list(arguments), "env": dict(env), "cwd": str(cwd)}
        try:
            message = json.dumps(request).encode(errors="surrogatepass")
            socket.send_fds(self.open(), [message], [*standard, writer])
        finally:
            os.close(writer)
        return WarmProcess(reader)

    def close(self) -> None:
        """End it, and what it has forked."""
        if self._control is not None:
            self._control.close()
            self._process.wait(40)
            self._control = self._process = None


class WarmProcess:
    """What was forked, as `trio.Process` would show it."""

    stdin = None

    def __init__(self, status: int) -> None:
        self._status = status
        self._code: int | None = None
        said = b""
        while not said.endswith(b"\n"):
            said += os.read(status, 1)
        self.pid = int(said)
        self.stdout: Any = None
        self.stderr: Any = None
        os.set_blocking(status, False)

    @property
    def returncode(self) -> int | None:
        """Its exit code once it has ended, as Python gives it."""
        if self._code is None:
            try:
                said = os.read(self._status, 100)
            except BlockingIOError:
                return None
            self._code = int(said)
            if trio.lowlevel.in_trio_run():  # who waits for it would not hear of it any more
                trio.lowlevel.notify_closing(self._status)
            os.close(self._status)
        return self._code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):  # its parent knows, and is about to say so
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        while self.returncode is None:
            with suppress(trio.ClosedResourceError):  # somebody else has looked
                await trio.lowlevel.wait_readable(self._status)
        return self.returncode

    def wait_here(self, deadline: float) -> int:
        """The same, in a thread, until `time.monotonic()` is this."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._status, selectors.EVENT_READ)
            while self.returncode is None:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.kill()
                    raise subprocess.TimeoutExpired(f"process {self.pid}", 0)
        return self.returncode


SHARED = Warm()
"""The one of this run of pytest."""


def install() -> None:
    """Have commands that this process starts by itself, workers and describers forked, too."""
    if not THOROUGH:
        Nest(SHARED.open).install()


def open_warm(arguments: Sequence[str], env: Mapping[str, str], cwd: str | Path) -> WarmProcess:
    """Start it in a Trio program, with nothing to read, and pipes for what it says."""
    (out, their_out), (err, their_err) = os.pipe(), os.pipe()
    with open(os.devnull) as nothing:
        process = SHARED.start(arguments, env, cwd, [nothing.fileno(), their_out, their_err])
    os.close(their_out)
    os.close(their_err)
    process.stdout, process.stderr = trio.lowlevel.FdStream(out), trio.lowlevel.FdStream(err)
    return process


def run_warm(
    arguments: Sequence[str],
    *,
    stdin: bytes,
    env: Mapping[str, str],
    cwd: str | Path,
    seconds: float,
) -> tuple[int, bytes, bytes]:
    """Run it to its end, and to that of what it said: exit code, stdout, stderr."""
    pipes = [os.pipe() for _ in range(3)]
    (their_in, feed), (out, their_out), (err, their_err) = pipes
    theirs = [their_in, their_out, their_err]
    try:
        process = SHARED.start(arguments, env, cwd, theirs)
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    deadline = time.monotonic() + seconds
    said: dict[int, bytearray] = {out: bytearray(), err: bytearray()}
    rest = memoryview(stdin)
    os.set_blocking(feed, False)
    with selectors.DefaultSelector() as selector:
        for descriptor in (out, err):
            selector.register(descriptor, selectors.EVENT_READ)
        selector.register(feed, selectors.EVENT_WRITE)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                process.kill()
                raise subprocess.TimeoutExpired(list(arguments), seconds)
            for key, _ in ready:
                if key.fd != feed:
                    if data := os.read(key.fd, 1 << 16):
                        said[key.fd] += data
                        continue
                elif rest:
                    try:
                        rest = rest[os.write(feed, rest) :]
                        continue
                    except BrokenPipeError:
                        pass  # it reads no further
                selector.unregister(key.fd)
                os.close(key.fd)
    return process.wait_here(deadline), bytes(said[out]), bytes(said[err])


def run_hotpath(
    *arguments: str, env: Mapping[str, str], cwd: str | Path, stdin: bytes = b"", seconds: float = 50
) -> subprocess.CompletedProcess[str]:
    """Run `hotpath ARGUMENTS` to its end, as a user does: warm, unless there is time to be thorough."""
    if THOROUGH:
        command = [sys.executable, "-m", "hotpath", *arguments]
        return subprocess.run(
            command,
            input=stdin.decode(errors="surrogateescape"),
            errors="surrogateescape",
            capture_output=True,
            text=True,
            env=env,
            cwd=cwd,
            timeout=seconds,
            check=False,
        )
    code, out, err = run_warm(list(arguments), stdin=stdin, env=env, cwd=cwd, seconds=seconds)
    return subprocess.CompletedProcess(["hotpath", *arguments], code, out.decode(), err.decode())
