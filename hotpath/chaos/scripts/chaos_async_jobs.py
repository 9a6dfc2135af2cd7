"""Async jobs of every temper, many at a time in one process."""

import os
import time

import trio

import hotpath

hotpath.settings(retry=hotpath.Retry(attempts=3, delay=0.1), concurrency=50)


async def main(n: int, do: str = "quick") -> list[int]:
    """Do it; the result tells which job it was, and in which process and when it ran."""
    attempt = hotpath.current_job().attempt
    match do:
        case "slow":
            await trio.sleep(0.05)
        case "long":
            await trio.sleep(0.5)
        case "print":
            print("job", n, "speaks,", "attempt", attempt)  # noqa: T201 - that is how a job logs
            await trio.lowlevel.checkpoint()
        case "hold":
            sum(range(1_500_000))
        case "fail":
            raise ValueError(f"job {n} always fails")
        case "discard":
            raise hotpath.Discard(f"job {n} gives up at once")
        case "retry" if attempt < 3:
            raise ValueError(f"job {n} fails the first two times")
        case "later" if attempt < 2:
            raise hotpath.RetryLater(0.3)
        case "overrun":
            await trio.sleep(600)
        case "poison":
            os._exit(n % 2)
        case _:
            if n % 8 == 0:
                await trio.lowlevel.checkpoint()
    return [n, os.getpid(), time.perf_counter_ns()]
