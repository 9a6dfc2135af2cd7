"""The tools of the tests: a command that was forked is as a process is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import trio
from trio.testing import wait_all_tasks_blocked
from warm import open_warm


async def test_its_end_is_heard_though_another_task_has_looked(tmp_path: Path):
    """Who waits for a command is woken by its end, also when somebody else was the first to see that."""
    process = open_warm(["--version"], os.environ, tmp_path)
    async with process.stdout, process.stderr:
        with trio.fail_after(40):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.wait)
                await wait_all_tasks_blocked()
                while process.returncode is None:
                    time.sleep(0.01)  # noqa: ASYNC251 - Trio is not to see it first
    assert process.returncode == 0
