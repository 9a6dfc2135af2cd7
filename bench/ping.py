"""The other processes of the latency scenario: `python -m bench.ping enqueue|round-trip|notify DSN`.

`enqueue`: for each number on stdin, enqueue one job of `clock` with it and print `[before, after]`, the
times at which the statement was sent and its commit was known. `notify` answers each notification with
another; `round-trip` prints `[seconds]` for each line on stdin: what it takes to notify that process and to
be notified by it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from hotpath import asyncpg_trio

THERE, BACK = "hotpath_bench_there", "hotpath_bench_back"


@asynccontextmanager
async def _lines() -> AsyncIterator[trio.abc.ReceiveStream]:
    stream = trio.lowlevel.FdStream(0)
    try:
        yield stream
    finally:
        await stream.aclose()


async def enqueue(connection: asyncpg_trio.Connection) -> None:
    """Enqueue when told to."""
    statement = await connection.prepare("select hotpath.enqueue('clock', jsonb_build_object('n', $1::int))")
    async with _lines() as lines:
        async for line in lines:
            before = time.time()
            await statement.fetchval(int(line))
            print(json.dumps([before, time.time()]), flush=True)


async def answer(connection: asyncpg_trio.Connection, dsn: str) -> None:
    """Notify whoever notified us."""
    speaker = await asyncpg_trio.connect(dsn)
    async with connection.listen(THERE) as notifications:
        print("ready", flush=True)
        async for _ in notifications:
            await speaker.execute(f"notify {BACK}")


async def round_trip(connection: asyncpg_trio.Connection, dsn: str) -> None:
    """Measure when told to."""
    listener = await asyncpg_trio.connect(dsn)
    async with listener.listen(BACK) as notifications, _lines() as lines:
        async for _ in lines:
            began = time.perf_counter()
            await connection.execute(f"notify {THERE}")
            await notifications.__anext__()
            print(json.dumps([time.perf_counter() - began]), flush=True)


async def main(what: str, dsn: str) -> None:
    """Be one of the three until stdin ends or we are killed."""
    connection = await asyncpg_trio.connect(dsn)
    if what == "enqueue":
        await enqueue(connection)
    elif what == "notify":
        await answer(connection, dsn)
    else:
        await round_trip(connection, dsn)
    await connection.close()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
