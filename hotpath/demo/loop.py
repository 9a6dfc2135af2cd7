"""The for-loop that the demo compares with: `python -m hotpath.demo.loop SCRIPT < PATHS > OUTCOMES`.

A process of its own, as the worker is one: it imports the script, calls `main` once per path, and keeps what
came of each. PATHS is a JSON array; OUTCOMES is `{"seconds": ..., "outcomes": [[result, error], ...]}`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any


def load_main(script: Path) -> Callable[..., Any]:
    """Import the script's module and return its `main`."""
    spec = importlib.util.spec_from_file_location(script.stem, script)
    if spec is None or spec.loader is None:
        raise ImportError(f"not a Python module: {script}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module
    spec.loader.exec_module(module)
    main: Callable[..., Any] = module.main
    return main


def run_loop(main: Callable[..., Any], paths: list[str]) -> tuple[float, list[tuple[Any, Any]]]:
    """Seconds that the loop took, and a result or an error (`{"name", "message"}`) for each path."""
    outcomes: list[tuple[Any, Any]] = []
    began = time.perf_counter()
    for path in paths:
        try:
            outcomes.append((main(path=path), None))
        except Exception as error:  # noqa: BLE001 - whatever `main` raises is its outcome
            outcomes.append((None, {"name": type(error).__name__, "message": str(error)}))
    return time.perf_counter() - began, outcomes


if __name__ == "__main__":
    warnings.simplefilter(
        "ignore"
    )  # a worker keeps them in the job's log; here they would go to the terminal
    seconds, outcomes = run_loop(load_main(Path(sys.argv[1])), json.load(sys.stdin))
    json.dump({"seconds": seconds, "outcomes": outcomes}, sys.stdout)
