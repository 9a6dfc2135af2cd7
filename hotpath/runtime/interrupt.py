"""End a synchronous job from outside: have `JobInterrupted` raised inside its `main`, and nowhere else.

Two ways, by the thread that the job runs in:

- the main thread gets a signal, whose handler raises there and then. A signal also wakes what waits in a
  system call: `time.sleep`, a socket, a lock. A script that replaces the handler is not interrupted;
- any other thread gets an exception set by `PyThreadState_SetAsyncExc`, which comes up at some later
  bytecode; what waits in a system call is not woken.

Either is done only while the loop's frame stands at its call of `main`, with code of the user's beneath it:
in the middle of the loop itself, of writing a log, or of a destructor (where Python would swallow it) it
would do harm; the next try is 20 ms away. A job that does little but print would be missed again and again:
there the exception is raised when the text is written (`printed`).

The second way leaves a gap between that look and the exception's coming up, in which `main` may end.
Therefore `BatchInHand.disturbed` is set before the look: it obliges the loop to call `settle` when `main` has
ended, which withdraws an exception that has not come up. The loop itself catches one that does before.

A job is interrupted once: its `finally` blocks are not.
"""

from __future__ import annotations

import dis
import signal
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from hotpath.errors import JobInterrupted
from hotpath.model import ErrorKind

if TYPE_CHECKING:
    from hotpath.runtime.context import BatchInHand

SIGNAL = signal.SIGRTMIN + 6 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2
"""Few programs use real-time signals, and none of the usual libraries this one."""
AGAIN = 0.02
"""Seconds between two tries."""
LOOK = 0.05
"""Seconds between two looks at the deadline of the job in hand; it is overrun by no more than that."""

_RUNTIME = str(Path(__file__).parent) + "/"


class TimedOut(JobInterrupted):
    """The job ran longer than its time-out."""

    kind = ErrorKind.TIMEOUT.value


class Canceled(JobInterrupted):
    """The job was canceled."""

    kind = ErrorKind.CANCELED.value


for _class in (TimedOut, Canceled):  # the user catches, and reads in tracebacks, the public class
    _class.__module__, _class.__qualname__ = JobInterrupted.__module__, JobInterrupted.__qualname__
_CLASS: dict[ErrorKind, type[JobInterrupted]] = {ErrorKind.TIMEOUT: TimedOut, ErrorKind.CANCELED: Canceled}


class Press:
    """The wish to end one job: the one in hand that all of this is true of."""

    __slots__ = ("by", "deadline", "index", "kind", "over", "sent", "token")

    def __init__(self, token: int, kind: ErrorKind, index: int | None = None, deadline: int = 0) -> None:
        self.by: Interrupter | None = None
        """Whose it is to do that."""
        self.token = token
        self.kind = kind
        self.index = index
        """Its index in the batch, where others of the batch have the same token; None: the token will do."""
        self.deadline = deadline
        """The deadline that it has overrun (`mark[1]`); 0: that is not why."""
        self.sent = False
        """True once the exception was raised, or set to be."""
        self.over = False
        """True once the job's `main` has ended."""

    @property
    def exception(self) -> type[JobInterrupted]:
        """What is raised in the job."""
        return _CLASS.get(self.kind, Canceled)


