"""What a script is (its schema, its settings), read without importing it into this process.

User code runs in a short-lived child process, which cannot see the database's address, and tells us what it
found through a file of its own; what the script prints while it is imported is dropped.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
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

IMPORT_SECONDS = 60
"""How long a script's module may take to import."""


class _Answer(msgspec.Struct):
    """What the child found."""

    error: str | None = None
    traceback: str = ""
    is_async: bool = False
    schema: dict[str, Any] = {}
    settings: Settings = Settings()
    summary: str = ""


async def describe(located: Located) -> Description:
    """Import the script in a child process and say what it is.

    Raises `ScriptImportError` if its module raises, with the author's own traceback; `ScriptError` if it has
    no `main`, one that cannot be called from JSON, wrong settings, or if importing it hangs or ends the
    process. If cancelled, the child is killed.
    """
    source, overrides = await trio.to_thread.run_sync(_read, located)
    with tempfile.TemporaryFile() as document:
        status = await _import_in_child(located, document)
        document.seek(0)
        raw = document.read()
    if not raw:
        raise ScriptError(f"{located.name} cannot be imported: {_death(status)} while its module ran")
    answer = msgspec.json.decode(raw, type=_Answer)
    if answer.error is not None:
        if answer.traceback:
            raise ScriptImportError(answer.error, name=located.name, traceback=answer.traceback)
        raise ScriptError(answer.error)
    settings = answer.settings
    if overrides:
        settings = merge(settings, read_settings_file(located.settings_file), located.settings_file.name)
    return Description(
        path=located.name,
        hash=hash_of(source, overrides),
        is_async=answer.is_async,
        schema=answer.schema,
        settings=settings,
        summary=answer.summary,
    )


def hash_of(source: bytes, settings_file: bytes) -> str:
    """Hex SHA-256 that names one version of a script: of its source and of its settings file."""
    digest = hashlib.sha256(len(source).to_bytes(8, "big"))
    digest.update(source)
    digest.update(settings_file)
    return digest.hexdigest()


def _read(located: Located) -> tuple[bytes, bytes]:
    try:
        source = located.file.read_bytes()
    except OSError as error:
        raise ScriptError(f"{located.name} cannot be read: {error.strerror} ({located.file})") from None
    try:
        return source, located.settings_file.read_bytes()
    except OSError:
        return source, b""


async def _import_in_child(located: Located, document: IO[bytes]) -> int:
    """Run the child to its end, in a process group of its own that is killed with it. Returns its exit
    status.
    """
    descriptor = document.fileno()
    command = [
        sys.executable,
        "-P",  # the current directory stays off the module path
        str(Path(child.__file__)),
        str(descriptor),
        located.name,
        str(located.file),
        str(located.workspace),
        str(IMPORT_SECONDS + 10),
    ]

    async def kill(process: trio.Process) -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    with trio.move_on_after(IMPORT_SECONDS):
        done = await trio.run_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name not in SECRETS},
            pass_fds=(descriptor,),
            start_new_session=True,
            check=False,
            deliver_cancel=kill,
        )
        return done.returncode
    raise ScriptError(f"{located.name} cannot be imported: its module still ran after {IMPORT_SECONDS} s")


def _death(status: int) -> str:
    if status < 0:
        try:
            return f"its process was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"its process was killed by signal {-status}"
    return f"its process ended with exit status {status}"
