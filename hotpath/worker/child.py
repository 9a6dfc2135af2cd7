"""A worker process as its supervisor holds it: two pipes, a board, a pid, the last it said."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import msgspec
import trio

from hotpath.core.logtext import Piece, from_pieces
from hotpath.core.storable import storable
from hotpath.core.watch import JobInHand, Kill, Sight
from hotpath.model import ErrorKind
from hotpath.runtime.below import make_files
from hotpath.worker.assignment import Assignment, Listening
from hotpath.worker.board import BEAT, DEADLINE, LEASE_UNTIL, MARK, MAX_LOG, Board
from hotpath.worker.pipes import arriving
from hotpath.worker.statistics import WorkerStatistics

OUTPUTS = 4
"""Files for what a worker's jobs write below Python: one in use, one for each process left behind."""
DRAIN = 0.2
"""Seconds that a dead process's status pipe is still read, if something that it left behind holds it open."""

IN_TIME, AT_ONCE = "stop", "stop now"
"""What a worker is told that is to end: when the jobs under way have ended, or without waiting for them."""


@attrs.define(eq=False)
class Child:
    """One worker process."""

    process: trio.Process
    control: trio.lowlevel.FdStream
    status: trio.lowlevel.FdStream
    board: Board
    feed: trio.lowlevel.FdStream | None = None
    """The pipe that it is fed by, if it is."""
    on_done: Callable[[int, int, int, bool], object] | None = None
    """Called when it is through with a lease that it was given: lease, jobs that it ran, microseconds they
    took, whether some are back in the queue.
    """
    outputs: Sequence[int] = ()
    """Descriptors of the files for what its jobs write below Python (`runtime/below.py`)."""
    statistics: WorkerStatistics = attrs.field(factory=WorkerStatistics)
    tallies: dict[str, list[int]] = attrs.field(factory=dict)
    """By tag, what it has counted (`core/tally.py`)."""
    rss: int = 0
    """Resident bytes as it became ready."""
    files: list[str] = attrs.field(factory=list)
    """Files of the workspace that it had imported by then."""
    loaded_other: bool = False
    """Whether its script's file was changed as it loaded it."""
    is_ready: bool = False
    is_over: bool = False
    """Whether it said that its work is settled: what it leaves behind is nobody's fault."""
    has_drained: bool = False
    """Whether it said that it came to its end because nothing was left to run."""
    error: tuple[str, int, str] | None = None
    """Why it could not work: message, exit code, traceback of the user's code."""
    killed: Kill | None = None
    """Why its supervisor killed it."""
    asked: set[JobInHand] = attrs.field(factory=set)
    """Jobs of its that are to be canceled."""
    stuck: dict[JobInHand, ErrorKind] = attrs.field(factory=dict)
    """Jobs that it said it cannot end."""
    _told_at: int = 0
    """The worker's beat as it was last told whom to cancel."""
    _places: dict[int, list[int]] = attrs.field(factory=dict)
    """By lease, where the runtime's indexes are not the places in the lease."""
    _is_assigned: bool = False
    """Whether it has its assignment: words before that would be taken for it."""
    _leave: str = ""
    """How it was told to stop: `IN_TIME`, `AT_ONCE`, or not yet."""
    _unfed: bytearray = attrs.field(factory=bytearray)
    """What that pipe had no room for."""
    _hungry: trio.Event = attrs.field(factory=trio.Event)
    """Set when there is some of that."""

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
            return "is still running"
        if code >= 0:
            return f"exited with code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"

    # ------------------------------------------------------------ what it is at

    def job(self, token: int) -> JobInHand | None:
        """The job that a token names: lease and place; None if it names none."""
        lease = self.board.lease(token) if token > 0 else 0
        if not lease:
            return None
        index = token & 0xFFFF
        places = self._places.get(lease)
        if places is None:
            return lease, index
        return (lease, places[index]) if index < len(places) else None

    def job_in_hand(self) -> JobInHand | None:
        """The job that the board names."""
        return self.job(self.board.words[MARK])

    def look(self) -> Sight:
        """What can be seen of it now."""
        words = self.board.words
        return Sight(
            job=self.job_in_hand(),
            deadline=words[DEADLINE],
            beat=words[BEAT],
            held=any(self.board.leases()),
            asked=self.asked,
            stuck={job: kind for job, kind in self.stuck.items() if self.board.number(job[0])},
            leaving=self._leave == AT_ONCE,
            is_stopped=_is_stopped(self.pid),
        )

    def log(self, job: JobInHand, *, masked: bool = False) -> str:
        """What this job, of a lease that is held, has printed, as far as it is kept. `masked`: it has
        secrets, which the worker alone can take out of what was written below Python.
        """
        token = self.board.words[MARK]
        if self.job(token) != job:
            token = self.token(job)
        if not token:
            return ""
        pieces = self.board.read_log(token)
        if token == self.board.words[MARK] and not masked:
            pieces += self._unread(pieces[-1] if pieces else None)
        return from_pieces(pieces, MAX_LOG)

    def _unread(self, last: Piece | None) -> list[Piece]:
        """What was written below Python and is in no log yet; behind this piece."""
        number, at = self.board.output
        if not 0 < number <= len(self.outputs):
            return []
        descriptor = self.outputs[number - 1]
        try:
            size = os.lseek(descriptor, 0, os.SEEK_END)
            first = max(0, at, size - MAX_LOG) if at <= size else 0
            raw = os.pread(descriptor, min(size - first, MAX_LOG), first)
        except OSError:
            return []
        position = 0 if last is None else last.position + len(last.text)
        if last is not None and last.position < 0:
            position = -1
        text = storable(raw.decode("utf-8", "backslashreplace"))
        return [Piece(position, time.perf_counter_ns(), text)] if text else []

    def token(self, job: JobInHand) -> int:
        """The token of a job in its hand; 0 when it is not."""
        lease, place = job
        places = self._places.get(lease)
        if places is not None:
            if place not in places:
                return 0
            place = places.index(place)
        return self.board.token(lease, place)

    def renewed(self, until: int) -> None:
        """Its lease holds until then, nanoseconds of `time.perf_counter_ns`."""
        self.board.words[LEASE_UNTIL] = until

    def rss_now(self) -> int:
        """Resident bytes; 0 where the system does not say."""
        try:
            with open(f"/proc/{self.pid}/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    # ------------------------------------------------------------ what it says

    async def assign(self, assignment: Assignment) -> None:
        """Tell it what to do, and to stop, if that was asked for meanwhile."""
        try:
            await self.control.send_all(msgspec.json.encode(assignment) + b"\n")
        except trio.BrokenResourceError:
            return  # it has died; `wait_over` sees that
        self._is_assigned = True
        if self._leave:
            self._tell(self._leave)

    async def wait_over(self, ready: Callable[[], object]) -> None:
        """Follow what it says until it has ended. What its jobs have forked may hold the pipe open: nobody
        waits for that.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, ready, nursery.cancel_scope)
            if self.feed is not None:
                nursery.start_soon(self._feed_rest, self.feed)
            await self.process.wait()
            nursery.cancel_scope.deadline = trio.current_time() + DRAIN

    async def _read(self, ready: Callable[[], object], scope: trio.CancelScope) -> None:
        rest = b""
        async for data in arriving(self.status.fileno()):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._hear(line, ready)

    def _hear(self, line: bytes, ready: Callable[[], object]) -> None:
        try:
            message: dict[str, Any] = msgspec.json.decode(line)
        except msgspec.DecodeError:
            return  # a job has found the descriptor and written to it
        if "done" in message:
            if self.on_done is not None:
                self.on_done(*message["done"])
            return
        counts = message.get("counts") or message.get("over")
        if counts is not None:
            self.statistics = WorkerStatistics(**counts)
        self.tallies.update(message.get("tallies", ()))
        if "over" in message:
            self.is_over = True
            self.has_drained = bool(message.get("drained"))
        if "ready" in message:
            self.rss = message["rss"]
            self.files = message.get("files", [])
            self.loaded_other = message.get("other", False)
            self.is_ready = True
            ready()
        if "error" in message:
            self.error = (message["error"], message["code"], message["traceback"])
        if "places" in message:
            lease, places = message["places"]
            held = {*self.board.leases(), lease}
            self._places = {each: known for each, known in self._places.items() if each in held}
            self._places[lease] = places
        if "stuck" in message:
            lease, place, kind = message["stuck"]
            self.stuck[lease, place] = ErrorKind(kind)

    # ------------------------------------------------------------ what it is told

    def give(self, data: bytes) -> None:
        """Let it have this by the pipe it is fed by: now, and what does not fit as there is room."""
        assert self.feed is not None, "it is fed"
        if not self._unfed:
            try:
                data = data[os.write(self.feed.fileno(), data) :]
            except BlockingIOError:
                pass
            except OSError:
                return  # it has died
        if data:
            self._unfed += data
            self._hungry.set()

    async def _feed_rest(self, feed: trio.lowlevel.FdStream) -> None:
        while True:
            await self._hungry.wait()
            self._hungry = trio.Event()
            while self._unfed:
                some = bytes(self._unfed)
                try:
                    await feed.send_all(some)
                except (OSError, trio.BrokenResourceError):
                    return  # it has died
                del self._unfed[: len(some)]

    def make_room(self) -> None:
        """Another one has its place: it is to claim nothing more, and to end when what it has claimed is run;
        what a slow job keeps waiting goes back.
        """
        if not self._leave and not self._tell("replaced"):
            self.stop()

    def stop(self) -> None:
        """Ask it to stop when the jobs under way have ended; asking again changes nothing."""
        if not self._leave:
            self._leave = IN_TIME
            self._tell(IN_TIME)

    def stop_at_once(self) -> None:
        """Ask it to give back what it holds now."""
        if self._leave != AT_ONCE:
            self._leave = AT_ONCE
            self._tell(AT_ONCE)

    def cancel(self, jobs: Iterable[JobInHand]) -> None:
        """These jobs, and no others, are to be canceled. Told again at each heartbeat: the worker may not
        know yet that a job is its own.
        """
        known, self.asked = self.asked, set(jobs)
        beat = self.board.words[BEAT]
        # One that is deaf has not read the last words: its pipe is not to be filled, `stop` needs room.
        for job in self.asked if beat != self._told_at else self.asked - known:
            self._tell(f"cancel {job[0]} {job[1]}")
        self._told_at = beat

    def listen(self, to: Listening) -> bool:
        """Have it claim from other tags from now on; False if it cannot be told so."""
        words = f"tags {msgspec.json.encode(to).decode()}"
        # More than that may not go into a pipe at once.
        return len(words.encode()) < select.PIPE_BUF and self._tell(words)

    def heed(self) -> None:
        """The configuration in the database has changed."""
        self._tell("heed")

    def _tell(self, words: str) -> bool:
        if not self._is_assigned:
            return False
        try:
            os.write(self.control.fileno(), f"{words}\n".encode())
        except OSError:
            return False  # it has died, or is deaf: the guard ends it
        return True

    def kill(self, why: Kill | None = None) -> None:
        """End it, and what its jobs have started in its process group, if it has not ended; the first reason
        given is kept.
        """
        if self.process.returncode is None:
            self.killed = self.killed or why
            try:
                # It leads a session; it is not reaped, so the number is still its own.
                os.killpg(self.pid, signal.SIGKILL)
            except OSError:
                self.process.kill()

    def close(self) -> None:
        """Let go of its pipes and its board."""
        self.control.close()
        self.status.close()
        if self.feed is not None:
            self.feed.close()
        self.board.close()
        outputs, self.outputs = self.outputs, ()
        for descriptor in outputs:
            os.close(descriptor)


def _is_stopped(pid: int) -> bool:
    """Whether somebody has stopped the process (SIGSTOP); a debugger's stop is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False


async def spawn(
    environment: Mapping[str, str] | None = None, python: str | None = None, *, fed: bool = False
) -> Child:
    """Start a worker process that waits for its assignment; None: with the environment, and by the Python, of
    this one. One that is `fed` claims nothing by itself.

    It is a session of its own: Ctrl-C at the terminal reaches the supervisor alone, which passes on what it
    means, and a job that kills its process group does not kill the supervisor.
    """
    board = Board.create()
    outputs = make_files(OUTPUTS)
    control_read, control_write = os.pipe()
    status_read, status_write = os.pipe()
    feed = os.pipe() if fed else ()
    try:
        process = await trio.lowlevel.open_process(
            [
                *(python or sys.executable, "-m", "hotpath.worker.process"),
                *(str(control_read), str(status_write), str(board.fd), ",".join(map(str, outputs))),
                *map(str, feed[:1]),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=(control_read, status_write, board.fd, *outputs, *feed[:1]),
            start_new_session=True,
            env=environment,
        )
    except BaseException:
        os.close(control_write)
        os.close(status_read)
        for descriptor in feed[1:]:
            os.close(descriptor)
        board.close()
        for descriptor in outputs:
            os.close(descriptor)
        raise
    finally:
        os.close(control_read)
        os.close(status_write)
        for descriptor in feed[:1]:
            os.close(descriptor)
    return Child(
        process,
        trio.lowlevel.FdStream(control_write),
        trio.lowlevel.FdStream(status_read),
        board,
        trio.lowlevel.FdStream(feed[1]) if feed else None,
        outputs=outputs,
    )
