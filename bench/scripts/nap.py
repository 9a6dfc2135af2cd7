"""Waits 100 ms, as a call to some service would."""

import trio


async def main(n: int) -> int:
    """Sleep a tenth of a second, then give back `n`."""
    await trio.sleep(0.1)
    return n
