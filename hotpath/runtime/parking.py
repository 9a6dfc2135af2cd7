"""The end of `main` that is none: the job has to wait, and goes on from what was noted, here or elsewhere."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator

import trio

from hotpath.core.notes import Parking


class Parked(BaseException):
    """Raised in a `main` to leave it: the job is parked, its attempt neither ends nor fails.

    Not an `Exception`: `except Exception` in a script is about its own errors.
    """

    def __init__(self, parking: Parking) -> None:
        super().__init__("the job is parked")
        self.parking = parking


def parking_of(error: BaseException) -> Parking | None:
    """What a job waits for that ended by `error`: a `Parked`, or a group of nothing but those and
    cancellations; None for any other end.
    """
    if not isinstance(error, Parked | BaseExceptionGroup):
        return None
    found: list[Parking] = []
    for leaf in _leaves(error):
        if isinstance(leaf, Parked):
            found.append(leaf.parking)
        elif not isinstance(leaf, trio.Cancelled):
            return None
    return functools.reduce(operator.or_, found) if found else None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
