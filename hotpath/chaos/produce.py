"""Those who put jobs in, all along, and keep a list of their own of what was acknowledged.

Loose jobs of seven priorities one by one, bulk loads, and jobs in SQL transactions, some of which are rolled
back. The list is a file, as the ledger is: nothing in it comes from the tables that it will be held against.
"""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import msgspec
import trio

from hotpath.chaos.kinds import OVERRUN, TIMEOUT, Mix
from hotpath.chaos.ledger import RECORD
from hotpath.client import Client
from hotpath.errors import HotpathError
from hotpath.store import jobs

ENTRY = struct.Struct("<16sQQhBB")
"""Job, its number, when it was acknowledged in ns, priority, how, which script."""
LOOSE, SEALED, IN_SQL, MAYBE, ROLLED_BACK, CANCEL, SHORT = 1, 2, 3, 4, 5, 6, 7
"""How: acknowledged in three ways; or the answer was lost, so that it may be there or not, and has no id;
or rolled back; or canceled after it was put in; or acknowledged, and of a job that outruns its time-out.
"""
ACKNOWLEDGED = (LOOSE, SEALED, IN_SQL, SHORT)
NO_JOB = bytes(16)
PRIORITIES = (-20, -5, -1, 0, 1, 5, 20)
BACKLOG = 50_000
"""Jobs in the queue beyond which producers wait."""
WAVE = 8.0
"""Seconds from one wave of jobs to the next: there is a backlog in the beginning of each."""
PAUSE = 0.2
"""Seconds that a producer waits after trouble with the database."""
OVERRUNS = 997
"""One loose built-in job in so many runs until its time-out."""


@attrs.define(eq=False)
class Producer:
    """Puts `wanted` jobs in, spread over `seconds`."""

    client: Client
    scripts: Sequence[tuple[str, str]]
    """Name and tag of each."""
    mix: Mix | None
    """The tempers of the built-in jobs; None for a user's script."""
    args: Sequence[dict[str, Any]]
    wanted: int
    seconds: float
    seed: int
    file: Path
    ledger: Path
    log: Path
    """Where it says what went wrong."""
    taken: int = 0
    """Numbers given out."""
    missed: int = 0
    """Of these, those that trouble with the database or a rollback used up: others take their place."""
    acknowledged: int = 0
    stopped: bool = False
    _descriptor: int = -1
    _log_descriptor: int = -1
    _began: float = 0.0

    async def run(self) -> None:
        """Until all are put in, the time is over, or `stopped`."""
        self._descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._log_descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._began = time.monotonic()
        try:
            async with trio.open_nursery() as nursery:
                for number, way in enumerate((self._loose, self._loose, self._bulk, self._in_sql)):
                    draw = random.Random(f"{self.seed} producer {number}")
                    nursery.start_soon(self._again_and_again, way, draw)
        finally:
            os.close(self._descriptor)
            os.close(self._log_descriptor)

    async def _again_and_again(self, way: Callable[[random.Random], Any], draw: random.Random) -> None:
        while not self.stopped and self.taken - self.missed < self.wanted:
            if self.taken - self.missed >= self._due() or self._backlog() > BACKLOG:
                await trio.sleep(0.02)
                continue
            try:
                await way(draw)
            except HotpathError as error:  # what was under way is in the list as `maybe`
                line = f"{time.perf_counter_ns() / 1e9:.3f} {way.__name__}: {error}\n"
                os.write(self._log_descriptor, line.encode())
                await trio.sleep(PAUSE)
            await trio.sleep(draw.uniform(0.002, 0.02))

    def _due(self) -> int:
        wave = (time.monotonic() - self._began) // WAVE
        return int(self.wanted * min(1.0, (wave + 1) * WAVE / self.seconds))

    def _backlog(self) -> int:
        """About how many jobs wait: two records are written for each run."""
        written = sum(entry.stat().st_size for entry in os.scandir(self.ledger))
        return self.acknowledged - written // (2 * RECORD.size)

    def _take(self, count: int) -> range:
        first = self.taken
        self.taken += min(count, self.wanted + self.missed - first)
        return range(first, self.taken)

    def _args(self, n: int) -> dict[str, Any]:
        if self.mix is None:
            return self.args[n % len(self.args)]
        return {"n": n, "do": self.mix.kind(n).name}

    def _write(
        self, ids: Sequence[UUID], numbers: Sequence[int], how: int, priority: int, script: int
    ) -> None:
        now = time.perf_counter_ns()
        raw = [one.bytes for one in ids] or [NO_JOB] * len(numbers)
        data = b"".join(
            ENTRY.pack(one, n, now, priority, how, script) for one, n in zip(raw, numbers, strict=True)
        )
        os.write(self._descriptor, data)
        if how in ACKNOWLEDGED:
            self.acknowledged += len(numbers)
        elif how in (MAYBE, ROLLED_BACK):
            self.missed += len(numbers)

    # ------------------------------------------------------------ the ways

    async def _loose(self, draw: random.Random) -> None:
        numbers = self._take(1)
        if not numbers:
            return
        script, priority = draw.randrange(len(self.scripts)), draw.choice(PRIORITIES)
        later = datetime.now(UTC) + timedelta(seconds=draw.uniform(0.1, 2.0)) if draw.random() < 0.1 else None
        name, tag = self.scripts[script]
        args, timeout = self._args(numbers[0]), None
        if self.mix is not None and draw.randrange(OVERRUNS) == 0:
            args, timeout = {**args, "do": OVERRUN.name}, TIMEOUT
        try:
            job = await self.client.enqueue(
                name, args, tag=tag, priority=priority, scheduled_for=later, timeout=timeout
            )
        except HotpathError:
            self._write((), numbers, MAYBE, priority, script)
            raise
        self._write([job], numbers, LOOSE if timeout is None else SHORT, priority, script)
        if draw.randrange(200) == 0 and await self.client.cancel(job):
            self._write([job], numbers, CANCEL, priority, script)

    async def _bulk(self, draw: random.Random) -> None:
        numbers = self._take(draw.choice((20, 100, 500, 1500)))
        if not numbers:
            return
        script, priority = draw.randrange(len(self.scripts)), draw.choice(PRIORITIES)
        name, tag = self.scripts[script]
        try:
            ids = await self.client.enqueue_many(
                name, [self._args(n) for n in numbers], tag=tag, priority=priority
            )
        except HotpathError:
            self._write((), numbers, MAYBE, priority, script)
            raise
        self._write(ids, numbers, SEALED, priority, script)

    async def _in_sql(self, draw: random.Random) -> None:
        numbers = self._take(draw.randrange(1, 6))
        script, priority = draw.randrange(len(self.scripts)), draw.choice(PRIORITIES)
        name, tag = self.scripts[script]
        ids: list[UUID] = []
        roll_back = draw.random() < 0.3
        committing = False
        try:
            async with self.client.database.connection() as connection, connection.transaction():
                for n in numbers:
                    raw = msgspec.json.encode(self._args(n))
                    ids.append(await jobs.enqueue(connection, name, raw, tag=tag, priority=priority))
                if roll_back:
                    raise _Rollback
                committing = True
        except _Rollback:
            self._write(ids, numbers, ROLLED_BACK, priority, script)
            return
        except HotpathError:
            if committing:
                self._write((), numbers, MAYBE, priority, script)
            else:  # it never came to the commit
                self._write(ids, numbers[: len(ids)], ROLLED_BACK, priority, script)
                self.missed += len(numbers) - len(ids)
            raise
        self._write(ids, numbers, IN_SQL, priority, script)


class _Rollback(Exception):
    """Leaves a transaction on purpose."""
