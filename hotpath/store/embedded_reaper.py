"""Who is alive, and who stops the server when nobody needs it any more.

Run as a script by its path (`python -I -S embedded_reaper.py HOME LINGER`), detached from every terminal, it
is the *reaper*: it waits until the kernel says that no process holds a reference to the cluster in HOME,
waits LINGER seconds more, and stops the server. A kernel lock is a reference that `kill -9` cannot leave
behind. So that the reaper starts in 20 ms and stays small (10 MB), this module imports the standard library
only, and little of that.

Lock files in HOME, always taken in this order:

- `lock`: exclusive, held while anybody starts or stops the server;
- `clients`: shared, held by every process that uses the server; exclusive for an instant by the reaper when
  all are gone;
- `reaper`: exclusive, held by the one reaper for as long as it lives.

While HOME has a file `kept`, the server is stopped by nobody but who is asked to (`hotpath db stop`).
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_HAS_PROC = Path("/proc/self/stat").exists()  # Linux; elsewhere ask ps
STOP_SECONDS = 60.0  # a fast shutdown writes one checkpoint; longer than this and something is wrong
KEPT = "kept"


def kept(home: Path) -> Path:
    """The file that says that the server in `home` is to run until somebody stops it."""
    return home / KEPT


def postmaster_pid(data: Path) -> int | None:
    """The process id written in the data directory, or None; nothing says that it still lives (see
    `is_postmaster`).
    """
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie: in a container often nobody reaps zombies, and `kill(pid,
    0)` believes them.
    """
    if _HAS_PROC:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
        except (OSError, IndexError):
            return False
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False
    ).stdout.strip()
    return state[:1] not in (b"", b"Z")


def is_postmaster(pid: int, data: Path) -> bool:
    """Whether `pid` is the server of this data directory, and not an innocent process that got its number
    since.
    """
    if not is_alive(pid):
        return False
    wanted = os.fsencode(data)
    if _HAS_PROC:
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return argv[0].endswith(b"postgres") and wanted in argv
    command = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
    ).stdout.strip()
    return b"postgres" in command.split(b" ", 1)[0] and command.endswith(b" " + wanted)


def _is_ending(pid: int) -> bool:
    """Whether the process has given up its memory, its command line with it, and not yet all of its files."""
    try:
        return _HAS_PROC and is_alive(pid) and not Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def stop_postmaster(data: Path) -> bool:
    """Stop the server of `data` in order (sessions end, then a checkpoint); call with `lock` held.

    Returns whether it is down: False when it did not end within a minute.
    """
    pid = postmaster_pid(data)
    if pid is None or not is_postmaster(pid, data):
        return True
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + STOP_SECONDS
    while is_postmaster(pid, data) or _is_ending(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def reap(home: Path, linger: float) -> None:
    """Stop the server in `home` once no process has held a reference for `linger` seconds; return when it is
    down, or to be kept.
    """
    # No O_CREAT anywhere: in a home that was removed meanwhile there is nothing left to do.
    with open(home / "reaper", "rb") as alone, open(home / "clients", "rb") as clients:
        try:
            fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        while True:
            fcntl.flock(clients, fcntl.LOCK_EX)
            fcntl.flock(clients, fcntl.LOCK_UN)
            time.sleep(linger)
            with open(home / "lock", "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not os.path.samestat(os.fstat(clients.fileno()), os.stat(home / "clients")):
                    return  # the home was replaced: its new server is somebody else's
                try:
                    fcntl.flock(clients, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # somebody came back
                if not kept(home).exists():
                    stop_postmaster(home / "data")
                fcntl.flock(
                    alone, fcntl.LOCK_UN
                )  # while `lock` is held: the next starter sees that it needs a new reaper
                return


if __name__ == "__main__":
    try:
        reap(Path(sys.argv[1]), float(sys.argv[2]))
    except OSError:
        sys.exit(1)
