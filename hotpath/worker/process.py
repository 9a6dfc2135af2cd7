"""A worker process: what `python -m hotpath.worker.process` runs, started by the supervisor.

It talks to its supervisor over two pipes and a board (`worker/board.py`). Down comes its assignment, one line
of JSON, and later lines of words: `stop`, `stop now`, `replaced` (another one has its place: what it has
claimed is its last), `cancel LEASE PLACE`, `tags JSON`, `heed` (what is configured has changed); the end of
that pipe means that the supervisor has died, and the worker goes with it.
Up go lines of JSON: ready, counts, the end, and what has no place on the board. A worker that is fed has a
third pipe, for what it is to run (`worker/handing.py`).

A synchronous script has the main thread to itself, as libraries and signal handlers expect; Trio runs beside
it in a second one. So it is for a runtime that is not built in: it may run synchronous code.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
import trio

from hotpath import program_log
from hotpath.errors import HotpathError, ScriptError, ScriptImportError
from hotpath.runtime.capture import look_beside, set_below, set_tee
from hotpath.runtime.lane import Lane
from hotpath.runtime.load import settle_memory
from hotpath.scripts.load import scrub_environment
from hotpath.scripts.source import hash_of, read_if_there
from hotpath.store.queries import query
from hotpath.worker.assignment import Assignment, Listening
from hotpath.worker.board import BEAT, WATCHED, Board
from hotpath.worker.engine import listen, work
from hotpath.worker.fed import FedLoop
from hotpath.worker.handing import Unpacker
from hotpath.worker.loop import Loop
from hotpath.worker.pipes import arriving
from hotpath.worker.runtimes import make_runtime

if TYPE_CHECKING:
    from hotpath.runtime.protocol import Runtime

REPORT_EVERY = 0.25
"""Seconds between two reports of counts; also the beat of a worker that is on its way out."""
LOOK_EVERY = 0.1
"""The same while somebody watches a job: what its child processes write is to be seen, too."""
BROKEN = 70
"""Exit code of a worker that failed in a way of its own: the supervisor starts another."""
GC_THRESHOLD = 10_000
"""Objects allocated between two looks of the garbage collector; Python's 700 is a look every other batch."""
MOST_FILES = 1_000
"""Modules of the workspace that are told."""
ORPHANED_GRACE = 2.0
"""Seconds that jobs under way get when the supervisor has died: nobody renews the lease any more."""
ORPHANED_RELEASE = 1.0
"""Seconds that giving back what has not ended by then may take."""


