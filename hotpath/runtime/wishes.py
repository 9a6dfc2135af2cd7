"""What a call of a flow that is code needs to go on: to know what was recorded, to wait, to have a note
written. Each wish can be granted on Trio, and in the thread of a synchronous `main`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import trio

from hotpath.errors import HotpathError

if TYPE_CHECKING:
    from hotpath.core.notes import Note, Parking, Recalled
    from hotpath.runtime.code_run import CodeRun

T = TypeVar("T")


class Wish(Protocol):
    """What a call needs."""

    async def grant(self, run: CodeRun) -> Any:
        """Have it, on Trio."""

    def grant_sync(self, run: CodeRun) -> Any:
        """Have it, in the thread of a synchronous `main`."""


Walk: TypeAlias = "Generator[Wish, Any, T]"
"""What a call does."""


class _Known:
    """What was recorded."""

    async def grant(self, run: CodeRun) -> None:
        if run.parked is not None:
            raise run.park()
        if not run.replay.learned:
            found = await run.flow.recall(run.batch, run.index)
            if not run.replay.learned:  # two calls may have asked
                run.replay.learn(found)

    def grant_sync(self, run: CodeRun) -> None:
        if run.parked is not None:
            raise run.park()
        if not run.replay.learned:
            run.replay.learn(run.flow.recall_sync(run))


class Again:
    """What is recorded now, as a `Recalled` or None."""

    async def grant(self, run: CodeRun) -> Recalled | None:
        """Ask the database."""
        return (await run.batch.recall([run.index])).get(run.index)

    def grant_sync(self, run: CodeRun) -> Recalled | None:
        """Ask the database."""
        found: Mapping[int, Recalled] = in_trio(run, run.batch.recall, [run.index])
        return found.get(run.index)


class Pause:
    """Some seconds, in hand."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def grant(self, run: CodeRun) -> None:
        """Sleep."""
        await trio.sleep(self.seconds)

    def grant_sync(self, run: CodeRun) -> None:
        """Sleep."""
        time.sleep(self.seconds)


class Wait:
    """That one of these things comes: the run need not be held for it."""

    def __init__(self, parking: Parking) -> None:
        self.parking = parking

    async def grant(self, run: CodeRun) -> None:
        """Wait, or park the run."""
        await run.wait(self.parking)

    def grant_sync(self, run: CodeRun) -> None:
        """Park the run: nothing else of it goes on."""
        raise run.park(self.parking)


class Written:
    """That this note is durable."""

    def __init__(self, note: Note) -> None:
        self.note = note

    async def grant(self, run: CodeRun) -> None:
        """Note it and wait."""
        written = trio.Event()
        run.note(self.note, written.set)
        await written.wait()

    def grant_sync(self, run: CodeRun) -> None:
        """Note it and wait."""
        written = threading.Event()
        run.note(self.note, written.set)
        while not written.wait(1):
            if run.job.of.given_up:  # nothing of it is written any more
                raise HotpathError("the worker has given this run up: it goes on elsewhere")


class LookUp:
    """The result that is kept under a key, as JSON, or None."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    async def grant(self, run: CodeRun) -> bytes | None:
        """Ask the database."""
        return (await run.batch.cached([self.key])).get(self.key)

    def grant_sync(self, run: CodeRun) -> bytes | None:
        """Ask the database."""
        found: Mapping[bytes, bytes] = in_trio(run, run.batch.cached, [self.key])
        return found.get(self.key)


KNOWN = _Known()


async def drive(run: CodeRun, walk: Walk[T]) -> T:
    """Do what the call does, on Trio."""
    value = None
    with run.going_on():
        try:
            while True:
                wish = walk.send(value)
                value = await wish.grant(run)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            walk.close()


def drive_sync(run: CodeRun, walk: Walk[T]) -> T:
    """Do what the call does, in this thread."""
    value = None
    try:
        while True:
            value = walk.send(value).grant_sync(run)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        walk.close()


def in_trio(run: CodeRun, function: Callable[..., Any], *args: Any) -> Any:
    """Call the async function in Trio's thread, from the lane."""
    token = run.job.of.trio_token
    if token is None:
        raise HotpathError(
            "a step of a flow cannot have steps of its own: make its script a flow, "
            "and call that as a sub-flow"
        )
    return trio.from_thread.run(function, *args, trio_token=token)
