"""The worker of the demo: the command, run as a user would."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from hotpath.errors import HotpathError


def command_of(script: str) -> tuple[str, ...]:
    """The command that drains a script's jobs, as a user types it."""
    return ("hotpath", "dedicate", script, "--drain")


async def drain(
    script: str, workspace: Path, say: Callable[[str], None], database_url: str | None = None
) -> None:
    """Run it in the workspace, and tell what it printed. Raises HotpathError if it does not exit with 0."""
    environment = {name: value for name, value in os.environ.items() if name != "HOTPATH_WORKSPACE"}
    if database_url:
        environment["HOTPATH_DATABASE_URL"] = database_url  # not in the arguments: they show in `ps`
    given = command_of(script)
    visible = sys.stderr.isatty()  # there it shows a progress bar
    done = await trio.run_process(
        [sys.executable, "-m", *given],
        cwd=workspace,
        env=environment,
        capture_stdout=True,
        capture_stderr=not visible,
        check=False,
    )
    for line in (done.stdout + (done.stderr or b"")).decode(errors="replace").splitlines():
        say(f"  {line}")
    if done.returncode:
        raise HotpathError(f"`{' '.join(given)}` ended with exit code {done.returncode}: see above for why")
