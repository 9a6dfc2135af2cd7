"""Helpers for tests of groups: a group's configuration, and what its workers make of it."""

from __future__ import annotations

from typing import Any

from worker_stage import Stage

TELL = """
import os

def main(name: str = "COLOUR") -> list:
    return [os.getpid(), os.environ.get(name)]
"""


async def until_in_force(stage: Stage, group: str, seconds: float = 40.0, least: int = 1) -> list[Any]:
    """Wait until all live workers of the group, so many at `least`, run its newest configuration; return
    them.
    """
    revision = (await stage.client.group(group)).revision

    async def in_force() -> Any:
        workers = await stage.client.group_workers(group)
        good = all(each.revision == revision and each.trouble is None for each in workers)
        return workers if good and len(workers) >= least else None

    return await stage.until(in_force, seconds)


async def until_refused(stage: Stage, group: str, words: str, seconds: float = 40.0) -> list[Any]:
    """Wait until all live workers of the group say so of its newest configuration; return them."""

    async def refused() -> Any:
        workers = await stage.client.group_workers(group)
        return workers if workers and all(words in (each.trouble or "") for each in workers) else None

    return await stage.until(refused, seconds)


async def pids_of(stage: Stage, script: str = "tell", **args: Any) -> Any:
    """What a job of `tell` answers: the process that ran it, and a variable of its environment."""
    return await stage.client.result(await stage.client.enqueue(script, args))
