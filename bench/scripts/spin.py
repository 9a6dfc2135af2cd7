"""Keeps the CPU busy for a number of turns: the same work for a worker and for a for-loop."""


def main(n: int, turns: int) -> int:
    """Count to `turns`, then give back `n`."""
    for _ in range(turns):
        pass
    return n
