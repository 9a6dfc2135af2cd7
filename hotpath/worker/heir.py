"""The heir: a shell that outlives the supervisor by a moment and ends what it leaves behind.

A worker notices its supervisor's death by the end of a pipe and goes too. One whose job holds the GIL notices
nothing, perhaps for ever. The kernel's signal at the parent's death is no help: it comes at the end of the
*thread* that started the child, at once, and leaves no moment to flush. So one tiny process per supervisor
waits at a pipe for its end, lets the workers have their moment, and kills what is still there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import attrs
import trio

MOMENT = 4
"""Seconds that workers get to end by themselves; more than `process.ORPHANED_GRACE`."""
_SCRIPT = f"""
last=
while read -r pids; do last=$pids; done
[ -z "$last" ] || {{ sleep {MOMENT}; kill -9 $last; }}
"""


@attrs.define(eq=False)
class Heir:
    """The shell, as its supervisor knows it."""

    _process: trio.Process | None = None
    _told: frozenset[int] = frozenset()

    def tell(self, pids: Iterable[int]) -> None:
        """These processes, and no others, are to end with the supervisor."""
        now = frozenset(pids)
        pipe = self._process.stdin if self._process is not None else None
        if now == self._told or not isinstance(pipe, trio.lowlevel.FdStream):
            return
        line = " ".join(map(str, sorted(now))) + "\n"
        try:
            os.write(pipe.fileno(), line.encode())
        except OSError:
            return  # somebody has ended the shell, or it was stopped: what it is for is rare
        self._told = now


@asynccontextmanager
async def open_heir() -> AsyncIterator[Heir]:
    """An heir for as long as the context lasts; where there is no shell, one that does nothing."""
    try:
        process = await trio.lowlevel.open_process(
            ["/bin/sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        yield Heir()
        return
    heir = Heir(process)
    try:
        yield heir
    finally:
        heir.tell(())
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            if process.stdin is not None:
                await process.stdin.aclose()
            await process.wait()
