"""A job that does not end by itself: asleep, in a loop, or in C that keeps the GIL; or one that does."""

import ctypes
import pathlib
import time


def main(n: int, how: str, file: str) -> int:
    """Say that it has begun, and go on for a minute."""
    pathlib.Path(file).touch()
    if how == "quick":
        return n
    if how == "gil":
        ctypes.PyDLL(None).sleep(60)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if how == "sleep":
            time.sleep(60)
    return n
