"""An async job that does not end by itself."""

import trio


async def main(n: int, file: str) -> int:
    """Say that it has begun, and go on for a minute."""
    await trio.Path(file).touch()
    await trio.sleep(60)
    return n