class Interrupter:
    """Interrupts what runs in one thread, beneath one function: `loop`, which calls `main` by
    `f(main, *args)` and has no other call of that form.
    """

    def __init__(self, loop: CodeType) -> None:
        self._loop = loop
        self._calls = frozenset(
            step.offset for step in dis.get_instructions(loop) if step.opname == "CALL_FUNCTION_EX"
        )
        self._thread: threading.Thread | None = None
        self._before: Any = None
        self.running: BatchInHand | None = None
        """The batch that the loop has in hand."""

    # ------------------------------------------------------------ in the thread that runs the jobs

    def install(self) -> None:
        """From now on jobs run in this thread."""
        self._thread = threading.current_thread()
        if self._thread is threading.main_thread():
            before = signal.signal(SIGNAL, self._on_signal)
            if before != self._on_signal:
                self._before = before

    def remove(self) -> None:
        """Put back what was there before `install`, unless the script has put something there."""
        if self._thread is threading.main_thread() and signal.getsignal(SIGNAL) == self._on_signal:
            signal.signal(SIGNAL, signal.SIG_DFL if self._before is None else self._before)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        hand = self.running
        press = None if hand is None else hand.press
        if hand is None or press is None or press.sent or not _names(hand, press):
            return
        if self._stands_in_main(frame, press.index):
            press.sent = True
            raise press.exception

    def printed(self, hand: BatchInHand) -> None:
        """Code of the user's, three frames up, has printed something, and all of it is written: raise here
        what may not be raised in the middle of that. Other threads than the job's are left alone.
        """
        press, thread = hand.press, self._thread
        if press is None or thread is None or threading.get_ident() != thread.ident:
            return
        with hand.lock:
            if press.sent or press.over or not _names(hand, press):
                return
            if not self._stands_in_main(sys._getframe(3), press.index):  # noqa: SLF001 - the documented way to a frame
                return
            press.sent = True
        raise press.exception

    def settle(self, hand: BatchInHand, index: int) -> ErrorKind | None:
        """The job's `main` has ended: nothing interrupts it from here on. The kind, if it was interrupted.
        Called while `mark` still names the job and its deadline.
        """
        press = hand.press
        if press is None or not _names(hand, press) or press.index not in (None, index):
            return None
        with hand.lock:
            press.over = True
            if press.sent and self._thread is not threading.main_thread():
                _raise_in(threading.get_ident(), None)
        return press.kind if press.sent else None

    # ------------------------------------------------------------ in Trio's thread

    def send(self, hand: BatchInHand) -> bool:
        """Try to interrupt the job that `hand.press` is about; whether to try again."""
        press = hand.press
        thread = self._thread
        if press is None or press.over or press.sent or not _names(hand, press) or thread is None:
            return False
        if thread is threading.main_thread():
            if signal.getsignal(SIGNAL) != self._on_signal:
                return False  # the script's own now: it must not be surprised, or killed, by ours
            signal.pthread_kill(thread.ident or 0, SIGNAL)
        elif hand.lock.acquire(blocking=False):
            try:
                stands = self._stands_in_main(_frame_of(thread), press.index)
                if not _is(press.over) and stands and _names(hand, press):
                    press.sent = True
                    _raise_in(thread.ident or 0, press.exception)
            finally:
                hand.lock.release()
        return not press.sent

    def index_in_hand(self) -> int | None:
        """Index in its batch of the job that the loop has in hand; None if it has none."""
        frame = None if self._thread is None else _frame_of(self._thread)
        while frame is not None:
            if frame.f_code is self._loop:
                return frame.f_locals.get("index")
            frame = frame.f_back
        return None

    def _stands_in_main(self, frame: FrameType | None, index: int | None) -> bool:
        """Whether this frame runs code that `main` has called, where an exception can be borne; with `index`,
        the `main` of that job.
        """
        beneath = False
        while frame is not None:
            code = frame.f_code
            if code is self._loop:
                if not beneath or frame.f_lasti not in self._calls:
                    return False
                return index is None or frame.f_locals.get("index") == index
            if code.co_name == "__del__" or code.co_filename.startswith(_RUNTIME):
                return False
            beneath = True
            frame = frame.f_back
        return False


def _names(hand: BatchInHand, press: Press) -> bool:
    """Whether the mark is of the job that the press is about, as far as a mark can tell."""
    mark = hand.batch.mark
    return mark[0] == press.token and press.deadline in (0, mark[1])


def _is(flag: bool) -> bool:  # noqa: FBT001
    """Another thread may have changed it."""
    return flag


def _frame_of(thread: threading.Thread) -> FrameType | None:
    return sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - the documented way to a thread's frame


def _raise_in(ident: int, exception: type[BaseException] | None) -> None:
    """Have the exception raised in a thread of this process, soon; None: not raised after all."""
    import ctypes  # here: few jobs are ever interrupted

    what = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), what)
