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
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgspec
import trio

from hotpath.core.inline import read_inline
from hotpath.core.limit_settings import check_fields
from hotpath.errors import ScriptError, ScriptImportError
from hotpath.model import Description, Settings
from hotpath.scripts import child
from hotpath.scripts.environment import python_of
from hotpath.scripts.load import SECRETS
from hotpath.scripts.locate import Located
from hotpath.scripts.priority import LOW_FOR, lower, restore
from hotpath.scripts.settings import merge, read_settings_file
from hotpath.scripts.source import StepSource, check_size, hash_of, read_if_there

IMPORT_SECONDS = 60
"""How long a script's module may take to import."""
MORE_SECONDS = 5
"""How much longer each further one may take that is imported in the same process."""
environment: ContextVar[Mapping[str, str] | None] = ContextVar("environment", default=None)
"""What scripts that are described in this context find in their environment; None: what is in our own."""

gently: ContextVar[bool] = ContextVar("gently", default=False)
"""Whether, in this context, scripts are described at low priority: workers that run beside go first."""


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
    try:
        python = await python_of(
            [s for s, text in zip(scripts, texts, strict=True) if isinstance(text, tuple)]
        )
    except ScriptError as error:
        return [text if isinstance(text, ScriptError) else error for text in texts]
    found: list[Description | ScriptError] = []
    while len(found) < len(scripts):
        text = texts[len(found)]
        if isinstance(text, ScriptError):
            found.append(text)
            continue
        begin = len(found)
        answers, failure = await _ask(scripts[begin:], python or sys.executable)
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
    try:
        if overrides and script.settings_file is not None:
            settings = merge(settings, read_settings_file(script.settings_file), script.settings_file.name)
        check_fields(settings, answer.schema, script.name)
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
        inline=script.inline,
        files=script.files(source, overrides),
    )


def _read(script: StepSource) -> tuple[bytes, bytes] | ScriptError:
    try:
        source, settings = script.read(), read_if_there(script.settings_file)
        check_size(script.name, len(source) + len(settings))
        read_inline(source, script.name)
    except ScriptError as error:
        return error
    return source, settings


async def _ask(scripts: Sequence[StepSource], python: str) -> tuple[list[bytes], str]:
    """One child's answers, in order, as far as it got; and why it got no further."""
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answers:
        asked.write(msgspec.json.encode(list(scripts), enc_hook=str))  # a path is its text
        asked.seek(0)
        seconds = IMPORT_SECONDS + MORE_SECONDS * (len(scripts) - 1)
        status = await _import_in_child(python, asked, answers, seconds)
        answers.seek(0)
        lines = answers.read().split(b"\n")[:-1]  # what no line end follows is incomplete
    if status is None:
        return lines, f"its module still ran after {seconds} s"
    return lines, f"{_death(status)} while its module ran"


async def _import_in_child(python: str, asked: IO[bytes], answers: IO[bytes], seconds: int) -> int | None:
    """Run the child to its end, in a process group of its own that is killed with it. Returns its exit
    status; None if it took too long.
    """
    descriptors = asked.fileno(), answers.fileno()
    command = [
        python,
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

    begin = partial(
        trio.run_process,
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in _environment().items() if name not in SECRETS},
        pass_fds=descriptors,
        start_new_session=True,
        check=False,
        deliver_cancel=kill,
    )
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(begin)
            if gently.get():
                await _go_last(process)
        return process.returncode
    return None


async def _go_last(process: trio.Process) -> None:
    """Let others go first for a while; it leads a session."""
    lower(process)
    with trio.move_on_after(LOW_FOR):
        await process.wait()
    await restore(process)


def _environment() -> Mapping[str, str]:
    given = environment.get()
    return os.environ if given is None else given


def _death(status: int) -> str:
    if status < 0:
        try:
            return f"its process was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"its process was killed by signal {-status}"
    return f"its process ended with exit status {status}"
