"""The SQL ceiling: the worker's own statement called by a bare loop, with no job run and nothing decided.

`python -m bench.ceiling DSN SCRIPT` drains the script's tag as a worker process would: same statement,
rows, driver, connection settings and claim size, depth 1 (flush the batch, claim the next, in one round
trip). What a worker is slower than this is what running jobs costs it. Prints `{"jobs", "cycles",
"seconds"}`.
"""

from __future__ import annotations

import json
import secrets
import sys
import time

import attrs
import trio

from hotpath.core.hand import Hand, LeaseFlush
from hotpath.core.pacing import MAX_CLAIM
from hotpath.core.positions import Positions
from hotpath.store.work import Claim, WorkerSession, connect_session

WORKER = 0  # no worker has this number: the lease is held by nobody who could be taken for dead
RESULT = b"123456"  # as wide as the results of the real jobs


def flush_of(hand: Hand) -> LeaseFlush:
    """All jobs of the lease succeeded, in no time."""
    size = hand.size
    return LeaseFlush(
        hand,
        final=True,
        before=0,
        started=[time.perf_counter_ns() // 1000] * size,
        durations=[1] * size,
        states=None,
        payloads=[RESULT] * size,
        logs=[],
        jobs=size,
        failed=0,
        busy_us=size,
        size=size * len(RESULT),
    )


async def drain(session: WorkerSession, claim: Claim) -> tuple[int, int]:
    """Flush and claim until nothing is left; return jobs and cycles."""
    jobs = cycles = 0
    flushes: list[LeaseFlush] = []
    offset = time.time_ns() // 1000 - time.perf_counter_ns() // 1000
    empty = 0
    while True:
        once = attrs.evolve(claim, lease=secrets.randbits(62) | 1)
        cycle = await session.cycle(flushes, once, clock_offset_us=offset)
        cycles += 1
        if cycle.hand is None:
            priorities, _ = await session.look(
                claim.tag
            )  # a hinted look found nothing: once more from the start
            claim.positions.look(priorities)
            empty += 1
            flushes = []
            if empty > 1:
                return jobs, cycles
            continue
        empty = 0
        jobs += cycle.hand.size
        flushes = [flush_of(cycle.hand)]


async def main(dsn: str, script: str) -> None:
    """Drain and report."""
    session = await connect_session(dsn, WORKER)
    await session.prepare()
    row = await session.connection.fetchrow("select id, tag from hotpath.script where name = $1", script)
    assert row is not None, f"{script} is not registered"
    claim = Claim(MAX_CLAIM, row["tag"], script, row["id"], Positions())
    began = time.perf_counter()
    jobs, cycles = await drain(session, claim)
    json.dump({"jobs": jobs, "cycles": cycles, "seconds": time.perf_counter() - began}, sys.stdout)
    await session.connection.close()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
