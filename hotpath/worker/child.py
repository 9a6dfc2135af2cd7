"""A worker process as its supervisor holds it: two pipes, a pid, the last it said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import trio

from hotpath.worker.assignment import Assignment
from hotpath.worker.statistics import WorkerStatistics


@attrs.define(eq=False)
class Child:
    """One worker process."""

    process: trio.Process
    control: trio.lowlevel.FdStream
    status: trio.lowlevel.FdStream
    statistics: WorkerStatistics = attrs.field(factory=WorkerStatistics)
    rss: int = 0
    """Resident bytes as it became ready."""
    error: tuple[str, int, str] | None = None
    """Why it could not work: message, exit code, traceback of the user's code."""
    _stops: int = 0

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, once it has ended."""
        return self.process.returncode

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self.process.returncode
        if code is None:
            return "still running"
        if code < 0:
            try:
                return f"killed by {signal.Signals(-code).name}"
            except ValueError:
                return f"killed by signal {-code}"
        return f"exit code {code}"

    async def assign(self, assignment: Assignment) -> None:
        """Tell it what to do."""
        try:
            await self.control.send_all(msgspec.json.encode(assignment) + b"\n")
        except trio.BrokenResourceError:
            pass  # it has died; `wait_over` sees that

    async def wait_over(self, ready: Callable[[], object]) -> None:
        """Follow what it says until it has ended."""
        rest = b""
        async for data in self.status:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._hear(msgspec.json.decode(line), ready)
        await self.process.wait()

    def _hear(self, message: dict[str, Any], ready: Callable[[], object]) -> None:
        counts = message.get("counts") or message.get("over")
        if counts is not None:
            self.statistics = WorkerStatistics(**counts)
        if "ready" in message:
            self.rss = message["rss"]
            ready()
        if "error" in message:
            self.error = (message["error"], message["code"], message["traceback"])

    def stop(self) -> None:
        """Ask it to stop, once more each time."""
        self._stops += 1
        self._tell()

    def stop_at_once(self) -> None:
        """Ask it to give back what it holds now."""
        if self._stops < 2:
            self._stops = 2
            self._tell()
            self._tell()

    def _tell(self) -> None:
        try:
            os.write(self.control.fileno(), b"stop\n")
        except OSError:
            pass  # it has died, or is deaf: the deadline ends it

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self.process.returncode is None:
            self.process.kill()


async def spawn() -> Child:
    """Start a worker process that waits for its assignment.

    It is a session of its own: Ctrl-C at the terminal reaches the supervisor alone, which passes on what it
    means.
    """
    control_read, control_write = os.pipe()
    status_read, status_write = os.pipe()
    try:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "hotpath.worker.process", str(control_read), str(status_write)],
            stdin=subprocess.DEVNULL,
            pass_fds=(control_read, status_write),
            start_new_session=True,
        )
    except BaseException:
        os.close(control_write)
        os.close(status_read)
        raise
    finally:
        os.close(control_read)
        os.close(status_write)
    return Child(process, trio.lowlevel.FdStream(control_write), trio.lowlevel.FdStream(status_read))
