"""Does nothing."""


def main(n: int) -> int:
    """Give back `n`."""
    return n