class Process:
    """The worker process as seen from Trio."""

    def __init__(
        self, control: int, status: int, board: Board, assignment: Assignment, lane: Lane | None
    ) -> None:
        self._control = control
        self._status = status
        self._board = board
        self._assignment = assignment
        self._lane = lane
        self.feed: int | None = None
        """Descriptor of the pipe that it is fed by."""
        self._token: trio.lowlevel.TrioToken | None = None
        self._signals = 0
        self._words = 0
        self._stops = 0
        self._is_replaced = False
        self._loop: Loop | None = None
        self._listening: Listening | None = None
        self._scope = trio.CancelScope()
        self._done = trio.Event()
        self.exit_code = BROKEN
        """What the process ends with; something else once it is known how the work went."""

    def signalled(self, *_: Any) -> None:
        """SIGTERM or SIGINT: the first stops, the second releases at once."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._count_signal)

    def _count_signal(self) -> None:
        self._signals += 1
        self._heed()

    def stop(self, level: int) -> None:
        """What the supervisor wants: 1 lets jobs under way end, 2 has them given back at once."""
        self._words = max(self._words, level)
        self._heed()

    def _heed(self) -> None:
        # Who stops a whole service signals the worker, too: that and the supervisor's word are one stop.
        level = max(self._signals, self._words)
        if level <= self._stops:
            return
        self._stops = level
        if self._loop is not None:
            self._loop.stop()
        if self._stops > 1 or self._loop is None:
            self._scope.cancel(reason="asked to stop at once")

    def _make_room(self) -> None:
        self._is_replaced = True
        if self._loop is not None and not self._stops:
            self._loop.stop(whole=True)

    def hear(self, line: bytes) -> None:
        """Do what the supervisor says."""
        if line.startswith(b"tags "):
            self._listening = msgspec.json.decode(line[5:], type=Listening)
            if self._loop is not None:
                listen(self._loop, self._listening)
            return
        match line.split():
            case [b"replaced"]:
                self._make_room()
            case [b"stop"]:
                self.stop(1)
            case [b"stop", b"now"]:
                self.stop(2)
            case [b"cancel", lease, place] if self._loop is not None:
                self._loop.cancel(int(lease), int(place))
            case [b"heed"] if self._loop is not None:
                self._loop.search.heed()
                self._loop.wake()

    async def run(self) -> None:
        """Work until done. Whatever goes wrong is told to the supervisor, which decides."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey)
                runtime = make_runtime(
                    self._assignment.runtime,
                    self._assignment.version.description,
                    lane=self._lane,
                    concurrency=self._assignment.concurrency,
                )
                self._loop = await nursery.start(self._work, runtime)
                settle_memory()  # the script is loaded
                if self._loop is not None:
                    if self._stops:
                        self._loop.stop()
                    elif self._is_replaced:
                        self._loop.stop(whole=True)
                    if self._listening is not None:
                        listen(self._loop, self._listening)
                    # What is loaded by now stays: the collector need not walk it again and again.
                    gc.freeze()
                    gc.set_threshold(GC_THRESHOLD)
                    if self.feed is not None and isinstance(self._loop, FedLoop):
                        nursery.start_soon(self._receive, self._loop, self.feed)
                    files = imported(self._assignment.workspace)
                    other = loaded_other(self._assignment)
                    self._say({"ready": True, "rss": rss(), "files": files, "other": other})
                    await self._report(self._loop)
                nursery.cancel_scope.cancel(reason="the worker is done")
            self.exit_code = 0
        except* HotpathError as group:
            error = _first(group)
            self.exit_code = error.exit_code
            traceback = error.traceback if isinstance(error, ScriptImportError) else ""
            self._say({"error": str(error), "code": error.exit_code, "traceback": traceback})
        finally:
            if self._loop is not None:
                self._say({"tallies": self._loop.tallies()})
                self._say({"over": attrs.asdict(self._loop.statistics()), "drained": self._loop.drained})

    async def _work(
        self, runtime: Runtime, task_status: trio.TaskStatus[Loop | None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            with self._scope:
                await work(
                    self._assignment, runtime, board=self._board, tell=self._say, task_status=task_status
                )
        finally:
            self._done.set()
        if self._scope.cancelled_caught and self._loop is None:
            with contextlib.suppress(RuntimeError):  # it had started, and its loop is on the way to us
                task_status.started(None)

    async def _report(self, loop: Loop) -> None:
        """Tell the counts from time to time, until the work is done."""
        said: dict[str, list[int]] = {}
        while not self._done.is_set():
            with trio.move_on_after(LOOK_EVERY if self._board.words[WATCHED] else REPORT_EVERY):
                await self._done.wait()
            look_beside()
            self._board.words[BEAT] = time.perf_counter_ns()
            counts, tallies = loop.statistics(), loop.tallies()
            if more := {tag: tally for tag, tally in tallies.items() if said.get(tag) != tally}:
                self._say({"tallies": more})
                said = tallies
            self._say({"counts": attrs.asdict(counts)})

    async def _obey(self) -> None:
        """Read the supervisor's words; its death is one of them."""
        stream = trio.lowlevel.FdStream(os.dup(self._control))
        rest = b""
        async with stream:
            try:
                async for data in stream:
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        self.hear(line)
            except OSError:
                pass
        self.stop(1)
        await trio.sleep(ORPHANED_GRACE)
        self.stop(2)
        await trio.sleep(ORPHANED_RELEASE)
        os._exit(BROKEN)

    async def _receive(self, loop: FedLoop, feed: int) -> None:
        """Take in what the worker is given to run."""
        unpacker = Unpacker()
        async for data in arriving(feed):
            for hand, rated, more in unpacker.take(data):
                if hand is None:
                    loop.finish()
                else:
                    loop.give(hand, rated=rated, more=more)

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._status, msgspec.json.encode(message) + b"\n")


def _first(group: BaseExceptionGroup[HotpathError]) -> HotpathError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, HotpathError)
    return error


