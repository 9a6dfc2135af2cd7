"""`hotpath deploy --watch`: what is saved is deployed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from hotpath.scripts.locate import Located
    from hotpath.worker.watching import Seen

SHORTEST, LONGEST = 0.2, 1.0
"""Seconds between two looks; the longer a look takes, the more."""
Workspace: TypeAlias = "dict[str, tuple[Located, Seen]]"


def look_at(scripts: Sequence[Located]) -> Workspace:
    """These scripts as they are now."""
    from hotpath.worker.watching import files_of, look

    return {each.name: (each, look(files_of(each))) for each in scripts}


async def keep_deployed(
    known: Workspace,
    find: Callable[[], Sequence[Located]],
    deploy: Callable[[Sequence[Located]], Awaitable[object]],
) -> None:
    """Deploy each script again when a file of its is saved, and new ones, until cancelled; a script that
    cannot be loaded is told of once. `known`: what there was before what is deployed now was read.
    """
    import time

    import trio

    def look() -> Workspace:
        return look_at(find())

    while True:
        began = time.monotonic()
        now = await trio.to_thread.run_sync(look)
        pause = min(max(SHORTEST, 5 * (time.monotonic() - began)), LONGEST)
        if now == known:
            await trio.sleep(pause)
            continue
        while True:  # until it no longer changes: editors save in several steps
            await trio.sleep(pause)
            again = await trio.to_thread.run_sync(look)
            if again == now:
                break
            now = again
        changed = [each for name, (each, seen) in now.items() if known.get(name, (each, None))[1] != seen]
        known = now
        await deploy(changed)
