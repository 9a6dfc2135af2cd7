"""The short-lived process that imports scripts in order to describe them; see `hotpath.scripts.describe`.

Run as `python -P child.py ASKED ANSWERS SECONDS`. Reads from one descriptor which scripts, as JSON, and
writes one line of JSON for each to the other, whatever the scripts print; ends without waiting for threads
that they have left behind.
"""

from __future__ import annotations

import os
import signal
import sys

if (
    __name__ == "__main__"
):  # the package may be a checkout that is not installed; last, so that it hides nothing
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import inspect
from pathlib import Path
from typing import Any

import msgspec

from hotpath.errors import ScriptError, ScriptImportError
from hotpath.scripts.args_schema import args_schema
from hotpath.scripts.code_flow import is_code_flow
from hotpath.scripts.load_step import load_step
from hotpath.scripts.settings import settings_of
from hotpath.scripts.signature import is_async, read_signature
from hotpath.scripts.source import StepSource


def describe_here(script: StepSource) -> dict[str, Any]:
    """Import the script into this process and say what it is, or what is wrong with it."""
    try:
        loaded = load_step(script)
        try:
            signature = read_signature(loaded.main)
        except ScriptError as error:
            raise ScriptError(f"{script.name}: {error}") from None
        summary = inspect.getdoc(loaded.main) or inspect.getdoc(loaded.module) or ""
        return {
            "is_async": is_async(loaded.main),
            "schema": args_schema(signature),
            "settings": settings_of(loaded.module),
            "summary": summary.strip().partition("\n")[0][:500],
            "has_steps": is_code_flow(script.read()),
        }
    except ScriptImportError as error:
        return {"error": str(error), "traceback": error.traceback}
    except ScriptError as error:
        return {"error": str(error)}


def _to_path(kind: type[Path], value: str) -> Path:
    return kind(value)


def _run(asked: int, answers: int, seconds: int) -> None:
    signal.alarm(seconds)  # should whoever started this process be gone by then
    with open(asked, "rb") as document:
        scripts = msgspec.json.decode(document.read(), type=list[StepSource], dec_hook=_to_path)
    os.set_inheritable(answers, False)
    with open(answers, "wb") as document:
        for script in scripts:
            answer = describe_here(script)
            document.write(msgspec.json.encode(answer) + b"\n")
            document.flush()  # the next one may be the end of this process
    os._exit(0)


if __name__ == "__main__":
    _run(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
