"""Leaves a line before it does anything else."""

import os

import trio


async def main(x: int, step: int, n: int, file: str, seconds: float) -> int:
    """Three times `x`, and the number of the step."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{n} {step} {os.getpid()}\n".encode())
    os.close(descriptor)
    await trio.sleep(seconds)
    return 3 * x + step
