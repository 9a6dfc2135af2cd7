"""The heir: a shell that outlives the supervisor by a moment and ends what it leaves behind.

A worker notices its supervisor's death by the end of a pipe and goes too. One whose job holds the GIL notices
nothing, perhaps for ever. The kernel's signal at the parent's death is no help: it comes at the end of the
*thread* that started the child, at once, and leaves no moment to flush. So one tiny process per supervisor
waits at a pipe for its end, lets the workers have their moment, and kills what is still there: each worker's
process group, after a look whether it is still the same process, where the system tells when it began.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import attrs
import trio

MOMENT = 4.0
"""Seconds that workers get to end by themselves; more than `ORPHANED_GRACE` and `ORPHANED_RELEASE`."""
_SCRIPT = r"""
trap '' TERM INT HUP  # who stops a whole service means the supervisor
moment=$1 warns=$2 last=
while read -r line; do last=$line; done
[ -n "$last" ] || exit 0
is_there() {
    [ -n "$2" ] || return 0
    stat=$(cat "/proc/$1/stat") || return 1
    began=$2
    set -- ${stat##*)}  # the name in front may hold anything
    [ "${20}" = "$began" ]
}
if [ -n "$warns" ]; then
    for one in $last; do is_there "${one%:*}" "${one#*:}" && kill -TERM "${one%:*}"; done
fi
sleep "$moment"
for one in $last; do
    is_there "${one%:*}" "${one#*:}" || continue
    kill -9 "-${one%:*}" || kill -9 "${one%:*}"
done
"""
"""A line says all workers: `PID:START` each, without START where the system does not say when one began."""


def began_at(pid: int) -> str | None:
    """When a process began, in the kernel's words; empty where it has none, None if there is no process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return None if os.path.exists("/proc/self/stat") else ""


@attrs.define(eq=False)
class Heir:
    """The shell, as its supervisor knows it."""

    _process: trio.Process | None = None
    _told: dict[int, str] = attrs.field(factory=dict)
    """When each of the processes began."""

    def tell(self, pids: Iterable[int]) -> None:
        """These processes, each the leader of its group, and no others, are to end with the supervisor."""
        wanted = set(pids)
        pipe = self._process.stdin if self._process is not None else None
        if wanted == self._told.keys() or not isinstance(pipe, trio.lowlevel.FdStream):
            return
        now = {}
        for pid in sorted(wanted):
            began = self._told[pid] if pid in self._told else began_at(pid)
            if began is not None:
                now[pid] = began
        line = " ".join(f"{pid}:{began}" for pid, began in now.items()) + "\n"
        try:
            os.write(pipe.fileno(), line.encode())
        except OSError:
            return  # somebody has ended the shell, or it was stopped: what it is for is rare
        self._told = now


@asynccontextmanager
async def open_heir(moment: float = MOMENT, *, warns: bool = False) -> AsyncIterator[Heir]:
    """An heir for as long as the context lasts; where there is no shell, one that does nothing. `warns`: it
    begins with SIGTERM, for processes that do not notice by themselves.
    """
    try:
        process = await trio.lowlevel.open_process(
            ["/bin/sh", "-c", _SCRIPT, "hotpath-heir", f"{moment:g}", "yes" if warns else ""],
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
