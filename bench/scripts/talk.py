"""A job that says what time it is, again and again."""

import time

import trio


async def main(n: int, lines: int = 0, pause: float = 0.1) -> int:
    """Print the time `lines` times, `pause` seconds apart; give back `n`."""
    for _ in range(lines):
        print(time.time())
        await trio.sleep(pause)
    return n
