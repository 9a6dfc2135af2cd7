"""Step the coroutine of an async job by hand, and tell what ended it."""

from __future__ import annotations

from collections.abc import Coroutine, Generator, MutableSequence
from contextvars import Context
from types import coroutine
from typing import Any

import trio


@coroutine
def resume(
    body: Coroutine[Any, Any, Any],
    context: Context,
    trap: Any,
    mark: MutableSequence[int],
    token: int,
    deadline: int,
) -> Generator[Any, Any, tuple[Any, BaseException | None]]:
    """Step a job's coroutine, which has yielded `trap` to Trio, to its end: its result, or what it raised.
    `mark` names it during each step.
    """
    while True:
        step, given = body.send, None
        if deadline:
            mark[1] = 0
        mark[0] = 0
        try:
            given = yield trap
        except GeneratorExit:  # nobody will resume this task again
            body.close()
            raise
        except BaseException as thrown:  # noqa: BLE001 - Trio throws what it cannot understand back at the job
            step, given = body.throw, thrown
        mark[0] = token
        if deadline:
            mark[1] = deadline
        try:
            trap = context.run(step, given)
        except StopIteration as stop:
            return stop.value, None
        except BaseException as error:  # noqa: BLE001 - whatever main raises ends the job
            return None, error
        finally:
            given = None


def cancels(error: BaseException) -> bool:
    """Whether a cancellation is what ended the job, alone or among what its tasks raised."""
    if isinstance(error, BaseExceptionGroup):
        return any(cancels(part) for part in error.exceptions)
    return isinstance(error, trio.Cancelled)


def hint(error: BaseException) -> str:
    """What to add to the message of an error that asyncio code meets here."""
    if isinstance(error, RuntimeError) and str(error) == "no running event loop":
        return "an async main runs on Trio: use trio's functions, or asyncio.run in a synchronous main"
    return ""
