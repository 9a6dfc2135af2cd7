"""What SIGTERM is to a command before it heeds signals, and once it does so no more. Imports nothing: it is
in force from the first moment.
"""

from __future__ import annotations

import signal

_HEEDED: list[bool] = []
"""Not empty once somebody has heeded signals."""


def leave_quietly() -> None:
    """Until the command heeds signals itself, SIGTERM ends a command that has done nothing: no error."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_: object) -> None:
    if not _HEEDED:
        raise SystemExit(0)


def heed() -> None:
    """Somebody heeds signals from now on."""
    _HEEDED.append(True)


def heed_no_more() -> None:
    """A command that was asked to end is about to: being asked once more neither ends it sooner nor is an
    error, to the very end of the process.
    """
    if signal.getsignal(signal.SIGTERM) is _leave:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
