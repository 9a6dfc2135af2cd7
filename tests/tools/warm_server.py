"""A process that has imported `hotpath`, and forks for each command that is asked of it: see `warm.py`.

It has one thread and no event loop, and does nothing that a forked process could be surprised by. What is
forked has its own arguments, environment, directory, descriptors and signals, and ends as Python does.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable

import nest


def preload() -> None:
    """Import what commands import."""
    from hotpath.cli.app import COMMANDS

    more = (
        *("hotpath.worker.supervisor", "hotpath.worker.process", "hotpath.scripts.child"),
        *("hotpath.client", "hotpath.flows.runtime", "hotpath.runtime.sync", "hotpath.runtime.trio_runtime"),
        *("hotpath.flows.code", "hotpath.web.serve", "hotpath.chaos.run", "rich.table"),
    )
    for name in (*(module for module, _ in COMMANDS.values()), *more):
        importlib.import_module(name)


def serve(control: socket.socket) -> Callable[[], object]:
    """Fork when asked, and say how each has ended; returns, in what was forked, what it is to run. Ends with
    whoever asks.
    """
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
            message, descriptors, _, _ = socket.recv_fds(control, 1 << 20, nest.MOST)
            if not message:
                for pid, _ in children.values():
                    os.kill(pid, signal.SIGKILL)
                os._exit(0)
            request = json.loads(message)
            if "descriptors" in request:
                if run := nest.answer(control, request, descriptors):
                    control.detach()  # its number may be another's by now
                    return run
                continue
            *standard, status = descriptors
            pid = os.fork()
            if not pid:
                control.detach()
                nest.place(standard, range(3))
                return functools.partial(become, request)
            os.write(status, b"%d\n" % pid)
            for descriptor in standard:
                os.close(descriptor)
            pidfd = os.pidfd_open(pid)
            children[pidfd] = pid, status
            poll.register(pidfd, select.POLLIN)


def become(request: dict) -> None:
    """Be a process that was just started for this."""
    nest.open_nest().install()
    nest.settle(request)
    nest.command(request["arguments"])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which ends this one
    preload()
    gc.collect()
    gc.freeze()  # what is there stays there, unvisited: its pages remain shared
    with socket.socket(fileno=int(sys.argv[1])) as given:
        given.sendall(b"ready")
        run = serve(given)
    nest.end_after(run)