def rss() -> int:
    """Resident memory of this process in bytes; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def loaded_other(assignment: Assignment) -> bool:
    """Whether the workspace's file is not, or no longer, the version that was to be loaded: who saves it just
    then has something else run under that version's name. A flow's file is not looked at.
    """
    file = Path(assignment.file)
    if assignment.root is not None or file.suffix != ".py":
        return False
    try:
        found = hash_of(file.read_bytes(), read_if_there(file.with_name(f"{file.stem}.script.yaml")))
    except (OSError, ScriptError):
        return True
    return found != assignment.version.description.hash


def imported(workspace: str) -> list[str]:
    """Files of modules that were imported from the workspace, as many as anybody would look at."""
    root = workspace.rstrip("/") + "/"
    found = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    inside = sorted(file for file in found if file.startswith(root) and "/site-packages/" not in file)
    return inside[:MOST_FILES]


def _read_assignment(control: int) -> tuple[Assignment, bytes]:
    """The assignment, and what came behind it."""
    received = b""
    while b"\n" not in received:
        part = os.read(control, 65536)
        if not part:
            raise SystemExit(0)  # the supervisor changed its mind
        received += part
    line, _, rest = received.partition(b"\n")
    return msgspec.json.decode(line, type=Assignment), rest


def _warm_up() -> None:
    """What can be done before anybody knows what is to run; who waits as a spare has it behind it."""
    for name in ("backend", "cycle", "claim"):
        query(name)
    gc.collect()
    gc.freeze()  # the collector need not walk our own modules again when the script is loaded


def main() -> None:
    """Entry point: descriptors as arguments, of the pipe to read from, the one to write to, the board, the
    files for what jobs write below Python (with commas between) and, if it is fed, of the pipe for that.
    """
    control, status = int(sys.argv[1]), int(sys.argv[2])
    board = Board.attach(int(sys.argv[3]))
    files = [int(descriptor) for descriptor in sys.argv[4].split(",") if descriptor]
    # Descriptor 2 may come to be the jobs'.
    own = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - as long as the process
    faulthandler.enable(own)
    _warm_up()
    assignment, words = _read_assignment(control)
    urls = (assignment.dsn, assignment.listen_dsn)
    program_log.set_up(
        stream=own, urls=urls, worker=assignment.name, script=assignment.version.description.path
    )
    scrub_environment()
    os.set_inheritable(control, False)
    feed = int(sys.argv[5]) if len(sys.argv) > 5 else None
    for descriptor in (status, *files, *(() if feed is None else (feed,))):
        os.set_inheritable(descriptor, False)
    # A runtime of another kind may have both: what is async, and what wants the main thread.
    wants_lane = assignment.runtime is not None or not assignment.version.description.is_async
    lane = Lane() if wants_lane else None
    process = Process(control, status, board, assignment, lane)
    process.feed = feed
    set_tee(board.write_log)
    set_below(files, board.output)
    for line in words.splitlines():
        process.hear(line)
    signal.signal(signal.SIGTERM, process.signalled)
    signal.signal(signal.SIGINT, process.signalled)
    over = threading.Event()
    threading.Thread(target=_leave_when, args=(over, process), name="hotpath-exit", daemon=True).start()
    if lane is None:
        try:
            trio.run(process.run, restrict_keyboard_interrupt_to_checkpoints=True)
        finally:
            over.set()
        sys.exit(process.exit_code)

    def beside() -> None:
        try:
            trio.run(process.run)
        finally:
            lane.close()
            over.set()

    thread = threading.Thread(target=beside, name="hotpath-io", daemon=True)
    thread.start()
    lane.run_here()
    thread.join()
    sys.exit(process.exit_code)


LEAVE = 1.0
"""Seconds that the main thread gets to come back from a job that nobody waits for any more, and threads that
jobs have left behind to end.
"""


def _leave_when(over: threading.Event, process: Process) -> None:
    """End the process when the work is settled and something that a job has left behind still holds it."""
    over.wait()
    threading.Event().wait(LEAVE)
    os._exit(process.exit_code)


if __name__ == "__main__":
    main()
