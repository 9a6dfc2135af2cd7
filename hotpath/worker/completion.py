"""`hotpath.completion()`: effects once, for a script that opts in.

A job may run twice: after a crash, or when its lease was lost. What it writes to the worker's own database
can be part of the same transaction as its outcome, so that both happen or neither does:

    async def main(order: int) -> int:
        total = await price(order)
        async with hotpath.completion(total) as conn:
            await conn.execute("update orders set total = $2 where id = $1", order, total)
        return total
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from hotpath.core.hand import Hand
from hotpath.core.logtext import pack, span_of
from hotpath.errors import BadResultError, DatabaseUnavailableError, HotpathError, LeaseLost
from hotpath.runtime import payload
from hotpath.runtime.context import RunningJob, running_job
from hotpath.store.complete import Connection, Ending, find_out
from hotpath.worker.feed import Part

if TYPE_CHECKING:
    from hotpath.worker.loop import Loop

RESOLVE = 60.0
"""Seconds that finding out about a commit may take whose reply was lost."""


def completion(result: Any = None) -> AbstractAsyncContextManager[Connection]:
    """End the running job in the very transaction that a block writes in: what `async with` gives is a
    connection to the worker's database, with the worker's rights, in a transaction.

    At the end of the block the job's success with this result (what `main` returns later is ignored) and what
    was written are committed together, if the worker still holds the job; at most ten such blocks of a worker
    are under way at a time. If the block raises, or is cancelled, nothing is written and the job goes on.

    For an async `main`, once in a job. Raises `HotpathError` elsewhere, `BadResultError` for a result that
    cannot be stored, `LeaseLost` when the lease was lost (nothing was written, the job runs again), and what
    the database has against the transaction.
    """
    job = running_job()
    if not job.of.script.version.description.is_async:
        raise HotpathError("completion() is for an async main: make `main` async")
    hand, index = _place_of(job)
    body = _encoded(result)
    masking = job.of.masking
    if masking is not None:
        body = masking.masker(job.index).json(body)
    return _complete(job, hand, index, body)


def _place_of(job: RunningJob) -> tuple[Hand, int]:
    """The worker's hand that the job belongs to, and its index there."""
    batch: object = job.of.batch
    index = job.index
    if isinstance(batch, Part):
        index += batch.first
        batch = batch.hand
    if not isinstance(batch, Hand) or batch.owner is None:
        raise HotpathError("completion() needs a worker: this job runs without a database")
    return batch, index


def _encoded(result: Any) -> bytes:
    try:
        body = payload.encode(result)
    except Exception as error:  # noqa: BLE001 - the result's own code runs in there
        raise _refused(result, None, error) from None
    if (payload.NUL in body or len(body) > payload.MAX_BYTES) and not payload.is_storable(body):
        raise _refused(result, body, None)
    return body


def _refused(result: Any, body: bytes | None, error: BaseException | None) -> BadResultError:
    return BadResultError(msgspec.json.decode(payload.bad_result(result, body, error))["message"])


@asynccontextmanager
async def _complete(job: RunningJob, hand: Hand, index: int, result: bytes) -> AsyncIterator[Connection]:
    loop: Loop = hand.owner  # type: ignore[assignment]  # which core does not know
    if index in hand.settled or index in loop.completing(hand):
        raise HotpathError("completion() was entered before in this job: a job ends once")
    _check(loop, hand)
    completing = loop.completing(hand)
    completing.add(index)
    try:
        async with loop.completer.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
                await loop.ledger.desk.write()  # what was noted of the job goes before its outcome
                _check(loop, hand)
            except BaseException:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    if not connection.is_closed():
                        await transaction.rollback()
                raise
            log = job.log.text() if job.log else None  # type: ignore[union-attr]
            now = time.perf_counter_ns()
            ending = Ending(
                lease=hand.lease,
                place=hand.place(index),
                job=hand.ids[index],
                attempt=hand.attempts[index],
                result=result,
                started_us=job.started // 1000 + (loop.clock.offset_us or 0),
                duration_us=(now - job.started) // 1000,
                log=log,
                marks=pack(log, loop.clock.offset_us or 0),
            )
            with trio.CancelScope(shield=True):  # with deadlines of its own
                done = await loop.completer.commit(connection, transaction, ending)
                if done is False:
                    raise LeaseLost("the lease of this job was lost: what it wrote is undone, it runs again")
                if done is None and not await _committed(loop, ending):
                    raise DatabaseUnavailableError(
                        "the connection broke before the commit: nothing was written"
                    )
                hand.settle(index, span_of(log or ""))
                loop.ledger.settled(hand.tag, ending.duration_us)
    finally:
        completing.discard(index)


async def _committed(loop: Loop, ending: Ending) -> bool:
    """Whether a commit whose reply was lost has happened."""
    with trio.move_on_after(RESOLVE):
        return await loop.link.guarded(find_out, ending)
    raise DatabaseUnavailableError("nobody knows whether the completion was committed: no database answers")


def _check(loop: Loop, hand: Hand) -> None:
    if not loop.holds(hand):
        raise LeaseLost("the lease of this job was lost: it runs again")
