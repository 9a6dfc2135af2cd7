"""Signs of life as files, for probes that must not cost anything: `alive`, touched every two seconds while
the supervisor's loop turns, and `ready`, there while a worker takes jobs.

The directory is `HOTPATH_PROBE_DIR`. Neither says anything of the database: that it is away is no reason to
restart workers, which keep what they have finished until it is back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import trio

from hotpath.errors import UsageError

log = logging.getLogger("hotpath.worker")

EVERY = 2.0
"""Seconds between two touches."""
ALIVE, READY = "alive", "ready"


async def show_signs(directory: Path, is_ready: Callable[[], bool]) -> None:
    """Until cancelled; then neither is there. Raises `UsageError` if the directory cannot be written to."""
    alive, ready = directory / ALIVE, directory / READY
    _check(alive)
    complained = False
    try:
        while True:
            try:
                alive.touch()
                if is_ready():
                    ready.touch()
                else:
                    ready.unlink(missing_ok=True)
            except OSError as error:
                if not complained:
                    log.warning("the signs in HOTPATH_PROBE_DIR cannot be written: %s", error)
                complained = True
            await trio.sleep(EVERY)
    finally:
        for sign in (ready, alive):
            try:
                sign.unlink(missing_ok=True)
            except OSError:
                log.debug("the sign %s cannot be removed", sign)


def _check(alive: Path) -> None:
    try:
        alive.parent.mkdir(parents=True, exist_ok=True)
        alive.touch()
    except OSError as error:
        place = str(alive.parent)
        raise UsageError(f"HOTPATH_PROBE_DIR {place!r} cannot be written to: {error.strerror}") from error
