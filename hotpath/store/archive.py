"""Moving closed logs to object storage, in batches, and reading them there.

An object is written before anything leaves the database, and the rows leave it in the transaction that notes
where they are now: a store that cannot be reached delays, and never loses. An object that was written and not
noted, because somebody died in between, is found by its row and deleted.

The partitions of a day are read from front to back by blocks. They are only appended to, so this meets the
oldest logs first, and needs no index.
"""

from __future__ import annotations

import gzip
import logging
import random
import secrets
from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.store.database import Database
from hotpath.store.log_store import LogStore, LogStoreError, open_log_store
from hotpath.store.queries import query
from hotpath.store.trouble import ANY_TROUBLE

log = logging.getLogger("hotpath.worker")

AFTER = 60.0
"""Seconds since the flush that wrote it after which a log moves, unless somebody says otherwise."""
BLOCKS = 64
"""Blocks of a partition that are looked at in one go."""
TOGETHER, MOST = 32 << 20, 5_000
"""Bytes of logs, not compressed, and number of them that one object holds at most; or one log."""
READ = 8 << 20
"""Bytes of logs that one statement reads."""
EVERY = 5.0
"""Seconds until the next look when there was nothing to move, or the store could not be reached."""
CLEAN_EVERY = 600.0
MOST_BEGUN = 100
"""More than one begins, without end, in `STEP_WITHIN`."""
STEP_WITHIN = 120.0
"""Seconds that one step may take."""
SAY_EVERY = 60.0
"""Seconds between two lines about a store that cannot be reached."""
LOOSE_AFTER = 3600.0
"""Seconds after which an object that was begun is not finished any more."""
FORGET = 200
_LOCK = 7310868735403
"""Advisory lock of whoever moves logs: two at once would move the same."""
_TROUBLE: tuple[type[BaseException], ...] = (LogStoreError, *ANY_TROUBLE)
_UNLOCK = 5.0  # seconds; the lock goes with the connection at the latest


@attrs.frozen
class _Row:
    """A row of `job_log` that is to move."""

    id: UUID
    attempt: int
    seq: int
    done_at: Any
    size: int


