"""A process that has imported `hotpath`, and forks for each command that is asked of it: see `warm.py`.

It has one thread and no event loop, and does nothing that a forked process could be surprised by. What is
forked has its own arguments, environment, directory, descriptors and signals, and ends as Python does.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys


def preload() -> None:
    """Import what commands import."""
    from hotpath.cli.app import COMMANDS

    more = ("hotpath.worker.supervisor", "hotpath.client", "hotpath.flows.runtime", "rich.table")
    for name in (*(module for module, _ in COMMANDS.values() if "serve" not in module), *more):
        importlib.import_module(name)


def serve(control: socket.socket) -> None:
    """Fork when asked, and say how each has ended; returns in what was forked. Ends with whoever asks."""
    children: dict[int, tuple[int, int]] = {}  # by pidfd, the process and the pipe for its end
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != control.fileno():
                pid, status = children.pop(ready)
                poll.unregister(ready)
                os.close(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                try:
                    os.write(status, b"%d\n" % code)
                except BrokenPipeError:
                    pass
                os.close(status)
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 4)
            if not message:
                for pid, _ in children.values():
                    os.kill(pid, signal.SIGKILL)
                os._exit(0)
            *standard, status = descriptors
            pid = os.fork()
            if not pid:
                control.close()
                for inherited, (_, other) in children.items():
                    os.close(inherited)
                    os.close(other)
                os.close(status)
                become(json.loads(message), standard)
                return
            os.write(status, b"%d\n" % pid)
            for descriptor in standard:
                os.close(descriptor)
            pidfd = os.pidfd_open(pid)
            children[pidfd] = pid, status
            poll.register(pidfd, select.POLLIN)


def become(request: dict, standard: list[int]) -> None:
    """Be a process that was just started for this."""
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    for descriptor in standard:
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    encoding, errors = encoding or "utf-8", errors or "strict"
    sys.stdin = io.TextIOWrapper(
        io.BufferedReader(io.FileIO(0, closefd=False)), encoding=encoding, errors=errors
    )
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding=encoding, errors=errors
    )
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
    sys.argv = ["hotpath", *request["arguments"]]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which ends this one
    preload()
    gc.collect()
    gc.freeze()  # what is there stays there, unvisited: its pages remain shared
    with socket.socket(fileno=int(sys.argv[1])) as given:
        given.sendall(b"ready")
        serve(given)
    from hotpath.cli import main

    main()
