"""Tells when it was called."""

import time


def main(n: int) -> list[float]:
    """`n`, and seconds since the epoch as `main` was entered."""
    return [n, time.time()]
