"""Scripts of a group: the one that runs before any worker, and those that run again and again beside them.

Each run is a process group of its own, has an end, and is a job with what it printed (`worker/aside.py`).
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import attrs
import trio

from hotpath.core.groups import INIT_TIMEOUT, PYTHON, Periodic, ScriptText
from hotpath.core.secrets import MaskedStream, Masker
from hotpath.scripts.load import SECRETS
from hotpath.store.records import Run
from hotpath.worker.aside import Aside
from hotpath.worker.heir import open_heir

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

log = logging.getLogger("hotpath.worker")

DRAIN = 0.2
"""Seconds that output is still read when the script has ended and what it started holds the pipe."""

RunScript: TypeAlias = "Callable[[str, ScriptText, float], Awaitable[Run]]"
"""Runs a script under a name, for so many seconds at most, and records it."""


@attrs.frozen(kw_only=True)
class Place:
    """Where and with what scripts of a group run."""

    workspace: Path
    environment: Mapping[str, str] | None
    """None: that of the supervisor."""
    masker: Masker


async def run_script(script: ScriptText, limit: float, place: Place, aside: Aside) -> tuple[Run, UUID | None]:
    """Run it to its end, or for so many seconds, and record it; if cancelled, it is killed. Returns what
    became of it, and the id of its job; None: it could not be recorded.
    """
    told = MaskedStream(place.masker)

    async def work() -> tuple[str, str] | None:
        try:
            return await _run(script, limit, place, aside, told)
        except OSError as failed:  # no room for its file, no descriptor left, no such interpreter
            return "exception", f"it cannot be run: {failed}"
        finally:
            aside.log.write(told.rest())

    return await aside.run(work)


async def _run(
    script: ScriptText, limit: float, place: Place, aside: Aside, told: MaskedStream
) -> tuple[str, str] | None:
    """Its error, if it has one: kind and words."""

    def write(text: str) -> None:
        aside.log.write(told.feed(text))

    with tempfile.TemporaryDirectory(prefix="hotpath-") as directory:
        file = Path(directory) / ("script.py" if script.language == PYTHON else "script.sh")
        file.write_text(script.text, "utf-8")
        process = await trio.lowlevel.open_process(
            [*_interpreter(script), str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(place),
            cwd=place.workspace,
            start_new_session=True,
        )
        try:
            aside.limit.deadline = trio.current_time() + limit
            with aside.limit as scope:
                await _follow(process, write)
        finally:
            if process.returncode is None:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await process.wait()
        if scope.cancelled_caught and aside.is_canceled:
            return "canceled", "it was canceled"
        if scope.cancelled_caught:
            return "timeout", f"it still ran after {limit:g} s and was killed"
        return ("exception", _ending(process.returncode)) if process.returncode else None


def _interpreter(script: ScriptText) -> list[str]:
    if script.language == PYTHON:
        return [sys.executable, "-u"]
    first = script.text.split("\n", 1)[0]
    with contextlib.suppress(ValueError):
        if first.startswith("#!") and (words := shlex.split(first[2:])):
            return words
    return ["/bin/sh"]


def _environment(place: Place) -> dict[str, str]:
    given = os.environ if place.environment is None else place.environment
    environment = {key: value for key, value in given.items() if key not in SECRETS}
    before = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([str(place.workspace), *([before] if before else [])])
    return environment


async def _follow(process: trio.Process, write: Callable[[str], object]) -> None:
    """Read what it prints until it has ended. What it leaves behind may hold the pipe: nobody waits for
    that.
    """
    stream = process.stdout
    assert stream is not None, "it is a pipe"
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    async def read() -> None:
        async for data in stream:
            write(decoder.decode(data))

    # It ends with the supervisor, however that ends.
    async with open_heir() as heir, stream, trio.open_nursery() as nursery:
        heir.tell([process.pid])
        nursery.start_soon(read)
        await process.wait()
        nursery.cancel_scope.deadline = trio.current_time() + DRAIN
    write(decoder.decode(b"", final=True))


def _ending(code: int) -> str:
    if code > 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"


@attrs.define(eq=False)
class Periodics:
    """The periodic scripts of a group that run here."""

    name: str
    """That of each begins with it."""
    run_one: RunScript
    _running: dict[str, tuple[Periodic, trio.CancelScope]] = attrs.field(factory=dict)
    _nursery: trio.Nursery | None = None

    async def run(self, first: Sequence[Periodic]) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self.have(first)
            await trio.sleep_forever()

    def have(self, wanted: Sequence[Periodic]) -> None:
        """Run these, and no others; one that is the same as before keeps its rhythm."""
        by_name = {each.name: each for each in wanted}
        for name, (periodic, scope) in list(self._running.items()):
            if by_name.get(name) != periodic:
                scope.cancel(reason="it is configured otherwise")
                del self._running[name]
        for name, periodic in by_name.items():
            if name not in self._running:
                assert self._nursery is not None, "it runs"
                scope = trio.CancelScope()
                self._running[name] = (periodic, scope)
                self._nursery.start_soon(self._keep, periodic, scope)

    async def _keep(self, periodic: Periodic, scope: trio.CancelScope) -> None:
        with scope:
            await keep_running(periodic, f"{self.name}/{periodic.name}", self.run_one)


async def keep_running(periodic: Periodic, name: str, run_one: RunScript) -> None:
    """Run a periodic script again and again, never beside itself, until cancelled."""
    due = trio.current_time()
    while True:
        await trio.sleep_until(due)
        due = trio.current_time() + periodic.every
        limit = INIT_TIMEOUT if periodic.timeout is None else periodic.timeout
        run = await run_one(name, periodic.script, limit)
        if run.error is not None:
            log.warning("%s failed: %s", name, run.error[1])
