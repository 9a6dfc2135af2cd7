"""What tests of the store and the worker stand on: a database, a script, workers' sessions, jobs, outcomes.

Everything goes through the program's own statements; nothing here knows a table that it need not.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.core.hand import Hand, LeaseFlush
from hotpath.core.positions import Positions
from hotpath.model import Description, ScriptVersion, Settings
from hotpath.store import jobs, load, scripts, workers
from hotpath.store.seal import Sealer
from hotpath.store.work import Claim, Cycle, WorkerSession, connect_session

NAME = "flow_x"
ANYTHING = {"type": "object", "properties": {"x": {}}, "required": [], "additionalProperties": True}
EVERYWHERE = Positions()  # nothing known: every claim looks everywhere
_serial = itertools.count(1)


@attrs.define(eq=False)
class Stage:
    """A database with the script `flow_x`, and whoever a test brings on."""

    url: str
    connection: asyncpg_trio.Connection
    version: ScriptVersion
    tag: int
    _opened: list[asyncpg_trio.Connection] = attrs.field(factory=list)

    @property
    def script(self) -> int:
        return self.version.script

    # ------------------------------------------------------------ workers

    async def connect(self, **settings: str) -> asyncpg_trio.Connection:
        """One more connection, closed with the stage."""
        connection = await asyncpg_trio.connect(self.url, server_settings=settings)
        self._opened.append(connection)
        return connection

    async def worker(self, *, tags: Sequence[int] | None = None, lease: float = 600.0) -> WorkerSession:
        """A worker that is registered and connected, with the settings that workers use."""
        number = next(_serial)
        worker = await workers.register_worker(
            self.connection,
            name=f"worker-{number}",
            group=None,
            script=self.script,
            version=self.version.id,
            tags=tags or [self.tag],
            host="here",
            pid=number,
            concurrency=1,
            lease=lease,
        )
        session = await connect_session(self.url, worker)
        self._opened.append(session.connection)
        return session

    async def claim(
        self, session: WorkerSession, want: int = 500, positions: Positions | None = None, **more: Any
    ) -> Hand | None:
        """Claim and flush nothing."""
        return (await self.cycle(session, [], want, positions, **more)).hand

    async def cycle(
        self,
        session: WorkerSession,
        flushes: Sequence[LeaseFlush],
        want: int = 500,
        positions: Positions | None = None,
        *,
        tag: int | None = None,
        before: tuple[int, datetime, UUID] | None = None,
    ) -> Cycle:
        """One cycle; without `positions` it looks everywhere."""
        where = Positions() if positions is None else positions
        return await session.cycle(
            flushes, Claim(want, self.tag if tag is None else tag, NAME, self.script, where, before)
        )

    async def flush(self, session: WorkerSession, *flushes: LeaseFlush) -> frozenset[int]:
        """Flush and claim nothing; the leases that were accepted."""
        return (await session.cycle(list(flushes), None)).accepted

    # ------------------------------------------------------------ jobs

    async def loose(
        self, count: int = 1, connection: asyncpg_trio.Connection | None = None, **options: Any
    ) -> list[UUID]:
        """Jobs put in one by one; `{"x": 0}` and on."""
        where = connection or self.connection
        return [
            await jobs.enqueue(where, NAME, json.dumps({"x": k}).encode(), **options) for k in range(count)
        ]

    async def sealed(
        self, args: int | Iterable[Any], connection: asyncpg_trio.Connection | None = None, **options: Any
    ) -> list[UUID]:
        """Jobs put in as one `enqueue_many`: sealed batches."""
        values = range(args) if isinstance(args, int) else args
        found = await scripts.find_script(connection or self.connection, NAME)
        raws = [json.dumps({"x": value}).encode() for value in values]
        return list(
            await load.enqueue_many(connection or self.connection, found, Sealer().seal(raws), **options)
        )

    # ------------------------------------------------------------ what is there

    async def view(self) -> list[Any]:
        """All rows of the view `hotpath.job`."""
        return await self.connection.fetch("select * from hotpath.job order by id")

    async def states(self) -> Counter[str]:
        """How many rows the view shows in each state."""
        return Counter(row["state"] for row in await self.view())

    async def state(self, job: UUID) -> str | None:
        """The state of one job by look-up."""
        return await self.connection.fetchval("select state from hotpath.job_get($1)", job)

    async def count(self, table: str) -> int:
        """Rows of one of Hotpath's tables."""
        return await self.connection.fetchval(f"select count(*) from hotpath.{table}")

    async def now(self) -> datetime:
        """The database's clock."""
        return await self.connection.fetchval("select clock_timestamp()")

    async def check_once_each(self, ids: Iterable[UUID]) -> None:
        """Each job has exactly one row of the view, and the look-up says the same as the view."""
        rows = await self.view()
        assert Counter(row["id"] for row in rows) == Counter(ids)
        for row in rows:
            assert tuple(
                await self.connection.fetchrow("select * from hotpath.job_get($1)", row["id"])
            ) == tuple(row)

    async def check_empty(self) -> None:
        """Nothing waits and nothing is leased: no row is left where jobs wait or run."""
        left = {table: await self.count(table) for table in ("job_queue", "batch", "lease")}
        assert left == {"job_queue": 0, "batch": 0, "lease": 0}

    async def blocked(self, connection: asyncpg_trio.Connection) -> None:
        """Wait until this connection's statement waits for a lock."""
        pid = connection.get_server_pid()
        with trio.fail_after(40):
            while not await self.connection.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid):  # noqa: ASYNC110 - another process
                await trio.sleep(0.005)

    async def cancel(self, job: UUID, connection: asyncpg_trio.Connection | None = None) -> bool:
        """What `hotpath.cancel` answers."""
        return await (connection or self.connection).fetchval("select hotpath.cancel($1)", job)

    async def retry(self, job: UUID, connection: asyncpg_trio.Connection | None = None) -> bool:
        """What `hotpath.retry` answers."""
        return await (connection or self.connection).fetchval("select hotpath.retry($1)", job)

    async def attempts(self, job: UUID) -> list[tuple[Any, ...]]:
        """Number, state and kind of error of each attempt."""
        return [
            tuple(row)
            for row in await self.connection.fetch(
                "select attempt, state, error ->> 'kind' from hotpath.job_attempts($1)", job
            )
        ]

    async def beat(self, session: WorkerSession) -> workers.Beat:
        """A heartbeat for one worker."""
        return await workers.heartbeat(self.connection, {session.worker: 0}, 600)

    async def reap(self) -> int:
        """Take back what the dead hold."""
        return await workers.reap(self.connection)

    async def kill(self, session: WorkerSession) -> None:
        """Let the worker's lease be over, as if its host were gone."""
        await self.connection.execute(
            "update hotpath.worker set lease_until = now() where id = $1", session.worker
        )


def outcomes(
    hand: Hand,
    indexes: Iterable[int] | None = None,
    *,
    state: int = 1,
    payload: bytes | None = None,
    log: str | None = None,
) -> LeaseFlush:
    """Say that these jobs of the hand (by default all that said nothing) have ended, and take the flush."""
    for index in range(len(hand)) if indexes is None else indexes:
        hand.report((index, state, 1_000_000 + index, 10, payload or b'{"ok": %d}' % index, log))
    flush = hand.take()
    assert flush is not None
    return flush


@asynccontextmanager
async def open_stage(url: str) -> AsyncIterator[Stage]:
    """A stage in this database; all its connections end with it."""
    connection = await asyncpg_trio.connect(url)
    description = Description(
        path=NAME, hash="0" * 64, is_async=False, schema=ANYTHING, settings=Settings(), summary=""
    )
    version = await scripts.register_version(connection, description)
    tag = await connection.fetchval("select hotpath.tag_id($1)", NAME)
    stage = Stage(url, connection, version, tag)
    try:
        yield stage
    finally:
        for one in (*stage._opened, connection):
            one.terminate()


def utc(seconds: float) -> datetime:
    """A time, by seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC)
