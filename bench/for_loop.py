"""The bare for-loop over a script's `main`, as a process that answers as often as it is asked.

`python -m bench.for_loop FILE`: for each line `COUNT ARGS` on stdin (ARGS a JSON object; `n` is added to
it) it calls `main` COUNT times and prints the seconds that took.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio


def load_main(file: str) -> Callable[..., Any]:
    """Import the module in `file` and return its `main`."""
    spec = importlib.util.spec_from_file_location("script", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[..., Any] = module.main
    return main


def loop(main: Callable[..., Any], count: int, args: dict[str, Any]) -> float:
    """Seconds for `count` calls; what they return is kept, as a job's result is."""
    results = []
    began = time.perf_counter()
    for n in range(count):
        results.append(main(n=n, **args))  # noqa: PERF401 - a for-loop is what is measured
    return time.perf_counter() - began


async def loop_async(main: Callable[..., Awaitable[Any]], count: int, args: dict[str, Any]) -> float:
    """The same for an async `main`, one after the other."""
    results = []
    began = time.perf_counter()
    for n in range(count):
        results.append(await main(n=n, **args))  # noqa: PERF401 - a for-loop is what is measured
    return time.perf_counter() - began


if __name__ == "__main__":
    main = load_main(sys.argv[1])
    for line in sys.stdin:
        count, _, text = line.partition(" ")
        args = json.loads(text or "{}")
        if inspect.iscoroutinefunction(main):
            seconds = trio.run(loop_async, main, int(count), args)
        else:
            seconds = loop(main, int(count), args)
        print(seconds, flush=True)