@attrs.define(eq=False)
class Archiver:
    """Moves logs, from where it has got to; a new one begins with the oldest day."""

    store: LogStore
    after: float = AFTER
    """Seconds since the flush that wrote it after which a log moves."""
    pooled: bool = False
    """Whether a pooler may stand between: then who is at it is told by the objects that were begun, as a
    session's lock would stay with whichever of the pooler's sessions took it.
    """
    _begun: list[int] = attrs.field(factory=list)
    """Objects of its own, the last ones."""
    _day: date | None = None
    _block: int = 0

    async def step(self, connection: asyncpg_trio.Connection) -> int | None:
        """Move the next logs, an object's worth at most; returns how many. None: there is nothing to do for
        now, or somebody else is at it.

        Raises `LogStoreError` when the store cannot be reached: nothing has moved, and the next step tries
        the same again.
        """
        if self.pooled:
            # Two that begin at the same moment do no harm: what the one has moved the other does not.
            asked = self.store.location, STEP_WITHIN, self._begun
            if await connection.fetchval(query("archive_busy"), *asked):
                return None
            return await self._step(connection)
        if not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):
            return None
        try:
            return await self._step(connection)
        finally:
            if not connection.is_closed():
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _UNLOCK):
                    await connection.execute("select pg_advisory_unlock($1)", _LOCK)

    async def _step(self, connection: asyncpg_trio.Connection) -> int | None:
        days = [(row["day"], row["blocks"]) for row in await connection.fetch(query("archive_days"))]
        rows: list[_Row] = []
        for day, blocks in days:
            if self._day is not None and day < self._day:
                continue
            block = self._block if day == self._day else 0
            while block < blocks:
                found = await connection.fetch(query("archive_find"), day, block, block + BLOCKS, self.after)
                rows += [
                    _Row(UUID(int=row["id"].int), row["attempt"], row["seq"], row["done_at"], row["size"])
                    for row in found
                    if not row["young"]
                ]
                young = any(row["young"] for row in found)
                some = _some(rows)
                if rows and (young or block + BLOCKS >= blocks or len(some) < len(rows)):
                    await self._move(connection, day, some)
                    # What is left of these blocks is found again; what has moved is not.
                    self._day, self._block = day, block + (0 if young or len(some) < len(rows) else BLOCKS)
                    return len(some)
                if young:
                    self._day, self._block = day, block
                    return None
                block += BLOCKS
        # What could not move yet, because its run goes on, is met the next time round.
        self._day, self._block = None, 0
        return None

    async def _move(self, connection: asyncpg_trio.Connection, day: date, rows: Sequence[_Row]) -> None:
        name = f"{day:%Y-%m-%d}/{secrets.token_hex(12)}.gz"
        number = await connection.fetchval(query("archive_begin"), self.store.location, name, day)
        self._begun = [*self._begun[-MOST_BEGUN:], number]
        parts: list[bytes] = []
        chars: list[int] = []
        moved: list[_Row] = []
        for some in _portions(rows):
            texts = await connection.fetch(query("archive_read"), *_keys(some))
            got = {(row["id"].int, row["attempt"], row["seq"]): row["text"] for row in texts}
            there = [row for row in some if (row.id.int, row.attempt, row.seq) in got]
            wanted = [got[row.id.int, row.attempt, row.seq] for row in there]
            parts += await trio.to_thread.run_sync(_compressed, wanted)
            chars += map(len, wanted)
            moved += there
        if not moved:
            return
        body = b"".join(parts)
        await self.store.put(name, body)
        at = 0
        starts = []
        for part in parts:
            starts.append(at)
            at += len(part)
        sizes = [len(part) for part in parts]
        await connection.execute(
            query("archive_move"), number, len(body), *_keys(moved), starts, sizes, chars
        )  # one statement: all of it or nothing

    async def clean(self, connection: asyncpg_trio.Connection) -> int:
        """Delete objects that were begun and never noted; how many. Raises `LogStoreError`."""
        return await self._delete(
            connection, await connection.fetch(query("archive_loose"), *self._asked(LOOSE_AFTER))
        )

    async def drop_before(self, connection: asyncpg_trio.Connection, day: date) -> int:
        """Delete the objects of all days before `day` (UTC), as `partitions.detach_before` drops theirs; how
        many. Raises `LogStoreError`.
        """
        total = 0
        while some := await self.drop_some(connection, day):
            total += some
        return total

    async def drop_some(self, connection: asyncpg_trio.Connection, day: date) -> int:
        """The same, of a few objects; 0 when there are none left."""
        return await self._delete(connection, await connection.fetch(query("archive_old"), *self._asked(day)))

    def _asked(self, bound: object) -> tuple[object, ...]:
        return self.store.location, bound, FORGET

    async def _delete(self, connection: asyncpg_trio.Connection, rows: Sequence[Any]) -> int:
        if rows:
            await self.store.delete([row["name"] for row in rows])
            await connection.execute(query("archive_forget"), [row["id"] for row in rows])
        return len(rows)


async def keep_moving(database: Database, location: str, after: float) -> None:
    """Move logs to the store at `location`, `after` so many seconds, until cancelled. Trouble with the store
    or the database is said, and tried again.
    """
    archiver = Archiver(open_log_store(location), after, pooled=database.is_pooled)
    clean_at = trio.current_time()
    said_at = -float("inf")
    while True:
        moved = None
        try:
            async with database.connection(within=STEP_WITHIN) as connection:
                moved = await archiver.step(connection)
                if moved is None and trio.current_time() >= clean_at:
                    clean_at = trio.current_time() + CLEAN_EVERY
                    await archiver.clean(connection)
        except _TROUBLE as error:
            if trio.current_time() - said_at >= SAY_EVERY:
                said_at = trio.current_time()
                log.warning("logs stay in the database for now: %s", error)
        if moved is None:
            await trio.sleep(EVERY * random.uniform(0.5, 1.5))


def _some(rows: Sequence[_Row]) -> Sequence[_Row]:
    """As many as one object holds."""
    size = 0
    for number, row in enumerate(rows):
        size += row.size
        if number and (size > TOGETHER or number >= MOST):
            return rows[:number]
    return rows


def _portions(rows: Sequence[_Row]) -> list[list[_Row]]:
    portions: list[list[_Row]] = []
    size = READ
    for row in rows:
        if size >= READ:
            portions.append([])
            size = 0
        portions[-1].append(row)
        size += row.size
    return portions


def _keys(rows: Sequence[_Row]) -> tuple[list[Any], ...]:
    return (
        [row.id for row in rows],
        [row.attempt for row in rows],
        [row.seq for row in rows],
        [row.done_at for row in rows],
    )


def _compressed(texts: Sequence[str]) -> list[bytes]:
    return [gzip.compress(text.encode(), compresslevel=6, mtime=0) for text in texts]
