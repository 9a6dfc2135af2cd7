"""Does nothing, as an async script."""


async def main(n: int) -> int:
    """Give back `n`."""
    return n
