"""Several calls of a flow that is code, at the same time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import trio

from hotpath.errors import HotpathError
from hotpath.runtime.code_run import CodeRun, enter_scope
from hotpath.runtime.parking import parking_of
from hotpath.runtime.wishes import KNOWN

BREATH = 256
"""Calls with known answers after which other tasks get a turn."""


class Gathering:
    """One `gather`: its calls are made in order by whichever of its workers has nothing to do."""

    def __init__(self, run: CodeRun, key: str, items: Iterator[Any]) -> None:
        self._run = run
        self._key = key
        self._items = items
        self._made = 0
        self.results: list[Any] = []
        self.failed: tuple[int, Exception] | None = None

    def next(self) -> tuple[int, Any] | None:
        """The next call and its number; None: there is no further one."""
        for item in self._items:
            index = self._made
            self._made += 1
            self.results.append(None)
            return index, item
        return None

    def close(self) -> None:
        """What was given and has not begun does not: Python need not warn of it."""
        if isinstance(self._items, type(iter(())) | type(iter([]))):  # a generator would make new ones
            left: list[Any] = list(self._items)
            for item in left:
                if inspect.iscoroutine(item):
                    item.close()

    async def do(self, index: int, item: Any) -> None:
        """Await one call."""
        run = self._run
        try:
            if inspect.iscoroutine(item):
                run.loose += 1
                try:
                    with enter_scope(run, self._key, index):
                        self.results[index] = await item
                finally:
                    run.loose -= 1
                    run.stir()
            elif inspect.isawaitable(item):
                self.results[index] = await item
            else:
                raise HotpathError(
                    f"gather() takes calls that were made, such as step(f, x), and not {type(item).__name__}"
                )
        except Exception as error:  # noqa: BLE001 - raised when the others have ended
            if self.failed is None or index < self.failed[0]:
                self.failed = (index, error)

    async def work(self, given: tuple[int, Any]) -> None:
        """Await this call, and then further ones."""
        self._run.busy -= 1  # counted until the task has begun; now the call itself is
        following: tuple[int, Any] | None = given
        done = 0
        while following is not None:
            await self.do(*following)
            done += 1
            if not done % BREATH:
                self._run.busy += 1
                await trio.lowlevel.checkpoint()
                self._run.busy -= 1
            following = self.next()
        self._run.stir()


async def gather_async(
    run: CodeRun,
    key: str,
    items: Iterator[Any],
    limit: int | None,
    is_known: Callable[[CodeRun, Any], bool],
) -> list[Any]:
    """Results of these calls, at most `limit` at a time. Raises the error of the first that failed."""
    await KNOWN.grant(run)
    gathering = Gathering(run, key, items)
    parked = None
    nursery: trio.Nursery | None = None
    try:
        async with trio.open_nursery() as nursery:
            run.nurseries.add(nursery)
            room = limit
            run.busy += 1  # while calls are made
            try:
                while room != 0 and (following := gathering.next()) is not None:
                    if is_known(run, following[1]):
                        await gathering.do(*following)
                        if not (following[0] + 1) % BREATH:
                            await trio.lowlevel.checkpoint()
                        continue
                    run.busy += 1
                    nursery.start_soon(gathering.work, following)
                    room = None if room is None else room - 1
            finally:
                run.busy -= 1
                run.stir()
    except BaseExceptionGroup as group:
        if run.parked is None or parking_of(group) is None:
            raise
        parked = run.park()
        gathering.close()
    finally:
        if nursery is not None:
            run.nurseries.discard(nursery)
    if parked is not None:
        raise parked
    if gathering.failed is not None:
        raise gathering.failed[1]
    return gathering.results
