"""Giving back the room that is left in a day of which much was taken away: what is at the end of its table
moves to where there is room, so that vacuum can cut the end off.

Taking away results, args or rows leaves holes, which nobody would ever fill: a day that is over gets no new
rows. Nobody waits for this, and it waits for nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hotpath import asyncpg_trio
from hotpath.store.prune_plan import LOOKED_AT, Part
from hotpath.store.queries import query

SPARSE = 0.5
"""A day of whose blocks less than this share is in use is worth it."""
ROOM = 1.25
"""How much more than what its rows need it may keep."""
FEW = 64
"""Blocks for which it is not worth it."""
BLOCK = 8192
"""Bytes; of a server that was built with other blocks the share is a little off."""
TOGETHER = 64
"""Blocks that one statement moves."""


async def blocks_to_keep(connection: asyncpg_trio.Connection, part: Part, kind: str, blocks: int) -> int:
    """How many blocks the rows of a day need; all that there are if it is not worth it."""
    if blocks < FEW:
        return blocks
    share = min(1.0, LOOKED_AT / blocks)
    used = await connection.fetchval(query(f"prune_density_{kind}"), *part.span, share * 100)
    needed = used / share / BLOCK
    return blocks if needed > blocks * SPARSE else min(blocks, int(needed * ROOM) + 8)


async def settle(
    connection: asyncpg_trio.Connection,
    part: Part,
    kind: str,
    blocks: int,
    may_go_on: Callable[[], Awaitable[bool]],
    bounded: Callable[[Callable[[], Awaitable[int]]], Awaitable[int | None]],
) -> bool | None:
    """Move what is at the end of a day's table, which has so many blocks and was vacuumed. True: the end is
    free, to be cut off by vacuum; False: it was not worth it; None: there was no time left.
    """
    keep = await blocks_to_keep(connection, part, kind, blocks)
    if keep == blocks:
        return False
    until = blocks
    while until > keep:
        at = max(until - TOGETHER, keep)

        async def move(at: int = at, until: int = until) -> int:
            moved: int = await connection.fetchval(query(f"prune_move_{kind}"), *part.span, at, until)
            return moved

        await bounded(move)
        until = at
        if until > keep and not await may_go_on():
            return None
    return True
