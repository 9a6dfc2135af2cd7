"""Sync jobs of every temper: quick, slow, talkative, failing, holding the GIL, deadly."""

import ctypes
import os
import signal
import time

import hotpath

hotpath.settings(retry=hotpath.Retry(attempts=3, delay=0.1))


def main(n: int, do: str = "quick") -> list[int]:
    """Do it; the result tells which job it was, and in which process and when it ran."""
    attempt = hotpath.current_job().attempt
    match do:
        case "slow":
            time.sleep(0.02)
        case "long":
            time.sleep(0.3)
        case "print":
            print("job", n, "speaks,", "attempt", attempt)  # noqa: T201 - that is how a job logs
        case "hold":
            sum(range(1_500_000))  # one call in C: nothing else of the process runs meanwhile
        case "fail":
            raise ValueError(f"job {n} always fails")
        case "discard":
            raise hotpath.Discard(f"job {n} gives up at once")
        case "retry" if attempt < 3:
            raise ValueError(f"job {n} fails the first two times")
        case "later" if attempt < 2:
            raise hotpath.RetryLater(0.3)
        case "overrun":
            time.sleep(600)
        case "poison":
            _die(n % 4)
    return [n, os.getpid(), time.perf_counter_ns()]


def _die(how: int) -> None:
    if how == 0:
        ctypes.string_at(0)  # a segmentation fault
    if how == 1:
        os._exit(0)
    if how == 2:
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)
