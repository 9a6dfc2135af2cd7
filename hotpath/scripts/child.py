"""The short-lived process that imports a script in order to describe it; see `hotpath.scripts.describe`.

Run as `python -P child.py DESCRIPTOR NAME FILE WORKSPACE SECONDS`. Writes one JSON document to the
descriptor, whatever the script prints, and ends without waiting for threads that the script has left behind.
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
from hotpath.scripts.load import load
from hotpath.scripts.settings import settings_of
from hotpath.scripts.signature import is_async, read_signature


def describe_here(name: str, file: Path, workspace: Path) -> dict[str, Any]:
    """Import the script into this process and say what it is, or what is wrong with it."""
    try:
        loaded = load(name, file, workspace)
        try:
            signature = read_signature(loaded.main)
        except ScriptError as error:
            raise ScriptError(f"{name}: {error}") from None
        summary = inspect.getdoc(loaded.main) or inspect.getdoc(loaded.module) or ""
        return {
            "is_async": is_async(loaded.main),
            "schema": args_schema(signature),
            "settings": settings_of(loaded.module),
            "summary": summary.strip().partition("\n")[0][:500],
        }
    except ScriptImportError as error:
        return {"error": str(error), "traceback": error.traceback}
    except ScriptError as error:
        return {"error": str(error)}


def _run(descriptor: int, name: str, file: str, workspace: str, seconds: int) -> None:
    os.set_inheritable(descriptor, False)
    signal.alarm(seconds)  # should whoever started this process be gone by then
    answer = msgspec.json.encode(describe_here(name, Path(file), Path(workspace)))
    with open(descriptor, "wb") as document:
        document.write(answer)
    os._exit(0)


if __name__ == "__main__":
    _run(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
