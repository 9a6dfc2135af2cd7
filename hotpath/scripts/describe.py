"""What scripts and flows are (their schema, their settings), read without importing them into this process.

User code runs in a short-lived child process, which cannot see the database's address, and tells us what it
found through a file of its own; what the script prints while it is imported is dropped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import trio

from hotpath.errors import ScriptError, ScriptImportError
from hotpath.model import Description, Settings
from hotpath.scripts import child
from hotpath.scripts.load import SECRETS
from hotpath.scripts.locate import Located
from hotpath.scripts.settings import merge, read_settings_file
from hotpath.scripts.source import StepSource, hash_of, read_if_there

IMPORT_SECONDS = 60
"""How long a script's module may take to import."""
MORE_SECONDS = 5
"""How much longer each further one may take that is imported in the same process."""


class _Answer(msgspec.Struct):
    """What the child found."""

    error: str | None = None
    traceback: str = ""
    is_async: bool = False
    schema: dict[str, Any] = {}
    settings: Settings = Settings()
    summary: str = ""
    has_steps: bool = False


_decode_answer = msgspec.json.Decoder(_Answer).decode


async def describe(located: Located) -> Description:
    """Import the script in a child process and say what it is; of a flow, all its scripts.

    Raises `ScriptImportError` if its module raises, with the author's own traceback; `ScriptError` if it has
    no `main`, one that cannot be called from JSON, wrong settings, or if importing it hangs or ends the
    process; `FlowFaultsError`, with all that is wrong, for a flow that cannot be run. If cancelled, the child
    is killed.
    """
    if located.is_flow:
        from hotpath.scripts.flow_check import describe_flow  # here: who has no flows need not load it

        return (await describe_flow(located)).description
    found = (await describe_many([StepSource(located.name, located.file, None, located.workspace)]))[0]
    if isinstance(found, ScriptError):
        raise found
    return found


async def describe_many(scripts: Sequence[StepSource]) -> list[Description | ScriptError]:
    """Describe several scripts in one child process, and what is wrong with those that cannot be, in order.

    A script that hangs or ends the process is left out of the next one, which goes on behind it.
    """
    texts = await trio.to_thread.run_sync(lambda: [_read(script) for script in scripts])
    found: list[Description | ScriptError] = []
    while len(found) < len(scripts):
        text = texts[len(found)]
        if isinstance(text, ScriptError):
            found.append(text)
            continue
        begin = len(found)
        answers, failure = await _ask(scripts[begin:])
        for script, text, raw in zip(scripts[begin:], texts[begin:], answers, strict=False):
            found.append(text if isinstance(text, ScriptError) else _description(script, text, raw))
        if len(found) < len(scripts):
            name = scripts[len(found)].name
            found.append(ScriptError(f"{name} cannot be imported: {failure}"))
    return found


def _description(script: StepSource, text: tuple[bytes, bytes], raw: bytes) -> Description | ScriptError:
    """What the child's answer and the files beside the script make of it."""
    source, overrides = text
    answer = _decode_answer(raw)
    if answer.error is not None:
        if answer.traceback:
            return ScriptImportError(answer.error, name=script.name, traceback=answer.traceback)
        return ScriptError(answer.error)
    settings = answer.settings
    if overrides and script.settings_file is not None:
        try:
            settings = merge(settings, read_settings_file(script.settings_file), script.settings_file.name)
        except ScriptError as error:
            return error
    is_flow = answer.has_steps if settings.flow is None else settings.flow
    return Description(
        path=script.name,
        hash=hash_of(source, overrides),
        is_async=answer.is_async,
        schema=answer.schema,
        settings=settings,
        summary=answer.summary,
        kind="flow" if is_flow else "script",
    )


def _read(script: StepSource) -> tuple[bytes, bytes] | ScriptError:
    try:
        return script.read(), read_if_there(script.settings_file)
    except ScriptError as error:
        return error


async def _ask(scripts: Sequence[StepSource]) -> tuple[list[bytes], str]:
    """One child's answers, in order, as far as it got; and why it got no further."""
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answers:
        asked.write(msgspec.json.encode(list(scripts), enc_hook=str))  # a path is its text
        asked.seek(0)
        seconds = IMPORT_SECONDS + MORE_SECONDS * (len(scripts) - 1)
        status = await _import_in_child(asked, answers, seconds)
        answers.seek(0)
        lines = answers.read().split(b"\n")[:-1]  # what no line end follows is incomplete
    if status is None:
        return lines, f"its module still ran after {seconds} s"
    return lines, f"{_death(status)} while its module ran"


async def _import_in_child(asked: IO[bytes], answers: IO[bytes], seconds: int) -> int | None:
    """Run the child to its end, in a process group of its own that is killed with it. Returns its exit
    status; None if it took too long.
    """
    descriptors = asked.fileno(), answers.fileno()
    command = [
        sys.executable,
        "-P",  # the current directory stays off the module path
        str(Path(child.__file__)),
        *map(str, descriptors),
        str(seconds + 10),
    ]

    async def kill(process: trio.Process) -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    with trio.move_on_after(seconds):
        done = await trio.run_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name not in SECRETS},
            pass_fds=descriptors,
            start_new_session=True,
            check=False,
            deliver_cancel=kill,
        )
        return done.returncode
    return None


def _death(status: int) -> str:
    if status < 0:
        try:
            return f"its process was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"its process was killed by signal {-status}"
    return f"its process ended with exit status {status}"
